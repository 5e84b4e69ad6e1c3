output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "public_subnet_ids" {
  description = "One subnet a zone with a way in from the internet: for load balancers."
  value       = aws_subnet.public[*].id
}

output "public_subnet_cidrs" {
  description = "Addresses of the public subnets."
  value       = aws_subnet.public[*].cidr_block
}

output "private_subnet_ids" {
  description = "One subnet a zone with a way out only: for servers. Empty with nat = \"none\"."
  value       = aws_subnet.private[*].id
}
