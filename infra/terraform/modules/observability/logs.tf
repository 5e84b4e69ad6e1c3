data "aws_region" "current" {}

data "aws_partition" "current" {}

data "aws_caller_identity" "current" {}

locals {
  access_logs = var.access_log_retention_days == null ? 0 : 1
  account     = data.aws_caller_identity.current.account_id
  region      = data.aws_region.current.id
  # Known before it is there, so that a plan says what will be.
  bucket = "${var.name}-logs-${local.account}-${local.region}"
}

resource "aws_cloudwatch_log_group" "server" {
  name              = "/${var.name}/server"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.logs_kms_key_arn
}

resource "aws_s3_bucket" "access_logs" {
  # checkov:skip=CKV_AWS_18:it holds access logs; one of its own reading would have no end
  # checkov:skip=CKV_AWS_21:logs are written once and expire; versions of them say nothing
  # checkov:skip=CKV_AWS_144:logs that are kept for days need no second region
  # checkov:skip=CKV_AWS_145:a load balancer can write to a bucket with S3's own keys only
  # checkov:skip=CKV2_AWS_62:nobody waits for a log file
  count = local.access_logs

  bucket        = local.bucket
  force_destroy = !var.keep_logs_on_destroy
}

resource "aws_s3_bucket_ownership_controls" "access_logs" {
  count = local.access_logs

  bucket = aws_s3_bucket.access_logs[0].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "access_logs" {
  count = local.access_logs

  bucket                  = aws_s3_bucket.access_logs[0].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "access_logs" {
  count = local.access_logs

  bucket = aws_s3_bucket.access_logs[0].id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "access_logs" {
  count = local.access_logs

  bucket = aws_s3_bucket.access_logs[0].id

  rule {
    id     = "expire"
    status = "Enabled"

    filter {}

    expiration {
      days = var.access_log_retention_days
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}

resource "aws_s3_bucket_policy" "access_logs" {
  count = local.access_logs

  bucket = aws_s3_bucket.access_logs[0].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "LoadBalancersOfThisAccountWrite"
        Effect    = "Allow"
        Principal = { Service = "logdelivery.elasticloadbalancing.amazonaws.com" }
        Action    = "s3:PutObject"
        Resource  = "${aws_s3_bucket.access_logs[0].arn}/*/AWSLogs/${local.account}/*"
        Condition = {
          ArnLike = {
            "aws:SourceArn" = "arn:${data.aws_partition.current.partition}:elasticloadbalancing:${local.region}:${local.account}:loadbalancer/*"
          }
        }
      },
      {
        Sid       = "NobodyInTheClear"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource = [
          aws_s3_bucket.access_logs[0].arn,
          "${aws_s3_bucket.access_logs[0].arn}/*",
        ]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })

  depends_on = [aws_s3_bucket_public_access_block.access_logs]
}
