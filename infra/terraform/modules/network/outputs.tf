output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "public_subnet_ids" {
  description = "One subnet a zone with a way in from the internet: for load balancers."
  value       = aws_subnet.public[*].id

  # Whoever starts something there finds the way in and out, and keeps it until it is gone: a load balancer
  # is refused where there is no internet gateway yet.
  depends_on = [aws_route.internet, aws_route_table_association.public, aws_vpc_endpoint.s3]
}

output "public_subnet_cidrs" {
  description = "Addresses of the public subnets."
  value       = aws_subnet.public[*].cidr_block
}

output "private_subnet_ids" {
  description = "One subnet a zone with a way out only: for servers. Empty with nat = \"none\"."
  value       = aws_subnet.private[*].id

  depends_on = [aws_route.nat, aws_route_table_association.private, aws_vpc_endpoint.s3]
}

output "nat_addresses" {
  description = "Addresses that others see what is in private subnets come from."
  value       = aws_eip.nat[*].public_ip
}
