mock_provider "aws" {
  source = "../mocks"
}

variables {
  region                = "us-east-1"
  zone                  = "us-east-1a"
  instance_type         = "g6.xlarge"
  root_volume_gib       = 100
  container_image       = "ghcr.io/someone/rtvc:1.0.0"
  model                 = "small.en"
  capacity_per_instance = 128
  callers_cidrs         = ["203.0.113.7/32"]
  access_key_parameter  = "/rtvc-single/access-key"
  log_retention_days    = 14
  publish_figures       = false
}

run "one_box_with_an_address_that_only_its_callers_reach" {
  assert {
    condition     = output.url == "wss://198.51.100.7:8000"
    error_message = "Expected the address of the box."
  }

  assert {
    condition = alltrue([
      length(aws_vpc_security_group_ingress_rule.callers) == 1,
      aws_vpc_security_group_ingress_rule.callers["203.0.113.7/32"].from_port == 8000,
      aws_vpc_security_group_ingress_rule.callers["203.0.113.7/32"].to_port == 8000,
    ])
    error_message = "Expected one way in: rtvc's port, for its callers."
  }

  assert {
    condition     = aws_instance.box.launch_template[0].id == module.voice_server.launch_template.id
    error_message = "Expected the box to be what the module says a server is."
  }
}

run "it_says_what_to_type_next" {
  assert {
    condition = alltrue([
      for text in [
        "rtvc loadtest wss://198.51.100.7:8000 --insecure --api-key-file key.txt --find-capacity --max-speakers 128",
        "aws ssm get-parameter --region us-east-1 --name /rtvc-single/access-key --with-decryption",
        "aws ssm start-session --region us-east-1 --target i-0123456789abcdef0",
        "ami_id = \"ami-0a1b2c3d4e5f60718\"",
      ] : strcontains(output.next, text)
    ])
    error_message = "Expected commands that work as they stand."
  }

  assert {
    condition     = !strcontains(output.next, "AWS-StartPortForwardingSession")
    error_message = "Expected no port to be forwarded: it can be reached."
  }

  assert {
    condition     = !startswith(output.next, " ") && !strcontains(output.next, "\n    ") && !strcontains(output.next, "\n\n\n")
    error_message = "Expected lines that begin where all do."
  }
}

run "a_box_that_nobody_can_reach_is_reached_through_session_manager" {
  variables {
    callers_cidrs = []
  }

  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.callers) == 0
    error_message = "Expected no way in."
  }

  assert {
    condition     = strcontains(output.next, "portNumber=8000,localPortNumber=8000") && strcontains(output.next, "rtvc loadtest wss://localhost:8000 ")
    error_message = "Expected the way through Session Manager."
  }

  assert {
    condition     = !startswith(output.next, " ") && !strcontains(output.next, "\n    ") && !strcontains(output.next, "\n\n\n")
    error_message = "Expected lines that begin where all do."
  }
}

run "a_machine_image_that_is_pinned_needs_no_word" {
  variables {
    ami_id = "ami-0123456789abcdef0"
  }

  assert {
    condition     = !strcontains(output.next, "ami_id") && output.ami_id == "ami-0123456789abcdef0"
    error_message = "Expected nothing to be proposed."
  }
}

run "more_ways_out_are_addresses_and_ports" {
  command = plan

  variables {
    more_egress = [{ description = "Ollama", cidr = "ollama.internal", port = 11434 }]
  }

  expect_failures = [var.more_egress]
}

run "a_zone_of_another_region_is_refused" {
  command = plan

  variables {
    zone = "eu-west-1a"
  }

  expect_failures = [var.zone]
}

run "either_a_container_or_an_installation" {
  command = plan

  variables {
    container_image = null
  }

  expect_failures = [var.container_image]
}
