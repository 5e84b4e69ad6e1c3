"""How soon is the end of a turn noticed, and how often too soon? Offline, on a virtual clock.

    python -m tests.acceptance.endpointing [--clips 200] [--human FOLDER] [--out FILE]

Every clip is heard by the voice session itself, with Silero and the self-test model behind it, once
for each policy. A turn that ends before the annotated end of speech is premature; of the others the
delay from there to the decision is measured. Policies with a turn model need the Smart Turn file
and are left out without it. Recordings are heard without text, and once with PocketSphinx's.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtvc.audio import resample
from rtvc.clock import SystemClock
from rtvc.config import TurnSettings
from rtvc.errors import ModelError
from rtvc.protocol.realtime import default_session
from rtvc.server.sessions.realtime_settings import voice_settings
from rtvc.speech.corpus import Clip, builtin_clips, folder_clips
from rtvc.stt.models import SELFTEST_PATH
from rtvc.stt.pocketsphinx import PocketSphinxTranscriber
from rtvc.stt.transcriber import Job, JobKind, Transcriber
from rtvc.stt.whisper import WhisperTranscriber
from rtvc.voice.endpointing import EndpointingSettings
from rtvc.voice.session import (
    Frame,
    JudgeTurn,
    Purpose,
    SpeechStopped,
    Transcribe,
    VoiceEvent,
    VoiceSession,
    VoiceSettings,
)
from rtvc.voice.silero import SileroModel
from rtvc.voice.turn_model import TurnModel, load_smart_turn
from rtvc.voice.vad import FRAME_SAMPLES, SAMPLE_RATE_HZ

LEAD_S, TRAIL_S = 0.5, 5.0
TEXT_S, JUDGEMENT_S = 0.06, 0.05
"""What a transcript and a judgement take on the virtual clock: two 32 ms frames each."""
NOISE = 1e-4
"""Amplitude of the room: absolute silence does not exist."""

Audio = NDArray[np.float32]
Hear = Callable[[Audio], str]

SERVER_VAD: dict[str, dict[str, Any]] = {
    "unset": {"type": "server_vad"},
    "250 ms": {"type": "server_vad", "silence_duration_ms": 250},
    "500 ms": {"type": "server_vad", "silence_duration_ms": 500},
}
SEMANTIC_VAD: dict[str, dict[str, Any]] = {
    "semantic auto": {"type": "semantic_vad", "eagerness": "auto"},
    "semantic high": {"type": "semantic_vad", "eagerness": "high"},
}


@dataclass(frozen=True)
class Heard:
    """A clip as VAD heard it, the same for every policy."""

    clip: Clip
    """What was said."""
    audio: Audio
    """Lead-in, clip and the silence after it; 16 kHz."""
    probabilities: list[float]
    """Of speech, by frame."""

    @property
    def speech_end_s(self) -> float:
        """On the session's clock."""
        return LEAD_S + self.clip.speech_end_s


@dataclass(frozen=True)
class Outcome:
    """What a policy made of a clip."""

    premature: int
    """Turns that ended before the speech did."""
    delay_s: float | None
    """End of speech → the decision; None: the turn never ended, or ended before."""
    vad_offset_s: float | None
    """VAD's last speech sample, less the annotated end of speech; None as above."""
    judged_complete: bool | None
    """What the turn model said of the true end; None: it was not asked."""


