"""The contract of speech-to-text: a `Job` in, a `Hypothesis` out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from rtvc.stt.ladder import Step

AudioArray = NDArray[np.float32]
"""16 kHz mono samples in [-1, 1], shape (samples,)."""

SAMPLE_RATE_HZ = 16_000


class JobKind(StrEnum):
    """What a transcription is for; finals go first."""

    FINAL = "final"
    SPECULATIVE = "speculative"
    PARTIAL = "partial"


@dataclass(frozen=True, slots=True)
class Job:
    """One request to transcribe one stretch of audio."""

    session_id: str
    """The session that asked."""
    item_id: str
    """The utterance the audio belongs to."""
    kind: JobKind
    """Final, speculative or partial."""
    revision: int
    """Counts up within an utterance; an answer with an older revision is stale."""
    audio: AudioArray
    """16 kHz mono, shape (samples,)."""
    enqueued_at_s: float
    """Clock instant at which the session asked."""
    language: str | None = None
    """ISO-639-1, or None: the model's own."""
    prompt: str | None = None
    """Context the model may lean on, or None."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One raw answer of the model for the audio of one job, with what it cost."""

    text: str
    """Stripped text; empty when nothing was said."""
    audio_s: float
    """Seconds of audio transcribed."""
    queue_wait_s: float
    """Enqueued → taken by a worker."""
    features_s: float
    """Log-mel features, or what the engine does in their place."""
    encode_s: float
    """Encoder; 0 if the engine has none of its own."""
    decode_s: float
    """Decoder."""
    batch_size: int
    """Jobs that shared the inference, 1 or more."""
    tokens: int
    """Tokens decoded for this job."""
    no_speech_prob: float | None = None
    """Model's belief that nothing was said; None if it has none."""
    avg_logprob: float | None = None
    """Mean log probability per token; None if unknown."""
    guards: tuple[str, ...] = ()
    """Names of guards that fired (such as "repetition", "no_speech", "runaway")."""


EngineState = Literal["starting", "loading", "warming", "ready", "restarting", "failed", "closed"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One arrangement, tried."""

    workers: int
    """Inferences at once."""
    threads_per_worker: int
    """CPU threads of each."""
    batch: int
    """Jobs in each."""
    batch_s: float
    """Seconds of one batch, while all workers were busy."""

    @property
    def jobs_per_s(self) -> float:
        return self.workers * self.batch / self.batch_s


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What the engine is doing now; shown while loading and in /readyz."""

    state: EngineState
    """Only "ready" takes jobs."""
    progress: float
    """0 to 1, over loading and warming."""
    detail: str
    """One line for a person, such as "warming up: batch 4"."""
    model: str
    """Name as the user knows it: "selftest", "tiny.en", "synthetic:tiny.en", a folder."""
    model_kind: str
    """"whisper", "self-test model", "synthetic weights", "pocketsphinx" or "scripted"."""
    device: str = "cpu"
    """"cpu" or "cuda"."""
    compute_type: str | None = None
    """CTranslate2 compute type; None where it has no meaning."""
    workers: int = 1
    """Inferences that can run at once."""
    threads_per_worker: int = 1
    """CPU threads of one inference."""
    max_batch: int = 1
    """Jobs in one inference at most."""
    trials: tuple[Trial, ...] = ()
    """Arrangements measured at the start; the best one is in use."""
    calibration_s: float | None = None
    """Seconds that measuring took; None: arranged as the user wished."""
    load_s: float | None = None
    """Seconds to load; None until loaded."""
    warm_up_s: float | None = None
    """Seconds to warm up; None until warm."""
    queued: int = 0
    """Jobs waiting."""
    backlog_s: float = 0.0
    """Seconds of audio waiting."""
    restarts: int = 0
    """Times the engine's process was replaced."""
    failed_restarts: int = 0
    """Attempts to replace it that failed."""
    counters: dict[str, int] = field(default_factory=dict)
    """Jobs by outcome: submitted, done, superseded, cancelled, failed, shed; beside them
    retried."""
    notice: str | None = None
    """What the user must know about the model chosen for them; None: nothing."""
    sharing: str = "shared"
    """"shared", "pool" or "per-session"."""
    engines: int = 1
    """Processes with the model loaded."""
    memory_bytes: int | None = None
    """Resident memory of the model's processes; None until measured."""
    partial_interval_s: float = 0.0
    """Seconds between two partials of a session advised now; 0: as often as they like."""
    headroom_sessions: float | None = None
    """Sessions that would still fit within the delay target; None while unknown."""
    degradation: Step = Step.NONE
    """What is given up under overload."""
    degradation_changes: dict[str, int] = field(default_factory=dict)
    """Times each step of it was taken, by its label."""


ReportProgress = Callable[[float, str], None]
"""Takes progress (0 to 1) and one line for a person; may be called from any thread."""


class Transcriber(Protocol):
    """A model inside the engine's process; `transcribe` is called from several threads."""

    device: str
    """"cpu" or "cuda"; "auto" until loaded."""
    compute_type: str | None
    """As loaded; None where it has no meaning."""

    def load(self) -> None:
        """Load the weights.

        Raises:
            ModelError: they cannot be loaded, or not with these settings.
        """

    def warm_up(self, report: ReportProgress) -> None:
        """Run once what the first caller would otherwise wait for."""

    def transcribe(self, jobs: Sequence[Job]) -> list[Hypothesis]:
        """One hypothesis a job, in order; `queue_wait_s` is left at 0 for the engine to fill."""


class Engine(Protocol):
    """One shared engine; all methods are called on the event loop."""

    @property
    def status(self) -> EngineStatus:
        """Current status; cheap, may be polled."""

    @property
    def partial_interval_s(self) -> float:
        """As in the status; cheap enough to be asked at every frame."""

    def on_status(self, listener: Callable[[EngineStatus], None]) -> None:
        """Call `listener` on the event loop at every change of state or progress."""

    async def start(self) -> None:
        """Load and warm up.

        Raises:
            ModelError: the model cannot be found or loaded.
        """

    async def open_session(self, session_id: str) -> None:
        """Have ready what the session needs; nothing is loaded where the model is shared.

        Raises:
            TranscriberError: the session's model cannot be loaded.
        """

    def close_session(self, session_id: str) -> None:
        """Drop the session's jobs, and its model if it has one of its own."""

    async def transcribe(self, job: Job) -> Hypothesis | None:
        """The hypothesis, or None if the job was superseded by a newer one or cancelled.

        Raises:
            TranscriberError: it failed, after one retry where a retry makes sense.
        """

    def cancel_session(self, session_id: str) -> None:
        """Drop every job of a session; their `transcribe` calls return None."""

    async def close(self) -> None:
        """End the engine and its process; pending jobs return None."""
