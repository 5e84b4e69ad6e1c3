"""Several generator processes, for real: `rtvc loadtest --processes N` and its ends."""

import json
import os
import signal
from pathlib import Path

import httpx
import psutil
import pytest

from rtvc.record import Run, load_run
from tests.servers import sink
from tests.test_loadtest_run import finish, loadtest, told, until

pytestmark = pytest.mark.slow


def generators(pid: int) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(pid).children(recursive=True)
        if "--rtvc-spec" in child.cmdline()
    ]


def test_two_processes_are_one_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with sink("--delay", "0.3") as port:
        flags = ("--speakers", "5", "--processes", "2", "--duration", "6")
        code, out, err = finish(loadtest(port, folder, *flags))
        notes = httpx.get(f"http://127.0.0.1:{port}/notes").json()
    assert code in (0, 3, 99), err
    run = load_run(folder)
    assert sorted(row.speaker for row in run.attempts) == [0, 1, 2, 3, 4]
    assert {row.outcome for row in run.attempts} == {"ok"}
    assert notes["connections"] == 5
    assert notes["frames"] == sum(row.frames for row in run.generator), "nothing is left out"
    assert len(run.turns) == len(notes["utterances"]) >= 5
    assert len({turn.text for turn in run.turns if turn.speaker == 0} & texts(run, 1)) == 0
    assert max(row.speakers for row in run.generator) == 5
    assert [row.at_s for row in run.generator] == sorted(row.at_s for row in run.generator)
    assert run.manifest.settings["processes"] == 2
    assert [each["speakers"] for each in run.manifest.settings["generators"]] == [3, 2]
    # Both began at one instant: whoever comes first comes at the start of the run.
    first = {row.speaker: row.opened_at_s for row in run.attempts}
    assert 0 <= first[0] <= first[1] <= first[2] + 1
    assert not (folder / "parts").exists()
    assert {path.name for path in folder.glob("generator*.csv")} == {
        "generator.csv",
        "generator-0.csv",
        "generator-1.csv",
    }
    assert json.loads(out)["connections"]["ok"] == 5


def texts(run: Run, speaker: int) -> set[str]:
    return {turn.text for turn in run.turns if turn.speaker == speaker}


def test_an_interrupted_run_of_several_keeps_everything(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with sink() as port:
        flags = ("--speakers", "4", "--processes", "2", "--duration", "120")
        process = loadtest(port, folder, *flags)
        until(lambda: told(folder) >= 3)
        process.send_signal(signal.SIGINT)
        code, out, err = finish(process)
        notes = httpx.get(f"http://127.0.0.1:{port}/notes").json()
    assert code == 130, err
    run = load_run(folder)
    assert not run.cut_off
    assert sum(row.frames for row in run.generator) == notes["frames"]
    assert {row.speaker for row in run.attempts} == {0, 1, 2, 3}
    assert all(row.closed_at_s is not None for row in run.attempts)
    assert json.loads(out)["verdict"].startswith("Interrupted after ")


def test_a_process_that_is_killed_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with sink("--delay", "0.3") as port:
        flags = ("--speakers", "4", "--processes", "2", "--duration", "12")
        process = loadtest(port, folder, *flags)
        until(lambda: told(folder) >= 3)
        victims = [g for g in generators(process.pid) if "spec-1.json" in " ".join(g.cmdline())]
        os.kill(victims[0].pid, signal.SIGKILL)
        code, out, err = finish(process)
    assert code == 3, err
    verdict = json.loads(out)["verdict"]
    assert verdict.startswith(
        "Void: generator process 2 of 2 (speakers 1 and 3) ended with status -9 after "
    )
    run = load_run(folder)
    assert not run.cut_off
    assert len(run.manifest.lost_generators) == 1
    assert {turn.speaker for turn in run.turns} >= {0, 2}
    # The others spoke to the end: longer than anybody of the lost part.
    last = {
        number: max(t.speech_end_at_s for t in run.turns if t.speaker % 2 == number)
        for number in {turn.speaker % 2 for turn in run.turns}
    }
    assert last[0] == max(last.values())
    assert (folder / "report.html").exists()
    assert (folder / "parts" / "1" / "generator.csv").exists()


def test_a_search_over_two_processes_orders_both(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    search = ("--find-capacity", "--transcription", "--step-duration", "5")
    limits = ("--start-speakers", "3", "--max-speakers", "4", "--processes", "2")
    target = ("--slo", "transcription_delay_p50<2s", "--slo", "errors<1%")
    with sink("--delay", "0.2", "--no-replies") as port:
        code, _, err = finish(loadtest(port, folder, *search, *limits, *target), within_s=240)
    run = load_run(folder)
    if any(step.outcome == "void" for step in run.steps):
        pytest.skip("other work on this machine made the load generator late")
    assert code == 0, err
    assert [step.speakers for step in run.steps][:2] == [3, 4]
    assert {row.speaker for row in run.attempts} == {0, 1, 2, 3}
    assert {row.outcome for row in run.attempts} == {"ok"}


def test_an_objective_that_ends_a_run_ends_all_its_processes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    target = "transcription_delay_p50<200ms abort_on_fail delay=3s"
    with sink("--delay", "0.8", "--no-replies") as port:
        flags = ("--speakers", "4", "--processes", "2", "--duration", "120", "--transcription")
        code, out, err = finish(loadtest(port, folder, *flags, "--slo", target))
    assert code == 99, err
    assert "transcription delay p50" in json.loads(out)["verdict"]
    run = load_run(folder)
    assert not run.cut_off
    assert run.generator[-1].at_s < 60, "it was to take 120 s"
    assert {row.speaker for row in run.attempts} == {0, 1, 2, 3}
    assert all(row.closed_at_s is not None for row in run.attempts)


def test_a_search_that_loses_a_process_ends_and_keeps_its_steps(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    search = ("--find-capacity", "--transcription", "--step-duration", "5")
    limits = ("--start-speakers", "2", "--max-speakers", "16", "--processes", "2")
    with sink("--delay", "0.2", "--no-replies") as port:
        process = loadtest(port, folder, *search, *limits, "--slo", "transcription_delay_p50<2s")
        until(lambda: (folder / "steps.csv").exists() and steps_of(folder) >= 1, within_s=120)
        victims = [g for g in generators(process.pid) if "spec-1.json" in " ".join(g.cmdline())]
        os.kill(victims[0].pid, signal.SIGKILL)
        code, out, err = finish(process, within_s=120)
    assert code in (1, 3), err
    assert "generator process 2 of 2" in err
    run = load_run(folder)
    assert len(run.steps) >= 1
    assert run.steps[0].speakers == 2
    assert len(run.manifest.lost_generators) == 1
    assert json.loads(out)["verdict"]
    assert (folder / "report.html").exists()


def steps_of(folder: Path) -> int:
    return len((folder / "steps.csv").read_text("utf-8").splitlines()) - 1
