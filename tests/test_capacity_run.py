"""`rtvc loadtest --find-capacity` as a whole, against a server whose knee is known."""

import json
import signal
from pathlib import Path

import pytest

from rtvc.record import load_run
from tests.servers import sink
from tests.test_loadtest_run import finish, loadtest, until

pytestmark = pytest.mark.slow

SEARCH = ("--find-capacity", "--transcription", "--step-duration", "5", "--start-speakers", "8")
TARGET = ("--slo", "transcription_delay_p50<650ms")


@pytest.mark.timeout(420)
def test_a_known_knee_is_found_and_speakers_stay_from_step_to_step(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    # Each session beyond the ninth makes all wait 0.4 s longer.
    with sink("--delay", "0.3", "--knee", "9", "--no-replies") as port:
        process = loadtest(port, folder, *SEARCH, "--max-speakers", "10", *TARGET)
        code, out, err = finish(process, within_s=400)
    run = load_run(folder)
    if any(step.outcome == "void" for step in run.steps):
        pytest.skip("other work on this machine made the load generator late")
    assert code == 0, err
    assert [step.speakers for step in run.steps] == [8, 10, 9, 9, 10]
    verdict = json.loads(out)["verdict"]
    assert verdict.startswith("Holds 9 speakers, not 10: transcription delay p50 ")
    # 8, then 2 more; then one less, and at the last step one more again.
    assert len(run.connections) == 11
    assert {row.outcome for row in run.connections} == {"ok"}
    assert "Delay against speakers" in (folder / "report.html").read_text("utf-8")


def test_a_search_that_is_cut_off_keeps_its_finished_steps(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with sink("--delay", "0.3", "--no-replies") as port:
        process = loadtest(port, folder, *SEARCH, "--max-speakers", "64", *TARGET)
        steps = folder / "steps.csv"
        until(lambda: steps.exists() and steps.read_text("utf-8").count("\n") >= 2)
        process.send_signal(signal.SIGINT)
        code, out, _ = finish(process)
    assert code == 130
    assert [step.speakers for step in load_run(folder).steps] == [8]
    assert json.loads(out)["steps"][0]["outcome"] == "passed"
    assert (folder / "report.html").exists()
