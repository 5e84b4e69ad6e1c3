# The fleet as a whole. What one server is: variables_server.tf.

variable "region" {
  description = "AWS region, such as us-east-1."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "Expected a region such as us-east-1."
  }
}

variable "zones" {
  description = "Two availability zones or more that have the instance types, such as [\"us-east-1a\", \"us-east-1c\"]."
  type        = list(string)

  validation {
    condition     = length(var.zones) >= 2 && alltrue([for zone in var.zones : startswith(zone, var.region)])
    error_message = "Expected two zones of the region or more: a load balancer needs as many."
  }
}

variable "name" {
  description = "Beginning of the names of all that is made."
  type        = string
  default     = "rtvc"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "Expected 3 to 24 lower-case letters, digits and -, beginning with a letter, not ending with -."
  }
}

variable "cidr" {
  description = "Addresses of the VPC."
  type        = string
  default     = "10.42.0.0/16"

  validation {
    condition     = can(cidrnetmask(var.cidr))
    error_message = "Expected an IPv4 block such as 10.42.0.0/16."
  }
}

variable "nat" {
  description = "How servers reach the internet: single (one NAT gateway: cheaper, and gone with its zone) or per_zone. Each costs money by the hour and by the gigabyte."
  type        = string

  validation {
    condition     = contains(["single", "per_zone"], var.nat)
    error_message = "Expected single or per_zone: servers have no public addresses."
  }
}

variable "instance_types" {
  description = "Instance types that may be started, the one liked best first, such as [\"g6.xlarge\", \"g5.xlarge\"]: with one type only, a zone that is out of it stops the fleet from growing. Each costs money by the hour."
  type        = list(string)

  validation {
    condition     = length(var.instance_types) >= 1 && alltrue([for type in var.instance_types : can(regex("^[a-z][a-z0-9-]*\\.[a-z0-9-]+$", type))])
    error_message = "Expected one instance type at least, such as g6.xlarge."
  }
}

variable "min_size" {
  description = "Servers at least: these are paid for at night, too."
  type        = number

  validation {
    condition     = var.min_size >= 1 && floor(var.min_size) == var.min_size
    error_message = "Expected 1 or more: with no server there is no metric to scale out by."
  }
}

variable "max_size" {
  description = "Servers at most: the bound of what it can cost. Mind the quota of GPU vCPUs (Service Quotas: Running On-Demand G and VT instances), which is 0 in many new accounts."
  type        = number

  validation {
    condition     = var.max_size >= var.min_size && floor(var.max_size) == var.max_size
    error_message = "Expected min_size or more."
  }
}

variable "spot_percent" {
  description = "Of the servers above min_size, how many percent are spot instances: cheaper, and taken away within two minutes, with the calls that do not end by then. 0: none."
  type        = number

  validation {
    condition     = var.spot_percent >= 0 && var.spot_percent <= 100
    error_message = "Expected 0 to 100."
  }
}

variable "domain_name" {
  description = "Name that callers use, which the certificate is for, such as voice.example.com."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain_name))
    error_message = "Expected a domain name such as voice.example.com."
  }
}

variable "certificate_arn" {
  description = "Certificate for domain_name, in ACM of the same region."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:(acm|iam):", var.certificate_arn))
    error_message = "Expected the ARN of a certificate."
  }
}

variable "zone_id" {
  description = "Route 53 zone in which domain_name is to be written; null: you point it at the load balancer yourself."
  type        = string
  default     = null

  validation {
    condition     = var.zone_id == null ? true : can(regex("^[A-Z0-9]{10,32}$", var.zone_id))
    error_message = "Expected a hosted zone such as Z0123456789ABCDEFGHIJ, or null."
  }
}

variable "callers_cidrs" {
  description = "Who may call; [\"0.0.0.0/0\"]: everybody (with a key)."
  type        = list(string)

  validation {
    condition     = length(var.callers_cidrs) >= 1 && alltrue([for cidr in var.callers_cidrs : can(cidrnetmask(cidr))])
    error_message = "Expected IPv4 blocks, one at least."
  }
}

