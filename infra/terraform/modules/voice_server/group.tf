locals {
  # scaling.json counts from the start of an instance; AWS counts from when it is in service, which here
  # is when it is ready.
  settling_s = max(local.scaling.warm_up_s - local.scaling.boot_s_assumed, 0)
}

resource "aws_autoscaling_group" "servers" {
  # checkov:skip=CKV2_AWS_15:the health checks of the load balancer would end servers with calls: see health_check_type
  count = local.is_fleet

  name                = var.name
  min_size            = var.fleet.min_size
  max_size            = var.fleet.max_size
  vpc_zone_identifier = var.fleet.server_subnet_ids
  target_group_arns   = [aws_lb_target_group.servers[0].arn]

  # EC2's own checks, and not those of the load balancer: a server that stands aside or drains, or whose
  # engine is being replaced, is not ready, and a group that believed the load balancer would end it,
  # calls and all; scale-in protection does not stop that.
  health_check_type         = "EC2"
  health_check_grace_period = 60

  # Until its first word a server is picked by nobody; rtvc itself gives up the protection once the group
  # has too many servers, this one stands aside and was empty for a while.
  protect_from_scale_in   = true
  default_instance_warmup = local.settling_s
  # Moving servers between zones only to have the same number in each would end calls.
  suspended_processes = ["AZRebalance"]
  capacity_rebalance  = var.fleet.spot_percent > 0
  enabled_metrics = [
    "GroupDesiredCapacity",
    "GroupInServiceInstances",
    "GroupMaxSize",
    "GroupPendingInstances",
    "GroupTerminatingInstances",
  ]
  # In service means ready (the hook below), so an apply ends when people can talk.
  wait_for_capacity_timeout = "${var.fleet.boot_timeout_s + 300}s"

  mixed_instances_policy {
    instances_distribution {
      on_demand_allocation_strategy            = "prioritized"
      on_demand_base_capacity                  = var.fleet.min_size
      on_demand_percentage_above_base_capacity = 100 - var.fleet.spot_percent
      spot_allocation_strategy                 = "price-capacity-optimized"
    }

    launch_template {
      launch_template_specification {
        launch_template_id = aws_launch_template.server.id
        version            = aws_launch_template.server.latest_version
      }

      dynamic "override" {
        for_each = var.fleet.instance_types

        content {
          instance_type = override.value
        }
      }
    }
  }

  # The group's first servers have to find it there.
  initial_lifecycle_hook {
    name                 = local.ready
    lifecycle_transition = "autoscaling:EC2_INSTANCE_LAUNCHING"
    heartbeat_timeout    = var.fleet.boot_timeout_s
    default_result       = "ABANDON"
  }

  # A new image or setting: a server more, then one less, which finishes its calls (the hook drain).
  # Waiting until a busy server happens to be idle would take for ever.
  instance_refresh {
    strategy = "Rolling"

    preferences {
      min_healthy_percentage       = 100
      max_healthy_percentage       = 110
      instance_warmup              = local.settling_s
      auto_rollback                = true
      skip_matching                = true
      scale_in_protected_instances = "Refresh"
    }
  }

  tag {
    key                 = "Name"
    value               = var.name
    propagate_at_launch = true
  }

  timeouts {
    delete = "30m"
  }
}

# The same hook again: what stands in the group holds for its making only, and here it can be changed.
resource "aws_autoscaling_lifecycle_hook" "ready" {
  count = local.is_fleet

  name                   = local.ready
  autoscaling_group_name = aws_autoscaling_group.servers[0].name
  lifecycle_transition   = "autoscaling:EC2_INSTANCE_LAUNCHING"
  heartbeat_timeout      = var.fleet.boot_timeout_s
  default_result         = "ABANDON"
}

# rtvc sees that its instance is to end, lets its calls finish, says so here, and only then is it gone.
resource "aws_autoscaling_lifecycle_hook" "drain" {
  count = local.is_fleet

  name                   = local.drain
  autoscaling_group_name = aws_autoscaling_group.servers[0].name
  lifecycle_transition   = "autoscaling:EC2_INSTANCE_TERMINATING"
  heartbeat_timeout      = local.scaling.hook_timeout_s
  default_result         = "CONTINUE"
}

resource "aws_autoscaling_policy" "sessions" {
  count = local.is_fleet

  name                   = "demand-per-capacity"
  autoscaling_group_name = aws_autoscaling_group.servers[0].name
  policy_type            = "TargetTrackingScaling"

  target_tracking_configuration {
    target_value = local.scaling.target_percent

    # A CPU knows nothing of a GPU. This is what rtvc says of itself: sessions, and room for chance
    # (their square root, over the group), in percent of what the load test found that such a
    # server holds, averaged over the group.
    customized_metric_specification {
      namespace   = local.namespace
      metric_name = "DemandPerCapacity"
      statistic   = "Average"
      period      = local.scaling.metric_period_s

      metric_dimension {
        name  = "AutoScalingGroupName"
        value = aws_autoscaling_group.servers[0].name
      }
    }
  }
}
