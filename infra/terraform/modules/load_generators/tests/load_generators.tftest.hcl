mock_provider "aws" {
  source = "../../mocks"
}

variables {
  name                 = "voice"
  vpc_id               = "vpc-0123456789abcdef0"
  subnet_ids           = ["subnet-0123456789abcdef1", "subnet-0123456789abcdef2"]
  instance_type        = "c7i.large"
  workers              = 3
  processes_per_worker = 2
  container_image      = "ghcr.io/someone/rtvc:1.0.0"
  root_volume_gib      = 80
  target_url           = "wss://voice.example.com"
  api_key_parameter    = "/voice/load-key"
  results_bucket       = "voice-runs"
}

run "a_master_and_workers_that_join_it" {
  assert {
    condition     = tolist(aws_instance.worker[*].subnet_id) == tolist(["subnet-0123456789abcdef1", "subnet-0123456789abcdef2", "subnet-0123456789abcdef1"])
    error_message = "Expected the workers to be spread over the subnets."
  }

  assert {
    condition = strcontains(
      yamldecode(aws_instance.worker[0].user_data).write_files[1].content,
      "ghcr.io/someone/rtvc:1.0.0 loadtest --worker --join ${aws_instance.master.private_ip} --processes 2",
    )
    error_message = "Expected workers that join the master by its address."
  }

  assert {
    condition = alltrue([
      for text in ["--expect-workers 6)", "--bind-port 5557", "--name '/voice/load-key'", "--env RTVC_API_KEY", "'s3://voice-runs/voice/'"] :
      strcontains(yamldecode(aws_instance.master.user_data).write_files[1].content, text)
    ])
    error_message = "Expected a command that waits for all workers, shows the key and keeps the run."
  }
}

run "only_generators_reach_generators" {
  assert {
    condition = alltrue([
      aws_vpc_security_group_ingress_rule.locust.cidr_ipv4 == null,
      aws_vpc_security_group_ingress_rule.locust.referenced_security_group_id == aws_security_group.generators.id,
      aws_vpc_security_group_ingress_rule.locust.from_port == 5557,
    ])
    error_message = "Expected Locust's port open to its own group only."
  }

  assert {
    condition     = tolist(keys(aws_vpc_security_group_egress_rule.out)) == tolist(["443"])
    error_message = "Expected a way out by https only."
  }
}

run "machines_are_closed_and_encrypted" {
  assert {
    condition = alltrue([
      for machine in concat([aws_instance.master], aws_instance.worker[*]) : alltrue([
        machine.metadata_options[0].http_tokens == "required",
        machine.root_block_device[0].encrypted,
      ])
    ])
    error_message = "Expected IMDSv2 and encrypted disks."
  }
}

run "the_role_may_read_one_key_and_write_one_folder" {
  assert {
    condition = {
      for statement in jsondecode(aws_iam_role_policy.generators.policy).Statement : statement.Sid => statement.Resource[0]
      } == {
      SessionManager = "*"
      ReadTheKey     = "arn:aws:ssm:us-east-1:123456789012:parameter/voice/load-key"
      KeepRuns       = "arn:aws:s3:::voice-runs/voice/*"
    }
    error_message = "Expected these three statements and no other."
  }
}

run "the_server_of_a_single_box_listens_elsewhere" {
  variables {
    target_url   = "wss://198.51.100.7:8000"
    target_ports = [8000]
  }

  assert {
    condition     = tolist(keys(aws_vpc_security_group_egress_rule.out)) == tolist(["443", "8000"])
    error_message = "Expected a way out to the server's port."
  }
}

run "without_workers_the_master_speaks" {
  variables {
    workers           = 0
    api_key_parameter = null
    results_bucket    = null
  }

  assert {
    condition     = strcontains(yamldecode(aws_instance.master.user_data).write_files[1].content, "spread=(--processes 2)\n")
    error_message = "Expected processes of its own."
  }

  assert {
    condition     = !strcontains(aws_instance.master.user_data, "RTVC_API_KEY") && !strcontains(aws_iam_role_policy.generators.policy, "ssm:GetParameter")
    error_message = "Expected no key to be read."
  }
}

run "a_machine_that_lives_on_credits_is_refused" {
  command = plan

  variables {
    instance_type = "t3.large"
  }

  expect_failures = [var.instance_type]
}

run "a_server_is_a_url" {
  command = plan

  variables {
    target_url = "voice.example.com"
  }

  expect_failures = [var.target_url]
}