variable "internal" {
  description = "Whether the load balancer can be reached from inside the VPC (and networks joined to it) only."
  type        = bool
  default     = false
}

variable "web_acl_arn" {
  description = "Web ACL (AWS WAF) in front of the load balancer; null: none."
  type        = string
  default     = null

  validation {
    condition     = var.web_acl_arn == null ? true : can(regex("^arn:[a-z-]+:wafv2:", var.web_acl_arn))
    error_message = "Expected the ARN of a web ACL, or null."
  }
}

variable "balancing" {
  description = "Where the load balancer sends a caller: to the server with the fewest connections (least_outstanding_requests), or in turn (round_robin)."
  type        = string
  default     = "least_outstanding_requests"

  validation {
    condition     = contains(["least_outstanding_requests", "round_robin"], var.balancing)
    error_message = "Expected least_outstanding_requests or round_robin."
  }
}

variable "deletion_protection" {
  description = "Whether the load balancer can't be deleted by mistake: to destroy the fleet, first apply false."
  type        = bool
  default     = true
}

variable "log_retention_days" {
  description = "How long CloudWatch keeps the servers' log. Costs money by the gigabyte."
  type        = number

  validation {
    condition     = var.log_retention_days >= 1
    error_message = "Expected a number of days."
  }
}

variable "access_log_retention_days" {
  description = "How long the load balancer's log is kept in a bucket; null: there is none. Costs money by the gigabyte."
  type        = number
  nullable    = true

  validation {
    condition     = var.access_log_retention_days == null ? true : var.access_log_retention_days >= 1
    error_message = "Expected null or a number of days."
  }
}

variable "flow_log_retention_days" {
  description = "How long CloudWatch keeps the flow log of the VPC; null: there is none. Costs money by the gigabyte."
  type        = number
  nullable    = true

  validation {
    condition     = var.flow_log_retention_days == null ? true : var.flow_log_retention_days >= 1
    error_message = "Expected null or a number of days."
  }
}

variable "keep_logs_on_destroy" {
  description = "Whether a bucket that holds logs stops a destroy."
  type        = bool
  default     = true
}

variable "create_dashboard" {
  description = "Whether there is a CloudWatch dashboard. Costs money by the month."
  type        = bool
}

variable "create_alarms" {
  description = "Whether there are CloudWatch alarms. Each costs money by the month."
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

variable "load_generators" {
  description = <<-EOT
    Machines that play callers; null: none.

    instance_type:         such as c7i.large.
    workers:               machines that speak, beside the master; 0: the master speaks itself.
    processes_per_worker:  one a core.
    root_volume_gib:       of each; not below the machine image.
    container_image:       image of rtvc; null: that of the servers.
    results_bucket:        bucket for the runs; null: they stay on the master.
  EOT

  type = object({
    instance_type        = string
    workers              = number
    processes_per_worker = optional(number, 1)
    root_volume_gib      = number
    container_image      = optional(string)
    results_bucket       = optional(string)
  })
  default = null

  validation {
    condition     = var.load_generators == null ? true : try(coalesce(var.load_generators.container_image, var.container_image), null) != null
    error_message = "container_image: generators run as containers, so expected an image here or for the servers."
  }
}

variable "logs_kms_key_arn" {
  description = "Key of yours that encrypts the logs in CloudWatch; null: CloudWatch's own."
  type        = string
  default     = null

  validation {
    condition     = var.logs_kms_key_arn == null ? true : can(regex("^arn:[a-z-]+:kms:", var.logs_kms_key_arn))
    error_message = "Expected the ARN of a KMS key, or null."
  }
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary of the roles that are made, where your account demands one."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null ? true : can(regex("^arn:[a-z-]+:iam::", var.permissions_boundary_arn))
    error_message = "Expected the ARN of an IAM policy, or null."
  }
}

variable "tags" {
  description = "Tags of all that is made."
  type        = map(string)
  default     = {}
}
