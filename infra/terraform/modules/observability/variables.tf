variable "name" {
  description = "Beginning of the names of all that is made."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "Expected 3 to 24 lower-case letters, digits and -, beginning with a letter, not ending with -."
  }
}

variable "log_retention_days" {
  description = "How long CloudWatch keeps the servers' log. Costs money by the gigabyte."
  type        = number

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], var.log_retention_days)
    error_message = "Expected a number of days that CloudWatch Logs knows: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545 or 731."
  }
}

variable "access_log_retention_days" {
  description = "How long the load balancer's log is kept in a bucket; null: there is none. Costs money by the gigabyte."
  type        = number
  nullable    = true

  validation {
    condition     = var.access_log_retention_days == null ? true : var.access_log_retention_days >= 1 && floor(var.access_log_retention_days) == var.access_log_retention_days
    error_message = "Expected null or a whole number of days, 1 or more."
  }
}

variable "keep_logs_on_destroy" {
  description = "Whether a bucket that holds logs stops a destroy; false: it goes with what is in it."
  type        = bool
  default     = true
}

variable "logs_kms_key_arn" {
  description = "Key of yours that encrypts the servers' log; null: CloudWatch's own."
  type        = string
  default     = null

  validation {
    condition     = var.logs_kms_key_arn == null ? true : can(regex("^arn:[a-z-]+:kms:", var.logs_kms_key_arn))
    error_message = "Expected the ARN of a KMS key, or null."
  }
}

variable "fleet" {
  description = <<-EOT
    What is watched beside the log; null: nothing.

    group_name:               the Auto Scaling group.
    balancer_suffix, target_group_suffix:  as CloudWatch names the load balancer and its target group.
    scaling:                  the numbers of modules/voice_server/scaling.json.
    min_size, max_size:       servers at least and at most.
  EOT

  type = object({
    group_name          = string
    balancer_suffix     = string
    target_group_suffix = string
    min_size            = number
    max_size            = number
    scaling = object({
      target_percent  = number
      boot_s_assumed  = number
      metric_period_s = number
    })
  })
  default = null

  validation {
    condition     = var.fleet == null ? true : startswith(var.fleet.balancer_suffix, "app/") && startswith(var.fleet.target_group_suffix, "targetgroup/")
    error_message = "balancer_suffix, target_group_suffix: expected what comes after loadbalancer/ in the one ARN (app/...), and the end of the other (targetgroup/...)."
  }
}

variable "create_dashboard" {
  description = "Whether there is a CloudWatch dashboard of the fleet. Costs money by the month."
  type        = bool
}

variable "create_alarms" {
  description = "Whether there are alarms about the fleet. Each costs money by the month."
  type        = bool
}

variable "alarm_topic_arns" {
  description = "SNS topics that alarms go to."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.alarm_topic_arns : can(regex("^arn:[a-z-]+:sns:", arn))])
    error_message = "Expected ARNs of SNS topics."
  }
}
