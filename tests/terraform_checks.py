"""What has to be true in an emulated AWS once a composition was applied there."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.terraform_runs import REGION, SOURCE

CAPACITY = 24
SCALING: Mapping[str, Any] = json.loads(
    (SOURCE / "modules" / "voice_server" / "scaling.json").read_text("utf-8")
)

Client = Callable[[str], Any]
"""boto3's, by the name of the service."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that has to be true."""

    what: str
    """In words."""
    expected: object
    """As AWS's API has it."""
    found: object
    """As the emulator tells it."""

    @property
    def holds(self) -> bool:
        return self.expected == self.found


# What both have.


def _template(aws: Client, name: str) -> Any:
    versions = aws("ec2").describe_launch_template_versions(
        LaunchTemplateName=name, Versions=["$Latest"]
    )
    return versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]


def _server_checks(aws: Client, name: str, ami: str, disks: int) -> list[Check]:
    data = _template(aws, name)
    iam = aws("iam")
    role = f"{name}-server"
    attached = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    log = aws("logs").describe_log_groups(logGroupNamePrefix=f"/{name}/server")["logGroups"]
    encrypted = [bool(each["Ebs"].get("Encrypted")) for each in data["BlockDeviceMappings"]]
    return [
        Check("the image is the one that the parameter names", ami, data["ImageId"]),
        Check("metadata wants a token", "required", data["MetadataOptions"]["HttpTokens"]),
        Check("metadata goes one hop", 1, data["MetadataOptions"]["HttpPutResponseHopLimit"]),
        Check("every disk is encrypted", [True] * disks, encrypted),
        Check("there is no key pair for SSH", None, data.get("KeyName")),
        Check("the role has no ready-made policy", [], attached),
        Check("the log is kept for so many days", [14], [each["retentionInDays"] for each in log]),
        Check("nobody is let in by SSH", [], _open_to(aws, 22)),
        Check(
            "the ways out are https and what was asked for",
            [(443, "0.0.0.0/0"), (11434, "10.9.0.0/16")],
            _ways_out(aws, f"{name}-server-"),
        ),
    ]


def _ways_out(aws: Client, beginning: str) -> list[tuple[int, str]]:
    """Ports and addresses that security groups of such a name let out to."""
    return sorted(
        (rule.get("FromPort", -1), each["CidrIp"])
        for group in aws("ec2").describe_security_groups()["SecurityGroups"]
        if group["GroupName"].startswith(beginning)
        for rule in group["IpPermissionsEgress"]
        for each in rule["IpRanges"]
    )


def _open_to(aws: Client, port: int) -> list[str]:
    """Security groups, but those that every VPC has, that let somebody in there."""
    found = []
    for group in aws("ec2").describe_security_groups()["SecurityGroups"]:
        for rule in group["IpPermissions"] if group["GroupName"] != "default" else ():
            low, high = rule.get("FromPort", 0), rule.get("ToPort", 65535)
            if low <= port <= high:
                found.append(str(group["GroupName"]))
    return found


def _actions(aws: Client, role: str, policy: str) -> set[str]:
    told = aws("iam").get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
    return {action for statement in told["Statement"] for action in statement["Action"]}


# One box.


def single_checks(aws: Client, had: Mapping[str, str], outputs: Mapping[str, Any]) -> list[Check]:
    name = "rtvc-single"
    box = instances(aws, "instance-id", outputs["instance_id"])
    ingress = [
        (rule["FromPort"], rule["ToPort"], [each["CidrIp"] for each in rule["IpRanges"]])
        for group in aws("ec2").describe_security_groups()["SecurityGroups"]
        if group["GroupName"].startswith(f"{name}-server-")
        for rule in group["IpPermissions"]
    ]
    return [
        *_server_checks(aws, name, had["ami"], disks=1),
        Check("one box runs", ["running"], [each["State"]["Name"] for each in box]),
        Check("of the type asked for", ["g6.xlarge"], [each["InstanceType"] for each in box]),
        Check("only its callers get in", [(8000, 8000, ["203.0.113.7/32"])], ingress),
        Check("nothing is paid for but the box", [], nat_gateways(aws)),
        Check("there is no load balancer", [], balancers(aws)),
        Check(
            "leave to publish, and none to speak to a group",
            {"cloudwatch:PutMetricData"},
            {
                each
                for each in _actions(aws, f"{name}-server", "serve")
                if each.startswith(("autoscaling:", "cloudwatch:"))
            },
        ),
    ]


