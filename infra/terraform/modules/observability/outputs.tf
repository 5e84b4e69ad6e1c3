output "log_group" {
  description = "Name and ARN of the servers' log group."
  value = {
    name = aws_cloudwatch_log_group.server.name
    arn  = aws_cloudwatch_log_group.server.arn
  }
}

output "access_logs_bucket" {
  description = "Bucket of the load balancer's log, once it may be written to; null: there is none."
  # A load balancer tries the bucket when it is told of it, so the policy has to stand by then.
  value      = local.access_logs == 0 ? null : local.bucket
  depends_on = [aws_s3_bucket_policy.access_logs]
}

output "dashboard_url" {
  description = "The dashboard; null: there is none."
  value       = one([for dashboard in aws_cloudwatch_dashboard.fleet : "https://${local.region}.console.aws.amazon.com/cloudwatch/home?region=${local.region}#dashboards/dashboard/${dashboard.dashboard_name}"])
}

output "alarm_names" {
  description = "All alarms."
  value = sort(concat(
    [for alarm in aws_cloudwatch_metric_alarm.simple : alarm.alarm_name],
    aws_cloudwatch_metric_alarm.at_most[*].alarm_name,
    aws_cloudwatch_metric_alarm.not_ready[*].alarm_name,
  ))
}
