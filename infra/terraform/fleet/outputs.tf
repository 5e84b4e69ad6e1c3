locals {
  first_holds = lookup(var.capacity_by_type, var.instance_types[0], var.capacity_per_instance)
}

output "url" {
  description = "Where callers go."
  value       = "wss://${var.domain_name}"
}

output "balancer_dns_name" {
  description = "Name of the load balancer: point domain_name at it (CNAME) unless zone_id was given."
  value       = module.voice_server.balancer.dns_name
}

output "nat_addresses" {
  description = "Addresses that servers and load generators come from, for whoever lets them in by address."
  value       = module.network.nat_addresses
}

output "ami_id" {
  description = "Machine image of the servers: as ami_id in terraform.tfvars it stays, and no plan proposes a newer one."
  value       = module.voice_server.ami_id
}

output "group_name" {
  description = "The Auto Scaling group."
  value       = module.voice_server.group_name
}

output "dashboard_url" {
  description = "The dashboard; null: there is none."
  value       = module.observability.dashboard_url
}

output "capacity" {
  description = "Sessions that the fleet holds at its least and its greatest size, if all servers are of the first type."
  value = {
    at_least = local.first_holds * var.min_size
    at_most  = local.first_holds * var.max_size
  }
}

output "next" {
  description = "What to type next."
  value       = <<-EOT
    %{if var.zone_id == null}# Point the name at the load balancer, then go on:
    #   ${var.domain_name}  CNAME  ${module.voice_server.balancer.dns_name}

    %{endif}# The key that callers need:
    aws ssm get-parameter --region ${var.region} --name ${var.access_key_parameter} --with-decryption --query Parameter.Value --output text > key.txt

    # Talk to it: https://${var.domain_name}  ·  load it:
    rtvc loadtest wss://${var.domain_name} --api-key-file key.txt --speakers ${ceil(0.5 * local.first_holds * var.min_size)} --duration 60

    # How full is it, and who is there? (date is Linux's; on a Mac: date -u -v-10M +%FT%TZ)
    aws cloudwatch get-metric-statistics --region ${var.region} --namespace rtvc --metric-name DemandPerCapacity --dimensions Name=AutoScalingGroupName,Value=${module.voice_server.group_name} --statistics Average Maximum --period 60 --start-time "$(date -u -d '-10 min' +%FT%TZ)" --end-time "$(date -u +%FT%TZ)"
    aws autoscaling describe-auto-scaling-instances --region ${var.region} --query "AutoScalingInstances[?AutoScalingGroupName=='${module.voice_server.group_name}'].[InstanceId,InstanceType,LifecycleState,ProtectedFromScaleIn]" --output table

    # Look at one of them:
    aws ssm start-session --region ${var.region} --target INSTANCE_ID      # sudo journalctl -u rtvc

    %{if var.ami_id == null}# Into terraform.tfvars, or a later apply rolls out a newer machine image if there is one:
    #   ami_id = "${module.voice_server.ami_id}"

    %{endif}# What would these rules do on a day of yours?
    rtvc fleet simulate --help
    %{if var.load_generators != null}
    # Many callers, from machines of their own:
    ${trimspace(try(module.load_generators[0].next, ""))}
    %{endif}
  EOT
}
