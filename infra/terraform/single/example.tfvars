# Copy to terraform.tfvars and fill in; everything here costs money or lets somebody in.
region                = "us-east-1"
zone                  = "us-east-1a"
instance_type         = "g6.xlarge"
root_volume_gib       = 100
container_image       = "123456789012.dkr.ecr.us-east-1.amazonaws.com/rtvc:0.1.0"
model                 = "small.en"
capacity_per_instance = 128
callers_cidrs         = []
access_key_parameter  = "/rtvc-single/access-key"
log_retention_days    = 14
publish_figures       = false
