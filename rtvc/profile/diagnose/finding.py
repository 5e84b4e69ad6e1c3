"""What may be wrong, and what a rule says when it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from rtvc.profile.diagnose.evidence import Evidence, Phase


class Cause(StrEnum):
    """Why transcripts, replies or connections are slow; or that they are not."""

    MODEL_PER_SESSION = "model-per-session"
    DEVICE_CONTENTION = "device-contention"
    INFERENCE_SATURATED = "inference-saturated"
    SERIALISED_INFERENCE = "serialised-inference"
    AUDIO_BACKLOG = "audio-backlog"
    HIDDEN_BACKLOG = "hidden-backlog"
    PARTIALS_STARVING_FINALS = "partials-starving-finals"
    TURN_DETECTOR = "turn-detector"
    ENDPOINT_WAIT = "endpoint-wait"
    BLOCKED_EVENT_LOOP = "blocked-event-loop"
    SLOW_LLM = "slow-llm"
    SLOW_TTS = "slow-tts"
    COLD_START = "cold-start"
    DEVICE_THROTTLING = "device-throttling"
    MEMORY_EXHAUSTION = "memory-exhaustion"
    NETWORK = "network"
    ENGINE_FAILING = "engine-failing"
    GENERATOR_SATURATED = "generator-saturated"
    HEALTHY = "healthy"


Delay = Literal["connection", "transcription delay", "response latency"]
"""Which delay a cause lengthens."""


@dataclass(frozen=True, slots=True)
class Proof:
    """One figure that speaks for a cause."""

    figure: str
    """What was measured, in words."""
    value: float
    """As measured."""
    threshold: float | None
    """What it was compared with; None: it only shows the size."""
    unit: str
    """s, cores, /s, bytes/s, bytes, MHz, or empty for a share or a count."""
    phase: str
    """In which phase."""
    from_s: float
    """Seconds since the diagnosis began."""
    until_s: float
    """Seconds since the diagnosis began."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A cause with its proof and its share."""

    cause: Cause
    """What is wrong."""
    delay: Delay
    """What it lengthens most."""
    share_s: float
    """Seconds of that delay that would go away; never more than was measured."""
    of_s: float
    """That delay, in the mean of the phase in which the share was measured."""
    phase: str
    """Where it was measured."""
    proof: tuple[Proof, ...]
    """The figures."""
    notes: tuple[str, ...] = ()
    """What the evidence cannot tell apart, or what follows from the cause."""
    certain: bool = False
    """Whether it is a fault by itself, whatever it costs now: answers lost, a model a session."""
    weight_s: float | None = None
    """What it is ranked by; None: its share."""

    @property
    def rank_s(self) -> float:
        return self.share_s if self.weight_s is None else self.weight_s


@dataclass
class ProofOf:
    """Collects the figures of one finding."""

    evidence: Evidence
    """Where they come from."""
    items: list[Proof] = field(default_factory=list)
    """So far."""

    def add(
        self,
        phase: Phase,
        figure: str,
        value: float | None,
        threshold: float | None = None,
        unit: str = "s",
    ) -> "ProofOf":
        """An absent value proves nothing and is left out."""
        if value is not None:
            begin_s, end_s = self.evidence.seconds(phase)
            self.items.append(Proof(figure, value, threshold, unit, phase.name, begin_s, end_s))
        return self

    @property
    def all(self) -> tuple[Proof, ...]:
        return tuple(self.items)


@dataclass(frozen=True, slots=True)
class Remedy:
    """What a person can do."""

    fix: str
    """For rtvc's own server."""
    fork: str | None
    """For a RealtimeVoiceChat fork, where that differs."""
    why: str
    """Why the gain is to be expected."""


