"""What Terraform makes of infra/terraform in an emulated AWS, and that a destroy leaves nothing.

    python -m tests.acceptance.terraform_apply [--only single] [--out reports/terraform]

Each composition is applied in an account of moto's that holds nothing yet, looked at by boto3,
planned once more and destroyed. Leaves the log of each (single.log, fleet.log), apply.json and
apply.md. Exit code: 0 all holds, 1 something does not, 2 it can't be run here.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from rtvc.clock import SystemClock
from tests.terraform_checks import Check
from tests.terraform_runs import Terraform, copy_of_infra, emulator, missing
from tests.terraform_worlds import WORLDS, World, leftovers, let_go, prepare

_APPLY = ("-auto-approve", "-input=false", "-no-color")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one composition."""

    name: str
    """Its folder."""
    resources: int
    """Made by the apply."""
    apply_s: float
    """It took, against the emulator."""
    destroy_s: float
    """Likewise."""
    checks: list[Check]
    """Looked at in between."""
    planned_again: str
    """What a second plan says in a line: anything but no changes is something that moto forgets."""
    left: dict[str, list[str]]
    """By the destroy, by kind."""

    @property
    def holds(self) -> bool:
        return not self.left and all(check.holds for check in self.checks)


def outcome_of(world: World, out: Path) -> Outcome:
    clock = SystemClock()
    with emulator() as aws, copy_of_infra() as copy:
        had = prepare(aws.client)
        terraform = aws.terraform(copy / world.name)
        terraform.set_variables(world.variables(had))
        try:
            terraform.init()
            began_s = clock.now()
            terraform.run("apply", *_APPLY)
            applied_s = clock.now()
            resources = _made(terraform)
            checks = world.checks(aws.client, had, terraform.outputs())
            planned = _planned_again(terraform)
            let_go(aws.client)
            destroying_s = clock.now()
            terraform.run("destroy", *_APPLY)
            destroyed_s = clock.now()
        finally:
            text = "\n".join(terraform.log).replace(str(copy), ".")
            (out / f"{world.name}.log").write_text(f"{text.rstrip()}\n", "utf-8")
        return Outcome(
            name=world.name,
            resources=resources,
            apply_s=round(applied_s - began_s, 1),
            destroy_s=round(destroyed_s - destroying_s, 1),
            checks=checks,
            planned_again=planned,
            left=leftovers(aws.client),
        )


def _made(terraform: Terraform) -> int:
    """Resources: not what was only looked up."""
    names = terraform.run("state", "list", quiet=True).split()
    return sum("data" not in name.split(".") for name in names)


def _planned_again(terraform: Terraform) -> str:
    said = terraform.run("plan", "-input=false", "-no-color", quiet=True)
    for line in said.splitlines():
        if line.startswith(("Plan:", "No changes.")):
            return line
    return "nothing understood"


def table(outcomes: list[Outcome]) -> str:
    """Markdown."""
    lines = [
        "# infra/terraform, applied to an emulated AWS",
        "",
        "Made by `python -m tests.acceptance.terraform_apply`; moto stands for AWS, so times say",
        "nothing of AWS, and no machine was ever started. The logs are beside this page.",
        "",
        "| composition | resources | checks that hold | apply | destroy | a second plan | left |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in outcomes:
        held = sum(check.holds for check in each.checks)
        left = ", ".join(sorted(each.left)) or "nothing"
        lines.append(
            f"| {each.name} | {each.resources} | {held} of {len(each.checks)} | {each.apply_s} s "
            f"| {each.destroy_s} s | {each.planned_again} | {left} |"
        )
    for each in outcomes:
        lines += ["", f"## {each.name}", "", "| looked at | expected | found |", "|---|---|---|"]
        lines += [
            f"| {check.what}{'' if check.holds else ' (**does not hold**)'} "
            f"| `{check.expected}` | `{check.found}` |"
            for check in each.checks
        ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[world.name for world in WORLDS])
    parser.add_argument("--out", type=Path, default=Path("reports/terraform"))
    arguments = parser.parse_args()
    why = missing(emulator=True)
    if why is not None:
        sys.stderr.write(f"terraform_apply: {why}\n")
        return 2
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    outcomes = [outcome_of(world, out) for world in WORLDS if arguments.only in (None, world.name)]
    told = [asdict(each) for each in outcomes]
    (out / "apply.json").write_text(json.dumps(told, indent=2, default=_plain) + "\n", "utf-8")
    (out / "apply.md").write_text(table(outcomes), "utf-8")
    sys.stdout.write(table(outcomes))
    return 0 if all(each.holds for each in outcomes) else 1


def _plain(value: object) -> object:
    return sorted(value, key=str) if isinstance(value, set) else str(value)


if __name__ == "__main__":
    sys.exit(main())
