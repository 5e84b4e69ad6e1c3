"""What only a CUDA device can show; run by `make gpu-checks`."""

import numpy as np
import pytest

from rtvc.clock import SystemClock
from rtvc.instruments.gpu import GpuSampler, open_gpus
from rtvc.stt.engine import build_engine
from rtvc.stt.files import FileEngine, FileJob
from rtvc.stt.models import cuda_device_count, resolve_model
from rtvc.stt.synthetic import TEXT
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, Job, JobKind
from rtvc.stt.whisper import WhisperTranscriber

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not cuda_device_count(), reason="no CUDA device"),
]


def speech(seconds: float) -> Job:
    audio = np.random.default_rng(0).normal(0, 0.1, round(seconds * SAMPLE_RATE_HZ))
    return Job("a", "1", JobKind.FINAL, 1, audio.astype(np.float32), 0.0, language="en")


@pytest.mark.parametrize("compute_type", ["float16", "int8_float16", "float32"])
@pytest.mark.parametrize("context", ["full", "short"])
def test_synthetic_weights_run_as_every_type(compute_type: str, context: str) -> None:
    path = resolve_model("synthetic:tiny.en").path
    assert path is not None
    assert context in ("full", "short")
    transcriber = WhisperTranscriber(
        path,
        clock=SystemClock(),
        device="cuda",
        compute_type=compute_type,
        encoder_context="full" if context == "full" else "short",
        max_batch=16,
    )
    transcriber.load()
    assert transcriber.compute_type == compute_type
    answers = transcriber.transcribe([speech(3.0)] * 16)
    assert [(answer.text, answer.tokens, answer.batch_size) for answer in answers] == [
        (TEXT, 12, 16)
    ] * 16


def test_the_selftest_model_hears_the_same_as_on_a_cpu() -> None:
    from rtvc.speech.corpus import builtin_clips
    from rtvc.transcript import wer, word_errors

    found = resolve_model("selftest")
    assert found.path is not None
    transcriber = WhisperTranscriber(
        found.path,
        clock=SystemClock(),
        device="cuda",
        encoder_context="short",
        suppress_blank=False,
    )
    transcriber.load()
    clips = builtin_clips(20, seed=20261122)
    errors = [
        word_errors(
            clip.text,
            transcriber.transcribe([Job("a", "1", JobKind.FINAL, 1, clip.audio, 0.0)])[0].text,
        )
        for clip in clips
    ]
    assert (wer(errors) or 0.0) <= 0.10


async def test_the_engine_finds_the_device_by_itself() -> None:
    engine = build_engine("synthetic:tiny.en", clock=SystemClock())
    await engine.start()
    try:
        assert (engine.status.device, engine.status.compute_type) == ("cuda", "float16")
        answer = await engine.transcribe(speech(2.0))
        assert answer is not None
        assert answer.text == TEXT
    finally:
        await engine.close()


async def test_files_are_transcribed_there_too() -> None:
    engine = FileEngine(device="auto", compute_type="auto", clock=SystemClock())
    job = speech(4.0)
    try:
        answer = await engine.transcribe(
            "selftest", FileJob("f", "1", JobKind.FINAL, 0, job.audio, 0.0)
        )
        assert answer.audio_s == pytest.approx(4.0)
    finally:
        await engine.close()


def test_nvml_tells_what_the_engine_uses() -> None:
    opened = open_gpus(SystemClock())
    assert isinstance(opened, GpuSampler)
    with opened:
        opened.sample()
        path = resolve_model("synthetic:tiny.en").path
        assert path is not None
        transcriber = WhisperTranscriber(path, clock=SystemClock(), device="cuda")
        transcriber.load()
        samples = opened.sample()
    for sample in samples:
        assert sample.uuid is not None
        assert sample.memory_total_bytes is not None
        assert sample.memory_used_bytes is not None
        assert 0 < sample.memory_used_bytes <= sample.memory_total_bytes
    assert any((sample.memory_above_baseline_bytes or 0) > 50_000_000 for sample in samples)
