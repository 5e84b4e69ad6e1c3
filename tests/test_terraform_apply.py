"""Applied to an emulated AWS (moto): what is there afterwards, and that a destroy leaves nothing.

What moto does not know, and so is not tested here: `period` of a target tracking policy and the
default warm-up, the types of a group and its share of spot instances (forgotten with the second of
the two calls that make a group with a hook; fleet.tftest.hcl has them), what cloud-init and systemd
make of the user data (tests/test_terraform_scripts.py runs the scripts), whether a security group
lets anyone through, lifecycle hooks that wait, instance refreshes, and what anything costs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.terraform_runs import Emulator, Terraform, copy_of_infra, emulator, missing
from tests.terraform_worlds import WORLDS, World, leftovers, let_go, prepare

WITHOUT = missing(emulator=True)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(WITHOUT is not None, reason=WITHOUT or ""),
]


@dataclass(frozen=True, slots=True)
class Applied:
    """A composition that was applied."""

    world: World
    aws: Emulator
    terraform: Terraform
    had: Mapping[str, str]
    outputs: Mapping[str, Any]


@pytest.fixture(scope="module", params=WORLDS, ids=lambda world: world.name)
def applied(request: pytest.FixtureRequest) -> Iterator[Applied]:
    world: World = request.param
    with emulator() as aws, copy_of_infra() as copy:
        had = prepare(aws.client)
        terraform = aws.terraform(copy / world.name)
        terraform.set_variables(world.variables(had))
        terraform.init()
        terraform.run("apply", "-auto-approve", "-input=false", "-no-color")
        yield Applied(world, aws, terraform, had, terraform.outputs())


def test_what_was_asked_for_is_there(applied: Applied) -> None:
    checks = applied.world.checks(applied.aws.client, applied.had, applied.outputs)
    assert len(checks) > 10
    assert [check for check in checks if not check.holds] == []


def test_the_outputs_say_what_to_type_next(applied: Applied) -> None:
    said = applied.outputs["next"]
    assert "rtvc loadtest wss://" in said
    assert "aws ssm start-session" in said
    assert "null" not in said


def test_a_destroy_leaves_nothing(applied: Applied) -> None:
    let_go(applied.aws.client)
    applied.terraform.run("destroy", "-auto-approve", "-input=false", "-no-color")
    assert leftovers(applied.aws.client) == {}
