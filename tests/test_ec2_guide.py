"""docs/ec2.md: its prices are those of the file, its examples are whole, its policies allow what is
typed and what Terraform makes.
"""

import fnmatch
import json
import re
from functools import cache
from typing import Any

import pytest

from rtvc.plan.instances import load_instances
from tests.documents import TERRAFORM, blocks, commands, declared, mentions, simple_commands
from tests.servers import ROOT

GUIDE = (ROOT / "docs" / "ec2.md").read_text("utf-8")
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")
MONTH_H = 730
"""365 days ÷ 12."""


# Prices.


def price_table() -> str:
    """What a server with one GPU costs, as instances.toml has it."""
    catalogue = load_instances()
    head = f"| Instance | GPU | vCPUs | $ an hour | $ for {MONTH_H} hours, a month |"
    rows = [head, "|---|---|--:|--:|--:|"]
    for each in catalogue.instances:
        if each.gpus == 1 and each.usd_per_hour is not None:
            usd = each.usd_per_hour
            rows.append(
                f"| {each.name} | {each.gpu} | {each.vcpus} | {usd:g} | {MONTH_H * usd:,.0f} |"
            )
    return "\n".join([*rows, "", f"{catalogue.prices}."])


def test_the_prices_are_those_of_the_file_with_their_date() -> None:
    made = re.search(r"(?ms)^<!-- made by tests\.test_ec2_guide\S+ .*?-->\n(.*?)^<!-- end", GUIDE)
    assert made is not None
    assert made[1].strip() == price_table()


def test_there_is_no_other_price() -> None:
    without = GUIDE.replace(price_table(), "")
    assert re.findall(r"\$ ?\d[\d.,]*|\d[\d.,]* ?(?:\$|USD|dollars)", without) == []


# Examples.


@pytest.mark.parametrize("name", ["single", "fleet"])
def test_the_example_says_what_has_to_be_said(name: str) -> None:
    (body,) = [each.body for each in blocks(GUIDE, "hcl") if f"# {name}/" in each.body]
    given = set(re.findall(r"(?m)^\s*(\w+) += ", body))
    needed = {variable for variable in declared(name, "variable") if not optional(name, variable)}
    assert given <= declared(name, "variable")
    # The file that rtvc fleet vars writes has the capacity.
    elsewhere = {"capacity_per_instance"} if name == "fleet" else set()
    assert needed - given == elsewhere


def optional(name: str, variable: str) -> bool:
    """Whether it has a default."""
    for file in (TERRAFORM / name).glob("*.tf"):
        found = re.search(rf'(?ms)^variable "{variable}" \{{\n(.*?)^\}}$', file.read_text("utf-8"))
        if found is not None:
            return re.search(r"(?m)^  default +=", found[1]) is not None
    raise AssertionError(f"{name} has no variable {variable}")


def test_what_holds_a_key_is_nothing_to_git() -> None:
    pages = [GUIDE, RUNBOOK, *(page.read_text("utf-8") for page in TERRAFORM.rglob("*.md"))]
    lines = [line for page in pages for line in commands(page)]
    written = {file for line in lines for file in re.findall(r"> ?(\w+\.txt)\b", line)}
    kept = {"memory.txt"}  # what `rtvc profile live` prints
    assert "key.txt" in written
    ignored = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    assert sorted(written - kept - set(ignored)) == []


# Rights.


def policies() -> tuple[dict[str, Any], dict[str, Any]]:
    """Of who applies, and of who looks after it."""
    applies, looks = (json.loads(each.body) for each in blocks(GUIDE, "json"))
    return applies, looks


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def allowed(policy: dict[str, Any], action: str) -> bool:
    patterns = [each for one in policy["Statement"] for each in listed(one["Action"])]
    return any(fnmatch.fnmatchcase(action, pattern) for pattern in patterns)


def test_the_policies_are_well_formed_and_short_enough() -> None:
    for policy in policies():
        assert policy["Version"] == "2012-10-17"
        sids = [one["Sid"] for one in policy["Statement"]]
        assert len(set(sids)) == len(sids)
        for one in policy["Statement"]:
            assert set(one) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
            assert one["Effect"] == "Allow"
            assert all(re.fullmatch(r"[a-z0-9]+:[\w*]+", each) for each in listed(one["Action"]))
        # IAM takes no longer one, white space left out.
        assert len(re.sub(r"\s", "", json.dumps(policy))) <= 6144


SERVICES = {"elbv2": "elasticloadbalancing", "service-quotas": "servicequotas"}
"""What IAM calls services that the command line calls otherwise."""
OPERATIONS = {
    ("ecr", "get-login-password"): "GetAuthorizationToken",
    ("logs", "tail"): "FilterLogEvents",
}


def actions_typed() -> set[str]:
    found = set()
    for text in (GUIDE, RUNBOOK):
        for line in (*commands(text), *mentions(text)):
            for program, *arguments in simple_commands(line):
                if program == "aws":
                    found.add(action_of(*arguments[:2]))
    return found


