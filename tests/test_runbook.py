"""docs/runbook.md and docs/ec2.md: every command, alert, alarm, panel, setting and link exists;
of docs/autoscaling.md every command and link.
"""

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from rtvc.config import Settings
from tests.documents import (
    TERRAFORM,
    broken_links,
    commands,
    declared,
    inline,
    known_to_terraform,
    mentions,
    prose,
    simple_commands,
    slug,
    wrong_usage,
)
from tests.servers import ROOT

PAGES = {name: ROOT / "docs" / f"{name}.md" for name in ("runbook", "ec2")}
TEXTS = {name: page.read_text("utf-8") for name, page in PAGES.items()}
RUNBOOK = TEXTS["runbook"]
AUTOSCALING = ROOT / "docs" / "autoscaling.md"
WITH_COMMANDS = (*TEXTS.values(), AUTOSCALING.read_text("utf-8"))
INFRA = ROOT / "infra"
OBSERVABILITY = TERRAFORM / "modules" / "observability"

OTHERS = frozenset(
    (
        *("cloud-init", "curl", "date", "docker", "journalctl", "openssl", "printf", "sleep"),
        "systemctl",
    )
)
"""Programs whose arguments nobody checks here."""
TERRAFORM_VERBS = frozenset(("init", "plan", "apply", "destroy", "output"))
COMPOSITIONS = ("single", "fleet")
CHDIR = "-chdir=infra/terraform/"

each_page = pytest.mark.parametrize("page", PAGES)


# Commands.


def complaints(line: str, *, mentioned: bool = False) -> list[str]:
    """What is wrong with a line of shell."""
    found = []
    for program, *arguments in simple_commands(line):
        check = CHECKS.get(program)
        if check is not None:
            found += [f"{line}: {wrong}" for wrong in check(arguments, mentioned)]
        elif program not in OTHERS:
            found.append(f"{line}: unknown program {program}")
    return found


def _rtvc(arguments: list[str], mentioned: bool) -> list[str]:
    wrong = wrong_usage(arguments, mentioned=mentioned)
    return [] if wrong is None else [wrong]


def _load_generator(arguments: list[str], mentioned: bool) -> list[str]:
    """What modules/load_generators puts on its machines."""
    return _rtvc(["loadtest", *arguments], mentioned)


def _docker(arguments: list[str], mentioned: bool) -> list[str]:
    """Behind its image a container is given a verb of rtvc's."""
    image = "$IMAGE"
    if arguments[0] != "run" or image not in arguments:
        return []
    return _rtvc(arguments[arguments.index(image) + 1 :], mentioned)


def _terraform(arguments: list[str], _: bool) -> list[str]:
    """In the folder of one composition, or in any."""
    first, *others = arguments
    folders = list(COMPOSITIONS)
    if first.startswith(CHDIR):
        folders = [first.removeprefix(CHDIR)]
        first, *others = others
    if not set(folders) <= set(COMPOSITIONS):
        return [f"no composition {folders[0]}"]
    wrong = [] if first in TERRAFORM_VERBS else [f"unknown verb {first}"]
    if first == "output":
        names = {name for folder in folders for name in declared(folder, "output")}
        wrong += [f"no output {name}" for name in others if name[0] != "-" and name not in names]
    return wrong


def _make(arguments: list[str], _: bool) -> list[str]:
    targets = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"))
    return [f"no target {name}" for name in arguments if name not in targets]


def _aws(arguments: list[str], _: bool) -> list[str]:
    """More of it is checked where botocore is installed."""
    return [] if len(arguments) >= 2 else ["expected a service and an operation"]


CHECKS: dict[str, Callable[[list[str], bool], list[str]]] = {
    "rtvc": _rtvc,
    "rtvc-loadtest": _load_generator,
    "docker": _docker,
    "terraform": _terraform,
    "make": _make,
    "aws": _aws,
}


def all_lines() -> list[str]:
    return sorted({line for text in WITH_COMMANDS for line in (*commands(text), *mentions(text))})


