# Many servers behind a load balancer.

mock_provider "aws" {
  source = "../../mocks"
}

variables {
  name                  = "voice"
  vpc_id                = "vpc-0123456789abcdef0"
  instance_type         = "g6.xlarge"
  ami_id                = "ami-0123456789abcdef0"
  installed_at          = "/opt/rtvc/bin/rtvc"
  model                 = "/srv/rtvc/models/small.en"
  root_volume_gib       = 100
  capacity_per_instance = 24
  publish_figures       = true
  secrets               = { RTVC_ACCESS_KEY = "/voice/access-key" }

  fleet = {
    instance_types      = ["g6.xlarge", "g5.xlarge"]
    min_size            = 2
    max_size            = 60
    spot_percent        = 40
    server_subnet_ids   = ["subnet-0123456789abcdef1", "subnet-0123456789abcdef2"]
    balancer_subnet_ids = ["subnet-0123456789abcdef3", "subnet-0123456789abcdef4"]
    balancer_cidrs      = ["10.42.0.0/20", "10.42.16.0/20"]
    callers_cidrs       = ["203.0.113.0/24"]
    certificate_arn     = "arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-4000-8000-000000000000"
  }
}

run "the_load_balancer_speaks_tls_and_keeps_quiet_calls" {
  assert {
    condition = alltrue([
      aws_lb_listener.tls[0].port == 443,
      aws_lb_listener.tls[0].protocol == "HTTPS",
      aws_lb_listener.tls[0].ssl_policy == "ELBSecurityPolicy-TLS13-1-2-2021-06",
      aws_lb_listener.plain[0].default_action[0].redirect[0].protocol == "HTTPS",
    ])
    error_message = "Expected TLS 1.2 or newer, and http sent on to it."
  }

  assert {
    condition = alltrue([
      aws_lb.balancer[0].idle_timeout == 120,
      aws_lb.balancer[0].drop_invalid_header_fields,
      aws_lb.balancer[0].enable_deletion_protection,
      aws_lb.balancer[0].preserve_host_header,
      !aws_lb.balancer[0].internal,
      output.balancer_security_group_id == aws_security_group.balancer[0].id,
    ])
    error_message = "Expected an idle timeout above rtvc's pings, invalid headers dropped, and no deletion by mistake."
  }

  assert {
    condition = alltrue([
      aws_lb_target_group.servers[0].health_check[0].path == "/readyz",
      aws_lb_target_group.servers[0].health_check[0].matcher == "200",
      aws_lb_target_group.servers[0].health_check[0].interval * aws_lb_target_group.servers[0].health_check[0].unhealthy_threshold == 20,
      aws_lb_target_group.servers[0].health_check[0].interval * aws_lb_target_group.servers[0].health_check[0].healthy_threshold == 20,
      aws_lb_target_group.servers[0].load_balancing_algorithm_type == "least_outstanding_requests",
      aws_lb_target_group.servers[0].protocol == "HTTPS",
      tonumber(aws_lb_target_group.servers[0].deregistration_delay) == output.scaling.deregistration_delay_s,
    ])
    error_message = "Expected /readyz to decide within 20 s who is sent where, calls to go where the fewest are, and the delay of scaling.json."
  }
}

run "callers_reach_the_load_balancer_and_nobody_else_reaches_a_server" {
  assert {
    condition     = tolist(keys(aws_vpc_security_group_ingress_rule.callers_tls)) == tolist(["203.0.113.0/24"])
    error_message = "Expected the callers that were named."
  }

  assert {
    condition = alltrue([
      aws_vpc_security_group_ingress_rule.from_balancer[0].from_port == 8000,
      aws_vpc_security_group_ingress_rule.from_balancer[0].to_port == 8000,
      aws_vpc_security_group_ingress_rule.from_balancer[0].cidr_ipv4 == null,
      aws_vpc_security_group_ingress_rule.from_balancer[0].referenced_security_group_id == aws_security_group.balancer[0].id,
    ])
    error_message = "Expected one way in: the port of rtvc, from the load balancer."
  }
}

run "the_group_scales_by_what_rtvc_says_of_itself" {
  assert {
    condition = alltrue([
      for tracking in aws_autoscaling_policy.sessions[0].target_tracking_configuration : alltrue([
        tracking.target_value == output.scaling.target_percent,
        tracking.customized_metric_specification[0].namespace == "rtvc",
        tracking.customized_metric_specification[0].metric_name == "DemandPerCapacity",
        tracking.customized_metric_specification[0].statistic == "Average",
        tracking.customized_metric_specification[0].period == output.scaling.metric_period_s,
        one(tracking.customized_metric_specification[0].metric_dimension[*].name) == "AutoScalingGroupName",
        one(tracking.customized_metric_specification[0].metric_dimension[*].value) == "voice",
      ])
    ])
    error_message = "Expected target tracking on rtvc/DemandPerCapacity of this group."
  }

  assert {
    condition     = aws_autoscaling_group.servers[0].default_instance_warmup == max(output.scaling.warm_up_s - output.scaling.boot_s_assumed, 0)
    error_message = "In service means ready, so only what comes after the boot is left to wait for."
  }
}

