locals {
  statements = concat(
    # Session Manager's smallest set. Amazon's ready-made policy would let a server read every parameter
    # of the account, other people's secrets among them.
    [{
      Sid    = "SessionManager"
      Effect = "Allow"
      Action = [
        "ssm:UpdateInstanceInformation",
        "ssmmessages:CreateControlChannel",
        "ssmmessages:CreateDataChannel",
        "ssmmessages:OpenControlChannel",
        "ssmmessages:OpenDataChannel",
      ]
      Resource = ["*"]
    }],
    length(var.secrets) == 0 ? [] : [{
      Sid      = "ReadItsSecrets"
      Effect   = "Allow"
      Action   = ["ssm:GetParameter"]
      Resource = [for name in sort(distinct(values(var.secrets))) : "arn:${local.partition}:ssm:${local.region}:${local.account}:parameter${name}"]
    }],
    var.secrets_kms_key_arn == null ? [] : [{
      Sid      = "DecryptItsSecrets"
      Effect   = "Allow"
      Action   = ["kms:Decrypt"]
      Resource = [var.secrets_kms_key_arn]
      Condition = {
        StringEquals = { "kms:ViaService" = "ssm.${local.region}.amazonaws.com" }
      }
    }],
    var.log_group == null ? [] : [{
      Sid      = "WriteItsLog"
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = ["${trimsuffix(var.log_group.arn, ":*")}:*"]
    }],
    local.ecr == null ? [] : [{
      Sid      = "LogInToTheRegistry"
      Effect   = "Allow"
      Action   = ["ecr:GetAuthorizationToken"]
      Resource = ["*"]
    }],
    local.ecr == null ? [] : [{
      Sid      = "PullItsImage"
      Effect   = "Allow"
      Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
      Resource = ["arn:${local.partition}:ecr:${local.ecr.region}:${local.ecr.account}:repository/${local.ecr.repository}"]
    }],
    var.publish_figures ? [{
      Sid      = "PublishItsFigures"
      Effect   = "Allow"
      Action   = ["cloudwatch:PutMetricData"]
      Resource = ["*"]
      Condition = {
        StringEquals = { "cloudwatch:namespace" = local.namespace }
      }
    }] : [],
    var.fleet == null ? [] : [{
      Sid    = "SpeakForItselfInItsGroup"
      Effect = "Allow"
      Action = [
        "autoscaling:CompleteLifecycleAction",
        "autoscaling:RecordLifecycleActionHeartbeat",
        "autoscaling:SetInstanceProtection",
        "autoscaling:TerminateInstanceInAutoScalingGroup",
      ]
      Resource = ["arn:${local.partition}:autoscaling:${local.region}:${local.account}:autoScalingGroup:*:autoScalingGroupName/${var.name}"]
    }],
    # These can't be narrowed: AWS knows no resource for them.
    var.fleet == null ? [] : [{
      Sid    = "SeeHowItStands"
      Effect = "Allow"
      Action = [
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeAutoScalingInstances",
        "autoscaling:DescribeLifecycleHooks",
      ]
      Resource = ["*"]
    }],
  )
}

resource "aws_iam_role" "server" {
  name                 = "${var.name}-server"
  description          = "What a voice server of ${var.name} may do"
  permissions_boundary = var.permissions_boundary_arn

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy" "server" {
  # checkov:skip=CKV_AWS_355:what stands for any resource are actions for which AWS knows none; the metric is bound to its namespace
  # checkov:skip=CKV_AWS_290:as above; PutMetricData is bound to its namespace by a condition
  # checkov:skip=CKV_AWS_287:a token of the registry opens only what the next statement allows
  name = "serve"
  role = aws_iam_role.server.id

  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = local.statements
  })
}

resource "aws_iam_instance_profile" "server" {
  name = "${var.name}-server"
  role = aws_iam_role.server.name

  # Whoever has the profile has the rights: from a server's first second until it is gone.
  depends_on = [aws_iam_role_policy.server]
}
