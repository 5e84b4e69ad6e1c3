"""The bill of materials and the audit: all that is installed, and never "clean" unasked."""

import json
import re
import subprocess
import sys
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest

from tests.servers import ROOT
from tools.audit import CONSTRAINTS, EXTRAS, Lookup, pins, problems, understood, verdict
from tools.closure import closure
from tools.sbom import bill


def test_every_distribution_that_is_needed_is_pinned() -> None:
    pinned, loose = pins(CONSTRAINTS.read_text("utf-8"))
    assert loose == []
    assert sorted(set(closure(EXTRAS)) - set(pinned)) == []


def test_the_closure_holds_what_is_asked_for_and_what_that_asks_for() -> None:
    plain, dev = set(closure()), set(closure(EXTRAS))
    assert {"httpx", "httpcore", "fastapi", "starlette", "locust", "gevent"} <= plain
    assert not {"ruff", "mypy"} & plain
    assert {"pytest", "ruff", "mypy", "opentelemetry-sdk"} <= dev
    assert plain < dev
    assert "torch" not in dev, "nobody asked for that extra"


def test_what_is_not_as_pinned_is_told() -> None:
    here = {"a": "1.0", "b": "2.1", "c": "3"}
    needed = {"a": "rtvc", "b": "a", "c": "a", "d": "rtvc"}
    assert problems(needed, {"a": "1.0.0", "b": "2.0", "d": "4"}, here.get) == [
        "b: expected 2.0 as pinned, found 2.1 installed",
        "c 3: needed by a, but not pinned in constraints.txt",
        "d: needed by rtvc, but not installed",
    ]


def test_a_pin_is_one_version() -> None:
    found, loose = pins("A_b==1.2\n# note\n\nc>=1\nd==1.*\ne @ https://h/e.whl\nf==1 # why\n")
    assert found == {"a-b": "1.2", "f": "1"}
    assert loose == ["c>=1", "d==1.*", "e @ https://h/e.whl"]


CLEAN = {"dependencies": [{"name": "a", "version": "1", "vulns": []}]}
FOUND = {"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1"}]}]}
SKIPPED = {"dependencies": [{"name": "a", "skip_reason": "not on the index"}]}


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (json.dumps(CLEAN), 0, "none known today"),
        (json.dumps(FOUND), 1, "vulnerability: a 1: PYSEC-1"),
        (json.dumps(SKIPPED), 3, "not looked up"),
        ('{"dependencies": []}', 3, "not looked up"),
        ("", 3, "not looked up"),
        ("[]", 3, "not looked up"),
        ("ERROR: connection refused", 3, "not looked up"),
    ],
)
def test_only_an_answer_is_taken_for_one(answer: str, code: int, words: str) -> None:
    found, lines = verdict([], understood(answer), 5)
    assert found == code
    assert words in lines[-1]
    assert code == 0 or "none known" not in "\n".join(lines)


def test_a_wrong_pin_counts_more_than_silence() -> None:
    code, lines = verdict(["a: not pinned"], Lookup(asked=False, why="no network"), 5)
    assert code == 1
    assert not any("are installed as" in line for line in lines)


def test_the_audit_says_in_one_line_that_nobody_could_be_asked(tmp_path: Path) -> None:
    """A pip-audit that reaches nothing stands in for the network that a test may not use."""
    (tmp_path / "pip_audit.py").write_text("raise SystemExit('no route to its database')\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['audit']"
    code += "; import tools.audit as a; a.sys.exit(a.main())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": "", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    about = [line for line in done.stdout.splitlines() if "vulnerabilit" in line]
    assert len(about) == 1
    assert "could not reach" in about[0]
    assert done.returncode in (1, 3)


def installed(folder: Path, name: str, more: str, record: str | None) -> Distribution:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{more}")
    if record is not None:
        (info / "RECORD").write_text(record)
    return PathDistribution(info)


def test_a_bill_names_version_licence_and_hash(tmp_path: Path) -> None:
    found = {
        "one": installed(tmp_path, "one", "License-Expression: MIT\nRequires-Dist: two\n", "a,b,1"),
        "two": installed(tmp_path, "two", "Classifier: License :: OSI Approved :: BSD\n", None),
        "three": installed(tmp_path, "three", f"License: {'x' * 500}\n", "x.py,sha256=q,1\nR,,"),
    }
    told = bill(found, {"one"})
    one, three, two = told["components"]
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.5")
    assert one["purl"] == "pkg:pypi/one@1.0"
    assert (one["scope"], two["scope"]) == ("required", "optional")
    assert one["licenses"] == [{"expression": "MIT"}]
    assert two["licenses"] == [{"license": {"name": "BSD"}}]
    assert "licenses" not in three
    assert "hashes" not in two
    assert re.fullmatch(r"[0-9a-f]{64}", three["hashes"][0]["content"])
    assert {"ref": one["bom-ref"], "dependsOn": [two["bom-ref"]]} in told["dependencies"]
    assert bill(found, {"one"}) == told


def test_the_bill_of_this_environment_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "build" / "sbom.json"
    subprocess.run(
        [sys.executable, "-m", "tools.sbom", str(out)], cwd=ROOT, check=True, capture_output=True
    )
    told = json.loads(out.read_text())
    names = [one["name"] for one in told["components"]]
    assert set(closure()) <= set(names)
    assert len(names) == len(set(names))
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", told["serialNumber"])
    refs = [one["bom-ref"] for one in told["components"]]
    assert {ref for one in told["dependencies"] for ref in one["dependsOn"]} <= set(refs)