run "nothing_but_an_idle_server_is_taken_away" {
  assert {
    condition = alltrue([
      aws_autoscaling_group.servers[0].protect_from_scale_in,
      aws_autoscaling_group.servers[0].health_check_type == "EC2",
      contains(aws_autoscaling_group.servers[0].suspended_processes, "AZRebalance"),
    ])
    error_message = "Expected protection from the start, and nobody who ends servers over readiness or zones."
  }

  assert {
    condition = alltrue([
      aws_autoscaling_lifecycle_hook.drain[0].name == "drain",
      aws_autoscaling_lifecycle_hook.drain[0].lifecycle_transition == "autoscaling:EC2_INSTANCE_TERMINATING",
      aws_autoscaling_lifecycle_hook.drain[0].heartbeat_timeout == output.scaling.hook_timeout_s,
      aws_autoscaling_lifecycle_hook.ready[0].default_result == "ABANDON",
      aws_autoscaling_lifecycle_hook.ready[0].heartbeat_timeout == 900,
    ])
    error_message = "Expected a hook that waits for calls, and one that gives up servers which never get ready."
  }

  assert {
    condition = alltrue([
      for hook in aws_autoscaling_group.servers[0].initial_lifecycle_hook : hook.name == "ready"
    ])
    error_message = "Expected the first servers to be waited for, too."
  }

  assert {
    condition = alltrue([
      for refresh in aws_autoscaling_group.servers[0].instance_refresh : alltrue([
        refresh.preferences[0].scale_in_protected_instances == "Refresh",
        refresh.preferences[0].auto_rollback,
        refresh.preferences[0].min_healthy_percentage == 100,
      ])
    ])
    error_message = "Expected an upgrade that adds before it takes away, and goes back when it fails."
  }
}

run "several_types_and_spot_by_choice" {
  assert {
    condition = alltrue([
      for mix in aws_autoscaling_group.servers[0].mixed_instances_policy : alltrue([
        tolist(mix.launch_template[0].override[*].instance_type) == tolist(["g6.xlarge", "g5.xlarge"]),
        mix.instances_distribution[0].on_demand_base_capacity == 2,
        mix.instances_distribution[0].on_demand_percentage_above_base_capacity == 60,
        mix.instances_distribution[0].spot_allocation_strategy == "price-capacity-optimized",
      ])
    ])
    error_message = "Expected the types in their order, and spot above the least size only."
  }

  assert {
    condition     = aws_autoscaling_group.servers[0].capacity_rebalance
    error_message = "Expected a spot server to be replaced before it is taken away."
  }
}

run "a_server_may_speak_for_its_own_group_only" {
  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.server.policy).Statement : statement.Resource[0]
      if statement.Sid == "SpeakForItselfInItsGroup"
    ][0] == "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:*:autoScalingGroupName/voice"
    error_message = "Expected its own group."
  }

  assert {
    condition = toset([
      for action in flatten([
        for statement in jsondecode(aws_iam_role_policy.server.policy).Statement : statement.Action
      ]) : action if startswith(action, "autoscaling:") && !startswith(action, "autoscaling:Describe")
      ]) == toset([
      "autoscaling:CompleteLifecycleAction",
      "autoscaling:RecordLifecycleActionHeartbeat",
      "autoscaling:SetInstanceProtection",
      "autoscaling:TerminateInstanceInAutoScalingGroup",
    ])
    error_message = "Expected leave to stay, and to go, and nothing else."
  }

  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.server.policy).Statement : statement.Condition.StringEquals["cloudwatch:namespace"]
      if statement.Sid == "PublishItsFigures"
    ][0] == "rtvc"
    error_message = "Expected figures in its own namespace only."
  }
}

