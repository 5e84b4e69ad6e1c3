"""From a search for the capacity to a variable for Terraform: only what can be relied upon."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rtvc.cli import main
from rtvc.clock import FakeClock
from rtvc.errors import RecordError, RunVoid, UsageError
from rtvc.plan.tfvars import (
    COMMENT,
    VARIABLE,
    capacity_found,
    capacity_given,
    doubts,
    provenance,
    write_vars,
)
from rtvc.record import Run, RunWriter, complete_manifest, load_run, new_manifest
from rtvc.summary import summarize, write_summary
from tests.documents import declared
from tests.plan_worlds import CPU
from tests.synthetic_run import a_second
from tests.terraform_runs import bare_environment
from tests.test_plan import step

COMMITTED = Path(__file__).parent.parent / "reports" / "capacity"

HOLDS_8 = ((8, "passed"), (9, "failed")) * 2


def search(folder: Path, outcomes: Sequence[tuple[int, str]] = HOLDS_8, **more: Any) -> Run:
    """A run of `loadtest --find-capacity`; `more` is known of it at its end."""
    manifest = new_manifest(
        ["rtvc", "loadtest", "http://localhost:8000", "--find-capacity"],
        FakeClock(),
        machine=CPU,
        targets=("transcription_delay_p95<500ms",),
    )
    with RunWriter(folder, manifest) as run:
        for number, (speakers, outcome) in enumerate(outcomes):
            run.append(step(number, speakers, outcome))
    if more:
        complete_manifest(folder, **more)
    return load_run(folder)


def called(*arguments: str) -> int:
    """Exit code of `rtvc fleet vars`."""
    with pytest.raises(SystemExit) as ended:
        main(["fleet", "vars", *arguments])
    code = ended.value.code
    return code if isinstance(code, int) else 1


# What is believed


def test_the_capacity_is_what_the_search_says(tmp_path: Path) -> None:
    found = capacity_found(search(tmp_path / "run"))
    assert (found.holds, found.fails_at, found.confirmed) == (8, 9, True)


@pytest.mark.parametrize(
    ("outcomes", "error", "expected"),
    [
        ((), UsageError, "--find-capacity`, got a run without steps: `rtvc loadtest"),
        (((1, "failed"), (1, "failed")), UsageError, "expected a capacity, but does not hold"),
        (((8, "passed"), (16, "void"), (16, "void"), (16, "void")), RunVoid, "generator was late"),
        (((8, "passed"), (12, "failed"), (10, "void"), (12, "failed")), RunVoid, "was late"),
        (((4, "void"), (4, "void"), (4, "void")), RunVoid, "nobody knows what the server holds"),
    ],
)
def test_a_run_without_a_capacity_is_refused(
    tmp_path: Path,
    outcomes: Sequence[tuple[int, str]],
    error: type[Exception],
    expected: str,
) -> None:
    run = search(tmp_path / "run", outcomes)
    with pytest.raises(error, match=expected) as caught:
        capacity_found(run)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_late_generator_beyond_what_fails_anyway_does_not_matter(tmp_path: Path) -> None:
    run = search(tmp_path / "run", (*HOLDS_8, (16, "void")))
    assert capacity_found(run).holds == 8


def test_a_search_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    stopped = search(tmp_path / "stopped", interrupted=True)
    killed = search(tmp_path / "killed")
    killed = replace(killed, manifest=replace(killed.manifest, duration_s=None))
    for run in (stopped, killed):
        with pytest.raises(UsageError, match="cut off"):
            capacity_found(run)


def test_a_search_that_an_objective_ended_is_refused(tmp_path: Path) -> None:
    run = search(tmp_path / "run", aborted="errors<1%")
    with pytest.raises(UsageError, match="cut off"):
        capacity_found(run)


def test_a_search_that_lost_a_generator_proves_nothing(tmp_path: Path) -> None:
    """What it says of it may name a machine, so that is not repeated."""
    run = search(tmp_path / "run", lost_generators=("worker-7.example: gone",))
    with pytest.raises(RunVoid, match="lost 1 of its load generators") as caught:
        capacity_found(run)
    assert "worker-7" not in str(caught.value)


def test_a_generator_that_its_summary_calls_late_is_believed(tmp_path: Path) -> None:
    run = search(tmp_path / "run")
    late = replace(run, generator=[a_second(float(n), cpu_ratio=1.0) for n in range(1, 40)])
    summary = summarize(late)
    assert not summary.generator.valid
    write_summary(run.folder, summary)
    with pytest.raises(RunVoid, match="the load generator was late"):
        capacity_found(run)


def test_what_must_be_known_of_it_is_told(tmp_path: Path) -> None:
    sure = search(tmp_path / "sure", model="base.en", model_kind="whisper", colocated=False)
    assert doubts(sure, capacity_found(sure)) == []
    unsure = search(
        tmp_path / "unsure",
        ((8, "passed"),),
        model="selftest",
        model_kind="self-test model",
        colocated=True,
    )
    said = " ".join(doubts(unsure, capacity_found(unsure)))
    for fact in ("self-test model", "nothing more was tried", "same machine", "second run"):
        assert fact in said
    full = search(tmp_path / "full", server={"max_sessions": 8})
    assert any("no more slots" in line for line in doubts(full, capacity_found(full)))
    roomy = search(tmp_path / "roomy", server={"max_sessions": 9})
    assert not any("no more slots" in line for line in doubts(roomy, capacity_found(roomy)))
    random = search(tmp_path / "random", model_kind="synthetic weights")
    assert "measured with synthetic weights" in doubts(random, capacity_found(random))


# What is written


def test_the_file_says_the_number_and_where_it_comes_from(tmp_path: Path) -> None:
    run = search(
        tmp_path / "my-search",
        model="base.en",
        settings={"scenario": "dictation", "transcription": True},
        server={"version": "0.1.0"},
    )
    out = tmp_path / "capacity.auto.tfvars.json"
    write_vars(out, run, capacity_found(run))
    content = json.loads(out.read_text("utf-8"))
    assert set(content) == {VARIABLE, COMMENT}
    assert content[VARIABLE] == 8
    told = content[COMMENT]
    assert told == json.loads(json.dumps(provenance(run, capacity_found(run))))
    assert (told["run"], told["model"], told["scenario"]) == ("my-search", "base.en", "dictation")
    assert told["said"].startswith("holds 8 speakers, not 9")
    assert told["targets"] == ["transcription_delay_p95<500ms"]
    assert (told["unit"], told["transcription"]) == ("sessions at once on one instance", True)
    assert told["server"] == {"version": "0.1.0"}


@pytest.mark.parametrize("composition", ["fleet", "single"])
def test_the_variable_is_one_of_terraform(composition: str) -> None:
    assert VARIABLE in declared(composition, "variable")


def test_a_file_that_terraform_reads_by_itself_may_have_its_other_name(tmp_path: Path) -> None:
    run, out = search(tmp_path / "run"), tmp_path / "terraform.tfvars.json"
    write_vars(out, run, capacity_found(run))
    assert json.loads(out.read_text("utf-8"))[VARIABLE] == 8


def test_what_else_stands_in_the_file_stays(tmp_path: Path) -> None:
    out = tmp_path / "mine.auto.tfvars.json"
    out.write_text(json.dumps({"region": "eu-central-1", VARIABLE: 3}), "utf-8")
    run = search(tmp_path / "run")
    write_vars(out, run, capacity_found(run))
    content = json.loads(out.read_text("utf-8"))
    assert (content["region"], content[VARIABLE]) == ("eu-central-1", 8)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("capacity.json", None, "to end with .auto.tfvars.json, got 'capacity.json'"),
        ("capacity.tfvars.json", None, "to end with .auto.tfvars.json"),
        ("a.auto.tfvars.json", "{", "expected JSON"),
        ("a.auto.tfvars.json", "[]", "expected a JSON object, got list"),
        ("none/a.auto.tfvars.json", None, "cannot write"),
    ],
)
def test_a_file_that_cannot_be_written_is_named(
    tmp_path: Path, name: str, content: str | None, expected: str
) -> None:
    out = tmp_path / name
    if content is not None:
        out.write_text(content, "utf-8")
    run = search(tmp_path / "run")
    with pytest.raises(UsageError, match=expected):
        write_vars(out, run, capacity_found(run))
    if content is not None:
        assert out.read_text("utf-8") == content


# What is read


def test_a_capacity_may_be_given_in_three_ways(tmp_path: Path) -> None:
    run = search(tmp_path / "my-search")
    out = tmp_path / "capacity.auto.tfvars.json"
    write_vars(out, run, capacity_found(run))
    assert capacity_given("40") == (40, "as given")
    assert capacity_given(str(out)) == (8, out.name)
    assert capacity_given(str(run.folder)) == (8, "my-search")


@pytest.mark.parametrize("content", ["{}", '{"capacity_per_instance": "8"}', "[8]", "8 sessions"])
def test_a_file_without_a_capacity_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.auto.tfvars.json"
    path.write_text(content, "utf-8")
    with pytest.raises(UsageError, match="expected") as caught:
        capacity_given(str(path))
    assert path.name in str(caught.value)


def test_a_folder_that_is_no_search_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected --capacity"):
        capacity_given(str(tmp_path))
    (tmp_path / "run.json").write_text("{}", "utf-8")
    with pytest.raises(RecordError, match="schema version"):
        capacity_given(str(tmp_path))


# The command


def test_the_command_writes_it_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = search(tmp_path / "my-search", model_kind="self-test model")
    out = tmp_path / "capacity.auto.tfvars.json"
    assert called(str(run.folder), "--out", str(out)) == 0
    said = capsys.readouterr().out
    assert f"{out}: capacity_per_instance = 8 (sessions at once on one instance)" in said
    assert "because my-search holds 8 speakers, not 9" in said
    assert "note: measured with the self-test model" in said
    assert json.loads(out.read_text("utf-8"))[VARIABLE] == 8


def test_the_command_leaves_nothing_where_nothing_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = search(tmp_path / "late", ((8, "passed"), (16, "void"), (16, "void"), (16, "void")))
    none = search(tmp_path / "none", ())
    out = tmp_path / "capacity.auto.tfvars.json"
    assert called(str(late.folder), "--out", str(out)) == 3
    assert called(str(none.folder), "--out", str(out)) == 2
    assert called(str(tmp_path / "nowhere"), "--out", str(out)) == 2
    assert capsys.readouterr().err.count("\n") == 3
    assert not out.exists()


SEARCHES = [path for path in sorted(COMMITTED.iterdir()) if path.is_dir()]


@pytest.mark.parametrize("folder", SEARCHES, ids=lambda folder: folder.name)
def test_searches_that_were_measured_are_understood(folder: Path) -> None:
    """Of a committed search there are steps and a summary, and no rows."""
    said = json.loads((folder / "summary.json").read_text("utf-8"))["capacity"]["holds"]
    assert capacity_given(str(folder)) == (said, folder.name)


@pytest.mark.slow
def test_terraform_reads_the_number_and_leaves_the_comment_aside(tmp_path: Path) -> None:
    terraform = shutil.which("terraform")
    if terraform is None:
        pytest.skip("terraform is not installed")
    run = search(tmp_path / "run")
    module = tmp_path / "module"
    module.mkdir()
    write_vars(module / "capacity.auto.tfvars.json", run, capacity_found(run))
    (module / "main.tf").write_text(
        f'variable "{VARIABLE}" {{\n  type = number\n}}\n'
        f'output "each" {{\n  value = var.{VARIABLE} + 1\n}}\n',
        "utf-8",
    )
    for arguments in (["init", "-input=false"], ["plan", "-input=false", "-no-color"]):
        done = subprocess.run(
            [terraform, f"-chdir={module}", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=bare_environment(),
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
    assert "+ each = 9" in done.stdout
    assert "Warning" not in done.stdout + done.stderr
