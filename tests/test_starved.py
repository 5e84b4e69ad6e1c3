"""A load generator that is starved on purpose: what it measured is void, and a run says so."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from rtvc.record import load_run
from tests.servers import sink
from tests.test_loadtest_run import finish, loadtest, until

pytestmark = pytest.mark.slow

HALTED_S, RUNNING_S = 0.06, 0.14
"""Frames that fall due while it is halted, three in ten, leave up to 60 ms late."""

HASTE = """
like = "dictation"
[behaviour]
pause_s = [0.7, 0.9]
start_within_s = 1.0
[speech]
words = [3, 4]
"""
"""One speaker says the ten utterances of a step in some twenty seconds."""


@contextmanager
def starved(folder: Path) -> Iterator[None]:
    """Halts the generator again and again, from its first second on: no busy machine needed."""
    until((folder / "generator.csv").exists)
    until(lambda: bool(load_run(folder).generator))
    generator = load_run(folder).generator[-1].process
    over = threading.Event()

    def halt() -> None:
        with suppress(ProcessLookupError):
            while not over.wait(RUNNING_S):
                os.kill(generator, signal.SIGSTOP)
                over.wait(HALTED_S)
                os.kill(generator, signal.SIGCONT)

    thread = threading.Thread(target=halt)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def told(process: subprocess.Popen[str]) -> tuple[int, str]:
    code, out, _ = finish(process, within_s=240)
    return code, str(json.loads(out)["verdict"])


def test_a_run_of_a_starved_generator_is_void(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with sink("--delay", "0.3") as port:
        process = loadtest(port, folder, "--speakers", "4", "--duration", "10")
        with starved(folder):
            code, verdict = told(process)
    assert code == 3
    assert verdict.startswith("Void: the load generator sent its frames ")
    assert verdict.endswith("so nothing follows about the server.")


@pytest.mark.timeout(300)
def test_a_search_with_a_starved_generator_is_void(tmp_path: Path) -> None:
    folder, scenario = tmp_path / "run", tmp_path / "haste.toml"
    scenario.write_text(HASTE, "utf-8")
    flags = ("--find-capacity", "--transcription", "--step-duration", "5")
    few = (
        "--max-speakers",
        "1",
        "--scenario",
        str(scenario),
        "--slo",
        "transcription_delay_p50<1s",
    )
    with sink("--delay", "0.3", "--no-replies") as port:
        process = loadtest(port, folder, *flags, *few)
        with starved(folder):
            code, verdict = told(process)
    assert [step.outcome for step in load_run(folder).steps] == ["void"] * 3
    assert code == 3
    assert verdict.startswith("Void: nothing is known; 1 could not be measured: the load generator")


def test_an_objective_ends_a_run_that_cannot_be_saved(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    urgent = "transcription_delay: p(50)<300 abort_on_fail delay=4s"
    with sink("--delay", "1.2", "--no-replies") as port:
        flags = ("--speakers", "6", "--duration", "200", "--transcription", "--slo", urgent)
        code, out, err = finish(loadtest(port, folder, *flags), within_s=120)
    summary = json.loads(out)
    if summary["verdict"].startswith("Void"):
        pytest.skip("other work on this machine made the load generator late")
    assert code == 99, err
    assert summary["verdict"].startswith("Aborted after ")
    assert " of 200 s with 6 speakers: transcription delay p50 1." in summary["verdict"]
    assert summary["aborted"].endswith("< 300 ms)")
    assert load_run(folder).manifest.aborted == summary["aborted"]
    assert summary["goodput"]["good"] == 0
