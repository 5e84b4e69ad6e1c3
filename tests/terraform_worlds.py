"""Each composition in an emulated AWS: what there is before, what is asked for, what may stay."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.terraform_checks import (
    CAPACITY,
    Check,
    Client,
    balancers,
    fleet_checks,
    instances,
    nat_gateways,
    single_checks,
)
from tests.terraform_runs import REGION

IMAGE_PARAMETER = "/test/ami"


def prepare(aws: Client) -> dict[str, str]:
    """What a user has before the first apply: an image, a key, a certificate, a zone."""
    ami = aws("ec2").describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    ssm = aws("ssm")
    ssm.put_parameter(Name=IMAGE_PARAMETER, Type="String", Value=ami)
    ssm.put_parameter(Name="/test/access-key", Type="SecureString", Value="rtvc_0123456789abcdef")
    certificate = aws("acm").request_certificate(DomainName="voice.example.com")
    zone = aws("route53").create_hosted_zone(Name="example.com", CallerReference="test")
    return {
        "ami": ami,
        "certificate_arn": certificate["CertificateArn"],
        "zone_id": zone["HostedZone"]["Id"].removeprefix("/hostedzone/"),
    }


_SERVER: dict[str, Any] = {
    "region": REGION,
    "root_volume_gib": 100,
    "container_image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/rtvc:1.0.0",
    "ami_ssm_parameter": IMAGE_PARAMETER,
    "model": "/srv/rtvc/models/small.en",
    "access_key_parameter": "/test/access-key",
    "log_retention_days": 14,
    "more_egress": [{"description": "Ollama", "cidr": "10.9.0.0/16", "port": 11434}],
}


def single_variables(had: Mapping[str, str]) -> dict[str, Any]:
    del had
    return {
        **_SERVER,
        "zone": "us-east-1a",
        "instance_type": "g6.xlarge",
        "capacity_per_instance": 128,
        "callers_cidrs": ["203.0.113.7/32"],
        "publish_figures": True,
    }


def fleet_variables(had: Mapping[str, str]) -> dict[str, Any]:
    return {
        **_SERVER,
        # As rtvc fleet vars leaves it behind.
        "//": {"run": "one", "said": f"holds {CAPACITY} speakers"},
        "capacity_per_instance": CAPACITY,
        "zones": ["us-east-1a", "us-east-1b"],
        "nat": "per_zone",
        "instance_types": ["g6.xlarge", "g5.xlarge"],
        "min_size": 2,
        "max_size": 6,
        "spot_percent": 50,
        "domain_name": "voice.example.com",
        "certificate_arn": had["certificate_arn"],
        "zone_id": had["zone_id"],
        "callers_cidrs": ["0.0.0.0/0"],
        "deletion_protection": False,
        "access_log_retention_days": 30,
        "keep_logs_on_destroy": False,
        "flow_log_retention_days": 7,
        "create_dashboard": True,
        "create_alarms": True,
        "load_generators": {"instance_type": "c7i.large", "workers": 2, "root_volume_gib": 80},
    }


# Afterwards.


def let_go(aws: Client) -> None:
    """moto looks at the protection of instances only at the moment when a group shrinks; AWS ends
    them as soon as the provider, which shrinks first, has given it up."""
    for group in aws("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]:
        ids = [each["InstanceId"] for each in group["Instances"]]
        if ids:
            aws("autoscaling").set_instance_protection(
                AutoScalingGroupName=group["AutoScalingGroupName"],
                InstanceIds=ids,
                ProtectedFromScaleIn=False,
            )


def leftovers(aws: Client) -> dict[str, list[str]]:
    """What a destroy left behind, by kind; empty: nothing."""
    ec2 = aws("ec2")
    vpcs = [each["VpcId"] for each in ec2.describe_vpcs()["Vpcs"] if not each["IsDefault"]]
    alive = [each["InstanceId"] for each in instances(aws, "instance-state-name", "running")]
    found = {
        "networks": vpcs,
        "instances": alive,
        "NAT gateways": nat_gateways(aws),
        "addresses": [each["AllocationId"] for each in ec2.describe_addresses()["Addresses"]],
        "launch templates": [
            each["LaunchTemplateName"]
            for each in ec2.describe_launch_templates()["LaunchTemplates"]
        ],
        "load balancers": [each["LoadBalancerName"] for each in balancers(aws)],
        "target groups": [
            each["TargetGroupName"]
            for each in aws("elbv2").describe_target_groups()["TargetGroups"]
        ],
        "groups": [
            each["AutoScalingGroupName"]
            for each in aws("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
        ],
        "roles": [
            each["RoleName"]
            for each in aws("iam").list_roles()["Roles"]
            if each["RoleName"].startswith("rtvc")
        ],
        "log groups": [
            each["logGroupName"] for each in aws("logs").describe_log_groups()["logGroups"]
        ],
        "alarms": [
            each["AlarmName"]
            for each in aws("cloudwatch").describe_alarms(AlarmNamePrefix="rtvc-")["MetricAlarms"]
        ],
        "buckets": [each["Name"] for each in aws("s3").list_buckets()["Buckets"]],
    }
    return {kind: names for kind, names in found.items() if names}


@dataclass(frozen=True, slots=True)
class World:
    """One composition in an emulated account."""

    name: str
    """Its folder in infra/terraform."""
    variables: Callable[[Mapping[str, str]], dict[str, Any]]
    """Given what there was before."""
    checks: Callable[[Client, Mapping[str, str], Mapping[str, Any]], list[Check]]
    """Given that, and the outputs."""


WORLDS = (
    World("single", single_variables, single_checks),
    World("fleet", fleet_variables, fleet_checks),
)