REMEDIES: Mapping[Cause, Remedy] = {
    Cause.MODEL_PER_SESSION: Remedy(
        "rtvc serve --sharing shared: one engine, loaded before the first caller",
        "construct the recorder and its model once at start-up, not in the WebSocket handler",
        "nothing is loaded while a caller waits, and copies stop contending for the device",
    ),
    Cause.DEVICE_CONTENTION: Remedy(
        "move the other programs off this CPU or GPU, or give the server one of its own",
        None,
        "at most what the others use of the device goes to the server instead",
    ),
    Cause.INFERENCE_SATURATED: Remedy(
        "a smaller model, int8, a short encoder context, larger batches, or a faster device",
        "a smaller model or compute_type=int8; beam_size=1; or fewer callers a machine",
        "jobs stop waiting once they come slower than the device answers them",
    ),
    Cause.SERIALISED_INFERENCE: Remedy(
        "let inferences run together: more workers, or batches across sessions",
        "remove the lock around transcribe, raise num_workers, or batch across sessions",
        "the device had room while jobs waited for one another",
    ),
    Cause.AUDIO_BACKLOG: Remedy(
        "hear audio faster than it comes: fewer sessions, or a CPU for the VAD thread",
        "read and feed audio in a thread of its own; drop no audio, but bound the queue",
        "speech is heard late by what lies before it in the queue",
    ),
    Cause.HIDDEN_BACKLOG: Remedy(
        "find the buffer before the server's first stamp (rtvc profile doctor) and shorten it",
        "bound the audio queues in seconds, not in chunks, and shorten the recorder's buffers",
        "every sample waits in it, at any load",
    ),
    Cause.PARTIALS_STARVING_FINALS: Remedy(
        "rtvc serve --partials adaptive: fewer partials when finals wait",
        "raise realtime_processing_pause, or use a smaller realtime model of its own",
        "finals alone would keep the engine far from full",
    ),
    Cause.TURN_DETECTOR: Remedy(
        "turn_detection of type server_vad, or a faster device for the turn model",
        "ask the turn model once a pause, off the audio thread, and put a limit on its answer",
        "the turn waited for nothing but the judgement",
    ),
    Cause.ENDPOINT_WAIT: Remedy(
        "a shorter --silence-ms or silence_duration_ms, or unset (250 ms)",
        "lower post_speech_silence_duration and the turn detector's longest pause",
        "it is a policy: no compute hides in it",
    ),
    Cause.BLOCKED_EVENT_LOOP: Remedy(
        "find the blocking call (rtvc profile cpu --url URL) and move it to a thread",
        "wrap synchronous calls of the handlers in asyncio.to_thread",
        "all sessions stand still while one call holds the loop",
    ),
    Cause.SLOW_LLM: Remedy(
        "a faster language model, a shorter prompt, or one kept loaded near the server",
        None,
        "nothing is spoken before its first sentence",
    ),
    Cause.SLOW_TTS: Remedy(
        "a faster voice, synthesis in smaller pieces, or one kept warm near the server",
        None,
        "nothing is heard before its first audio",
    ),
    Cause.COLD_START: Remedy(
        "warm up before taking callers, and keep models loaded over pauses",
        "transcribe a second of audio at start-up; raise the keep-alive of the models",
        "later turns of the same sessions were that much quicker",
    ),
    Cause.DEVICE_THROTTLING: Remedy(
        "cool the device, raise its power limit, or leave burstable machines",
        None,
        "the same work took longer the longer it ran",
    ),
    Cause.MEMORY_EXHAUSTION: Remedy(
        "find what is kept (rtvc profile doctor, memray) and bound it; set a memory limit",
        "close the recorder and its threads when a socket closes",
        "memory runs out: the process swaps or is killed",
    ),
    Cause.NETWORK: Remedy(
        "serve nearer to the callers, or repair the link",
        None,
        "every message pays the way, before any work",
    ),
    Cause.ENGINE_FAILING: Remedy(
        "read the server's output: it tells the reason of each restart (crash, hang, deadline)",
        "log and rethrow what the transcription thread raises; restart it when it ends",
        "turns that meet a failure wait for a restart and a second try",
    ),
    Cause.GENERATOR_SATURATED: Remedy(
        "run the load test on another machine, or with fewer speakers",
        None,
        "its own lateness is in every figure",
    ),
}
"""Cause → what to do."""