def instances(aws: Client, key: str, value: str) -> list[Any]:
    told = aws("ec2").describe_instances(Filters=[{"Name": key, "Values": [value]}])
    return [each for one in told["Reservations"] for each in one["Instances"]]


def nat_gateways(aws: Client) -> list[str]:
    gateways = aws("ec2").describe_nat_gateways()["NatGateways"]
    return [each["NatGatewayId"] for each in gateways if each["State"] != "deleted"]


def balancers(aws: Client) -> list[Any]:
    found: list[Any] = aws("elbv2").describe_load_balancers()["LoadBalancers"]
    return found


# A fleet.


def _callers_but_all(aws: Client) -> list[str]:
    """Addresses that the load balancer lets in by name."""
    return sorted(
        each["CidrIp"].removesuffix("/32")
        for group in aws("ec2").describe_security_groups()["SecurityGroups"]
        if group["GroupName"].startswith("rtvc-balancer-")
        for rule in group["IpPermissions"]
        for each in rule["IpRanges"]
        if each["CidrIp"].endswith("/32")
    )


def fleet_checks(aws: Client, had: Mapping[str, str], outputs: Mapping[str, Any]) -> list[Check]:
    return [
        *_server_checks(aws, "rtvc", had["ami"], disks=1),
        *_balancer_checks(aws, had),
        *_group_checks(aws),
        *_scaling_checks(aws),
        *_surroundings_checks(aws, had, outputs),
    ]


def _balancer_checks(aws: Client, had: Mapping[str, str]) -> list[Check]:
    elb = aws("elbv2")
    arn = balancers(aws)[0]["LoadBalancerArn"]
    told = elb.describe_load_balancer_attributes(LoadBalancerArn=arn)["Attributes"]
    attributes = {each["Key"]: each["Value"] for each in told}
    listeners = {
        each["Port"]: each for each in elb.describe_listeners(LoadBalancerArn=arn)["Listeners"]
    }
    target = elb.describe_target_groups(LoadBalancerArn=arn)["TargetGroups"][0]
    told = elb.describe_target_group_attributes(TargetGroupArn=target["TargetGroupArn"])
    of_target = {each["Key"]: each["Value"] for each in told["Attributes"]}
    tls, plain = listeners[443], listeners[80]
    delay = "deregistration_delay.timeout_seconds"
    return [
        Check("quiet calls are kept", "120", attributes.get("idle_timeout.timeout_seconds")),
        Check(
            "invalid headers are dropped",
            "true",
            attributes.get("routing.http.drop_invalid_header_fields.enabled"),
        ),
        Check("its log is written", "true", attributes.get("access_logs.s3.enabled")),
        Check("callers speak TLS", "HTTPS", tls["Protocol"]),
        Check("1.2 or newer", "ELBSecurityPolicy-TLS13-1-2-2021-06", tls["SslPolicy"]),
        Check(
            "with the certificate given",
            [had["certificate_arn"]],
            [each["CertificateArn"] for each in tls["Certificates"]],
        ),
        Check("http is sent on", "redirect", plain["DefaultActions"][0]["Type"]),
        Check("readiness decides", "/readyz", target["HealthCheckPath"]),
        Check(
            "after two looks in 20 s, either way",
            (10, 2, 2),
            (
                target["HealthCheckIntervalSeconds"],
                target["UnhealthyThresholdCount"],
                target["HealthyThresholdCount"],
            ),
        ),
        Check(
            "callers go where the fewest are",
            "least_outstanding_requests",
            of_target.get("load_balancing.algorithm.type"),
        ),
        Check(
            "nobody sticks to a server",
            "false",
            of_target.get("stickiness.enabled", "false"),
        ),
        Check("servers speak TLS", "HTTPS", target["Protocol"]),
        Check("calls may end", str(SCALING["deregistration_delay_s"]), of_target.get(delay)),
    ]