def listen(clip: Clip, model: SileroModel) -> Heard:
    """Judge every frame of a clip."""
    rng = np.random.default_rng(0)
    spoken = resample(clip.audio, clip.rate_hz, SAMPLE_RATE_HZ)
    lead, trail = (np.zeros(round(s * SAMPLE_RATE_HZ), np.float32) for s in (LEAD_S, TRAIL_S))
    audio = np.concatenate([lead, spoken, trail])
    audio += rng.normal(0, NOISE, len(audio)).astype(np.float32)
    frames = audio[: len(audio) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    return Heard(clip, audio, model.session().probabilities(frames))


class Run:
    """One clip through one session; answers come when they are due on the virtual clock."""

    def __init__(self, settings: VoiceSettings, hear: Hear, model: TurnModel | None) -> None:
        numbers = count()
        self._session = VoiceSession(settings, lambda: f"item_{next(numbers)}")
        self._hear = hear
        self._model = model
        self._due: list[tuple[float, Callable[[float], list[VoiceEvent]]]] = []
        self.stopped: list[SpeechStopped] = []

    def feed(self, heard: Heard) -> None:
        """Hear it to the end."""
        for number, probability in enumerate(heard.probabilities):
            at = number * FRAME_SAMPLES
            now_s = (at + FRAME_SAMPLES) / SAMPLE_RATE_HZ
            while self._due and self._due[0][0] <= now_s:
                due_s, answer = self._due.pop(0)
                self._take(answer(due_s), due_s)
            frame = Frame(heard.audio[at : at + FRAME_SAMPLES], probability, now_s)
            self._take(self._session.feed(frame, now_s), now_s)

    def _take(self, events: Sequence[VoiceEvent], now_s: float) -> None:
        for event in events:
            if isinstance(event, SpeechStopped):
                self.stopped.append(event)
            elif isinstance(event, Transcribe) and event.purpose is Purpose.SPECULATIVE:
                self._answer(now_s + TEXT_S, self._transcriber(event))
            elif isinstance(event, JudgeTurn):
                self._answer(now_s + JUDGEMENT_S, self._judge(event))

    def _answer(self, due_s: float, answer: Callable[[float], list[VoiceEvent]]) -> None:
        self._due.append((due_s, answer))
        self._due.sort(key=lambda entry: entry[0])

    def _transcriber(self, request: Transcribe) -> Callable[[float], list[VoiceEvent]]:
        text = self._hear(request.audio)
        key = (request.item_id, request.purpose, request.revision)
        return lambda now_s: self._session.hypothesis(*key, text)

    def _judge(self, request: JudgeTurn) -> Callable[[float], list[VoiceEvent]]:
        assert self._model is not None
        probability = self._model.completeness(request.audio)
        key = (request.item_id, request.revision)
        return lambda now_s: self._session.turn_judged(*key, probability, now_s)


def outcome(heard: Heard, stopped: Sequence[SpeechStopped]) -> Outcome:
    """Judge the ends of the turns that a clip became."""
    end_s = heard.speech_end_s
    premature = sum(event.decided_at_s < end_s for event in stopped)
    if not stopped or stopped[-1].decided_at_s < end_s:
        return Outcome(premature, None, None, None)
    last = stopped[-1]
    said = None if last.judgement is None else last.judgement.probability
    complete = None if said is None else said >= EndpointingSettings().complete_from
    return Outcome(premature, last.decided_at_s - end_s, last.last_speech_at_s - end_s, complete)


def settings_of(detection: dict[str, Any], turn: TurnSettings) -> VoiceSettings:
    """As the server would make them of what a client asks for."""
    patch = {"type": "transcription", "audio": {"input": {"turn_detection": detection}}}
    config = default_session("transcription", "selftest").updated(patch)
    return voice_settings(config, turn, turn_model=True)


def quantile_ms(values: Sequence[float], q: float) -> float | None:
    return round(float(np.quantile(values, q)) * 1000, 1) if values else None


def figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    delays = [o.delay_s for o in outcomes if o.delay_s is not None]
    offsets = [o.vad_offset_s for o in outcomes if o.vad_offset_s is not None]
    judged = [o.judged_complete for o in outcomes if o.judged_complete is not None]
    return {
        "clips": len(outcomes),
        "judged_complete_share": round(sum(judged) / len(judged), 3) if judged else None,
        "premature_share": sum(o.premature > 0 for o in outcomes) / len(outcomes),
        "never_ended": sum(o.delay_s is None for o in outcomes),
        "delay_ms_p50": quantile_ms(delays, 0.5),
        "delay_ms_p95": quantile_ms(delays, 0.95),
        "delay_ms_max": quantile_ms(delays, 1.0),
        "vad_offset_ms_mean": round(float(np.mean(offsets)) * 1000, 1) if offsets else None,
        "vad_offset_ms_p95": quantile_ms(offsets, 0.95),
    }


def policies() -> Iterator[tuple[str, dict[str, Any], TurnModel | None]]:
    """Those with a turn model only if there is one."""
    for name, detection in SERVER_VAD.items():
        yield name, detection, None
    try:
        model = load_smart_turn()
    except ModelError as error:
        sys.stderr.write(f"left out: {', '.join(SEMANTIC_VAD)}: {error}\n")
        return
    for name, detection in SEMANTIC_VAD.items():
        yield name, detection, model


def measure(heard: Sequence[Heard], hear: Hear) -> dict[str, dict[str, Any]]:
    """Figures by policy."""
    found = {}
    for name, detection, model in policies():
        found[name] = figures(outcomes_of(heard, hear, detection, model))
    return found


def outcomes_of(
    heard: Sequence[Heard], hear: Hear, detection: dict[str, Any], model: TurnModel | None
) -> list[Outcome]:
    """What a policy makes of every clip."""
    settings = settings_of(detection, TurnSettings(partials="off"))
    outcomes = []
    for one in heard:
        run = Run(settings, hear, model)
        run.feed(one)
        outcomes.append(outcome(one, run.stopped))
    return outcomes


def no_text(audio: Audio) -> str:
    return ""


def text_of(transcriber: Transcriber) -> Hear:
    """Hears with a model; what was heard once is remembered."""
    known: dict[bytes, str] = {}

    def hear(audio: Audio) -> str:
        key = audio.tobytes()
        if key not in known:
            job = Job("a", "1", JobKind.SPECULATIVE, 1, audio, 0.0)
            known[key] = transcriber.transcribe([job])[0].text
        return known[key]

    return hear


@cache
def selftest() -> Transcriber:
    model = WhisperTranscriber(
        SELFTEST_PATH,
        clock=SystemClock(),
        device="cpu",
        encoder_context="short",
        suppress_blank=False,
    )
    model.load()
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=41)
    parser.add_argument("--human", type=Path)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    vad = SileroModel()
    heard = [listen(clip, vad) for clip in builtin_clips(chosen.clips, seed=chosen.seed)]
    result = {"built-in clips, self-test model": measure(heard, text_of(selftest()))}
    if chosen.human is not None:
        people = [listen(clip, vad) for clip in folder_clips(chosen.human)]
        sphinx = PocketSphinxTranscriber(clock=SystemClock())
        sphinx.load()
        result["recordings, no text"] = measure(people, no_text)
        result["recordings, PocketSphinx"] = measure(people, text_of(sphinx))
    text = json.dumps(result, indent=1) + "\n"
    if chosen.out:
        chosen.out.write_text(text, encoding="utf-8")
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
