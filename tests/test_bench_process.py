"""Cells in processes of their own, and the whole command, end to end."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from rtvc.bench.cell_process import SCRIPT, CellProcess
from rtvc.bench.clips import BenchInput
from rtvc.bench.handover import save_input
from rtvc.bench.input import gather
from rtvc.bench.runner import FAILED_FILE
from rtvc.bench.spec import CellSpec, Measures, load_failed, save
from rtvc.results.cells import Cell
from rtvc.results.reading import load_bench, load_round, round_path
from rtvc.stt.synthetic import CARD_FILE, FORMAT, KIND, TEXT, TOKENS_PER_S, Card, read_card
from tests.bench_fakes import an_input

pytestmark = [pytest.mark.slow]

SELFTEST = Cell("faster-whisper", "selftest", compute_type="int8", context="short")
QUICK = Measures(most_at_once=2, batch_runs=1, streaming=1, held=False)


def a_spec(folder: Path, cell: Cell, heard: BenchInput) -> CellSpec:
    save_input(folder / "input", heard)
    return CellSpec(
        cell=cell,
        round=0,
        folder=str(folder / "bench"),
        input=str(folder / "input"),
        failure_file=str(folder / "work" / FAILED_FILE),
        interim=str(folder / "work" / "interim"),
        measures=QUICK,
        weights="a-folder",
        result_file=str(round_path(folder / "bench", cell, 0)),
    )


def ended(child: CellProcess) -> int:
    try:
        status = child._process.wait(timeout=120)
    finally:
        child.end()
    return status


# Our own cells


@pytest.mark.model
def test_a_cell_leaves_its_result_and_says_how_far_it_is(tmp_path: Path) -> None:
    heard = gather(clips=3, conditions=("clean",), long_files=0, quiet_s=1, quiet_kinds=("white",))
    spec = a_spec(tmp_path, SELFTEST, heard)
    child = CellProcess(spec, tmp_path / "work", tmp_path / "log.txt")
    status = ended(child)
    assert status == 0, child.last_words()
    assert child.beat().stage in ("at once", "batches")
    found = load_round(round_path(tmp_path / "bench", SELFTEST, 0))
    assert found.model_kind == "self-test model"
    assert [turn.clip for turn in found.heard] == [clip.name for clip in heard.short]
    assert [(one.jobs, one.workers) for one in found.batches] == [(1, 1), (2, 1), (1, 2), (1, 2)]
    assert found.memory.host_peak is not None
    assert found.memory.host_before is not None
    assert found.memory.host_peak >= found.memory.host_before
    assert found.load_s > 0
    assert found.cpu_s > 0
    assert "ctranslate2" in found.packages


def test_a_cell_without_weights_says_so(tmp_path: Path) -> None:
    spec = a_spec(tmp_path, Cell("faster-whisper", "no-such-model"), an_input())
    child = CellProcess(spec, tmp_path / "work", tmp_path / "log.txt")
    assert ended(child) == 1
    failed = load_failed(Path(spec.failure_file))
    assert failed is not None
    assert failed.kind == "skipped"
    assert "no-such-model" in failed.reason
    assert "ModelError" in child.last_words()
    assert not round_path(tmp_path / "bench", spec.cell, 0).exists()


def test_a_cells_process_can_be_ended_at_any_time(tmp_path: Path) -> None:
    spec = a_spec(tmp_path, SELFTEST, an_input())
    child = CellProcess(spec, tmp_path / "work", tmp_path / "log.txt")
    child.end()
    assert child.status() == -signal.SIGKILL
    child.end()


# whisperx


WHISPERX = Cell("whisperx", "tiny.en", compute_type="int8", beam=3, batch=8, vad_filter=True)


def run_script(
    spec: CellSpec, folder: Path, *, installed: bool = True
) -> "subprocess.CompletedProcess[str]":
    """The script by itself, with or without something named whisperx beside it."""
    alone = folder / "alone"
    alone.mkdir()
    shutil.copyfile(SCRIPT, alone / "cell.py")
    if installed:
        shutil.copyfile(Path(__file__).with_name("fake_whisperx.py"), alone / "whisperx.py")
    save(folder / "spec.json", spec)
    return subprocess.run(
        [sys.executable, "-I", "-c", _LAUNCH, str(alone), str(folder / "spec.json")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


_LAUNCH = """
import runpy, sys
folder, spec = sys.argv[1:]
sys.path.insert(0, folder)
sys.argv = ["cell.py", spec]
runpy.run_path(folder + "/cell.py", run_name="__main__")
assert not any(name.split(".")[0] == "rtvc" for name in sys.modules), "it needs rtvc"
"""


def test_whisperx_is_measured_without_anything_of_ours(tmp_path: Path) -> None:
    heard = an_input(turns=3, long=1, quiet=1)
    spec = a_spec(tmp_path, WHISPERX, heard)
    done = run_script(spec, tmp_path)
    assert done.returncode == 0, done.stderr
    found = load_round(Path(spec.result_file))
    assert found.cell == WHISPERX
    assert found.model_kind == "whisper"
    assert [turn.clip for turn in found.heard] == ["turn-0", "turn-1", "turn-2"]
    assert found.heard[0].text == "16000 samples in en by 8 over"
    assert found.heard[0].reference == "text of turn-0"
    assert found.long[0].audio_s == 40.0
    assert [quiet.kind for quiet in found.quiet] == ["silence"]
    assert [batch.jobs for batch in found.batches] == [1]
    assert found.streamed == ()
    assert found.held is None
    stages = [json.loads(line)["stage"] for line in done.stdout.splitlines()]
    assert stages[:2] == ["preparing", "loading"]
    assert stages[-1] == "quiet"


def test_whisperx_decodes_of_synthetic_weights_what_the_audio_would_take(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    card = Card("tiny.en", 0, TOKENS_PER_S, FORMAT)
    (weights / CARD_FILE).write_text(json.dumps(asdict(card)), "utf-8")
    assert read_card(weights) == card
    cell = replace(WHISPERX, model="synthetic:tiny.en")
    heard = an_input(turns=2, long=1, quiet=0)
    spec = replace(a_spec(tmp_path, cell, heard), weights=str(weights))
    done = run_script(spec, tmp_path)
    assert done.returncode == 0, done.stderr
    found = load_round(Path(spec.result_file))
    assert found.model_kind == KIND
    assert {turn.text for turn in found.heard} == {file.text for file in found.long} == {TEXT}
    # CTranslate2 decodes half of it, and no more than 30 s are in a window.
    assert {"1 s: 10", "2 s: 18", "40 s: 242"} <= set(done.stderr.splitlines())


def test_whisperx_that_is_not_installed_is_skipped(tmp_path: Path) -> None:
    spec = a_spec(tmp_path, WHISPERX, an_input())
    assert run_script(spec, tmp_path, installed=False).returncode == 1
    failed = load_failed(Path(spec.failure_file))
    assert failed is not None
    assert failed.kind == "skipped"
    assert "pip install whisperx" in failed.reason


def test_whisperx_without_memory_says_so(tmp_path: Path) -> None:
    spec = replace(a_spec(tmp_path, WHISPERX, an_input()), weights="broken")
    assert run_script(spec, tmp_path).returncode == 1
    failed = load_failed(Path(spec.failure_file))
    assert failed is not None
    assert failed.kind == "out of memory"
    assert not Path(spec.result_file).exists()


# The command


def rtvc_bench(folder: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    usual = "--clips 3 --condition clean --long-files 0 --streaming 1 --no-held --threads 1"
    command = [sys.executable, "-m", "rtvc", "bench", *usual.split(), "--out", str(folder), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)


@pytest.mark.model
def test_a_bench_measures_recommends_and_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "bench"
    flags = ["--model", "selftest", "--engine", "faster-whisper,transformers", "--beam", "1,2"]
    done = rtvc_bench(folder, *flags, "--rounds", "1", "--json")
    assert done.returncode in (0, 99), done.stderr
    told = json.loads(done.stdout)
    assert len(told["cells"]) == 2
    assert {failure["kind"] for failure in told["failures"]} == {"unsupported"}
    assert (folder / "report.html").is_file()
    first = load_bench(folder)
    assert [result.round for result in first.rounds] == [0, 0]
    assert sum(result.load_is_cold for result in first.rounds) == 1
    again = rtvc_bench(folder, *flags, "--rounds", "2")
    assert again.returncode in (0, 99), again.stderr
    assert "2 of 4 measurements to make" in again.stderr
    assert "going on with" in again.stderr
    assert len(load_bench(folder).rounds) == 4
    assert "selftest" in again.stdout
    other = rtvc_bench(folder, *flags, "--clips", "2")
    assert other.returncode == 2
    assert other.stderr.splitlines()[-1].startswith("rtvc: expected to go on with")


@pytest.mark.model
def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    folder = tmp_path / "bench"
    command = (
        "bench --model selftest --clips 3 --condition clean --long-files 0 --streaming 0 "
        "--no-held --threads 1 --rounds 50"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "rtvc", *command.split(), "--out", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        told = [process.stderr.readline()]
        while "1 of 50 ·" not in told[-1]:
            told.append(process.stderr.readline())
            assert told[-1], "".join(told)
        os.kill(process.pid, signal.SIGINT)
        _, rest = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 130, rest
    assert f"go on with --out {folder}" in rest
    found = load_bench(folder)
    assert found.manifest.interrupted
    assert found.rounds
