"""Runs made up from a seed, as a load test would record them: for tests of what reads runs."""

import math
import random
from pathlib import Path
from typing import Any

from rtvc.clock import FakeClock
from rtvc.record import (
    ConnectionRow,
    GeneratorRow,
    Machine,
    Manifest,
    Run,
    RunWriter,
    SampleRow,
    ServerTurnRow,
    TurnRow,
    load_run,
    new_manifest,
)
from rtvc.stats import Histogram

MACHINE = Machine("Imaginary CPU @ 3 GHz", 8, 34_359_738_368, "Linux-6.8", "3.11.9", ("A GPU",))

SENTENCES = (
    "please move the meeting to seven tomorrow",
    "what is the weather like in the mountains",
    "turn on the green light near the window",
    "i would like to order two coffees and a tea",
    "how long does the train take from here",
)


def a_manifest(**more: Any) -> Manifest:
    known: dict[str, Any] = {
        "machine": MACHINE,
        "url": "ws://127.0.0.1:8000/v1/realtime",
        "protocol": "realtime",
        "model": "base.en",
        "model_kind": "whisper",
        "corpus": "synthetic",
        "corpus_hash": "5b1f0c",
        "settings": {"speakers": 4, "duration_s": 60, "scenario": "conversation"},
    }
    command = ["rtvc", "loadtest", "ws://127.0.0.1:8000/v1/realtime"]
    return new_manifest(command, FakeClock(1_795_000_000), **{**known, **more})


def a_connection(speaker: int = 0, **more: Any) -> ConnectionRow:
    values: dict[str, Any] = {
        "speaker": speaker,
        "session_id": f"sess_{speaker}",
        "opened_at_s": 0.1 * speaker,
        "handshake_s": 0.004,
        "setup_s": 0.016,
        "connection_s": 0.02,
        "outcome": "ok",
        "reason": None,
        "close_code": 1000,
        "closed_at_s": 60.0,
    }
    return ConnectionRow(**{**values, **more})


def a_turn(speaker: int = 0, utterance: int = 0, **more: Any) -> TurnRow:
    start = float(more.pop("start", 5.0 * utterance + 1.0))
    delay = more.get("transcription_delay_s", 0.3)
    reply = more.get("response_latency_s", 0.8)
    end = start + 2.0
    values: dict[str, Any] = {
        "speaker": speaker,
        "session_id": f"sess_{speaker}",
        "item_id": f"item_{speaker}_{utterance}",
        "utterance": utterance,
        "kind": "utterance",
        "voice": "en-us",
        "text": SENTENCES[(speaker + utterance) % len(SENTENCES)],
        "heard": SENTENCES[(speaker + utterance) % len(SENTENCES)],
        "speech_start_at_s": start,
        "first_word_end_at_s": start + 0.3,
        "speech_end_at_s": end,
        "first_partial_at_s": start + 0.8,
        "final_at_s": None if delay is None else end + delay,
        "finals": 0 if delay is None else 1,
        "premature_finals": 0,
        "reply_first_audio_at_s": None if reply is None else end + reply,
        "reply_last_audio_at_s": None if reply is None else end + reply + 1.1,
        "reply_expected": reply is not None,
        "interrupted_reply": False,
        "barge_in_stop_at_s": None,
        "time_to_first_partial_s": 0.5,
        "transcription_delay_s": delay,
        "response_latency_s": reply,
        "barge_in_latency_s": None,
        "substitutions": 0,
        "deletions": 0,
        "insertions": 0,
        "reference_words": 8,
        "cross_talk_words": 0,
        "warm_up": False,
    }
    return TurnRow(**{**values, **more})


def a_second(at_s: float = 1.0, **more: Any) -> GeneratorRow:
    values: dict[str, Any] = {
        "at_s": at_s,
        "process": 4242,
        "speakers": 4,
        "frames": 200,
        "late_frames": 0,
        "lag_max_s": 0.0012,
        "lag_histogram": "2:120 5:70 11:10",
        "cpu_ratio": 0.12,
        "loop_lag_max_s": 0.002,
    }
    return GeneratorRow(**{**values, **more})


