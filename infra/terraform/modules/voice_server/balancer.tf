locals {
  callers = var.fleet == null ? [] : var.fleet.callers_cidrs
}

resource "aws_security_group" "balancer" {
  count = local.is_fleet

  name_prefix = "${var.name}-balancer-"
  description = "Load balancer of ${var.name}"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-balancer" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "callers_tls" {
  for_each = toset(local.callers)

  security_group_id = aws_security_group.balancer[0].id
  description       = "Callers"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_ingress_rule" "callers_plain" {
  for_each = toset(local.callers)

  security_group_id = aws_security_group.balancer[0].id
  description       = "Browsers that were given no https: sent on to it"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 80
  to_port           = 80
}

resource "aws_vpc_security_group_egress_rule" "to_servers" {
  count = local.is_fleet

  security_group_id            = aws_security_group.balancer[0].id
  description                  = "Voice servers, and nothing else"
  referenced_security_group_id = aws_security_group.server.id
  ip_protocol                  = "tcp"
  from_port                    = var.port
  to_port                      = var.port
}

resource "aws_vpc_security_group_ingress_rule" "from_balancer" {
  count = local.is_fleet

  security_group_id            = aws_security_group.server.id
  description                  = "The load balancer, and nobody else"
  referenced_security_group_id = aws_security_group.balancer[0].id
  ip_protocol                  = "tcp"
  from_port                    = var.port
  to_port                      = var.port
}

resource "aws_lb" "balancer" {
  # checkov:skip=CKV_AWS_150:on unless the user of the module says otherwise (deletion_protection)
  # checkov:skip=CKV_AWS_91:on where a bucket is given (access_logs_bucket): it costs money, so it is asked for
  # checkov:skip=CKV2_AWS_28:attached below where a web ACL is given: it costs money, so it is asked for
  count = local.is_fleet

  name               = var.name
  internal           = var.fleet.internal
  load_balancer_type = "application"
  security_groups    = [aws_security_group.balancer[0].id]
  subnets            = var.fleet.balancer_subnet_ids
  # A WebSocket is cut when nothing went through for so long; rtvc pings more often than that.
  idle_timeout               = var.fleet.idle_timeout_s
  drop_invalid_header_fields = true
  desync_mitigation_mode     = "defensive"
  # rtvc compares Host with the Origin of the page.
  preserve_host_header       = true
  enable_deletion_protection = var.fleet.deletion_protection

  dynamic "access_logs" {
    for_each = var.fleet.access_logs_bucket == null ? [] : [var.fleet.access_logs_bucket]

    content {
      bucket  = access_logs.value
      prefix  = var.name
      enabled = true
    }
  }

  tags = { Name = var.name }
}

resource "aws_lb_target_group" "servers" {
  # checkov:skip=CKV_AWS_378:https unless tls = false is chosen
  count = local.is_fleet

  name_prefix      = "rtvc-"
  vpc_id           = var.vpc_id
  target_type      = "instance"
  port             = var.port
  protocol         = upper(local.scheme)
  protocol_version = "HTTP1"
  # In turn, servers that are full would refuse while others have room.
  load_balancing_algorithm_type = var.fleet.balancing
  # How long calls of a server that is taken out may go on. rtvc lets each go between two turns, so
  # that it seldom takes so long.
  deregistration_delay = local.scaling.deregistration_delay_s

  # Who stands aside is sent callers until this has failed twice, 20 s at most, and lets them in, as it
  # lets in whoever comes at all. Only then may it lose its protection from scale-in (NOTICED_S in
  # rtvc/server/cloud/aside.py): whoever changes it here has to change it there.
  health_check {
    path                = "/readyz"
    protocol            = upper(local.scheme)
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }

  tags = { Name = var.name }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_lb_listener" "tls" {
  # checkov:skip=CKV_AWS_103:the variable takes policies of TLS 1.2 or newer only
  count = local.is_fleet

  load_balancer_arn = aws_lb.balancer[0].arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = var.fleet.ssl_policy
  certificate_arn   = var.fleet.certificate_arn

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.servers[0].arn
  }
}

resource "aws_lb_listener" "plain" {
  # checkov:skip=CKV2_AWS_74:it speaks no TLS, and does nothing but send on to who does
  count = local.is_fleet

  load_balancer_arn = aws_lb.balancer[0].arn
  port              = 80
  protocol          = "HTTP"

  default_action {
    type = "redirect"

    redirect {
      port        = "443"
      protocol    = "HTTPS"
      status_code = "HTTP_301"
    }
  }
}

resource "aws_wafv2_web_acl_association" "this" {
  count = try(var.fleet.web_acl_arn, null) == null ? 0 : 1

  resource_arn = aws_lb.balancer[0].arn
  web_acl_arn  = var.fleet.web_acl_arn
}
