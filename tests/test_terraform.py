"""infra/terraform: formatted, valid, documented, tested by its own tests, and scanned."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rtvc.config import Settings
from tests.acceptance.terraform_apply import Outcome, table
from tests.documents import broken_links
from tests.servers import ROOT
from tests.terraform_checks import SCALING, Check
from tests.terraform_runs import COMPOSITIONS, MODULES, SOURCE, Terraform, copy_of_infra, missing

FOLDERS = (*MODULES, *COMPOSITIONS)
WITHOUT = missing()
needs_provider = pytest.mark.skipif(WITHOUT is not None, reason=WITHOUT or "")

COSTLY = frozenset(
    (
        *("nat", "public_ips_on_launch", "flow_log_retention_days", "access_log_retention_days"),
        *("instance_type", "instance_types", "root_volume_gib", "min_size", "max_size"),
        *("spot_percent", "workers", "log_retention_days", "create_dashboard", "create_alarms"),
        *("capacity_per_instance", "publish_figures"),
    )
)
"""Variables whose value decides what is to be paid."""
UNCHECKED = frozenset(("bool",))
"""Types that admit nothing wrong."""
FREE = frozenset(("tags",))
"""Variables that may hold anything."""


@pytest.fixture(scope="module")
def copy() -> Iterator[Path]:
    with copy_of_infra() as folder:
        yield folder


@pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")
def test_it_is_formatted() -> None:
    code, said = Terraform(SOURCE).try_run("fmt", "-check", "-recursive", "-diff")
    assert code == 0, said


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs_provider
@pytest.mark.parametrize("folder", FOLDERS)
def test_it_is_valid_and_its_own_tests_pass(copy: Path, folder: str) -> None:
    terraform = Terraform(copy / folder)
    terraform.init()
    told = json.loads(terraform.run("validate", "-json"))
    assert told["valid"], told["diagnostics"]
    assert told["diagnostics"] == []
    said = terraform.run("test", "-no-color")
    passed = re.search(r"Success! (\d+) passed, 0 failed", said)
    assert passed is not None, said
    written = sum(
        len(re.findall(r"(?m)^run \"", test.read_text("utf-8")))
        for test in (SOURCE / folder / "tests").glob("*.tftest.hcl")
    )
    assert int(passed[1]) == written


# What is written.


def blocks(folder: str, kind: str) -> dict[str, str]:
    """Blocks by name: `terraform fmt` ends each with a } at the beginning of a line."""
    found = {}
    for file in sorted((SOURCE / folder).glob("*.tf")):
        text = file.read_text("utf-8")
        for block in re.finditer(rf'(?ms)^{kind} "(\w+)" \{{\n(.*?)^\}}$', text):
            found[block[1]] = block[2]
    return found


def attribute(block: str, name: str) -> str | None:
    found = re.search(rf"(?m)^  {name}\s+= (.*)$", block)
    return None if found is None else found[1]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_variable_is_typed_described_and_checked(folder: str) -> None:
    variables = blocks(folder, "variable")
    assert variables
    for name, block in variables.items():
        assert attribute(block, "type"), f"{folder}: {name} has no type"
        assert attribute(block, "description"), f"{folder}: {name} has no description"
        if attribute(block, "type") not in UNCHECKED and name not in FREE:
            assert "  validation {\n" in block, f"{folder}: {name} is not checked"


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_output_says_what_it_is(folder: str) -> None:
    outputs = blocks(folder, "output")
    assert outputs
    assert [name for name, block in outputs.items() if not attribute(block, "description")] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_that_costs_money_has_a_default(folder: str) -> None:
    variables = blocks(folder, "variable")
    assert [
        name
        for name, block in variables.items()
        if name in COSTLY and attribute(block, "default") is not None
    ] == []
    whole = {name: attribute(variables[name], "default") for name in variables if name == "fleet"}
    assert set(whole.values()) <= {"null"}


def test_what_costs_money_is_asked_for() -> None:
    asked = {name for folder in FOLDERS for name in blocks(folder, "variable")}
    assert asked >= COSTLY, "names that are no variables any more"


@pytest.mark.parametrize("folder", FOLDERS)
def test_it_has_a_page_that_names_every_variable_without_a_default(folder: str) -> None:
    page = (SOURCE / folder / "README.md").read_text("utf-8")
    needed = [
        name
        for name, block in blocks(folder, "variable").items()
        if attribute(block, "default") is None
    ]
    assert [name for name in needed if f"`{name}`" not in page] == []


def test_settings_and_secrets_on_its_pages_are_the_servers() -> None:
    known = {
        f"RTVC_{section}_{key}".upper()
        for section, field in Settings.model_fields.items()
        for key in getattr(field.annotation, "model_fields", {})
    }
    files = (*SOURCE.rglob("*.md"), *SOURCE.rglob("*.tf"), *SOURCE.rglob("*.tftpl"))
    text = "".join(file.read_text("utf-8") for file in files)
    named = set(re.findall(r"\bRTVC_[A-Z]+_[A-Z_]*[A-Z]\b", text))
    assert "RTVC_LLM_BACKEND" in named
    # Of load tests and of tests.
    assert sorted(named - known) == ["RTVC_API_KEY", "RTVC_TERRAFORM_PLUGINS"]


@pytest.mark.parametrize("folder", [".", *FOLDERS])
def test_every_link_on_its_page_leads_somewhere(folder: str) -> None:
    page = SOURCE / folder / "README.md"
    assert broken_links(page, page.read_text("utf-8")) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_it_says_which_terraform_and_which_provider(folder: str) -> None:
    text = (SOURCE / folder / "versions.tf").read_text("utf-8")
    assert 'required_version = ">= 1.9"' in text
    assert 'version = ">= 5.100, < 7"' in text


def test_the_numbers_of_scaling_are_such_as_aws_accepts() -> None:
    assert set(SCALING) == {
        *("target_percent", "warm_up_s", "metric_period_s", "idle_before_unprotected_s"),
        *("deregistration_delay_s", "hook_timeout_s", "boot_s_assumed"),
    }
    assert 0 < SCALING["target_percent"] <= 100
    assert SCALING["metric_period_s"] in (10, 30, 60)
    assert 0 <= SCALING["deregistration_delay_s"] <= 3600
    assert 30 <= SCALING["hook_timeout_s"] <= 7200
    assert 0 <= SCALING["boot_s_assumed"] <= SCALING["warm_up_s"]


def test_scaling_numbers_stand_in_one_file_only() -> None:
    text = "".join(
        file.read_text("utf-8") for file in sorted((SOURCE / "modules/voice_server").glob("*.tf"))
    )
    for place in ("target_value", "deregistration_delay", "period", "heartbeat_timeout"):
        assert re.search(rf"(?m)^\s*{place}\s+= local\.scaling\.", text), place


def test_every_scaling_number_is_used_and_read_from_the_file() -> None:
    texts = {file: file.read_text("utf-8") for file in sorted(SOURCE.rglob("*.tf"))}
    readers = [file.parent.name for file, text in texts.items() if 'scaling.json")' in text]
    assert readers == ["voice_server"]
    used = {
        name for text in texts.values() for name in re.findall(r"\blocal\.scaling\.(\w+)", text)
    }
    assert used == set(SCALING)
    # Whoever else needs some of them is handed them.
    handed = attribute(blocks("fleet", "module")["observability"], "  scaling")
    assert handed == "module.voice_server.scaling"


HELD_BACK = {
    ("single", "network"): {"cidr", "logs_kms_key_arn"},
    ("single", "voice_server"): {"capacity_by_type", "fleet", "port", "tls"},
    ("single", "observability"): {"alarm_topic_arns", "fleet", "keep_logs_on_destroy"},
    ("fleet", "voice_server"): {"port"},
    ("fleet", "load_generators"): {"target_ports"},
}
"""What a composition decides for its users, by leaving a module its default."""


@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_what_a_module_can_be_told_its_users_can_say(composition: str) -> None:
    modules = blocks(composition, "module")
    assert modules
    for module, block in modules.items():
        declared = set(blocks(f"modules/{module}", "variable"))
        given = set(re.findall(r"(?m)^  (\w+) +=", block)) - {"source", "count"}
        assert given <= declared
        assert declared - given == HELD_BACK.get((composition, module), set()), module


@pytest.mark.parametrize(
    ("output", "ways"),
    [
        ("public_subnet_ids", ("aws_route.internet", "aws_route_table_association.public")),
        ("private_subnet_ids", ("aws_route.nat", "aws_route_table_association.private")),
    ],
)
def test_who_lives_in_a_subnet_waits_for_its_way_out(output: str, ways: tuple[str, ...]) -> None:
    awaited = attribute(blocks("modules/network", "output")[output], "depends_on") or ""
    assert [way for way in ways if way not in awaited] == []


def test_a_check_that_does_not_hold_is_told() -> None:
    good, bad = Check("one", 1, 1), Check("two", 2, 3)
    outcome = Outcome("fleet", 9, 1.0, 1.0, [good, bad], "No changes.", {})
    assert not outcome.holds
    page = table([outcome])
    assert "| fleet | 9 | 1 of 2 |" in page
    assert "| two (**does not hold**) | `2` | `3` |" in page
    assert Outcome("fleet", 9, 1.0, 1.0, [good], "No changes.", {}).holds
    assert not Outcome("fleet", 9, 1.0, 1.0, [good], "", {"buckets": ["b"]}).holds


# The scan.


def test_every_check_that_is_left_out_has_its_reason() -> None:
    lines = (SOURCE / ".checkov.yaml").read_text("utf-8").splitlines()
    skips = [line for line in lines if re.match(r"\s*- CKV", line)]
    assert skips
    assert [line for line in skips if not re.search(r"- CKV\w+ +# \S.{15,}", line)] == []
    inline = [
        line.strip()
        for file in sorted(SOURCE.rglob("*.tf"))
        for line in file.read_text("utf-8").splitlines()
        if "checkov:skip" in line
    ]
    assert inline
    assert [
        line for line in inline if not re.fullmatch(r"# checkov:skip=CKV2?_\w+:\S.{5,}", line)
    ] == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("checkov") is None, reason="checkov is not installed")
def test_the_scan_finds_nothing_unexplained() -> None:
    done = subprocess.run(
        ["bash", str(ROOT / "tools" / "scan_terraform.sh")],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
