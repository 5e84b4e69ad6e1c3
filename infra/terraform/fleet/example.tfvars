# Copy to terraform.tfvars and fill in; everything here costs money or lets somebody in.
# capacity_per_instance is missing on purpose: rtvc fleet vars RUN --out capacity.auto.tfvars.json
region                    = "us-east-1"
zones                     = ["us-east-1a", "us-east-1c"]
nat                       = "single"
instance_types            = ["g6.xlarge", "g5.xlarge"]
min_size                  = 2
max_size                  = 8
spot_percent              = 0
root_volume_gib           = 100
container_image           = "123456789012.dkr.ecr.us-east-1.amazonaws.com/rtvc:0.1.0"
model                     = "/srv/rtvc/models/small.en"
model_snapshot_id         = "snap-0123456789abcdef0"
domain_name               = "voice.example.com"
certificate_arn           = "arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-4000-8000-000000000000"
callers_cidrs             = ["0.0.0.0/0"]
access_key_parameter      = "/rtvc/access-key"
log_retention_days        = 30
access_log_retention_days = null
flow_log_retention_days   = null
create_dashboard          = true
create_alarms             = true
