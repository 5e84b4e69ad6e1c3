# As many GPU servers as there are callers for, behind a load balancer.

provider "aws" {
  region = var.region

  default_tags {
    tags = local.tags
  }
}

locals {
  tags = merge({ Project = var.name, ManagedBy = "terraform" }, var.tags)
}

module "network" {
  source = "../modules/network"

  name                     = var.name
  cidr                     = var.cidr
  zones                    = var.zones
  nat                      = var.nat
  public_ips_on_launch     = false
  flow_log_retention_days  = var.flow_log_retention_days
  logs_kms_key_arn         = var.logs_kms_key_arn
  permissions_boundary_arn = var.permissions_boundary_arn
}

module "voice_server" {
  source = "../modules/voice_server"

  name                     = var.name
  vpc_id                   = module.network.vpc_id
  instance_type            = var.instance_types[0]
  ami_id                   = var.ami_id
  ami_ssm_parameter        = var.ami_ssm_parameter
  root_volume_gib          = var.root_volume_gib
  container_image          = var.container_image
  installed_at             = var.installed_at
  gpu                      = var.gpu
  model                    = var.model
  model_snapshot_id        = var.model_snapshot_id
  capacity_per_instance    = var.capacity_per_instance
  capacity_by_type         = var.capacity_by_type
  publish_figures          = true
  settings                 = var.settings
  secrets                  = merge(var.secrets, { RTVC_ACCESS_KEY = var.access_key_parameter })
  secrets_kms_key_arn      = var.secrets_kms_key_arn
  disks_kms_key_arn        = var.disks_kms_key_arn
  tls                      = var.tls_to_servers
  drain_s                  = var.drain_s
  log_group                = module.observability.log_group
  more_egress              = var.more_egress
  permissions_boundary_arn = var.permissions_boundary_arn
  tags                     = local.tags

  fleet = {
    instance_types      = var.instance_types
    min_size            = var.min_size
    max_size            = var.max_size
    spot_percent        = var.spot_percent
    server_subnet_ids   = module.network.private_subnet_ids
    balancer_subnet_ids = module.network.public_subnet_ids
    balancer_cidrs      = module.network.public_subnet_cidrs
    callers_cidrs       = var.callers_cidrs
    certificate_arn     = var.certificate_arn
    internal            = var.internal
    access_logs_bucket  = module.observability.access_logs_bucket
    web_acl_arn         = var.web_acl_arn
    deletion_protection = var.deletion_protection
    balancing           = var.balancing
    boot_timeout_s      = var.boot_timeout_s
  }
}

module "observability" {
  source = "../modules/observability"

  name                      = var.name
  log_retention_days        = var.log_retention_days
  logs_kms_key_arn          = var.logs_kms_key_arn
  access_log_retention_days = var.access_log_retention_days
  keep_logs_on_destroy      = var.keep_logs_on_destroy
  create_dashboard          = var.create_dashboard
  create_alarms             = var.create_alarms
  alarm_topic_arns          = var.alarm_topic_arns

  fleet = {
    group_name          = var.name
    balancer_suffix     = module.voice_server.balancer.suffix
    target_group_suffix = module.voice_server.balancer.target_group_suffix
    min_size            = var.min_size
    max_size            = var.max_size
    scaling             = module.voice_server.scaling
  }
}

module "load_generators" {
  source = "../modules/load_generators"
  count  = var.load_generators == null ? 0 : 1

  name                     = var.name
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.private_subnet_ids
  ami_id                   = var.ami_id
  ami_ssm_parameter        = var.ami_ssm_parameter
  instance_type            = var.load_generators.instance_type
  workers                  = var.load_generators.workers
  processes_per_worker     = var.load_generators.processes_per_worker
  root_volume_gib          = var.load_generators.root_volume_gib
  container_image          = coalesce(var.load_generators.container_image, var.container_image)
  target_url               = "wss://${var.domain_name}"
  api_key_parameter        = var.access_key_parameter
  secrets_kms_key_arn      = var.secrets_kms_key_arn
  disks_kms_key_arn        = var.disks_kms_key_arn
  results_bucket           = var.load_generators.results_bucket
  permissions_boundary_arn = var.permissions_boundary_arn
}

# Generators are let in whoever else may call. They are seen to come from the NAT gateways, or, by a load
# balancer that is inside, as themselves.
resource "aws_vpc_security_group_ingress_rule" "generators" {
  count = var.load_generators == null ? 0 : var.internal ? 1 : length(module.network.nat_addresses)

  security_group_id            = module.voice_server.balancer_security_group_id
  description                  = "Load generators"
  cidr_ipv4                    = var.internal ? null : "${module.network.nat_addresses[count.index]}/32"
  referenced_security_group_id = var.internal ? module.load_generators[0].security_group_id : null
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

resource "aws_route53_record" "callers" {
  # checkov:skip=CKV2_AWS_23:it leads to the load balancer, which stands in a module
  count = var.zone_id == null ? 0 : 1

  zone_id = var.zone_id
  name    = var.domain_name
  type    = "A"

  alias {
    name                   = module.voice_server.balancer.dns_name
    zone_id                = module.voice_server.balancer.zone_id
    evaluate_target_health = false
  }
}
