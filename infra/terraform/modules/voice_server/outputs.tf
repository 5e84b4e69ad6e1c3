output "launch_template" {
  description = "Id and latest version of the launch template of one server."
  value = {
    id      = aws_launch_template.server.id
    version = aws_launch_template.server.latest_version
  }
}

output "server_security_group_id" {
  description = "Security group of the servers."
  value       = aws_security_group.server.id
}

output "balancer_security_group_id" {
  description = "Security group of the load balancer, for callers beside callers_cidrs; null without a fleet."
  value       = one(aws_security_group.balancer[*].id)
}

output "ami_id" {
  description = "Machine image of the servers. As ami_id it stays the same from plan to plan."
  value       = local.ami_id
}

output "role_name" {
  description = "Role of the servers, for a policy of your own that is attached to it."
  value       = aws_iam_role.server.name
}

output "port" {
  description = "Port that rtvc listens on."
  value       = var.port
}

output "group_name" {
  description = "The Auto Scaling group; null without a fleet."
  value       = one(aws_autoscaling_group.servers[*].name)
}

output "balancer" {
  description = "Name, hosted zone and metric names of the load balancer and its target group; null without a fleet."
  value = one([for balancer in aws_lb.balancer : {
    dns_name            = balancer.dns_name
    zone_id             = balancer.zone_id
    suffix              = balancer.arn_suffix
    target_group_suffix = aws_lb_target_group.servers[0].arn_suffix
    target_group_arn    = aws_lb_target_group.servers[0].arn
  }])
}

output "scaling" {
  description = "The numbers of scaling.json."
  value       = local.scaling
}