def _group(aws: Client) -> Any:
    return aws("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"][0]


def _group_checks(aws: Client) -> list[Check]:
    group = _group(aws)
    hooks = {
        each["LifecycleHookName"]: (each["LifecycleTransition"], each["HeartbeatTimeout"])
        for each in aws("autoscaling").describe_lifecycle_hooks(AutoScalingGroupName="rtvc")[
            "LifecycleHooks"
        ]
    }
    return [
        Check("least and greatest size", (2, 6), (group["MinSize"], group["MaxSize"])),
        Check("as many servers as the least size", 2, len(group["Instances"])),
        Check("new ones are protected", True, group["NewInstancesProtectedFromScaleIn"]),
        Check(
            "all of them are",
            [True, True],
            [each["ProtectedFromScaleIn"] for each in group["Instances"]],
        ),
        Check("EC2 checks their health", "EC2", group["HealthCheckType"]),
        Check("behind the load balancer", 1, len(group["TargetGroupARNs"])),
        Check(
            "hooks at both ends",
            {
                "ready": ("autoscaling:EC2_INSTANCE_LAUNCHING", 900),
                "drain": ("autoscaling:EC2_INSTANCE_TERMINATING", SCALING["hook_timeout_s"]),
            },
            hooks,
        ),
        Check(
            "in two zones",
            ["us-east-1a", "us-east-1b"],
            sorted(group["AvailabilityZones"]),
        ),
    ]


def _scaling_checks(aws: Client) -> list[Check]:
    policies = aws("autoscaling").describe_policies(AutoScalingGroupName="rtvc")["ScalingPolicies"]
    tracking = policies[0]["TargetTrackingConfiguration"]
    metric = tracking["CustomizedMetricSpecification"]
    dimensions = [(each["Name"], each["Value"]) for each in metric["Dimensions"]]
    return [
        Check("one policy", ["TargetTrackingScaling"], [each["PolicyType"] for each in policies]),
        Check("aims at", float(SCALING["target_percent"]), float(tracking["TargetValue"])),
        Check(
            "what rtvc says of itself",
            ("rtvc", "DemandPerCapacity", "Average"),
            (metric["Namespace"], metric["MetricName"], metric["Statistic"]),
        ),
        Check("of this group", [("AutoScalingGroupName", "rtvc")], dimensions),
    ]


def _surroundings_checks(
    aws: Client, had: Mapping[str, str], outputs: Mapping[str, Any]
) -> list[Check]:
    alarms = aws("cloudwatch").describe_alarms(AlarmNamePrefix="rtvc-")["MetricAlarms"]
    records = aws("route53").list_resource_record_sets(HostedZoneId=had["zone_id"])
    names = [each["Name"] for each in records["ResourceRecordSets"] if each["Type"] == "A"]
    bucket = f"rtvc-logs-{aws('sts').get_caller_identity()['Account']}-{REGION}"
    blocked = aws("s3").get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    workers = instances(aws, "tag:Name", "rtvc-load-*")
    return [
        Check("a NAT gateway in each zone", 2, len(nat_gateways(aws))),
        Check("alarms", 7, len(alarms)),
        Check("callers find it by name", ["voice.example.com."], names),
        Check("its logs are nobody's business", [True] * 4, list(blocked.values())),
        Check("a master and two workers", 3, len(workers)),
        Check("who are let in", sorted(outputs["nat_addresses"]), _callers_but_all(aws)),
        Check("it holds, at most", CAPACITY * 6, outputs["capacity"]["at_most"]),
        Check(
            "leave to publish, and to speak for itself",
            {
                "cloudwatch:PutMetricData",
                "autoscaling:CompleteLifecycleAction",
                "autoscaling:DescribeAutoScalingGroups",
                "autoscaling:DescribeAutoScalingInstances",
                "autoscaling:DescribeLifecycleHooks",
                "autoscaling:RecordLifecycleActionHeartbeat",
                "autoscaling:SetInstanceProtection",
                "autoscaling:TerminateInstanceInAutoScalingGroup",
            },
            {
                each
                for each in _actions(aws, "rtvc-server", "serve")
                if each.startswith(("autoscaling:", "cloudwatch:"))
            },
        ),
    ]
