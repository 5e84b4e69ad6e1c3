locals {
  dashboards = var.fleet != null && var.create_dashboard ? 1 : 0
  group_name = try(var.fleet.group_name, "")

  widgets = [
    {
      title = "Of capacity, % (the line: where scaling keeps sessions and room for chance)"
      metrics = [
        [local.namespace, "DemandPerCapacity", "AutoScalingGroupName", local.group_name, { stat = "Average", label = "sessions and room" }],
        [local.namespace, "SessionsPerCapacity", "AutoScalingGroupName", local.group_name, { stat = "Average", label = "sessions" }],
        [local.namespace, "SessionsPerCapacity", "AutoScalingGroupName", local.group_name, { stat = "Maximum", label = "fullest server" }],
      ]
      line = try(var.fleet.scaling.target_percent, 0)
    },
    {
      title = "Sessions, and how many more would fit"
      metrics = [
        [local.namespace, "Sessions", "AutoScalingGroupName", local.group_name, { stat = "Sum", label = "sessions", period = local.metric_period_s }],
        [local.namespace, "Headroom", "AutoScalingGroupName", local.group_name, { stat = "Sum", label = "room for", period = local.metric_period_s }],
        [local.namespace, "Capacity", "AutoScalingGroupName", local.group_name, { stat = "Sum", label = "capacity", period = local.metric_period_s }],
      ]
      line = null
    },
    {
      title = "Servers"
      metrics = [
        ["AWS/AutoScaling", "GroupDesiredCapacity", "AutoScalingGroupName", local.group_name, { label = "wanted" }],
        ["AWS/AutoScaling", "GroupInServiceInstances", "AutoScalingGroupName", local.group_name, { label = "in service" }],
        [local.namespace, "Aside", "AutoScalingGroupName", local.group_name, { stat = "Sum", label = "standing aside", period = local.metric_period_s }],
        ["AWS/AutoScaling", "GroupPendingInstances", "AutoScalingGroupName", local.group_name, { label = "starting" }],
        ["AWS/AutoScaling", "GroupTerminatingInstances", "AutoScalingGroupName", local.group_name, { label = "finishing calls" }],
      ]
      line = try(var.fleet.max_size, 0)
    },
    {
      title = "From start to ready, s (the line: what scaling.json assumes)"
      metrics = [
        [local.namespace, "BootToReady", "AutoScalingGroupName", local.group_name, { stat = "Maximum", label = "slowest" }],
      ]
      line = try(var.fleet.scaling.boot_s_assumed, 0)
    },
    {
      title = "Connections at the load balancer"
      metrics = [
        ["AWS/ApplicationELB", "ActiveConnectionCount", "LoadBalancer", local.balancer.LoadBalancer, { stat = "Sum", label = "open" }],
        ["AWS/ApplicationELB", "NewConnectionCount", "LoadBalancer", local.balancer.LoadBalancer, { stat = "Sum", label = "new" }],
        ["AWS/ApplicationELB", "RejectedConnectionCount", "LoadBalancer", local.balancer.LoadBalancer, { stat = "Sum", label = "rejected" }],
      ]
      line = null
    },
    {
      title = "Refused or failed"
      metrics = [
        ["AWS/ApplicationELB", "HTTPCode_Target_5XX_Count", "LoadBalancer", local.balancer.LoadBalancer, { stat = "Sum", label = "by servers" }],
        ["AWS/ApplicationELB", "HTTPCode_ELB_5XX_Count", "LoadBalancer", local.balancer.LoadBalancer, { stat = "Sum", label = "by the load balancer" }],
      ]
      line = null
    },
  ]
}

resource "aws_cloudwatch_dashboard" "fleet" {
  count = local.dashboards

  dashboard_name = var.name
  dashboard_body = jsonencode({
    widgets = [
      for number, widget in local.widgets : {
        type   = "metric"
        x      = 12 * (number % 2)
        y      = 6 * floor(number / 2)
        width  = 12
        height = 6
        properties = {
          title       = widget.title
          region      = local.region
          view        = "timeSeries"
          period      = 60
          metrics     = widget.metrics
          yAxis       = { left = { min = 0 } }
          annotations = { horizontal = [for value in [widget.line] : { value = value } if value != null] }
        }
      }
    ]
  })
}
