mock_provider "aws" {
  source = "../mocks"
}

variables {
  region                    = "us-east-1"
  zones                     = ["us-east-1a", "us-east-1c"]
  nat                       = "per_zone"
  instance_types            = ["g6.xlarge", "g5.xlarge"]
  min_size                  = 2
  max_size                  = 60
  spot_percent              = 0
  root_volume_gib           = 100
  container_image           = "ghcr.io/someone/rtvc:1.0.0"
  model                     = "/models/small.en"
  capacity_per_instance     = 24
  domain_name               = "voice.example.com"
  certificate_arn           = "arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-4000-8000-000000000000"
  zone_id                   = "Z0123456789ABCDEFGHIJ"
  callers_cidrs             = ["0.0.0.0/0"]
  access_key_parameter      = "/rtvc/access-key"
  log_retention_days        = 30
  access_log_retention_days = 30
  flow_log_retention_days   = 30
  create_dashboard          = true
  create_alarms             = true
}

run "a_fleet_that_callers_find_by_name" {
  assert {
    condition     = output.url == "wss://voice.example.com" && output.group_name == "rtvc"
    error_message = "Expected the name and the group."
  }

  assert {
    condition     = aws_route53_record.callers[0].alias[0].name == output.balancer_dns_name
    error_message = "Expected the name to lead to the load balancer."
  }

  assert {
    condition     = output.dashboard_url != null
    error_message = "Expected a dashboard."
  }
}

run "the_outputs_say_what_to_type_next" {
  assert {
    condition = alltrue([
      for text in [
        "rtvc loadtest wss://voice.example.com --api-key-file key.txt --speakers 24 --duration 60",
        "aws ssm get-parameter --region us-east-1 --name /rtvc/access-key --with-decryption",
        "--dimensions Name=AutoScalingGroupName,Value=rtvc ",
      ] : strcontains(output.next, text)
    ])
    error_message = "Expected commands that work as they stand."
  }

  assert {
    condition     = !startswith(output.next, " ") && !strcontains(output.next, "\n    ") && !strcontains(output.next, "\n\n\n")
    error_message = "Expected lines that begin where all do."
  }

  assert {
    condition     = output.capacity.at_most == 1440 && output.capacity.at_least == 48
    error_message = "Expected what the fleet holds."
  }
}

run "a_name_of_yours_is_pointed_by_you" {
  variables {
    zone_id = null
  }

  assert {
    condition     = length(aws_route53_record.callers) == 0 && strcontains(output.next, "voice.example.com  CNAME  ${output.balancer_dns_name}")
    error_message = "Expected to be told what to write where."
  }

  assert {
    condition     = !startswith(output.next, " ") && !strcontains(output.next, "\n    ") && !strcontains(output.next, "\n\n\n")
    error_message = "Expected lines that begin where all do."
  }
}

run "load_generators_if_they_are_wished" {
  variables {
    load_generators = {
      instance_type   = "c7i.large"
      workers         = 2
      root_volume_gib = 80
    }
  }

  assert {
    condition     = strcontains(output.next, "sudo rtvc-loadtest wss://voice.example.com --find-capacity")
    error_message = "Expected to be told how to load it."
  }

  assert {
    condition     = !startswith(output.next, " ") && !strcontains(output.next, "\n    ") && !strcontains(output.next, "\n\n\n")
    error_message = "Expected lines that begin where all do."
  }
}

run "generators_are_let_in_whoever_else_may_call" {
  variables {
    callers_cidrs = ["203.0.113.0/24"]
    load_generators = {
      instance_type   = "c7i.large"
      workers         = 2
      root_volume_gib = 80
    }
  }

  assert {
    condition     = tolist(aws_vpc_security_group_ingress_rule.generators[*].cidr_ipv4) == tolist(["198.51.100.20/32", "198.51.100.20/32"])
    error_message = "Expected the address of each NAT gateway."
  }

  assert {
    condition = alltrue([
      for rule in aws_vpc_security_group_ingress_rule.generators : rule.from_port == 443 && rule.to_port == 443
    ])
    error_message = "Expected no other port."
  }
}

run "inside_they_come_as_themselves" {
  variables {
    internal = true
    load_generators = {
      instance_type   = "c7i.large"
      workers         = 0
      root_volume_gib = 80
    }
  }

  assert {
    condition = alltrue([
      length(aws_vpc_security_group_ingress_rule.generators) == 1,
      aws_vpc_security_group_ingress_rule.generators[0].cidr_ipv4 == null,
      aws_vpc_security_group_ingress_rule.generators[0].referenced_security_group_id == module.load_generators[0].security_group_id,
    ])
    error_message = "Expected their security group."
  }
}

run "where_there_are_none_nobody_is_let_in_for_them" {
  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.generators) == 0
    error_message = "Expected the callers only."
  }
}

run "one_zone_is_not_enough" {
  command = plan

  variables {
    zones = ["us-east-1a"]
  }

  expect_failures = [var.zones]
}

run "servers_without_a_way_out_are_refused" {
  command = plan

  variables {
    nat = "none"
  }

  expect_failures = [var.nat]
}

run "sizes_have_to_fit" {
  command = plan

  variables {
    max_size = 1
  }

  expect_failures = [var.max_size]
}

run "a_capacity_of_a_type_that_is_never_started_is_a_mistake" {
  command = plan

  variables {
    capacity_by_type = { "g6e.xlarge" = 60 }
  }

  expect_failures = [var.capacity_by_type]
}

run "callers_go_where_the_fewest_are_or_in_turn" {
  command = plan

  variables {
    balancing = "by_cpu"
  }

  expect_failures = [var.balancing]
}