run "a_server_is_told_its_group_and_its_proxies" {
  assert {
    condition = alltrue([
      for line in [
        "RTVC_ACCESS_PROXIES=10.42.0.0/20,10.42.16.0/20\n",
        "RTVC_SERVE_KEEP_ALIVE_S=130\n",
        "RTVC_CLOUD_PROVIDER=aws\n",
        "RTVC_CLOUD_DEREGISTRATION_DELAY_S=${output.scaling.deregistration_delay_s}\n",
        "RTVC_CLOUD_GROUP=voice\n",
        "RTVC_CLOUD_PUBLISH_EVERY_S=10\n",
        "RTVC_CLOUD_IDLE_BEFORE_UNPROTECTED_S=${output.scaling.idle_before_unprotected_s}\n",
      ] :
      strcontains(one([
        for file in yamldecode(base64decode(aws_launch_template.server.user_data)).write_files : file.content
        if file.path == "/etc/rtvc/rtvc.env"
      ]), line)
    ])
    error_message = "Expected the settings of a member of the group."
  }

  assert {
    condition = strcontains(one([
      for file in yamldecode(base64decode(aws_launch_template.server.user_data)).write_files : file.content
      if file.path == "/usr/local/lib/rtvc/in-service"
    ]), "--lifecycle-hook-name 'ready'")
    error_message = "Expected the server to say when it is in service."
  }
}

run "a_server_that_never_gets_ready_says_itself_that_it_may_end" {
  assert {
    condition = alltrue([
      for text in ["autoscaling/target-lifecycle-state", "--lifecycle-hook-name 'drain'", "--auto-scaling-group-name 'voice'"] :
      strcontains(one([
        for file in yamldecode(base64decode(aws_launch_template.server.user_data)).write_files : file.content
        if file.path == "/usr/local/lib/rtvc/start"
      ]), text)
    ])
    error_message = "Expected nobody to wait out the hook's time for a machine without rtvc."
  }
}

run "a_fleet_without_figures_could_not_scale" {
  command = plan

  variables {
    publish_figures = false
  }

  expect_failures = [var.publish_figures]
}

run "plain_http_to_the_servers_if_that_is_wished" {
  variables {
    tls = false
  }

  assert {
    condition = alltrue([
      aws_lb_target_group.servers[0].protocol == "HTTP",
      aws_lb_target_group.servers[0].health_check[0].protocol == "HTTP",
      !strcontains(base64decode(aws_launch_template.server.user_data), "self-signed"),
    ])
    error_message = "Expected the load balancer and rtvc to agree."
  }
}

run "a_bucket_and_a_web_acl_where_they_are_given" {
  variables {
    fleet = {
      instance_types      = ["g6.xlarge"]
      min_size            = 1
      max_size            = 1
      spot_percent        = 0
      server_subnet_ids   = ["subnet-0123456789abcdef1"]
      balancer_subnet_ids = ["subnet-0123456789abcdef3", "subnet-0123456789abcdef4"]
      balancer_cidrs      = ["10.42.0.0/20"]
      callers_cidrs       = ["203.0.113.0/24"]
      certificate_arn     = "arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-4000-8000-000000000000"
      access_logs_bucket  = "voice-access"
      web_acl_arn         = "arn:aws:wafv2:us-east-1:123456789012:regional/webacl/voice/00000000-0000-4000-8000-000000000000"
    }
  }

  assert {
    condition     = aws_lb.balancer[0].access_logs[0].bucket == "voice-access" && aws_lb.balancer[0].access_logs[0].enabled
    error_message = "Expected the access log in the bucket."
  }

  assert {
    condition     = length(aws_wafv2_web_acl_association.this) == 1
    error_message = "Expected the web ACL in front."
  }

  assert {
    condition     = aws_autoscaling_group.servers[0].capacity_rebalance == false
    error_message = "There are no spot servers to replace."
  }
}

run "a_fleet_of_none_can_not_grow" {
  command = plan

  variables {
    fleet = {
      instance_types      = ["g6.xlarge"]
      min_size            = 0
      max_size            = 4
      spot_percent        = 0
      server_subnet_ids   = ["subnet-0123456789abcdef1"]
      balancer_subnet_ids = ["subnet-0123456789abcdef3", "subnet-0123456789abcdef4"]
      balancer_cidrs      = ["10.42.0.0/20"]
      callers_cidrs       = ["203.0.113.0/24"]
      certificate_arn     = "arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-4000-8000-000000000000"
    }
  }

  expect_failures = [var.fleet]
}

run "old_tls_is_refused" {
  command = plan

  variables {
    fleet = {
      instance_types      = ["g6.xlarge"]
      min_size            = 1
      max_size            = 4
      spot_percent        = 0
      server_subnet_ids   = ["subnet-0123456789abcdef1"]
      balancer_subnet_ids = ["subnet-0123456789abcdef3", "subnet-0123456789abcdef4"]
      balancer_cidrs      = ["10.42.0.0/20"]
      callers_cidrs       = ["203.0.113.0/24"]
      certificate_arn     = "arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-4000-8000-000000000000"
      ssl_policy          = "ELBSecurityPolicy-2016-08"
    }
  }

  expect_failures = [var.fleet]
}
