"""What the load test measures is what the reference server says that there was."""

import math
import statistics
from itertools import pairwise
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.speech.corpus import folder_clips
from rtvc.speech.speaker import prepare
from tests.acceptance.exactness import (
    EARLY_S,
    SCENARIO,
    Case,
    Pair,
    compared,
    pairs_of,
    result_of,
    strays,
    table,
)
from tests.loadtest_runs import Done, loadtest, serving
from tests.reference_clips import FRAME_SAMPLES, RATE_HZ, read_lengths, sound, takes, write_clips
from tests.reference_server import Ear, Ended, delays

FRAME_S = FRAME_SAMPLES / RATE_HZ


def heard(pcm16: bytes, frame_bytes: int) -> list[Ended]:
    ear, found = Ear(), []
    for at in range(0, len(pcm16), frame_bytes):
        _, ended = ear.hear(pcm16[at : at + frame_bytes], 0.0)
        found += [ended] if ended else []
    return found


@given(
    st.lists(st.tuples(st.integers(0, 1500), st.integers(1, 1500)), max_size=4),
    st.sampled_from([480, 960, 1440]),
    st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=60)
def test_the_ear_knows_every_utterance_to_the_sample(
    parts: list[tuple[int, int]], frame_samples: int, seed: int
) -> None:
    rng, stream, truth = np.random.default_rng(seed), [np.zeros(0, np.int16)], []
    position = 0
    for gap, length in parts:
        # As speakers do: clips begin with a frame, and something of the last frame is silent.
        start = -(-(position + gap + 1) // frame_samples) * frame_samples
        length += length % frame_samples == 0
        stream += [np.zeros(start - position, np.int16), spoken(length, rng)]
        position = start + length
        truth.append((start, position))
    stream.append(np.zeros(-position % frame_samples + 2 * frame_samples, np.int16))
    found = heard(np.concatenate(stream).astype("<i2").tobytes(), 2 * frame_samples)
    assert [(ended.begin, ended.end) for ended in found] == truth
    assert all(0 < ended.message_end - ended.end < frame_samples for ended in found)


def spoken(samples: int, rng: np.random.Generator) -> np.ndarray:
    return np.round(32767 * sound(samples, rng)).astype(np.int16)


def test_an_utterance_that_fills_its_last_message_ends_with_the_next() -> None:
    rng = np.random.default_rng(1)
    stream = np.concatenate([spoken(2 * FRAME_SAMPLES, rng), np.zeros(FRAME_SAMPLES, np.int16)])
    (ended,) = heard(stream.astype("<i2").tobytes(), 2 * FRAME_SAMPLES)
    assert (ended.begin, ended.end) == (0, 2 * FRAME_SAMPLES)


def test_the_ear_knows_the_pace_of_the_stream_from_its_fastest_message() -> None:
    ear = Ear()
    for number, late_s in enumerate((0.030, 0.001, 0.2)):
        ear.hear(bytes(2 * FRAME_SAMPLES), 100 + (number + 1) * FRAME_S + late_s)
    assert ear.origin_s == pytest.approx(100.001)


@pytest.mark.parametrize("seed", range(5))
def test_clips_tell_what_they_say_by_their_length(seed: int) -> None:
    found = takes(60, seed)
    assert len({take.samples for take in found}) == len({take.text for take in found}) == 60
    assert all(0 < take.samples % FRAME_SAMPLES < FRAME_SAMPLES for take in found)


def test_on_the_wire_a_clip_is_as_long_and_never_silent(tmp_path: Path) -> None:
    written = write_clips(tmp_path, 4, 0)
    assert read_lengths(tmp_path) == {take.samples: take.text for take in written}
    for take, clip in zip(written, folder_clips(tmp_path), strict=True):
        prepared = prepare(clip, RATE_HZ)
        assert len(prepared.pcm16) == take.samples
        assert np.all(np.abs(prepared.pcm16.astype(int)) > 255), "no byte of it ends in silence"
        assert round(clip.speech_end_s * RATE_HZ) == take.samples
        last = prepared.frames(FRAME_SAMPLES)[-1]
        assert last.endswith(bytes(16))


@pytest.mark.parametrize(
    ("text", "median_s"), [("0.25", 0.25), ("lognormal:0.2:0.5", 0.2), ("uniform:1:3", 2.0)]
)
def test_delays_are_drawn_as_asked(text: str, median_s: float) -> None:
    draw = delays(text, 3)
    drawn = [draw() for _ in range(4000)]
    assert statistics.median(drawn) == pytest.approx(median_s, rel=0.06)
    again = delays(text, 3)
    assert drawn[:5] == [again() for _ in range(5)]


def pair(measured_s: float, noted_s: float, paced_s: float | None = None) -> Pair:
    return Pair("i", measured_s, noted_s, noted_s if paced_s is None else paced_s, False, True)


@pytest.mark.parametrize(
    ("measured_s", "recorded_s", "lag_s", "exact"),
    [
        (0.0129, 0.010, 0.0, True),  # 3 ms
        (0.0131, 0.010, 0.0, False),
        (0.0131, 0.010, 0.001, True),  # explained by the generator's lag
        (2.039, 2.0, 0.0, True),  # 2 %
        (2.041, 2.0, 0.0, False),
        (0.0069, 0.010, 0.0, False),  # too little is as wrong as too much
    ],
)
def test_exact_means_two_percent_or_three_milliseconds(
    measured_s: float, recorded_s: float, lag_s: float, exact: bool
) -> None:
    found = compared([pair(measured_s, recorded_s)] * 100, lag_s, 0.5, frozen=False)
    assert found["exact"] is exact


def test_a_frozen_server_is_held_to_the_pace_of_the_stream() -> None:
    slept_through = [pair(2.1, 0.1, 2.1)] * 20
    assert compared(slept_through, 0.0, 0.5, frozen=True)["exact"]
    assert not compared(slept_through, 0.0, 0.5, frozen=False)["exact"]


def reference_run(tmp_path: Path, case: Case) -> tuple[Done, dict[str, object]]:
    """A short run, and what the server noted."""
    clips, scenario = tmp_path / "clips", tmp_path / "scenario.toml"
    write_clips(clips, 2 * case.speakers, 5)
    scenario.write_text(SCENARIO, "utf-8")
    with serving("tests.reference_server", "--clips", str(clips), *case.server) as server:
        done = loadtest(
            *(f"ws://127.0.0.1:{server.port}", tmp_path / "run", "--transcription"),
            *("--speech", str(clips), "--scenario", str(scenario), "--ramp", "0.5"),
            "--keep-text",
            *("--speakers", str(case.speakers), "--duration", f"{case.duration_s:g}"),
        )
        notes = httpx.get(f"{server.http}/notes", timeout=30, trust_env=False).json()
    assert done.code in (0, 3, 99), done.errors
    return done, notes


@pytest.mark.slow
def test_every_utterance_is_paired_with_its_own_answer(tmp_path: Path) -> None:
    case = Case("mixed", "", ("--delay", "uniform:0.01:1.5"), speakers=4, duration_s=8.0)
    done, notes = reference_run(tmp_path, case)
    run = done.run
    assert strays(run, notes) == []
    pairs = pairs_of(run, notes)
    assert len(pairs) == len(run.turns) >= 8
    assert all(pair.texts_agree for pair in pairs)
    off_s = [pair.measured_s - pair.noted_s for pair in pairs]
    assert min(off_s) >= -EARLY_S, "an answer cannot be had before it is written"
    # The rest is the generator's lag, which it tells, and two trips over the loopback.
    lag_s = max(row.lag_max_s for row in run.generator)
    assert statistics.median(off_s) <= lag_s + FRAME_S
    # Answers come out of order here; whoever paired by order would be off by the delay's spread.
    shifted = [abs(one.measured_s - other.noted_s) for one, other in pairwise(pairs)]
    assert statistics.median(shifted) > statistics.median(map(abs, off_s))
    result = result_of(case, done, notes)
    assert result["strays"] == []
    assert result["wrong_words"] == result["finals_missing"] == 0
    assert "| mixed | 4 |" in table([result], "a machine")


@pytest.mark.slow
@pytest.mark.parametrize("freeze", [False, True])
def test_what_was_due_while_the_server_stood_still_includes_it(
    tmp_path: Path, freeze: bool
) -> None:
    stalls = ("--delay", "0.05", "--stall-every", "2", "--stall", "1.5:1.5")
    server = (*stalls, *(["--freeze"] if freeze else []))
    case = Case("stalls", "", server, speakers=4, duration_s=9.0, frozen=freeze)
    done, notes = reference_run(tmp_path, case)
    assert strays(done.run, notes) == []
    pairs = pairs_of(done.run, notes)
    stalled = [pair for pair in pairs if pair.stalled]
    assert stalled, "somebody finished speaking while nothing was answered"
    assert all(pair.measured_s >= pair.paced_s - EARLY_S for pair in pairs)
    longest_s = max(pair.paced_s for pair in stalled)
    assert done.summary["metrics"]["transcription_delay"]["max_observed"] >= longest_s - EARLY_S
    if freeze:
        # The server itself would have told a better story.
        assert sum(pair.noted_s for pair in stalled) < sum(pair.paced_s for pair in stalled)
    assert not math.isinf(longest_s)
