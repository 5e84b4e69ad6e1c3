# One server, without a fleet.

mock_provider "aws" {
  source = "../../mocks"
}

variables {
  name                  = "voice"
  vpc_id                = "vpc-0123456789abcdef0"
  instance_type         = "g6.xlarge"
  container_image       = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/rtvc:1.0.0"
  model                 = "/srv/rtvc/models/small.en"
  model_snapshot_id     = "snap-0123456789abcdef0"
  root_volume_gib       = 100
  capacity_per_instance = 24
  capacity_by_type      = { "g6e.xlarge" = 60 }
  publish_figures       = false
  settings              = { RTVC_STT_COMPUTE_TYPE = "float16" }
  secrets = {
    RTVC_ACCESS_KEY  = "/voice/access-key"
    RTVC_LLM_API_KEY = "/voice/llm/key"
  }
  log_group = {
    name = "/voice/server"
    arn  = "arn:aws:logs:us-east-1:123456789012:log-group:/voice/server"
  }
}

run "metadata_wants_a_token_and_goes_one_hop_only" {
  assert {
    condition = alltrue([
      aws_launch_template.server.metadata_options[0].http_tokens == "required",
      aws_launch_template.server.metadata_options[0].http_put_response_hop_limit == 1,
    ])
    error_message = "Expected IMDSv2 and one hop."
  }
}

run "all_disks_are_encrypted" {
  assert {
    condition = alltrue([
      for disk in aws_launch_template.server.block_device_mappings : tobool(disk.ebs[0].encrypted)
    ])
    error_message = "Expected every disk to be encrypted."
  }

  assert {
    condition     = length(aws_launch_template.server.block_device_mappings) == 2
    error_message = "Expected the root volume and the one with the models."
  }
}

run "more_ways_out_are_those_that_were_named" {
  variables {
    more_egress = [{ description = "Ollama (in the VPC)", cidr = "10.9.0.0/16", port = 11434 }]
  }

  assert {
    condition = alltrue([
      length(aws_vpc_security_group_egress_rule.more) == 1,
      aws_vpc_security_group_egress_rule.more["10.9.0.0/16:11434"].from_port == 11434,
      aws_vpc_security_group_egress_rule.more["10.9.0.0/16:11434"].cidr_ipv4 == "10.9.0.0/16",
    ])
    error_message = "Expected one way out beside https."
  }
}

run "what_aws_takes_for_no_description_is_refused" {
  command = plan

  variables {
    more_egress = [{ description = "Ada's model", cidr = "10.9.0.0/16", port = 11434 }]
  }

  expect_failures = [var.more_egress]
}

run "nobody_is_let_in_and_no_key_pair_is_set" {
  assert {
    condition     = aws_launch_template.server.key_name == null || aws_launch_template.server.key_name == ""
    error_message = "There is no SSH: sessions are opened by Session Manager."
  }

  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.from_balancer) == 0
    error_message = "The module itself lets nobody in."
  }

  assert {
    condition     = aws_vpc_security_group_egress_rule.https.from_port == 443 && aws_vpc_security_group_egress_rule.https.to_port == 443
    error_message = "Expected a way out by https only."
  }
}

run "the_role_may_read_its_two_secrets_and_no_other" {
  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.server.policy).Statement : join(" ", statement.Resource)
      if statement.Sid == "ReadItsSecrets"
    ][0] == "arn:aws:ssm:us-east-1:123456789012:parameter/voice/access-key arn:aws:ssm:us-east-1:123456789012:parameter/voice/llm/key"
    error_message = "Expected the parameters by name."
  }

  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.server.policy).Statement :
      alltrue([for action in statement.Action : !strcontains(action, "*")])
    ])
    error_message = "No action may hold a wildcard."
  }

  assert {
    condition = toset([
      for statement in jsondecode(aws_iam_role_policy.server.policy).Statement : statement.Sid
      if contains(statement.Resource, "*")
    ]) == toset(["SessionManager", "LogInToTheRegistry"])
    error_message = "Only actions without a resource of their own may be for any."
  }

  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.server.policy).Statement : statement.Resource[0]
      if statement.Sid == "PullItsImage"
    ][0] == "arn:aws:ecr:eu-west-1:123456789012:repository/team/rtvc"
    error_message = "Expected its own repository, in the region where that is."
  }

  assert {
    condition     = !strcontains(aws_iam_role_policy.server.policy, "autoscaling:") && !strcontains(aws_iam_role_policy.server.policy, "cloudwatch:")
    error_message = "A server without a fleet has no group to speak to, and no figures to publish."
  }
}

