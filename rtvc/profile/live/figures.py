"""What is shown of a server, as records; nothing here knows where it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rtvc.instruments.gpu import GpuSample
from rtvc.profile.live.window import Times

Tone = Literal["good", "doubtful", "bad", "unknown"]
Verdict = Literal["within", "missed", "undecided", "no turns"]


@dataclass(frozen=True, slots=True)
class Delay:
    """Transcription delay as the server sees it: last speech sample to final transcript sent."""

    times: Times
    """Of the turns that ended in the window."""
    above: int | None
    """Turns above the target; None: the server's buckets do not tell."""
    verdict: Verdict
    """Against the target; undecided: some were above it, and n does not support p95."""


@dataclass(frozen=True, slots=True)
class SessionLine:
    """One open session."""

    id: str
    """Shortened; tells it apart from the others shown."""
    protocol: str
    """What its client speaks."""
    age_s: float | None
    """Since it was opened."""
    state: str
    """speaking, replying, or listening."""
    utterances: int | None
    """Turns ended."""
    backlog_s: float | None
    """Audio that the server has and has not heard yet."""
    unsent: int | None
    """Messages its client has not taken yet."""
    delays_s: tuple[float, ...]
    """Transcription delays of the last turns, the latest last; empty: none yet, or not told."""


@dataclass(frozen=True, slots=True)
class StageLine:
    """One stage of the turns."""

    name: str
    """As in docs/profile/metrics.md."""
    hidden: bool
    """Work done while something else was waited for: it does not count."""
    times: Times
    """Over the turns that had it."""
    per_turn_s: float | None
    """Its sum over the number of turns; None: no turns."""


@dataclass(frozen=True, slots=True)
class QueueLine:
    """One place where something waits."""

    name: str
    """Which one."""
    items: float | None
    """Waiting now; None: not told."""
    backlog_s: float | None
    """Seconds of audio waiting now; None: not told, or no audio."""
    worst_s: float | None
    """Of the session with the most; None: not told."""
    oldest_s: float | None
    """How long the oldest has waited; None: not told, or empty."""
    dropped: float | None
    """Since the server's start; None: not told."""
    history: tuple[float | None, ...]
    """Seconds waiting, or items where seconds are not told, scrape by scrape."""


@dataclass(frozen=True, slots=True)
class JobsLine:
    """The engine's answers of one kind."""

    kind: str
    """final, speculative or partial."""
    n: int
    """Answers in the window."""
    wait: Times
    """Asked for to taken."""
    work: Times
    """Features, encoder and decoder."""
    batch: float | None
    """Jobs that shared an inference, on average; None: no answers."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What transcribes."""

    state: str
    """ready, loading, …; "unknown" if not told."""
    about: Mapping[str, str]
    """Model, kind, device and so on, as the server tells; may be empty."""
    workers: float | None
    """Inferences that can run at once."""
    processes: float | None
    """With the model loaded."""
    restarts: float | None
    """Since the server's start."""
    recent_restarts: float | None
    """Of them in the window."""
    failed: float | None
    """Transcriptions given up in the window."""
    jobs: tuple[JobsLine, ...]
    """By kind."""


@dataclass(frozen=True, slots=True)
class ProcessLine:
    """Processes of one role."""

    role: str
    """server, or engine."""
    processes: float | None
    """Alive."""
    cpu_cores: float | None
    """CPU seconds a second, over the last few seconds."""
    resident_bytes: float | None
    """Memory in RAM."""
    threads: float | None
    """The operating system's."""
    history: tuple[float | None, ...]
    """CPU seconds a second, scrape by scrape."""


@dataclass(frozen=True, slots=True)
class Loop:
    """The server's event loop."""

    lag: Times
    """By how much it woke late, in the window."""
    worst_s: float | None
    """Of the server's last minute."""
    history: tuple[float | None, ...]
    """At most how late it was between one scrape and the next: edges of buckets."""


@dataclass(frozen=True, slots=True)
class GpuLine:
    """One device of this machine."""

    now: GpuSample
    """As last read."""
    busy: tuple[float | None, ...]
    """Share busy, scrape by scrape."""


@dataclass(frozen=True, slots=True)
class View:
    """Everything that is shown."""

    sentence: str
    """For a person, without the rest."""
    tone: Tone
    """How it is."""
    span_s: float
    """Seconds that the figures of what happened are taken over."""
    version: str | None
    """Of the server."""
    ready: bool | None
    """Whether new sessions are taken."""
    open_sessions: float | None
    """Now."""
    max_sessions: float | None
    """At most."""
    headroom: float | None
    """Sessions that would still fit within the delay target; None: unknown."""
    refused: float | None
    """Sessions refused in the window."""
    delay: Delay
    """Against the target."""
    sessions: tuple[SessionLine, ...] | None
    """The oldest first; None: not told."""
    stages: tuple[StageLine, ...]
    """Felt ones in the server's order, then hidden ones; those that occurred."""
    queues: tuple[QueueLine, ...]
    """Way in, inference, way out."""
    engine: Engine
    """What transcribes."""
    loop: Loop
    """The event loop."""
    cpus: float | None
    """CPUs that the server may use."""
    processes: tuple[ProcessLine, ...]
    """By role."""
    gpus: tuple[GpuLine, ...]
    """Devices of this machine, where the server runs on it."""
    restarted_s: float | None
    """Seconds since the server's last restart that was seen; None: none was."""
