# What one server is. What a fleet of them is: variables_fleet.tf.

variable "name" {
  description = "Beginning of the names of all that is made, and the name of the Auto Scaling group."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "Expected 3 to 24 lower-case letters, digits and -, beginning with a letter, not ending with -."
  }
}

variable "vpc_id" {
  description = "VPC that the servers live in."
  type        = string

  validation {
    condition     = startswith(var.vpc_id, "vpc-")
    error_message = "Expected a VPC such as vpc-0123456789abcdef0."
  }
}

variable "instance_type" {
  description = "Instance type of the launch template, such as g6.xlarge. A fleet overrides it with its own."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*\\.[a-z0-9-]+$", var.instance_type))
    error_message = "Expected an instance type such as g6.xlarge."
  }
}

variable "ami_id" {
  description = "Machine image; null: the one that ami_ssm_parameter names today, so that a later plan may propose a newer one."
  type        = string
  default     = null

  validation {
    condition     = var.ami_id == null ? true : can(regex("^ami-[0-9a-f]+$", var.ami_id))
    error_message = "Expected an image such as ami-0123456789abcdef0, or null."
  }
}

variable "ami_ssm_parameter" {
  description = "Parameter Store name of the machine image. The default has NVIDIA's driver, Docker with NVIDIA's toolkit, the AWS CLI and the agent of Session Manager."
  type        = string
  default     = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
  nullable    = false

  validation {
    condition     = startswith(var.ami_ssm_parameter, "/")
    error_message = "Expected the name of a parameter, beginning with /."
  }
}

variable "container_image" {
  description = "Image of rtvc, with a tag or a digest, whose entry point is rtvc; null: it is installed on the machine image (installed_at)."
  type        = string
  default     = null

  validation {
    condition     = var.container_image == null ? true : can(regex("^[a-zA-Z0-9][a-zA-Z0-9._/:-]*(:[a-zA-Z0-9_][a-zA-Z0-9_.-]*|@sha256:[0-9a-f]{64})$", var.container_image))
    error_message = "Expected an image with a tag or a digest, such as 123456789012.dkr.ecr.us-east-1.amazonaws.com/rtvc:1.0.0."
  }

  validation {
    condition     = var.container_image == null ? true : !endswith(var.container_image, ":latest")
    error_message = "Expected a tag that stands for one image: latest is another one tomorrow."
  }

  validation {
    condition     = (var.container_image == null) != (var.installed_at == null)
    error_message = "Expected one of container_image and installed_at."
  }
}

variable "installed_at" {
  description = "Path of rtvc on the machine image, such as /opt/rtvc/bin/rtvc, where the wheel was installed with the extra aws; null: it comes as a container."
  type        = string
  default     = null

  validation {
    condition     = var.installed_at == null ? true : can(regex("^/[A-Za-z0-9._/-]+$", var.installed_at))
    error_message = "Expected an absolute path without spaces, or null."
  }
}

variable "gpu" {
  description = "Whether the container is given the GPUs."
  type        = bool
  default     = true
}

variable "model" {
  description = "Speech-to-text model: a name (fetched at every start unless the image carries it: slow), or a folder that the image or the snapshot carries (/srv/rtvc/models/...)."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9._:/-]+$", var.model))
    error_message = "Expected the name of a model or a folder, without spaces."
  }
}

variable "model_snapshot_id" {
  description = "EBS snapshot with the models, a file system labelled rtvc-models; each server gets a copy, read-only at /srv/rtvc/models. null: the image carries them."
  type        = string
  default     = null

  validation {
    condition     = var.model_snapshot_id == null ? true : can(regex("^snap-[0-9a-f]+$", var.model_snapshot_id))
    error_message = "Expected a snapshot such as snap-0123456789abcdef0, or null."
  }
}

variable "root_volume_gib" {
  description = "Size of a server's root volume; not below that of the machine image. Costs money by the month."
  type        = number

  validation {
    condition     = var.root_volume_gib >= 8 && var.root_volume_gib <= 16384 && floor(var.root_volume_gib) == var.root_volume_gib
    error_message = "Expected 8 to 16384 GiB."
  }
}

variable "capacity_per_instance" {
  description = "Sessions that one server holds within its targets: what rtvc loadtest --find-capacity found. rtvc fleet vars writes it."
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
    condition     = alltrue([for type, sessions in var.capacity_by_type : sessions >= 1 && floor(sessions) == sessions && can(regex("^[a-z][a-z0-9-]*\\.[a-z0-9-]+$", type))])
    error_message = "Expected instance types, each with a whole number of sessions, 1 or more."
  }
}

variable "publish_figures" {
  description = "Whether rtvc tells CloudWatch every few seconds how full the server is (docs/ec2_server.md). A fleet scales by that. Costs money by the month and metric."
  type        = bool

  validation {
    condition     = var.publish_figures || var.fleet == null
    error_message = "Expected true: a fleet scales by these figures."
  }
}