@pytest.mark.parametrize("line", sorted({line for t in WITH_COMMANDS for line in commands(t)}))
def test_every_command_can_be_typed(line: str) -> None:
    assert complaints(line) == []


@pytest.mark.parametrize("line", sorted({line for t in WITH_COMMANDS for line in mentions(t)}))
def test_every_command_that_is_mentioned_is_there(line: str) -> None:
    assert complaints(line, mentioned=True) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("rtvc profile life URL", "expected a verb"),
        ("rtvc loadtest URL --speekers 4", "No such option"),
        ("rtvc loadtest URL --speakers many", "valid int"),
        ("rtvc loadtest URL another", "unexpected extra argument"),
        ("rtvc profile stages", "Missing argument"),
        ("sudo rtvc-loadtest URL --nonsense", "No such option"),
        ('docker run "$IMAGE" profile cpu --pig 1', "No such option"),
        ("make coffee", "no target coffee"),
        ("terraform aply", "unknown verb aply"),
        ("terraform output -raw adress", "no output adress"),
        ("terraform -chdir=infra/terraform/single output -raw group_name", "no output group_name"),
        ("terraform -chdir=infra/terraform/modules init", "no composition modules"),
        ("true && kubectl get pods", "unknown program kubectl"),
        ("aws autoscaling", "expected a service and an operation"),
    ],
)
def test_the_check_of_commands_finds_what_is_wrong(line: str, said: str) -> None:
    found = complaints(line)
    assert any(said in each for each in found), found


def test_a_verb_may_be_mentioned_without_what_it_needs() -> None:
    assert complaints("rtvc profile stages", mentioned=True) == []
    assert complaints("rtvc profile nonsense", mentioned=True) != []


# What the command line of AWS adds to the API.
AWS_OWN = frozenset((("ecr", "get-login-password"), ("logs", "tail")))
AWS_EVERYWHERE = frozenset(("region", "query", "output", "max-items"))


def aws_calls() -> list[tuple[str, ...]]:
    """Service, operation and flags."""
    found = set()
    for line in all_lines():
        for program, *arguments in simple_commands(line):
            if program == "aws":
                flags = [word[2:] for word in arguments[2:] if word.startswith("--")]
                found.add((*arguments[:2], *flags))
    return sorted(found)


@pytest.mark.parametrize("call", aws_calls(), ids=lambda call: "-".join(call[:2]))
def test_every_call_to_aws_is_in_its_api(call: tuple[str, ...]) -> None:
    botocore: Any = pytest.importorskip("botocore")
    session: Any = pytest.importorskip("botocore.session")
    service, operation, *flags = call
    if (service, operation) in AWS_OWN:
        return
    model = session.get_session().get_service_model(service)
    names = {botocore.xform_name(name, "-"): name for name in model.operation_names}
    assert operation in names
    members = model.operation_model(names[operation]).input_shape.members
    known = {botocore.xform_name(member, "-") for member in members} | AWS_EVERYWHERE
    assert [flag for flag in flags if flag.removeprefix("no-") not in known] == []


# Alerts, alarms, panels.


def index() -> list[list[str]]:
    """Rows of the table at the top: symptom, alerts, alarms."""
    rows = [line for line in prose(RUNBOOK).splitlines() if line.startswith("| [")]
    return [[cell.strip() for cell in row.strip("|").split(" |")] for row in rows]


def named(column: int) -> set[str]:
    return {name for row in index() for name in re.findall(r"`([\w-]+)`", row[column])}


@cache
def alerts() -> frozenset[str]:
    text = (INFRA / "observability" / "alerts.yaml").read_text("utf-8")
    return frozenset(re.findall(r"(?m)^ +- alert: (\w+)$", text))


def test_every_alert_leads_to_a_symptom() -> None:
    assert named(1) == alerts()
    assert set(re.findall(r"`(Rtvc\w+)`", RUNBOOK)) == alerts()


def test_every_alarm_leads_to_a_symptom() -> None:
    text = (OBSERVABILITY / "alarms.tf").read_text("utf-8")
    simple = re.findall(r"(?m)^    ([a-z-]+) = \{$", text)
    alone = re.findall(r'alarm_name += "\$\{var\.name\}-([a-z-]+)"', text)
    assert alone
    assert named(2) == {*simple, *alone}


