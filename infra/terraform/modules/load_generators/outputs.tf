output "master_id" {
  description = "The machine that a test is begun from."
  value       = aws_instance.master.id
}

output "master_address" {
  description = "Address that workers join."
  value       = aws_instance.master.private_ip
}

output "security_group_id" {
  description = "Security group of all generators."
  value       = aws_security_group.generators.id
}

output "next" {
  description = "What to type to find out how many speakers the server holds."
  value       = <<-EOT
    aws ssm start-session --region ${local.region} --target ${aws_instance.master.id}
      sudo rtvc-loadtest ${var.target_url} --find-capacity --max-speakers 128
    ${var.results_bucket == null ? "The run stays on that machine, in /var/lib/rtvc/runs." : "aws s3 cp --recursive s3://${var.results_bucket}/${var.name}/ reports/runs/"}
  EOT
}
