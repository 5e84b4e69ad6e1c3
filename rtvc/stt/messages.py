"""What the engine and its process tell each other over their pipe."""

from dataclasses import dataclass
from typing import Literal

from rtvc.stt.calibration import Calibration, Wish
from rtvc.stt.transcriber import Hypothesis, Job, Transcriber


@dataclass(frozen=True, slots=True)
class Load:
    """First message to the process: load this, warm it up, then take work."""

    transcriber: Transcriber
    """Not loaded yet."""
    workers: int
    """Threads that take batches, unless found by measuring."""
    wish: Wish | None = None
    """What to try first; None: the transcriber is arranged already."""
    warm_up_audio_s: float = 0.0
    """Audio of each length up to this is inferred, too, before work is taken; 0: of none."""


@dataclass(frozen=True, slots=True)
class Work:
    """One batch."""

    batch_id: int
    """Comes back with the answer."""
    jobs: tuple[Job, ...]
    """Most urgent first."""


@dataclass(frozen=True, slots=True)
class Progress:
    """While loading and warming up."""

    state: Literal["loading", "warming"]
    """Which of the two."""
    progress: float
    """0 to 1 of the current state."""
    detail: str
    """One line for a person."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The process takes work from now on."""

    device: str
    """As chosen."""
    compute_type: str | None
    """As chosen; None where it has no meaning."""
    load_s: float
    """Seconds to load."""
    warm_up_s: float
    """Seconds to warm up."""
    calibration: Calibration | None = None
    """How the model was arranged; None: as the user wished."""
    lengths_s: float = 0.0
    """Seconds that inferring each length of audio took, before that."""
    lengths_left_out: int = 0
    """Lengths and sizes of batch that there was no time for."""


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """The process cannot be used."""

    message: str
    """One line."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A batch is done."""

    batch_id: int
    """As in `Work`."""
    hypotheses: tuple[Hypothesis, ...]
    """One a job, in order."""
    waited_s: float = 0.0
    """Seconds for which it lay in the process before a worker took it."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A batch raised."""

    batch_id: int
    """As in `Work`."""
    message: str
    """One line."""
    out_of_memory: bool = False
    """Whether the process is better replaced."""


ToProcess = Load | Work
FromProcess = Progress | Ready | LoadFailed | Answered | Failed