def action_of(service: str, operation: str) -> str:
    """
    >>> action_of("elbv2", "describe-target-health")
    'elasticloadbalancing:DescribeTargetHealth'
    """
    name = "".join(part.capitalize() for part in operation.split("-"))
    return f"{SERVICES.get(service, service)}:{OPERATIONS.get((service, operation), name)}"


def test_who_looks_after_it_may_type_what_is_written() -> None:
    _, looks = policies()
    typed = actions_typed()
    assert "ssm:StartSession" in typed
    assert sorted(action for action in typed if not allowed(looks, action)) == []


def test_no_more_is_allowed_by_name_than_is_typed() -> None:
    _, looks = policies()
    pushing = "ecr:"  # what docker does, and no command of aws
    named = {
        action
        for one in looks["Statement"]
        for action in listed(one["Action"])
        if "*" not in action and not action.startswith(pushing)
    }
    # Outputs of Terraform read the key and start the box again.
    assert named - actions_typed() <= {"ssm:GetParameter", "ec2:StartInstances"}


MADE_BY: dict[str, str] = {
    "aws_autoscaling_group": "autoscaling:CreateAutoScalingGroup UpdateAutoScalingGroup "
    "DeleteAutoScalingGroup DescribeAutoScalingGroups DescribeScalingActivities "
    "StartInstanceRefresh CancelInstanceRefresh DescribeInstanceRefreshes CreateOrUpdateTags "
    "EnableMetricsCollection SetInstanceProtection SuspendProcesses "
    "AttachLoadBalancerTargetGroups DetachLoadBalancerTargetGroups "
    "ec2:RunInstances CreateTags iam:PassRole CreateServiceLinkedRole",
    "aws_autoscaling_lifecycle_hook": "autoscaling:PutLifecycleHook DescribeLifecycleHooks "
    "DeleteLifecycleHook",
    "aws_autoscaling_policy": "autoscaling:PutScalingPolicy DescribePolicies DeletePolicy "
    "cloudwatch:PutMetricAlarm DescribeAlarms DeleteAlarms",
    "aws_cloudwatch_dashboard": "cloudwatch:PutDashboard GetDashboard DeleteDashboards",
    "aws_cloudwatch_log_group": "logs:CreateLogGroup DescribeLogGroups DeleteLogGroup "
    "PutRetentionPolicy DeleteRetentionPolicy AssociateKmsKey DisassociateKmsKey TagResource "
    "UntagResource ListTagsForResource",
    "aws_cloudwatch_metric_alarm": "cloudwatch:PutMetricAlarm DescribeAlarms DeleteAlarms "
    "TagResource UntagResource ListTagsForResource",
    "aws_default_security_group": "ec2:DescribeSecurityGroups RevokeSecurityGroupIngress "
    "RevokeSecurityGroupEgress CreateTags",
    "aws_eip": "ec2:AllocateAddress ReleaseAddress DescribeAddresses DescribeAddressesAttribute",
    "aws_flow_log": "ec2:CreateFlowLogs DescribeFlowLogs DeleteFlowLogs logs:CreateLogDelivery "
    "DeleteLogDelivery iam:PassRole",
    "aws_iam_instance_profile": "iam:CreateInstanceProfile GetInstanceProfile "
    "DeleteInstanceProfile AddRoleToInstanceProfile RemoveRoleFromInstanceProfile "
    "TagInstanceProfile UntagInstanceProfile PassRole",
    "aws_iam_role": "iam:CreateRole GetRole DeleteRole UpdateRole TagRole UntagRole "
    "UpdateAssumeRolePolicy ListRolePolicies ListAttachedRolePolicies "
    "ListInstanceProfilesForRole PutRolePermissionsBoundary DeleteRolePermissionsBoundary",
    "aws_iam_role_policy": "iam:PutRolePolicy GetRolePolicy DeleteRolePolicy",
    "aws_instance": "ec2:RunInstances TerminateInstances StopInstances StartInstances "
    "ModifyInstanceAttribute ModifyInstanceMetadataOptions DescribeInstances "
    "DescribeInstanceTypes DescribeInstanceAttribute DescribeVolumes DescribeTags CreateTags "
    "DeleteTags DescribeLaunchTemplateVersions iam:PassRole",
    "aws_internet_gateway": "ec2:CreateInternetGateway AttachInternetGateway "
    "DescribeInternetGateways DetachInternetGateway DeleteInternetGateway",
    "aws_launch_template": "ec2:CreateLaunchTemplate CreateLaunchTemplateVersion "
    "ModifyLaunchTemplate DeleteLaunchTemplate DescribeLaunchTemplates "
    "DescribeLaunchTemplateVersions",
    "aws_lb": "elasticloadbalancing:CreateLoadBalancer DescribeLoadBalancers "
    "DescribeLoadBalancerAttributes ModifyLoadBalancerAttributes SetSecurityGroups SetSubnets "
    "DeleteLoadBalancer AddTags RemoveTags DescribeTags iam:CreateServiceLinkedRole",
    "aws_lb_listener": "elasticloadbalancing:CreateListener DescribeListeners "
    "DescribeListenerAttributes ModifyListener DeleteListener",
    "aws_lb_target_group": "elasticloadbalancing:CreateTargetGroup DescribeTargetGroups "
    "DescribeTargetGroupAttributes ModifyTargetGroup ModifyTargetGroupAttributes "
    "DeleteTargetGroup",
    "aws_nat_gateway": "ec2:CreateNatGateway DescribeNatGateways DeleteNatGateway",
    "aws_route": "ec2:CreateRoute ReplaceRoute DeleteRoute",
    "aws_route53_record": "route53:ChangeResourceRecordSets GetChange ListResourceRecordSets "
    "GetHostedZone",
    "aws_route_table": "ec2:CreateRouteTable DeleteRouteTable DescribeRouteTables",
    "aws_route_table_association": "ec2:AssociateRouteTable DisassociateRouteTable "
    "ReplaceRouteTableAssociation",
    "aws_s3_bucket": "s3:CreateBucket DeleteBucket ListBucket PutBucketTagging DeleteObject",
    "aws_s3_bucket_lifecycle_configuration": "s3:PutLifecycleConfiguration "
    "GetLifecycleConfiguration",
    "aws_s3_bucket_ownership_controls": "s3:PutBucketOwnershipControls GetBucketOwnershipControls",
    "aws_s3_bucket_policy": "s3:PutBucketPolicy GetBucketPolicy DeleteBucketPolicy",
    "aws_s3_bucket_public_access_block": "s3:PutBucketPublicAccessBlock GetBucketPublicAccessBlock",
    "aws_s3_bucket_server_side_encryption_configuration": "s3:PutEncryptionConfiguration "
    "GetEncryptionConfiguration",
    "aws_security_group": "ec2:CreateSecurityGroup DescribeSecurityGroups DeleteSecurityGroup "
    "RevokeSecurityGroupEgress DescribeNetworkInterfaces",
    "aws_subnet": "ec2:CreateSubnet DescribeSubnets ModifySubnetAttribute DeleteSubnet",
    "aws_vpc": "ec2:CreateVpc DescribeVpcs ModifyVpcAttribute DeleteVpc DescribeVpcAttribute "
    "DescribeNetworkAcls",
    "aws_vpc_endpoint": "ec2:CreateVpcEndpoint DescribeVpcEndpoints ModifyVpcEndpoint "
    "DeleteVpcEndpoints DescribePrefixLists",
    "aws_vpc_security_group_egress_rule": "ec2:AuthorizeSecurityGroupEgress "
    "RevokeSecurityGroupEgress ModifySecurityGroupRules DescribeSecurityGroupRules",
    "aws_vpc_security_group_ingress_rule": "ec2:AuthorizeSecurityGroupIngress "
    "RevokeSecurityGroupIngress ModifySecurityGroupRules DescribeSecurityGroupRules",
    "aws_wafv2_web_acl_association": "wafv2:AssociateWebACL DisassociateWebACL "
    "GetWebACLForResource GetWebACL elasticloadbalancing:SetWebACL",
}
"""Kind of resource → the actions that make, read, change and destroy it."""
READ_BY = {
    "aws_ami": "ec2:DescribeImages",
    "aws_ssm_parameter": "ssm:GetParameter",
}
ANYBODYS = frozenset(("aws_caller_identity", "aws_partition", "aws_region"))
"""Sources of data that need no right."""


