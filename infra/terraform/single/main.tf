# One GPU box that people can talk to, and that a load test can be run against.

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

  name  = var.name
  zones = [var.zone]
  # A box with an address of its own needs no NAT gateway, which would cost more than the address.
  nat                      = "none"
  public_ips_on_launch     = true
  flow_log_retention_days  = null
  permissions_boundary_arn = var.permissions_boundary_arn
}

module "observability" {
  source = "../modules/observability"

  name                      = var.name
  log_retention_days        = var.log_retention_days
  logs_kms_key_arn          = var.logs_kms_key_arn
  access_log_retention_days = null
  create_dashboard          = false
  create_alarms             = false
}

module "voice_server" {
  source = "../modules/voice_server"

  name                     = var.name
  vpc_id                   = module.network.vpc_id
  instance_type            = var.instance_type
  ami_id                   = var.ami_id
  ami_ssm_parameter        = var.ami_ssm_parameter
  root_volume_gib          = var.root_volume_gib
  container_image          = var.container_image
  installed_at             = var.installed_at
  gpu                      = var.gpu
  model                    = var.model
  model_snapshot_id        = var.model_snapshot_id
  capacity_per_instance    = var.capacity_per_instance
  publish_figures          = var.publish_figures
  settings                 = var.settings
  secrets                  = merge(var.secrets, { RTVC_ACCESS_KEY = var.access_key_parameter })
  secrets_kms_key_arn      = var.secrets_kms_key_arn
  disks_kms_key_arn        = var.disks_kms_key_arn
  drain_s                  = var.drain_s
  log_group                = module.observability.log_group
  more_egress              = var.more_egress
  permissions_boundary_arn = var.permissions_boundary_arn
  tags                     = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "callers" {
  for_each = toset(var.callers_cidrs)

  security_group_id = module.voice_server.server_security_group_id
  description       = "Callers"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = module.voice_server.port
  to_port           = module.voice_server.port
}

resource "aws_instance" "box" {
  # checkov:skip=CKV_AWS_8:disks are encrypted by the launch template
  # checkov:skip=CKV_AWS_79:metadata wants a token by the launch template
  # checkov:skip=CKV_AWS_126:rtvc says of itself what matters, at /metrics
  # checkov:skip=CKV_AWS_135:optimised for EBS by the launch template
  # checkov:skip=CKV2_AWS_41:its role stands in the launch template
  subnet_id = module.network.public_subnet_ids[0]

  launch_template {
    id      = module.voice_server.launch_template.id
    version = module.voice_server.launch_template.version
  }

  tags = { Name = var.name }
}
