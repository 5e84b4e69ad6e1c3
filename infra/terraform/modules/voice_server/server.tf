data "aws_partition" "current" {}

data "aws_region" "current" {}

data "aws_caller_identity" "current" {}

data "aws_ssm_parameter" "ami" {
  count = var.ami_id == null ? 1 : 0

  name = var.ami_ssm_parameter
}

data "aws_ami" "server" {
  # Some of Amazon's own images are made public by accounts of their own; the id says which it is.
  include_deprecated = true

  filter {
    name   = "image-id"
    values = [local.ami_id]
  }
}

locals {
  # One number in one place: the simulation (rtvc fleet simulate) reads the same file.
  scaling = jsondecode(file("${path.module}/scaling.json"))

  is_fleet = var.fleet == null ? 0 : 1
  ami_id   = var.ami_id != null ? var.ami_id : nonsensitive(data.aws_ssm_parameter.ami[0].value)

  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.id
  account   = data.aws_caller_identity.current.account_id

  # ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPOSITORY:TAG
  ecr = try(regex("^(?P<account>[0-9]{12})\\.dkr\\.ecr\\.(?P<region>[a-z0-9-]+)\\.[a-z.]+/(?P<repository>[^:@]+)", var.container_image), null)
}

resource "aws_security_group" "server" {
  # checkov:skip=CKV2_AWS_5:attached by the launch template
  name_prefix = "${var.name}-server-"
  description = "Voice servers of ${var.name}"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-server" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.server.id
  description       = "AWS, container registries, services behind the server"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_egress_rule" "more" {
  for_each = { for one in var.more_egress : "${one.cidr}:${one.port}" => one }

  security_group_id = aws_security_group.server.id
  description       = each.value.description
  cidr_ipv4         = each.value.cidr
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
}

resource "aws_launch_template" "server" {
  name                   = var.name
  description            = "rtvc serve, ${coalesce(var.container_image, var.installed_at)}"
  image_id               = local.ami_id
  instance_type          = var.instance_type
  ebs_optimized          = true
  update_default_version = true
  vpc_security_group_ids = [aws_security_group.server.id]
  user_data              = base64encode(local.user_data)

  iam_instance_profile {
    arn = aws_iam_instance_profile.server.arn
  }

  # The container shares the network of the box: one hop is enough, and another container gets none.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
    instance_metadata_tags      = "disabled"
  }

  # What scaling follows is what rtvc says of itself every few seconds.
  monitoring {
    enabled = false
  }

  block_device_mappings {
    device_name = data.aws_ami.server.root_device_name

    ebs {
      volume_type           = "gp3"
      volume_size           = var.root_volume_gib
      encrypted             = true
      kms_key_id            = var.disks_kms_key_arn
      delete_on_termination = true
    }
  }

  dynamic "block_device_mappings" {
    for_each = var.model_snapshot_id == null ? [] : [var.model_snapshot_id]

    content {
      device_name = "/dev/sdm"

      ebs {
        snapshot_id           = block_device_mappings.value
        volume_type           = "gp3"
        encrypted             = true
        kms_key_id            = var.disks_kms_key_arn
        delete_on_termination = true
      }
    }
  }

  dynamic "tag_specifications" {
    for_each = ["instance", "volume"]

    content {
      resource_type = tag_specifications.value
      tags          = merge(var.tags, { Name = var.name })
    }
  }

  tags = { Name = var.name }
}
