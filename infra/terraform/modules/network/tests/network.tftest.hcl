mock_provider "aws" {
  source = "../../mocks"
}

variables {
  name                    = "voice"
  zones                   = ["us-east-1a", "us-east-1c"]
  nat                     = "per_zone"
  public_ips_on_launch    = false
  flow_log_retention_days = 30
}

run "a_fleet_has_private_subnets_with_a_way_out_in_each_zone" {
  assert {
    condition     = tolist(aws_subnet.public[*].cidr_block) == tolist(["10.42.0.0/20", "10.42.16.0/20"])
    error_message = "Expected the first sixteenths as public subnets."
  }

  assert {
    condition     = tolist(aws_subnet.private[*].cidr_block) == tolist(["10.42.128.0/20", "10.42.144.0/20"])
    error_message = "Expected the private subnets in the second half."
  }

  assert {
    condition     = tolist(aws_subnet.private[*].availability_zone) == tolist(var.zones)
    error_message = "Expected one private subnet in each zone."
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 2 && length(aws_eip.nat) == 2
    error_message = "Expected a NAT gateway in each zone."
  }

  assert {
    condition     = tolist(output.nat_addresses) == tolist(["198.51.100.20", "198.51.100.20"])
    error_message = "Expected the addresses that servers come from, one a zone."
  }

  assert {
    condition     = alltrue([for subnet in aws_subnet.public : subnet.map_public_ip_on_launch == false])
    error_message = "Nothing in a fleet gets a public address by being started."
  }

  assert {
    condition     = aws_vpc_endpoint.s3.service_name == "com.amazonaws.us-east-1.s3" && aws_vpc_endpoint.s3.vpc_endpoint_type == "Gateway"
    error_message = "Expected the gateway endpoint of S3, which is free."
  }
}

run "flow_logs_are_kept_as_long_as_wished_and_may_write_nowhere_else" {
  assert {
    condition     = aws_cloudwatch_log_group.flow[0].retention_in_days == 30
    error_message = "Expected the retention that was asked for."
  }

  assert {
    condition     = aws_flow_log.this[0].traffic_type == "ALL"
    error_message = "Expected refused and accepted traffic."
  }

  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.flow[0].policy).Statement :
      statement.Resource == "${aws_cloudwatch_log_group.flow[0].arn}:*"
    ])
    error_message = "The role may write its own log group only."
  }
}

run "a_single_nat_gateway_serves_all_zones" {
  variables {
    nat = "single"
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 1 && length(aws_route.nat) == 2
    error_message = "Expected one NAT gateway and a route to it from each zone."
  }
}

run "without_nat_there_is_nothing_private_and_nothing_to_pay" {
  variables {
    nat                     = "none"
    public_ips_on_launch    = true
    flow_log_retention_days = null
  }

  assert {
    condition = alltrue([
      length(aws_subnet.private) == 0,
      length(aws_nat_gateway.this) == 0,
      length(aws_eip.nat) == 0,
      length(output.nat_addresses) == 0,
      length(aws_flow_log.this) == 0,
      length(aws_cloudwatch_log_group.flow) == 0,
    ])
    error_message = "Expected no private subnets, no NAT gateways, no addresses and no flow log."
  }

  assert {
    condition     = alltrue(aws_subnet.public[*].map_public_ip_on_launch)
    error_message = "Expected public addresses: there is no other way out."
  }
}

run "a_way_out_has_to_be_chosen" {
  command = plan

  variables {
    nat = "some"
  }

  expect_failures = [var.nat]
}

run "zones_have_to_be_zones" {
  command = plan

  variables {
    zones = ["us-east-1"]
  }

  expect_failures = [var.zones]
}

run "a_zone_counts_once" {
  command = plan

  variables {
    zones = ["us-east-1a", "us-east-1a"]
  }

  expect_failures = [var.zones]
}

run "a_block_that_is_too_small_is_refused" {
  command = plan

  variables {
    cidr = "10.42.0.0/24"
  }

  expect_failures = [var.cidr]
}

run "a_retention_that_cloudwatch_does_not_know_is_refused" {
  command = plan

  variables {
    flow_log_retention_days = 31
  }

  expect_failures = [var.flow_log_retention_days]
}
