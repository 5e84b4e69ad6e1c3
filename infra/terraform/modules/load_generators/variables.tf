variable "name" {
  description = "Beginning of the names of all that is made."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "Expected 3 to 24 lower-case letters, digits and -, beginning with a letter, not ending with -."
  }
}

variable "vpc_id" {
  description = "VPC that the generators live in."
  type        = string

  validation {
    condition     = startswith(var.vpc_id, "vpc-")
    error_message = "Expected a VPC such as vpc-0123456789abcdef0."
  }
}

variable "subnet_ids" {
  description = "Subnets with a way out to the server under test and to AWS; workers are spread over them."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 1
    error_message = "Expected one subnet at least."
  }
}

variable "instance_type" {
  description = "Instance type of the master and of each worker, such as c7i.large. A generator that shares its CPU with credits (t3, t4g) is late, and a late run is void."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*\\.[a-z0-9-]+$", var.instance_type)) && !can(regex("^t[0-9]", var.instance_type))
    error_message = "Expected an instance type such as c7i.large, and none with CPU credits."
  }
}

variable "workers" {
  description = "Machines that speak, beside the master; 0: the master speaks itself."
  type        = number

  validation {
    condition     = var.workers >= 0 && var.workers <= 100 && floor(var.workers) == var.workers
    error_message = "Expected 0 to 100 workers."
  }
}

variable "processes_per_worker" {
  description = "Generator processes on each machine: one a core. How many speakers one plays: docs/loadtest/scale.md."
  type        = number
  default     = 1

  validation {
    condition     = var.processes_per_worker >= 1 && floor(var.processes_per_worker) == var.processes_per_worker
    error_message = "Expected 1 or more."
  }
}

variable "ami_id" {
  description = "Machine image; null: the one that ami_ssm_parameter names today."
  type        = string
  default     = null

  validation {
    condition     = var.ami_id == null ? true : can(regex("^ami-[0-9a-f]+$", var.ami_id))
    error_message = "Expected an image such as ami-0123456789abcdef0, or null."
  }
}

variable "ami_ssm_parameter" {
  description = "Parameter Store name of the machine image: with Docker, the AWS CLI and the agent of Session Manager. The default is that of the servers; its driver finds nothing to do here."
  type        = string
  default     = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
  nullable    = false

  validation {
    condition     = startswith(var.ami_ssm_parameter, "/")
    error_message = "Expected the name of a parameter, beginning with /."
  }
}

variable "container_image" {
  description = "Image of rtvc (the one for CPUs is enough), with a tag or a digest, whose entry point is rtvc. Workers and master have to be of the same version."
  type        = string

  validation {
    condition     = can(regex("^[a-zA-Z0-9][a-zA-Z0-9._/:-]*(:[a-zA-Z0-9_][a-zA-Z0-9_.-]*|@sha256:[0-9a-f]{64})$", var.container_image)) && !endswith(var.container_image, ":latest")
    error_message = "Expected an image with a tag other than latest, or a digest."
  }
}

variable "root_volume_gib" {
  description = "Size of each root volume; not below that of the machine image. Costs money by the month."
  type        = number

  validation {
    condition     = var.root_volume_gib >= 8 && var.root_volume_gib <= 16384 && floor(var.root_volume_gib) == var.root_volume_gib
    error_message = "Expected 8 to 16384 GiB."
  }
}

variable "target_url" {
  description = "Server under test, as the outputs name it, such as wss://voice.example.com."
  type        = string

  validation {
    condition     = can(regex("^(ws|wss|http|https)://[^\\s/]+", var.target_url))
    error_message = "Expected a URL such as wss://voice.example.com."
  }
}

variable "target_ports" {
  description = "Ports that the generators may reach anywhere, beside 443."
  type        = set(number)
  default     = []

  validation {
    condition     = alltrue([for port in var.target_ports : port >= 1 && port <= 65535 && port != 443])
    error_message = "Expected ports from 1 to 65535 other than 443, which is open anyway."
  }
}

variable "api_key_parameter" {
  description = "SecureString in Parameter Store with a key of the server under test; null: it asks for none."
  type        = string
  default     = null

  validation {
    condition     = var.api_key_parameter == null ? true : can(regex("^/[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", var.api_key_parameter))
    error_message = "Expected the name of a parameter that begins with /, or null."
  }
}

variable "secrets_kms_key_arn" {
  description = "Key of yours that the API key is encrypted with; null: Parameter Store's own (alias/aws/ssm)."
  type        = string
  default     = null

  validation {
    condition     = var.secrets_kms_key_arn == null ? true : can(regex("^arn:[a-z-]+:kms:", var.secrets_kms_key_arn))
    error_message = "Expected the ARN of a KMS key, or null."
  }
}

variable "results_bucket" {
  description = "Bucket that runs are copied to, below NAME/; null: they stay on the master, in /var/lib/rtvc/runs."
  type        = string
  default     = null

  validation {
    condition     = var.results_bucket == null ? true : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.results_bucket))
    error_message = "Expected the name of a bucket, or null."
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

variable "permissions_boundary_arn" {
  description = "Permissions boundary of the role that is made, where your account demands one."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null ? true : can(regex("^arn:[a-z-]+:iam::", var.permissions_boundary_arn))
    error_message = "Expected the ARN of an IAM policy, or null."
  }
}
