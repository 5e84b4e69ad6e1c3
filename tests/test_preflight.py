"""Before loading: damaged files, a device that lacks something, and too little memory are told."""

import shutil
import struct
from pathlib import Path

import pytest

from rtvc.clock import SystemClock
from rtvc.errors import ModelError
from rtvc.stt.engine import build_engine
from rtvc.stt.models import SELFTEST_PATH
from rtvc.stt.preflight import available_bytes, check_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the self-test model, to be damaged."""
    return Path(shutil.copytree(SELFTEST_PATH, tmp_path / "model"))


def test_a_whole_model_passes(folder: Path) -> None:
    check_model(str(folder))
    check_model("selftest", device="cpu", compute_type="int8")


@pytest.mark.parametrize("name", ["pocketsphinx", "scripted", None])
def test_what_has_no_files_passes(name: str | None) -> None:
    check_model(name)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_weights_that_were_cut_short_are_found(folder: Path, kept: float) -> None:
    weights = folder / "model.bin"
    data = weights.read_bytes()
    weights.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(ModelError, match="cut short or damaged"):
        check_model(str(folder))


def test_weights_with_a_length_overwritten_are_found(folder: Path) -> None:
    weights = folder / "model.bin"
    data = bytearray(weights.read_bytes())
    start = data.index(b"WhisperSpec") + len("WhisperSpec") + 1 + 8
    data[start : start + 2] = struct.pack("<H", 60_000)
    weights.write_bytes(data)
    with pytest.raises(ModelError, match="cut short or damaged"):
        check_model(str(folder))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_file_that_is_no_json_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text('{"half": ')
    with pytest.raises(ModelError, match=f"expected JSON in .*{name}"):
        check_model(str(folder))


def test_a_compute_type_that_the_device_lacks_is_named() -> None:
    with pytest.raises(ModelError, match=r'supports .*int8.*, got "int3"'):
        check_model("selftest", device="cpu", compute_type="int3")


def test_too_little_memory_is_told_with_figures() -> None:
    check_model("selftest", memory=lambda: 200_000_000)
    with pytest.raises(ModelError, match=r"expected 0\.16 GB .* for selftest, found 0\.05"):
        check_model("selftest", memory=lambda: 50_000_000)
    with pytest.raises(ModelError, match="for 4 × selftest"):
        check_model("selftest", copies=4, memory=lambda: 200_000_000)


def test_this_machine_has_some_memory() -> None:
    assert available_bytes() > 0


async def test_an_engine_of_a_damaged_model_does_not_start(folder: Path) -> None:
    weights = folder / "model.bin"
    weights.write_bytes(weights.read_bytes()[:5000])
    engine = build_engine(str(folder), clock=SystemClock())
    with pytest.raises(ModelError, match="cut short"):
        await engine.start()
    assert engine.status.state == "failed"
    await engine.close()