run "user_data_tells_settings_and_the_names_of_secrets" {
  assert {
    condition = one([
      for file in yamldecode(base64decode(aws_launch_template.server.user_data)).write_files : file.content
      if file.path == "/etc/rtvc/rtvc.env"
      ]) == join("", [
      "RTVC_SERVE_HOST=0.0.0.0\n",
      "RTVC_SERVE_PORT=8000\n",
      "RTVC_SERVE_SHUTDOWN_S=30\n",
      "RTVC_SERVE_TLS=self-signed\n",
      "RTVC_STT_COMPUTE_TYPE=float16\n",
      "RTVC_STT_MODEL=/srv/rtvc/models/small.en\n",
    ])
    error_message = "Expected the settings, by name, and nothing of a cloud."
  }

  assert {
    condition = alltrue([
      for text in [
        "secret 'RTVC_ACCESS_KEY' '/voice/access-key'",
        "--env 'RTVC_ACCESS_KEY'",
        "  g6e.xlarge) capacity=60 ;;",
        "  *) capacity=24 ;;",
        "--gpus all",
        "--volume '/srv/rtvc/models:/srv/rtvc/models:ro'",
        "docker login --username AWS --password-stdin '123456789012.dkr.ecr.eu-west-1.amazonaws.com'",
        "get-login-password --region 'eu-west-1'",
        "awslogs-group='/voice/server'",
      ] :
      strcontains(one([
        for file in yamldecode(base64decode(aws_launch_template.server.user_data)).write_files : file.content
        if file.path == "/usr/local/lib/rtvc/start"
      ]), text)
    ])
    error_message = "Expected the start script to fetch secrets by name and to know capacities by type."
  }

  assert {
    condition = alltrue([
      for word in ["apt-get", "apt ", "yum", "dnf", "pip install"] : !strcontains(base64decode(aws_launch_template.server.user_data), word)
    ])
    error_message = "Nothing is installed at a start."
  }

  assert {
    condition     = length(aws_launch_template.server.user_data) < 16384
    error_message = "User data has to stay below 16 KiB."
  }
}

run "a_container_that_has_ended_by_itself_is_not_started_again" {
  assert {
    condition = strcontains(one([
      for file in yamldecode(base64decode(aws_launch_template.server.user_data)).write_files : file.content
      if file.path == "/etc/systemd/system/rtvc.service"
    ]), "ExecStop=-/usr/bin/docker stop -t 45 rtvc\n")
    error_message = "Expected no failure where there is no container left to stop: after a drain it would be started again."
  }
}

run "figures_of_a_server_alone_if_they_are_wished" {
  variables {
    publish_figures = true
  }

  assert {
    condition = alltrue([
      for line in ["RTVC_CLOUD_PROVIDER=aws\n", "RTVC_CLOUD_NAMESPACE=rtvc\n", "RTVC_CLOUD_PUBLISH_EVERY_S=10\n"] :
      strcontains(one([
        for file in yamldecode(base64decode(aws_launch_template.server.user_data)).write_files : file.content
        if file.path == "/etc/rtvc/rtvc.env"
      ]), line)
    ])
    error_message = "Expected rtvc to be told of CloudWatch."
  }

  assert {
    condition     = !strcontains(base64decode(aws_launch_template.server.user_data), "RTVC_CLOUD_GROUP") && !strcontains(base64decode(aws_launch_template.server.user_data), "lifecycle")
    error_message = "Expected nothing of a group."
  }

  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.server.policy).Statement : statement.Condition.StringEquals["cloudwatch:namespace"]
      if statement.Sid == "PublishItsFigures"
    ] == ["rtvc"]
    error_message = "Expected leave to publish, in its own namespace."
  }

  assert {
    condition     = !strcontains(aws_iam_role_policy.server.policy, "autoscaling:")
    error_message = "Expected no leave to speak to a group."
  }
}

