# What one server is.

variable "root_volume_gib" {
  description = "Size of the root volume; not below that of the machine image. Costs money by the month."
  type        = number

  validation {
    condition     = var.root_volume_gib >= 8 && var.root_volume_gib <= 16384
    error_message = "Expected 8 to 16384 GiB."
  }
}

variable "capacity_per_instance" {
  description = "Sessions that one server holds within its targets: what rtvc loadtest --find-capacity found on one of these machines. rtvc fleet vars RUN --out capacity.auto.tfvars.json writes it."
  type        = number

  validation {
    condition     = var.capacity_per_instance >= 1 && floor(var.capacity_per_instance) == var.capacity_per_instance
    error_message = "Expected a whole number of sessions, 1 or more: measure it with rtvc loadtest --find-capacity."
  }
}

variable "capacity_by_type" {
  description = "The same for instance types that hold another number, such as {\"g6e.xlarge\" = 60}."
  type        = map(number)
  default     = {}

  validation {
    condition     = alltrue([for type in keys(var.capacity_by_type) : contains(var.instance_types, type)])
    error_message = "Expected types that stand in instance_types."
  }
}

variable "tls_to_servers" {
  description = "Whether what people say is encrypted between load balancer and servers, too. Measure the capacity with the same."
  type        = bool
  default     = true
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
  description = "Whether the container is given the GPUs."
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

variable "boot_timeout_s" {
  description = "A server that is not ready by then is given up and replaced."
  type        = number
  default     = 900

  validation {
    condition     = var.boot_timeout_s >= 60 && var.boot_timeout_s <= 7200
    error_message = "Expected 60 to 7200 seconds."
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
  description = "Key of yours that encrypts the disks; null: EBS's own."
  type        = string
  default     = null

  validation {
    condition     = var.disks_kms_key_arn == null ? true : can(regex("^arn:[a-z-]+:kms:", var.disks_kms_key_arn))
    error_message = "Expected the ARN of a KMS key, or null."
  }
}

variable "more_egress" {
  description = "What servers may reach beside port 443 anywhere, such as a language model: [{description = \"Ollama\", cidr = \"10.0.0.0/8\", port = 11434}]."
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
