data "aws_partition" "current" {}

data "aws_region" "current" {}

data "aws_caller_identity" "current" {}

data "aws_ssm_parameter" "ami" {
  count = var.ami_id == null ? 1 : 0

  name = var.ami_ssm_parameter
}

locals {
  ami_id    = var.ami_id != null ? var.ami_id : nonsensitive(data.aws_ssm_parameter.ami[0].value)
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.id
  account   = data.aws_caller_identity.current.account_id
  ecr       = try(regex("^(?P<account>[0-9]{12})\\.dkr\\.ecr\\.(?P<region>[a-z0-9-]+)\\.[a-z.]+/(?P<repository>[^:@]+)", var.container_image), null)
  registry  = split("/", var.container_image)[0]

  # Locust's own; its messages are neither encrypted nor authenticated, so nobody else may come near.
  locust_port = 5557

  # A set of rows so that a port is added without touching the others.
  egress_ports = toset([for port in concat([443], tolist(var.target_ports)) : tostring(port)])
}

resource "aws_security_group" "generators" {
  name_prefix = "${var.name}-load-"
  description = "Load generators of ${var.name}"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-load" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "locust" {
  security_group_id            = aws_security_group.generators.id
  description                  = "Workers to their master"
  referenced_security_group_id = aws_security_group.generators.id
  ip_protocol                  = "tcp"
  from_port                    = local.locust_port
  to_port                      = local.locust_port
}

resource "aws_vpc_security_group_egress_rule" "locust" {
  security_group_id            = aws_security_group.generators.id
  description                  = "Workers to their master"
  referenced_security_group_id = aws_security_group.generators.id
  ip_protocol                  = "tcp"
  from_port                    = local.locust_port
  to_port                      = local.locust_port
}

resource "aws_vpc_security_group_egress_rule" "out" {
  for_each = local.egress_ports

  security_group_id = aws_security_group.generators.id
  description       = "The server under test, AWS, container registries"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = tonumber(each.value)
  to_port           = tonumber(each.value)
}

resource "aws_instance" "master" {
  # checkov:skip=CKV_AWS_126:a load test watches itself every second (generator.csv); CloudWatch's minutes add nothing
  ami                         = local.ami_id
  instance_type               = var.instance_type
  subnet_id                   = var.subnet_ids[0]
  vpc_security_group_ids      = [aws_security_group.generators.id]
  iam_instance_profile        = aws_iam_instance_profile.generators.name
  ebs_optimized               = true
  user_data                   = local.master_data
  user_data_replace_on_change = true

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = var.root_volume_gib
    encrypted   = true
    kms_key_id  = var.disks_kms_key_arn
  }

  tags = { Name = "${var.name}-load-master" }
}

resource "aws_instance" "worker" {
  # checkov:skip=CKV_AWS_126:a load test watches itself every second (generator.csv); CloudWatch's minutes add nothing
  count = var.workers

  ami                         = local.ami_id
  instance_type               = var.instance_type
  subnet_id                   = var.subnet_ids[count.index % length(var.subnet_ids)]
  vpc_security_group_ids      = [aws_security_group.generators.id]
  iam_instance_profile        = aws_iam_instance_profile.generators.name
  ebs_optimized               = true
  user_data                   = local.worker_data
  user_data_replace_on_change = true

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = var.root_volume_gib
    encrypted   = true
    kms_key_id  = var.disks_kms_key_arn
  }

  tags = { Name = "${var.name}-load-${count.index + 1}" }
}
