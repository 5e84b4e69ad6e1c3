variable "name" {
  description = "Beginning of the names of all that is made."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "Expected 3 to 24 lower-case letters, digits and -, beginning with a letter, not ending with -."
  }
}

variable "cidr" {
  description = "Addresses of the VPC; each subnet gets a sixteenth of them."
  type        = string
  default     = "10.42.0.0/16"

  validation {
    condition     = can(cidrnetmask(var.cidr)) && try(tonumber(split("/", var.cidr)[1]) >= 16 && tonumber(split("/", var.cidr)[1]) <= 22, false)
    error_message = "Expected an IPv4 block from /16 to /22, such as 10.42.0.0/16."
  }
}

variable "zones" {
  description = "Availability zones, such as [\"us-east-1a\", \"us-east-1c\"]. Not every zone has every GPU: aws ec2 describe-instance-type-offerings --location-type availability-zone tells."
  type        = list(string)

  validation {
    condition     = length(var.zones) >= 1 && length(var.zones) <= 6 && length(distinct(var.zones)) == length(var.zones)
    error_message = "Expected one to six different zones."
  }

  validation {
    condition     = alltrue([for zone in var.zones : can(regex("^[a-z]{2}(-[a-z]+)+-[0-9][a-z]$", zone))])
    error_message = "Expected zones such as us-east-1a."
  }
}

variable "nat" {
  description = "How private subnets reach the internet: none (there are no private subnets), single (one NAT gateway: cheaper, and gone with its zone) or per_zone. A NAT gateway costs money by the hour and by the gigabyte."
  type        = string

  validation {
    condition     = contains(["none", "single", "per_zone"], var.nat)
    error_message = "Expected none, single or per_zone."
  }
}

variable "public_ips_on_launch" {
  description = "Whether what starts in a public subnet gets a public IPv4 address. Each costs money by the hour."
  type        = bool
}

variable "flow_log_retention_days" {
  description = "How long CloudWatch keeps the flow log of the VPC; null: there is none. Costs money by the gigabyte."
  type        = number
  nullable    = true

  validation {
    condition     = var.flow_log_retention_days == null ? true : contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], var.flow_log_retention_days)
    error_message = "Expected null or a number of days that CloudWatch Logs knows: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545 or 731."
  }
}

variable "logs_kms_key_arn" {
  description = "Key of yours that encrypts the flow log; null: CloudWatch's own."
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