def test_every_symptom_has_its_section_and_a_proof() -> None:
    sections = {slug(part.partition("\n")[0]): part for part in RUNBOOK.split("\n## ")[1:]}
    for symptom, *_ in index():
        linked = re.fullmatch(r"\[(.+)\]\(#(.+)\)", symptom)
        assert linked is not None
        assert slug(linked[1]) == linked[2]
        section = sections[linked[2]]
        assert "| It says | So | Do |" in section
        assert "**Prove:**" in section
        assert commands(section)


def test_every_panel_is_on_a_dashboard() -> None:
    grafana = json.loads((INFRA / "observability" / "grafana-dashboard.json").read_text("utf-8"))
    titles = {panel["title"] for panel in grafana["panels"]}
    quoted = set(re.findall(r"“([^”]+)”", RUNBOOK))
    assert quoted - titles == set()
    text = (OBSERVABILITY / "dashboard.tf").read_text("utf-8")
    widgets = re.findall(r'(?m)^      title += "(.+)"$', text)
    italics = set(re.findall(r"(?<![*\w])\*([^*\n]+)\*(?!\*)", prose(RUNBOOK)))
    assert italics
    assert [name for name in italics if not any(w.startswith(name) for w in widgets)] == []


# Names.


@cache
def words_of_the_code() -> frozenset[str]:
    found: set[str] = set()
    for file in (ROOT / "rtvc").rglob("*.py"):
        found |= set(re.findall(r"\w+", file.read_text("utf-8")))
    return frozenset(found)


@each_page
def test_every_name_is_one_of_the_code_or_of_terraform(page: str) -> None:
    names = {code for code in inline(TEXTS[page]) if re.fullmatch(r"[a-z]+\w*_\w+", code)}
    assert names
    assert sorted(names - words_of_the_code() - known_to_terraform()) == []


@each_page
def test_every_variable_of_terraform_is_one(page: str) -> None:
    given = [found[1] for code in inline(TEXTS[page]) if (found := re.match(r"(\w+) = ", code))]
    known = {name for each in COMPOSITIONS for name in declared(each, "variable")}
    assert sorted(set(given) - known) == []


def settings() -> set[tuple[str, str]]:
    return {
        (section, key)
        for section, field in Settings.model_fields.items()
        for key in getattr(field.annotation, "model_fields", {})
    }


@each_page
def test_every_setting_is_one(page: str) -> None:
    text = TEXTS[page]
    sections = {section for section, _ in settings()}
    written = {
        (found[1], found[2])
        for code in inline(text)
        if (found := re.fullmatch(r"\[(\w+)\] (\w+)", code))
    }
    assert written - settings() == set()
    assert {code[1:-1] for code in inline(text) if re.fullmatch(r"\[\w+\]", code)} <= sections
    variables = set(re.findall(r"\bRTVC_[A-Z_]+\b", text)) - {"RTVC_API_KEY"}
    assert variables - {f"RTVC_{section}_{key}".upper() for section, key in settings()} == set()


# Links.


@each_page
def test_every_link_leads_somewhere(page: str) -> None:
    assert broken_links(PAGES[page], TEXTS[page]) == []


def test_every_link_of_the_page_about_scaling_leads_somewhere() -> None:
    """But to what its command makes."""
    broken = broken_links(AUTOSCALING, AUTOSCALING.read_text("utf-8"))
    assert [link for link in broken if not link.startswith("../reports/autoscaling/")] == []


def test_the_readme_leads_there() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert "(docs/ec2.md)" in text
    assert "(docs/runbook.md)" in text
    assert broken_links(ROOT / "README.md", text) == []


def test_the_check_of_links_finds_what_is_wrong() -> None:
    text = (
        "# One two\n\n[a](#one-two) [b](#three) [c](nowhere.md) [d](ec2.md#rights) [e](ec2.md#x)\n"
    )
    assert broken_links(PAGES["runbook"], text) == ["#three", "nowhere.md", "ec2.md#x"]