variable "settings" {
  description = "More settings of rtvc serve, as environment variables: {RTVC_STT_COMPUTE_TYPE = \"float16\"}. Secrets go into secrets."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.settings) : can(regex("^RTVC_[A-Z0-9_]+$", name)) && !endswith(name, "_KEY")])
    error_message = "Expected names of settings (RTVC_...) that are no keys: those belong into secrets."
  }

  validation {
    condition     = alltrue([for value in values(var.settings) : can(regex("^[^\\s\"'\\\\]([^\\n\\r\"'\\\\]*[^\\s\"'\\\\])?$", value))])
    error_message = "Expected values of one line, without quotes, backslashes, or spaces at either end."
  }

  validation {
    condition     = alltrue([for value in values(var.settings) : !can(regex("://[^/]*@", value))])
    error_message = "Expected no address with a password in it: it would stand in user data and state. It belongs into secrets."
  }

  validation {
    condition = alltrue([
      for name in keys(var.settings) : !startswith(name, "RTVC_CLOUD_") && !contains([
        "RTVC_SERVE_HOST", "RTVC_SERVE_PORT", "RTVC_SERVE_TLS", "RTVC_SERVE_SHUTDOWN_S", "RTVC_SERVE_MAX_SESSIONS", "RTVC_STT_MODEL",
      ], name)
    ])
    error_message = "Expected no address, port, TLS, shutdown, number of sessions, model or cloud: other variables and scaling.json say these, and more than the server hangs on them."
  }
}

variable "secrets" {
  description = "Secret settings: the name of the environment variable, and that of the SecureString in Parameter Store which holds it: {RTVC_ACCESS_KEY = \"/voice/access-key\"}. Their values are never seen by Terraform."
  type        = map(string)

  validation {
    condition     = alltrue([for name, parameter in var.secrets : can(regex("^RTVC_[A-Z0-9_]+$", name)) && can(regex("^/[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", parameter))])
    error_message = "Expected names of settings (RTVC_...), each with the name of a parameter that begins with /."
  }

  validation {
    condition     = contains(keys(var.secrets), "RTVC_ACCESS_KEY") || contains(keys(var.settings), "RTVC_ACCESS_KEYS_FILE") || lookup(var.settings, "RTVC_ACCESS_OPEN", "false") == "true"
    error_message = "Others can reach this server, and nobody would be asked for a key: expected RTVC_ACCESS_KEY here, RTVC_ACCESS_KEYS_FILE in settings, or RTVC_ACCESS_OPEN = \"true\" there if that is meant."
  }
}

variable "secrets_kms_key_arn" {
  description = "Key of yours that the secrets are encrypted with; null: Parameter Store's own (alias/aws/ssm)."
  type        = string
  default     = null

  validation {
    condition     = var.secrets_kms_key_arn == null ? true : can(regex("^arn:[a-z-]+:kms:", var.secrets_kms_key_arn))
    error_message = "Expected the ARN of a KMS key, or null."
  }
}

variable "disks_kms_key_arn" {
  description = "Key of yours that encrypts the disks; null: EBS's own. EC2 Auto Scaling's service-linked role has to be allowed to use it."
  type        = string
  default     = null

  validation {
    condition     = var.disks_kms_key_arn == null ? true : can(regex("^arn:[a-z-]+:kms:", var.disks_kms_key_arn))
    error_message = "Expected the ARN of a KMS key, or null."
  }
}

variable "port" {
  description = "Port that rtvc listens on."
  type        = number
  default     = 8000

  validation {
    condition     = var.port >= 1024 && var.port <= 65535
    error_message = "Expected a port from 1024 to 65535: rtvc does not run as root."
  }
}

variable "tls" {
  description = "Whether rtvc itself speaks TLS, with a certificate that it makes at its start. Behind a load balancer nobody checks that one, but nobody inside the VPC hears what is said."
  type        = bool
  default     = true
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

variable "log_group" {
  description = "CloudWatch log group that the container writes to; null: the log stays on the box (journalctl -u rtvc)."
  type = object({
    name = string
    arn  = string
  })
  default = null

  validation {
    condition     = var.log_group == null ? true : can(regex("^arn:[a-z-]+:logs:", var.log_group.arn))
    error_message = "Expected the name and the ARN of a log group, or null."
  }
}

variable "more_egress" {
  description = "What the servers may reach beside port 443 anywhere, such as a language model inside the VPC."
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

  validation {
    condition     = alltrue([for one in var.more_egress : can(regex("^[A-Za-z0-9 ._:/()#,@\\[\\]+=&;{}!$*-]{1,255}$", one.description))])
    error_message = "Expected descriptions of letters, digits and a few signs: AWS takes no quotes there."
  }

  validation {
    condition     = length(distinct([for one in var.more_egress : "${one.cidr}:${one.port}"])) == length(var.more_egress)
    error_message = "Expected each block and port once."
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
  description = "Tags of instances and their disks: default_tags of a provider do not reach those that a group starts."
  type        = map(string)
  default     = {}
}
