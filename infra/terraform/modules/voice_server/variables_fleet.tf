variable "fleet" {
  description = <<-EOT
    Many servers behind a load balancer; null: a launch template only.

    instance_types:       types that may be started, the one liked best first. All have to hold
                          capacity_per_instance, unless capacity_by_type says otherwise.
    min_size, max_size:   servers at least and at most.
    spot_percent:         of the servers above min_size, how many percent are spot instances: cheaper, and
                          taken away within two minutes. Calls that do not finish by then are cut. 0: none.
    server_subnet_ids:    where servers live: no way in from the internet.
    balancer_subnet_ids:  where the load balancer lives: two zones at least.
    balancer_cidrs:       addresses of these subnets: what they say of who calls is believed.
    callers_cidrs:        who may call.
    certificate_arn:      certificate of the load balancer.
    internal:             whether the load balancer can be reached from inside the VPC only.
    ssl_policy:           TLS versions and ciphers of the load balancer.
    idle_timeout_s:       a connection through which nothing goes for so long is cut. rtvc pings every 20 s.
    balancing:            least_outstanding_requests or round_robin.
    access_logs_bucket:   bucket for the load balancer's log; null: there is none.
    web_acl_arn:          web ACL (AWS WAF) in front; null: none.
    deletion_protection:  whether the load balancer can't be deleted by mistake.
    boot_timeout_s:       a server that is not ready by then is given up and replaced.
  EOT

  type = object({
    instance_types      = list(string)
    min_size            = number
    max_size            = number
    spot_percent        = number
    server_subnet_ids   = list(string)
    balancer_subnet_ids = list(string)
    balancer_cidrs      = list(string)
    callers_cidrs       = list(string)
    certificate_arn     = string
    internal            = optional(bool, false)
    ssl_policy          = optional(string, "ELBSecurityPolicy-TLS13-1-2-2021-06")
    idle_timeout_s      = optional(number, 120)
    balancing           = optional(string, "least_outstanding_requests")
    access_logs_bucket  = optional(string)
    web_acl_arn         = optional(string)
    deletion_protection = optional(bool, true)
    boot_timeout_s      = optional(number, 900)
  })
  default = null

  validation {
    condition     = var.fleet == null ? true : length(var.fleet.instance_types) >= 1 && alltrue([for type in var.fleet.instance_types : can(regex("^[a-z][a-z0-9-]*\\.[a-z0-9-]+$", type))])
    error_message = "instance_types: expected one instance type at least, such as g6.xlarge."
  }

  validation {
    condition     = var.fleet == null ? true : var.fleet.min_size >= 1 && var.fleet.max_size >= var.fleet.min_size
    error_message = "min_size, max_size: expected 1 <= min_size <= max_size. With no server there is no metric to scale out by."
  }

  validation {
    condition     = var.fleet == null ? true : var.fleet.spot_percent >= 0 && var.fleet.spot_percent <= 100
    error_message = "spot_percent: expected 0 to 100."
  }

  validation {
    condition     = var.fleet == null ? true : length(var.fleet.balancer_subnet_ids) >= 2 && length(var.fleet.server_subnet_ids) >= 1
    error_message = "balancer_subnet_ids, server_subnet_ids: a load balancer needs subnets in two zones, servers need one."
  }

  validation {
    condition     = var.fleet == null ? true : length(var.fleet.callers_cidrs) >= 1 && alltrue([for cidr in var.fleet.callers_cidrs : can(cidrnetmask(cidr))])
    error_message = "callers_cidrs: expected IPv4 blocks, one at least."
  }

  validation {
    condition     = var.fleet == null ? true : can(regex("^arn:[a-z-]+:(acm|iam):", var.fleet.certificate_arn))
    error_message = "certificate_arn: expected the ARN of a certificate in ACM or IAM."
  }

  validation {
    condition     = var.fleet == null ? true : can(regex("^ELBSecurityPolicy-TLS13-1-[23]-", var.fleet.ssl_policy))
    error_message = "ssl_policy: expected a policy that offers TLS 1.3 and nothing below 1.2, such as ELBSecurityPolicy-TLS13-1-2-2021-06."
  }

  validation {
    condition     = var.fleet == null ? true : var.fleet.idle_timeout_s >= 60 && var.fleet.idle_timeout_s <= 4000
    error_message = "idle_timeout_s: expected 60 to 4000 seconds: below that a late ping ends a call."
  }

  validation {
    condition     = var.fleet == null ? true : contains(["least_outstanding_requests", "round_robin"], var.fleet.balancing)
    error_message = "balancing: expected least_outstanding_requests or round_robin."
  }

  validation {
    condition     = var.fleet == null ? true : var.fleet.boot_timeout_s >= 60 && var.fleet.boot_timeout_s <= 7200
    error_message = "boot_timeout_s: expected 60 to 7200 seconds."
  }
}
