variable "region" {
  description = "AWS region, such as us-east-1."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "Expected a region such as us-east-1."
  }
}

variable "zone" {
  description = "Availability zone that has the instance type: aws ec2 describe-instance-type-offerings --location-type availability-zone --filters Name=instance-type,Values=g6.xlarge."
  type        = string

  validation {
    condition     = startswith(var.zone, var.region)
    error_message = "Expected a zone of the region, such as us-east-1a."
  }
}

variable "name" {
  description = "Beginning of the names of all that is made."
  type        = string
  default     = "rtvc-single"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "Expected 3 to 24 lower-case letters, digits and -, beginning with a letter, not ending with -."
  }
}

variable "instance_type" {
  description = "Instance type, such as g6.xlarge: rtvc plan --users says which. Costs money by the hour, and nothing while it is stopped."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*\\.[a-z0-9-]+$", var.instance_type))
    error_message = "Expected an instance type such as g6.xlarge."
  }
}

variable "root_volume_gib" {
  description = "Size of the root volume; not below that of the machine image. Costs money by the month."
  type        = number

  validation {
    condition     = var.root_volume_gib >= 8 && var.root_volume_gib <= 16384
    error_message = "Expected 8 to 16384 GiB."
  }
}

variable "capacity_per_instance" {
  description = "Sessions at once. Once measured: what rtvc loadtest --find-capacity found (rtvc fleet vars writes it). Until then: more than the search is to try, such as 128."
  type        = number

  validation {
    condition     = var.capacity_per_instance >= 1 && floor(var.capacity_per_instance) == var.capacity_per_instance
    error_message = "Expected a whole number of sessions, 1 or more."
  }
}

variable "callers_cidrs" {
  description = "Who may reach the server directly, such as [\"203.0.113.7/32\"]; []: nobody, it is reached by port forwarding through Session Manager."
  type        = list(string)

  validation {
    condition     = alltrue([for cidr in var.callers_cidrs : can(cidrnetmask(cidr))])
    error_message = "Expected IPv4 blocks such as 203.0.113.7/32."
  }
}

variable "log_retention_days" {
  description = "How long CloudWatch keeps the server's log. Costs money by the gigabyte."
  type        = number

  validation {
    condition     = var.log_retention_days >= 1
    error_message = "Expected a number of days."
  }
}

variable "publish_figures" {
  description = "Whether the box tells CloudWatch every few seconds how full it is, and how long it took to get ready (docs/ec2_server.md). Costs money by the month and metric."
  type        = bool
}

variable "container_image" {
  description = "Image of rtvc with a tag or a digest; null: it is installed on the machine image (installed_at)."
  type        = string
  default     = null

  validation {
    condition     = (var.container_image == null) != (var.installed_at == null)
    error_message = "Expected one of container_image and installed_at."
  }
}

variable "installed_at" {
  description = "Path of rtvc on the machine image, such as /opt/rtvc/bin/rtvc; null: it comes as a container."
  type        = string
  default     = null

  validation {
    condition     = var.installed_at == null ? true : startswith(var.installed_at, "/")
    error_message = "Expected an absolute path, or null."
  }
}

variable "gpu" {
  description = "Whether the container is given the GPU."
  type        = bool
  default     = true
}

variable "ami_id" {
  description = "Machine image, so that no plan proposes another one; null: today's of ami_ssm_parameter."
  type        = string
  default     = null

  validation {
    condition     = var.ami_id == null ? true : startswith(var.ami_id, "ami-")
    error_message = "Expected an image such as ami-0123456789abcdef0, or null."
  }
}

variable "ami_ssm_parameter" {
  description = "Parameter Store name of the machine image; null: AWS's Deep Learning Base image. What it has to bring: modules/voice_server."
  type        = string
  default     = null

  validation {
    condition     = var.ami_ssm_parameter == null ? true : startswith(var.ami_ssm_parameter, "/")
    error_message = "Expected the name of a parameter that begins with /, or null."
  }
}

variable "model" {
  description = "Speech-to-text model: a name (fetched at every start unless the image carries it), or a folder that the image or the snapshot carries."
  type        = string

  validation {
    condition     = length(var.model) > 0
    error_message = "Expected the name of a model or a folder."
  }
}

variable "model_snapshot_id" {
  description = "EBS snapshot with the models (see modules/voice_server); null: none."
  type        = string
  default     = null

  validation {
    condition     = var.model_snapshot_id == null ? true : startswith(var.model_snapshot_id, "snap-")
    error_message = "Expected a snapshot such as snap-0123456789abcdef0, or null."
  }
}

variable "settings" {
  description = "More settings of rtvc serve, as environment variables."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.settings) : startswith(name, "RTVC_")])
    error_message = "Expected names of settings (RTVC_...)."
  }
}

variable "access_key_parameter" {
  description = "SecureString in Parameter Store with the key that callers need."
  type        = string

  validation {
    condition     = startswith(var.access_key_parameter, "/")
    error_message = "Expected the name of a parameter that begins with /."
  }
}

variable "secrets" {
  description = "More secret settings: the environment variable, and the parameter that holds it."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name, parameter in var.secrets : startswith(name, "RTVC_") && startswith(parameter, "/")])
    error_message = "Expected names of settings (RTVC_...), each with the name of a parameter that begins with /."
  }
}

variable "secrets_kms_key_arn" {
  description = "Key of yours that the secrets are encrypted with; null: Parameter Store's own."
  type        = string
  default     = null

  validation {
    condition     = var.secrets_kms_key_arn == null ? true : can(regex("^arn:[a-z-]+:kms:", var.secrets_kms_key_arn))
    error_message = "Expected the ARN of a KMS key, or null."
  }
}

variable "disks_kms_key_arn" {
  description = "Key of yours that encrypts the disk; null: EBS's own."
  type        = string
  default     = null

  validation {
    condition     = var.disks_kms_key_arn == null ? true : can(regex("^arn:[a-z-]+:kms:", var.disks_kms_key_arn))
    error_message = "Expected the ARN of a KMS key, or null."
  }
}

variable "logs_kms_key_arn" {
  description = "Key of yours that encrypts the log in CloudWatch; null: CloudWatch's own."
  type        = string
  default     = null

  validation {
    condition     = var.logs_kms_key_arn == null ? true : can(regex("^arn:[a-z-]+:kms:", var.logs_kms_key_arn))
    error_message = "Expected the ARN of a KMS key, or null."
  }
}

variable "more_egress" {
  description = "What the box may reach beside port 443 anywhere, such as a language model: [{description = \"Ollama\", cidr = \"10.0.0.0/8\", port = 11434}]."
  type = list(object({
    description = string
    cidr        = string
    port        = number
  }))
  default = []

  validation {
    condition     = alltrue([for one in var.more_egress : can(cidrnetmask(one.cidr)) && one.port >= 1 && one.port <= 65535])
    error_message = "Expected IPv4 blocks and ports from 1 to 65535."
  }
}

variable "drain_s" {
  description = "How long a server that is stopped by hand (systemctl, a reboot) lets its sessions finish."
  type        = number
  default     = 30

  validation {
    condition     = var.drain_s >= 1 && var.drain_s <= 7200
    error_message = "Expected 1 to 7200 seconds."
  }
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary of the role that is made, where your account demands one."
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