def server_turn(turn: TurnRow, delay_s: float, reply_s: float | None) -> list[ServerTurnRow]:
    """The turn taken apart, its segments contiguous, one piece of hidden work beside them."""
    parts = {"vad_delay": 0.1, "endpoint_wait": 0.5, "queue_wait": 0.15, "features": 0.03}
    parts |= {"encode": 0.1, "decode": 0.1, "emit": 0.02}
    shares = {name: share * delay_s for name, share in parts.items()}
    rows = _contiguous(turn, "transcript", shares)
    rows.append(_segment(turn, "transcript", "decode", 0.15 * delay_s, 0.2 * delay_s, True))
    if reply_s is not None:
        rest = reply_s - delay_s
        shares |= {"llm_ttft": 0.6 * rest, "tts_ttfb": 0.35 * rest, "send": 0.05 * rest}
        rows += _contiguous(turn, "reply", shares)
    return rows


def _contiguous(turn: TurnRow, stage: str, shares: dict[str, float]) -> list[ServerTurnRow]:
    rows, at = [], 0.0
    for name, length in shares.items():
        rows.append(_segment(turn, stage, name, at, length, False))
        at += length
    return rows


def _segment(
    turn: TurnRow, stage: str, name: str, start: float, length: float, hidden: bool
) -> ServerTurnRow:
    ids = (turn.session_id or "", turn.item_id or "")
    return ServerTurnRow(*ids, stage, name, start, length, hidden)


def write_run(
    folder: Path,
    *,
    speakers: int = 4,
    duration_s: float = 60.0,
    seed: int = 7,
    typical_delay_s: float = 0.3,
    manifest: Manifest | None = None,
) -> Run:
    """A lively run: turn-taking, a missing final, a cut utterance, some word errors."""
    rng, clock = random.Random(seed), FakeClock()
    with RunWriter(folder, manifest or a_manifest(), clock) as writer:
        for speaker in range(speakers):
            closed = duration_s - rng.random()
            took = rng.uniform(0.015, 0.05)
            writer.append(
                a_connection(speaker, closed_at_s=closed, connection_s=took, setup_s=took - 0.004)
            )
            _speak(writer, rng, speaker, duration_s, typical_delay_s)
        for second in range(1, int(duration_s) + 1):
            writer.append(*_one_second(rng, float(second), speakers))
        clock.advance(duration_s)
    return load_run(folder)


def _speak(
    writer: RunWriter, rng: random.Random, speaker: int, duration_s: float, typical_s: float
) -> None:
    at, utterance = 0.4 + rng.random() * 3, 0
    while at + 6 < duration_s:
        delay = typical_s * math.exp(rng.gauss(0, 0.22))
        reply = delay + rng.uniform(0.3, 0.6)
        seen: dict[str, Any] = {
            "start": at,
            "transcription_delay_s": delay,
            "response_latency_s": reply,
            "warm_up": utterance == 0,
        }
        turn = a_turn(speaker, utterance, **{**seen, **_mishap(rng, speaker, utterance)})
        writer.append(turn)
        if turn.final_at_s is not None:
            writer.append(*server_turn(turn, delay - 0.01, reply))
        at = turn.speech_end_at_s + reply + 1.1 + rng.uniform(0.4, 1.5)
        utterance += 1


def _mishap(rng: random.Random, speaker: int, utterance: int) -> dict[str, Any]:
    text = SENTENCES[(speaker + utterance) % len(SENTENCES)]
    if (speaker, utterance) == (1, 3):
        silence = {"transcription_delay_s": None, "final_at_s": None, "finals": 0, "heard": None}
        counts = {"substitutions": None, "deletions": None, "insertions": None}
        return {**silence, **counts, "item_id": None}
    if (speaker, utterance) == (2, 4):
        return {"premature_finals": 1, "finals": 2}
    if rng.random() < 0.12:
        words = text.split()
        heard = [*words[:1], "<b>", *words[2:-1]]
        return {"heard": " ".join(heard), "substitutions": 1, "deletions": 1}
    return {}


def _one_second(rng: random.Random, at_s: float, speakers: int) -> list[GeneratorRow | SampleRow]:
    lag = Histogram()
    for _ in range(50 * speakers):
        lag.add(rng.expovariate(1 / 0.0006))
    busy = 40 + 30 * math.sin(at_s / 9) + rng.uniform(-5, 5)
    return [
        a_second(
            at_s,
            speakers=speakers,
            frames=50 * speakers,
            lag_histogram=lag.text(),
            lag_max_s=lag.maximum,
            cpu_ratio=0.1 + rng.random() * 0.05,
        ),
        SampleRow(at_s, "server", "gpu_busy_percent", busy),
        SampleRow(at_s, "server", "queue_depth", float(rng.randint(0, 3))),
    ]
