locals {
  statements = concat(
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
    var.api_key_parameter == null ? [] : [{
      Sid      = "ReadTheKey"
      Effect   = "Allow"
      Action   = ["ssm:GetParameter"]
      Resource = ["arn:${local.partition}:ssm:${local.region}:${local.account}:parameter${var.api_key_parameter}"]
    }],
    var.secrets_kms_key_arn == null ? [] : [{
      Sid      = "DecryptTheKey"
      Effect   = "Allow"
      Action   = ["kms:Decrypt"]
      Resource = [var.secrets_kms_key_arn]
      Condition = {
        StringEquals = { "kms:ViaService" = "ssm.${local.region}.amazonaws.com" }
      }
    }],
    local.ecr == null ? [] : [{
      Sid      = "LogInToTheRegistry"
      Effect   = "Allow"
      Action   = ["ecr:GetAuthorizationToken"]
      Resource = ["*"]
    }],
    local.ecr == null ? [] : [{
      Sid      = "PullTheImage"
      Effect   = "Allow"
      Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
      Resource = ["arn:${local.partition}:ecr:${local.ecr.region}:${local.ecr.account}:repository/${local.ecr.repository}"]
    }],
    var.results_bucket == null ? [] : [{
      Sid      = "KeepRuns"
      Effect   = "Allow"
      Action   = ["s3:PutObject"]
      Resource = ["arn:${local.partition}:s3:::${var.results_bucket}/${var.name}/*"]
    }],
  )
}

resource "aws_iam_role" "generators" {
  name                 = "${var.name}-load"
  description          = "What a load generator of ${var.name} may do"
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

resource "aws_iam_role_policy" "generators" {
  # checkov:skip=CKV_AWS_355:what stands for any resource are actions for which AWS knows none
  # checkov:skip=CKV_AWS_290:as for CKV_AWS_355
  # checkov:skip=CKV_AWS_287:a token of the registry opens only what the next statement allows
  name = "load"
  role = aws_iam_role.generators.id

  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = local.statements
  })
}

resource "aws_iam_instance_profile" "generators" {
  name = "${var.name}-load"
  role = aws_iam_role.generators.name

  depends_on = [aws_iam_role_policy.generators]
}
