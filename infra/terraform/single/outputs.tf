locals {
  address = "${aws_instance.box.public_ip}:${module.voice_server.port}"
  host    = length(var.callers_cidrs) == 0 ? "localhost:${module.voice_server.port}" : local.address
}

output "url" {
  description = "The server, for those in callers_cidrs."
  value       = "wss://${local.address}"
}

output "instance_id" {
  description = "The box."
  value       = aws_instance.box.id
}

output "ami_id" {
  description = "Machine image of the box: as ami_id in terraform.tfvars it stays, and no plan proposes a newer one."
  value       = module.voice_server.ami_id
}

output "next" {
  description = "What to type next."
  value       = <<-EOT
    # The key that callers need:
    aws ssm get-parameter --region ${var.region} --name ${var.access_key_parameter} --with-decryption --query Parameter.Value --output text > key.txt

    %{if length(var.callers_cidrs) == 0}# Nobody can reach the box directly. In a terminal of its own:
    aws ssm start-session --region ${var.region} --target ${aws_instance.box.id} --document-name AWS-StartPortForwardingSession --parameters portNumber=${module.voice_server.port},localPortNumber=${module.voice_server.port}

    %{endif}# Is it ready? It says how far it is (its certificate is its own):
    curl --insecure https://${local.host}/readyz

    # Talk to it: https://${local.host}  ·  load it, then find out how many it holds:
    rtvc loadtest wss://${local.host} --insecure --api-key-file key.txt --speakers 4 --duration 60
    rtvc loadtest wss://${local.host} --insecure --api-key-file key.txt --find-capacity --max-speakers ${var.capacity_per_instance}

    %{if var.ami_id == null}# Into terraform.tfvars, or a later apply replaces the box when there is a newer machine image:
    #   ami_id = "${module.voice_server.ami_id}"

    %{endif}# Look at it, stop it (it costs its disk and nothing else then), start it, be rid of it:
    aws ssm start-session --region ${var.region} --target ${aws_instance.box.id}      # sudo journalctl -u rtvc
    aws ec2 stop-instances --region ${var.region} --instance-ids ${aws_instance.box.id}
    aws ec2 start-instances --region ${var.region} --instance-ids ${aws_instance.box.id}    # then terraform apply -refresh-only: it has another address
    terraform destroy      # in the folder of this configuration, as is terraform apply
  EOT
}
