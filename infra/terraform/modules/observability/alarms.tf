locals {
  alarms    = var.fleet != null && var.create_alarms ? 1 : 0
  namespace = "rtvc"
  group     = { AutoScalingGroupName = try(var.fleet.group_name, "") }
  # Of what servers publish.
  metric_period_s = try(var.fleet.scaling.metric_period_s, 60)
  balancer        = { LoadBalancer = try(var.fleet.balancer_suffix, "") }
  targets = {
    LoadBalancer = try(var.fleet.balancer_suffix, "")
    TargetGroup  = try(var.fleet.target_group_suffix, "")
  }

  simple_alarms = {
    full = {
      text      = "The fleet is nearly full: callers are about to be refused. It grows by itself; if it does not, see at-most and blind."
      namespace = local.namespace, metric = "SessionsPerCapacity", dimensions = local.group
      statistic = "Average", comparison = "GreaterThanOrEqualToThreshold", threshold = 95
      period    = 60, of = 3, missing = "notBreaching"
    }
    blind = {
      text      = "Nobody says how full the servers are, so the group can't scale: see rtvc_cloud_failures_total and the servers' log."
      namespace = local.namespace, metric = "DemandPerCapacity", dimensions = local.group
      statistic = "SampleCount", comparison = "LessThanThreshold", threshold = 1
      period    = 60, of = 5, missing = "breaching"
    }
    slow-start = {
      text      = "A server took longer from its start until it was ready than scaling.json assumes: callers may be refused while the fleet grows."
      namespace = local.namespace, metric = "BootToReady", dimensions = local.group
      statistic = "Maximum", comparison = "GreaterThanThreshold", threshold = try(var.fleet.scaling.boot_s_assumed, 0)
      period    = 300, of = 1, missing = "notBreaching"
    }
    nobody-there = {
      text      = "No server takes sessions."
      namespace = "AWS/ApplicationELB", metric = "HealthyHostCount", dimensions = local.targets
      statistic = "Minimum", comparison = "LessThanThreshold", threshold = 1
      period    = 60, of = 2, missing = "breaching"
    }
    refused = {
      text      = "Servers answered with 5xx: callers were refused (503), or something failed."
      namespace = "AWS/ApplicationELB", metric = "HTTPCode_Target_5XX_Count", dimensions = local.targets
      statistic = "Sum", comparison = "GreaterThanThreshold", threshold = 0
      period    = 60, of = 1, missing = "notBreaching"
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "simple" {
  for_each = { for name, alarm in local.simple_alarms : name => alarm if local.alarms == 1 }

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.text
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  period              = each.value.period
  evaluation_periods  = each.value.of
  datapoints_to_alarm = each.value.of
  treat_missing_data  = each.value.missing
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
}

resource "aws_cloudwatch_metric_alarm" "at_most" {
  # A fleet of a fixed size is always as large as can be.
  count = local.alarms == 1 && try(var.fleet.max_size > var.fleet.min_size, false) ? 1 : 0

  alarm_name          = "${var.name}-at-most"
  alarm_description   = "The fleet has wanted its greatest size (${var.fleet.max_size}) for five minutes: it can't grow any more. Raise max_size, and mind the quota of GPU vCPUs."
  namespace           = "AWS/AutoScaling"
  metric_name         = "GroupDesiredCapacity"
  dimensions          = local.group
  statistic           = "Minimum"
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = var.fleet.max_size
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 5
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
}

# A server that stands aside is not ready either, for as long as its last call, and all is well with it.
resource "aws_cloudwatch_metric_alarm" "not_ready" {
  count = local.alarms

  alarm_name          = "${var.name}-not-ready"
  alarm_description   = "A server in service has taken no sessions for a quarter of an hour, and does not stand aside. It is not ended, as it may hold calls: look at /readyz and its log."
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  evaluation_periods  = 15
  datapoints_to_alarm = 15
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns

  metric_query {
    id    = "amiss"
    label = "not ready, and not standing aside"
    # Each server says once a period whether it stands aside; seldom is one late, hence the rounding.
    expression  = "unready - FLOOR(FILL(aside, 0) * ${local.metric_period_s} / 60 + 0.5)"
    return_data = true
  }

  metric_query {
    id = "unready"

    metric {
      namespace   = "AWS/ApplicationELB"
      metric_name = "UnHealthyHostCount"
      dimensions  = local.targets
      stat        = "Minimum"
      period      = 60
    }
  }

  metric_query {
    id = "aside"

    metric {
      namespace   = local.namespace
      metric_name = "Aside"
      dimensions  = local.group
      stat        = "Sum"
      period      = 60
    }
  }
}