run "an_installed_server_is_looked_after_by_systemd_itself" {
  variables {
    container_image = null
    installed_at    = "/opt/rtvc/bin/rtvc"
  }

  assert {
    condition = alltrue([
      for text in ["Type=notify\n", "WatchdogSec=30\n", "DynamicUser=yes\n", "RequiresMountsFor=/srv/rtvc/models\n"] :
      strcontains(one([
        for file in yamldecode(base64decode(aws_launch_template.server.user_data)).write_files : file.content
        if file.path == "/etc/systemd/system/rtvc.service"
      ]), text)
    ])
    error_message = "Expected a unit that systemd watches, as a user of its own."
  }

  assert {
    condition     = !strcontains(base64decode(aws_launch_template.server.user_data), "docker")
    error_message = "Expected no container."
  }

  assert {
    condition     = !strcontains(aws_iam_role_policy.server.policy, "ecr:")
    error_message = "Expected no leave to pull images."
  }
}

run "without_a_fleet_there_is_no_group_and_no_load_balancer" {
  assert {
    condition     = output.group_name == null && output.balancer == null && length(aws_autoscaling_group.servers) == 0
    error_message = "Expected a launch template only."
  }
}

run "a_server_that_asks_nobody_for_a_key_is_refused" {
  command = plan

  variables {
    secrets = {}
  }

  expect_failures = [var.secrets]
}

run "unless_that_is_meant" {
  variables {
    secrets  = {}
    settings = { RTVC_ACCESS_OPEN = "true" }
  }

  assert {
    condition     = output.ami_id == "ami-0a1b2c3d4e5f60718"
    error_message = "Expected to be told today's image."
  }

  assert {
    condition     = !strcontains(aws_iam_role_policy.server.policy, "ssm:GetParameter")
    error_message = "Expected no leave to read parameters."
  }
}

run "secrets_do_not_stand_in_settings" {
  command = plan

  variables {
    settings = { RTVC_LLM_API_KEY = "sk-123" }
  }

  expect_failures = [var.settings]
}

run "nor_do_passwords_in_addresses" {
  command = plan

  variables {
    settings = { RTVC_SERVE_OTEL_ENDPOINT = "https://me:secret@collector.example:4318" }
  }

  expect_failures = [var.settings]
}

run "what_more_than_the_server_hangs_on_is_no_setting" {
  command = plan

  variables {
    settings = { RTVC_SERVE_PORT = "9000" }
  }

  expect_failures = [var.settings]
}

run "what_scaling_json_says_is_no_setting" {
  command = plan

  variables {
    settings = { RTVC_CLOUD_IDLE_BEFORE_UNPROTECTED_S = "5" }
  }

  expect_failures = [var.settings]
}

run "a_setting_is_one_line" {
  command = plan

  variables {
    settings = { RTVC_LLM_SYSTEM = "one\ntwo" }
  }

  expect_failures = [var.settings]
}

run "a_capacity_is_measured_and_whole" {
  command = plan

  variables {
    capacity_per_instance = 0
  }

  expect_failures = [var.capacity_per_instance]
}

run "latest_is_no_version" {
  command = plan

  variables {
    container_image = "rtvc:latest"
  }

  expect_failures = [var.container_image]
}

run "an_image_needs_a_tag" {
  command = plan

  variables {
    container_image = "ghcr.io/someone/rtvc"
  }

  expect_failures = [var.container_image]
}

run "either_a_container_or_an_installation" {
  command = plan

  variables {
    installed_at = "/opt/rtvc/bin/rtvc"
  }

  expect_failures = [var.container_image]
}
