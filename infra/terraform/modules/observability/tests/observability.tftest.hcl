mock_provider "aws" {
  source = "../../mocks"
}

variables {
  name                      = "voice"
  log_retention_days        = 30
  access_log_retention_days = 90
  create_dashboard          = true
  create_alarms             = true
  alarm_topic_arns          = ["arn:aws:sns:us-east-1:123456789012:voice"]

  fleet = {
    group_name          = "voice"
    balancer_suffix     = "app/voice/0123456789abcdef"
    target_group_suffix = "targetgroup/rtvc-1/0123456789abcdef"
    min_size            = 2
    max_size            = 60
    scaling = {
      target_percent  = 70
      boot_s_assumed  = 180
      metric_period_s = 10
    }
  }
}

run "logs_are_kept_as_long_as_wished" {
  assert {
    condition     = aws_cloudwatch_log_group.server.name == "/voice/server" && aws_cloudwatch_log_group.server.retention_in_days == 30
    error_message = "Expected the log group with its retention."
  }

  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.access_logs[0].rule[0].expiration[0].days == 90
    error_message = "Expected access logs to expire."
  }
}

run "the_bucket_has_a_name_that_a_plan_knows" {
  command = plan

  assert {
    condition     = output.access_logs_bucket == "voice-logs-123456789012-us-east-1"
    error_message = "Expected a name made of the account and the region."
  }
}

run "nobody_but_the_load_balancer_writes_and_nobody_reads_in_the_clear" {
  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.access_logs[0].block_public_acls,
      aws_s3_bucket_public_access_block.access_logs[0].block_public_policy,
      aws_s3_bucket_public_access_block.access_logs[0].ignore_public_acls,
      aws_s3_bucket_public_access_block.access_logs[0].restrict_public_buckets,
    ])
    error_message = "Expected a bucket that can't be made public."
  }

  assert {
    condition = [
      for statement in jsondecode(aws_s3_bucket_policy.access_logs[0].policy).Statement : statement.Principal.Service
      if statement.Effect == "Allow"
    ] == ["logdelivery.elasticloadbalancing.amazonaws.com"]
    error_message = "Expected one who may write."
  }

  assert {
    condition = [
      for statement in jsondecode(aws_s3_bucket_policy.access_logs[0].policy).Statement : statement.Condition.Bool["aws:SecureTransport"]
      if statement.Effect == "Deny"
    ] == ["false"]
    error_message = "Expected TLS to be demanded."
  }
}

run "alarms_say_what_is_wrong_and_go_to_the_topics" {
  assert {
    condition = tolist(output.alarm_names) == tolist([
      "voice-at-most", "voice-blind", "voice-full", "voice-nobody-there", "voice-not-ready", "voice-refused", "voice-slow-start",
    ])
    error_message = "Expected seven alarms."
  }

  assert {
    condition = alltrue([
      for alarm in values(aws_cloudwatch_metric_alarm.simple) : tolist(alarm.alarm_actions) == tolist(var.alarm_topic_arns)
    ])
    error_message = "Expected all of them to be told."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.simple["blind"].treat_missing_data == "breaching" && aws_cloudwatch_metric_alarm.simple["nobody-there"].treat_missing_data == "breaching"
    error_message = "Silence is the worst news."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.at_most[0].threshold == 60
    error_message = "Expected the greatest size."
  }
}

run "a_fleet_of_a_fixed_size_is_not_told_that_it_can_not_grow" {
  variables {
    fleet = {
      group_name          = "voice"
      balancer_suffix     = "app/voice/0123456789abcdef"
      target_group_suffix = "targetgroup/rtvc-1/0123456789abcdef"
      min_size            = 4
      max_size            = 4
      scaling = {
        target_percent  = 70
        boot_s_assumed  = 180
        metric_period_s = 10
      }
    }
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.at_most) == 0 && length(output.alarm_names) == 6
    error_message = "Expected all alarms but that one."
  }
}

run "a_server_that_stands_aside_raises_no_alarm" {
  assert {
    condition = one([
      for query in aws_cloudwatch_metric_alarm.not_ready[0].metric_query : query.expression if query.id == "amiss"
    ]) == "unready - FLOOR(FILL(aside, 0) * 10 / 60 + 0.5)"
    error_message = "Expected those that stand aside to be taken off: each says so every 10 s."
  }

  assert {
    condition     = tolist(aws_cloudwatch_metric_alarm.not_ready[0].alarm_actions) == tolist(var.alarm_topic_arns)
    error_message = "Expected the others to be told."
  }
}

run "the_dashboard_shows_what_scaling_sees" {
  assert {
    condition     = length(jsondecode(aws_cloudwatch_dashboard.fleet[0].dashboard_body).widgets) == 6
    error_message = "Expected six figures."
  }

  assert {
    condition     = jsondecode(aws_cloudwatch_dashboard.fleet[0].dashboard_body).widgets[0].properties.annotations.horizontal[0].value == 70
    error_message = "Expected a line at the target."
  }

  assert {
    condition     = output.dashboard_url == "https://us-east-1.console.aws.amazon.com/cloudwatch/home?region=us-east-1#dashboards/dashboard/voice"
    error_message = "Expected a link to it."
  }
}

run "a_single_box_has_a_log_and_nothing_else_to_pay" {
  variables {
    access_log_retention_days = null
    fleet                     = null
  }

  assert {
    condition = alltrue([
      length(aws_cloudwatch_dashboard.fleet) == 0,
      length(output.alarm_names) == 0,
      length(aws_s3_bucket.access_logs) == 0,
      output.access_logs_bucket == null,
      output.dashboard_url == null,
    ])
    error_message = "Expected the log group only."
  }
}

run "a_retention_that_cloudwatch_does_not_know_is_refused" {
  command = plan

  variables {
    log_retention_days = 2
  }

  expect_failures = [var.log_retention_days]
}