@cache
def kinds(what: str) -> frozenset[str]:
    texts = [file.read_text("utf-8") for file in TERRAFORM.rglob("*.tf")]
    return frozenset(re.findall(rf'(?m)^{what} "(\w+)"', "\n".join(texts)))


def actions_of(written: str) -> list[str]:
    """
    >>> actions_of("ec2:CreateFlowLogs DeleteFlowLogs iam:PassRole")
    ['ec2:CreateFlowLogs', 'ec2:DeleteFlowLogs', 'iam:PassRole']
    """
    found, service = [], ""
    for word in written.split():
        before, colon, name = word.rpartition(":")
        service = before if colon else service
        found.append(f"{service}:{name}")
    return found


def test_who_applies_may_make_all_that_there_is() -> None:
    assert kinds("resource") == set(MADE_BY)
    assert kinds("data") - ANYBODYS == set(READ_BY)
    applies, _ = policies()
    written = [*MADE_BY.values(), *READ_BY.values()]
    needed = [action for each in written for action in actions_of(each)]
    assert sorted({action for action in needed if not allowed(applies, action)}) == []
    assert not allowed(applies, "iam:AttachRolePolicy")


def test_the_page_of_terraform_lists_the_same_actions() -> None:
    page = (TERRAFORM / "README.md").read_text("utf-8")
    section = page.partition("\n## Who applies\n")[2].partition("\n## ")[0]
    listed_there = set(re.findall(r"`([a-z0-9]+:[\w*]+)`", section))
    applies, _ = policies()
    assert listed_there == {each for one in applies["Statement"] for each in listed(one["Action"])}


def test_every_statement_of_the_role_is_explained() -> None:
    role = (TERRAFORM / "modules" / "voice_server" / "role.tf").read_text("utf-8")
    written = set(re.findall(r'(?m)^ +Sid += "(\w+)"', role))
    section = GUIDE.partition("### What a server may do")[2].partition("\n## ")[0]
    rows = [line.partition(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == written
