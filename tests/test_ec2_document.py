"""docs/ec2_server.md says what the server does: its settings, its figures, the rights it needs."""

import json
import re
from typing import Any, get_args

from rtvc.config import CloudSettings
from rtvc.server.cloud.aside import FORGOTTEN_S, LOOK_S, NOTICED_S
from rtvc.server.cloud.calls import Call
from rtvc.server.cloud.ending import LATE_S, MARGIN_S, SPOT_S
from rtvc.server.cloud.figures import Standing, figures
from tests.servers import ROOT

TEXT = (ROOT / "docs" / "ec2_server.md").read_text("utf-8")
FULLY = Standing("ready", sessions=1, max_sessions=8, boot_to_ready_s=95.0)
NO_RIGHT = {"metadata", "connect"}
"""Calls that are no requests to AWS."""


def table(head: str) -> list[list[str]]:
    """Cells of the rows below a line that begins so."""
    lines = TEXT[TEXT.index(f"| {head}") :].splitlines()
    rows = []
    for line in lines[2:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def policy() -> dict[str, Any]:
    (block,) = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    found: dict[str, Any] = json.loads(block)
    return found


def actions(statement: dict[str, Any]) -> list[str]:
    named = statement["Action"]
    return [named] if isinstance(named, str) else list(named)


def test_every_setting_is_there_with_its_default() -> None:
    defaults = {name: default for name, default, _ in table("`[cloud]`")}
    assert set(defaults) == {f"`{name}`" for name in CloudSettings.model_fields}
    settings = CloudSettings()
    assert defaults["`publish_every_s`"] == f"{settings.publish_every_s:g}"
    assert defaults["`idle_before_unprotected_s`"] == f"{settings.idle_before_unprotected_s:g}"
    assert defaults["`namespace`"] == f"`{settings.namespace}`"
    assert defaults["`provider`"] == f"`{settings.provider}`"


def test_every_figure_is_there_with_its_unit() -> None:
    rows = {name: (unit, when) for name, unit, _, when in table("Metric")}
    published = {f"`{figure.name}`": figure.unit for figure in figures(FULLY)}
    assert {name: unit for name, (unit, _) in rows.items()} == published
    always = {f"`{figure.name}`" for figure in figures(Standing("loading", 0, 8))}
    assert {name for name, (_, when) in rows.items() if when == "always"} == always


def test_the_policy_allows_what_is_called_and_nothing_else() -> None:
    called = {name.title().replace("_", "") for name in set(get_args(Call)) - NO_RIGHT}
    allowed = [action.partition(":")[2] for one in policy()["Statement"] for action in actions(one)]
    assert sorted(allowed) == sorted(called)


def test_what_can_be_narrowed_is() -> None:
    for statement in policy()["Statement"]:
        names = [action.partition(":")[2] for action in actions(statement)]
        assert statement["Effect"] == "Allow"
        if not all(name.startswith("Describe") for name in names):
            assert statement["Resource"] != "*" or "Condition" in statement
    publishing = policy()["Statement"][0]
    namespace = publishing["Condition"]["StringEquals"]["cloudwatch:namespace"]
    assert namespace == CloudSettings().namespace


def test_as_many_values_are_counted_as_there_are() -> None:
    found = len(figures(Standing("ready", sessions=1, max_sessions=8)))
    assert f"with {2 * found} values every" in TEXT
    assert f"{found} metrics of the group and {found} of each instance ({found + 1} once)" in TEXT


def test_standing_aside_takes_as_long_as_it_says() -> None:
    assert f"every {LOOK_S:g} s each server asks" in TEXT
    assert FORGOTTEN_S == 120
    assert "what was last seen holds for two minutes" in TEXT
    assert f"long enough to be noticed ({NOTICED_S:g} s)" in TEXT


def test_the_deadlines_are_those_of_the_code() -> None:
    assert f"less {MARGIN_S:g} s, {SPOT_S:g} s at most" in TEXT
    assert f"heartbeat timeout, less {MARGIN_S:g} s" in TEXT
    assert f"that, less {MARGIN_S + LATE_S:g} s, if it is sooner" in TEXT
    assert f"{MARGIN_S:g} s for the last finals, {LATE_S:g} s as" in TEXT
