"""A bench run's files: which cells there were, and what each measured in each round.

    run.json  cells/KEY/round-N.json  cells/KEY/failed.json  bench.json  report.html

A cell is one row of the grid. It is measured once a round, in a process of its own that writes one
file when it is done: what is there was measured whole, what is not is measured next time. Texts
are kept raw, so that scoring them anew costs nothing.
"""

from dataclasses import dataclass, field

SCHEMA = 1
"""Of every file here; a reader refuses a newer one."""


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One row of the grid."""

    engine: str
    """"faster-whisper", "faster-whisper-batched", "openai-whisper", "transformers", "whisperx",
    "pocketsphinx"."""
    model: str
    """As the user named it."""
    device: str = "cpu"
    """"cpu" or "cuda"."""
    compute_type: str = "auto"
    """CTranslate2 compute type, or the torch type nearest to it; "auto": the engine's choice."""
    beam: int = 1
    """Width of the beam search."""
    batch: int = 1
    """Utterances, or pieces of a long file, in one inference."""
    context: str = "full"
    """"full" or "short" encoder window; "full" where the engine knows no other."""
    vad_filter: bool = False
    """Whether silence is cut out before the model hears the audio."""
    threads: int = 1
    """CPU threads the process may use."""

    @property
    def key(self) -> str:
        """Name of its folder: letters, digits, dots and dashes.

        >>> Cell("faster-whisper", "synthetic:tiny.en", compute_type="int8", beam=3).key
        'faster-whisper.synthetic-tiny.en.cpu.int8.b3.n1.full.t1'
        """
        model = "".join(c if c.isalnum() or c in ".-_" else "-" for c in self.model).strip("-.")
        vad = ".vad" if self.vad_filter else ""
        return (
            f"{self.engine}.{model}.{self.device}.{self.compute_type}.b{self.beam}.n{self.batch}"
            f".{self.context}.t{self.threads}{vad}"
        )


@dataclass(frozen=True, slots=True)
class Heard:
    """One short turn, transcribed by itself."""

    clip: str
    """Name of the clip."""
    condition: str
    """"clean", or the noise and room it was heard in, such as "babble 10 dB"."""
    audio_s: float
    """Seconds of audio handed in."""
    delay_s: float
    """From handing it in to the text."""
    text: str
    """Raw."""
    reference: str | None
    """What was said; None: unknown."""
    language: str = "en"
    """ISO-639-1 of what was said."""
    guards: tuple[str, ...] = ()
    """Guards that fired."""


@dataclass(frozen=True, slots=True)
class LongFile:
    """One long recording, transcribed whole."""

    clip: str
    """Name."""
    audio_s: float
    """Seconds of audio."""
    seconds: float
    """Wall time to the whole text."""
    text: str
    """Raw."""
    reference: str | None
    """What was said; None: unknown."""
    language: str = "en"
    """ISO-639-1 of what was said."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """One utterance heard as it was spoken, with partials."""

    clip: str
    """Name."""
    audio_s: float
    """Seconds of audio."""
    final_delay_s: float | None
    """End of speech → final text; None: none came."""
    word_latency_s: tuple[float, ...]
    """End of a word → first seen, for each word recognised rightly."""
    corrections: int
    """Words shown that later became others."""
    partials: int
    """Partials shown."""
    last_partial: str
    """The last text shown before the final."""
    text: str
    """Final text, raw."""
    reference: str | None
    """What was said; None: unknown."""
    language: str = "en"
    """ISO-639-1 of what was said."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """Audio in which nobody speaks."""

    kind: str
    """"silence", "white", "pink" …"""
    audio_s: float
    """Seconds."""
    text: str
    """What was made of it; empty is right."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One inference of so many like utterances: the service times a plan is made of."""

    jobs: int
    """Utterances in it."""
    audio_s: float
    """Mean seconds of audio of each."""
    seconds: float
    """Wall time."""
    workers: int = 1
    """Inferences that ran at once."""


@dataclass(frozen=True, slots=True)
class Held:
    """Sessions that the engine alone holds: no network, no server."""

    sessions: int
    """Most that kept the target."""
    fails_at: int | None
    """Fewest that did not; None: not found."""
    target_s: float
    """Seconds from end of speech to final, at p95."""
    p95_s: float | None
    """With `sessions`; None: too few samples."""
    n: int
    """Finals behind that."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes; None: unknown."""

    host_before: int | None = None
    """Resident, before the model was loaded."""
    host_peak: int | None = None
    """Resident, at most."""
    device_before: int | None = None
    """Of the device, before."""
    device_peak: int | None = None
    """Of the device, at most."""


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What one process measured of one cell."""

    cell: Cell
    """Which."""
    round: int
    """Counted from 0."""
    model_kind: str
    """"whisper", "synthetic weights", "self-test model", "random weights", "pocketsphinx"."""
    load_s: float
    """Process imports done → weights loaded."""
    load_is_cold: bool
    """Whether these files were loaded for the first time in this bench (not: since boot)."""
    warm_up_s: float
    """The first inference of each shape, kept apart."""
    heard: tuple[Heard, ...] = ()
    """Short turns."""
    long: tuple[LongFile, ...] = ()
    """Long files."""
    streamed: tuple[Streamed, ...] = ()
    """Streaming path; empty where the engine has none."""
    quiet: tuple[Quiet, ...] = ()
    """Where nobody speaks."""
    batches: tuple[Batch, ...] = ()
    """Service times."""
    held: Held | None = None
    """None: not measured for this engine."""
    memory: Memory = field(default_factory=Memory)
    """Peaks."""
    energy_j: float | None = None
    """Joules of the device while measuring; None: unknown."""
    measured_s: float = 0.0
    """Seconds of measuring, warm-up left out."""
    cpu_s: float = 0.0
    """CPU seconds of the process meanwhile."""
    packages: dict[str, str] = field(default_factory=dict)
    """Versions of what did the work."""
    schema: int = SCHEMA
    """Of this file."""


@dataclass(frozen=True, slots=True)
class CellFailure:
    """Why a cell has no result."""

    cell: Cell
    """Which."""
    kind: str
    """"skipped" (weights or engine not here), "unsupported", "out of memory", "failed", "hung"."""
    reason: str
    """One line for a person, with what to do about it where something can be done."""
    schema: int = SCHEMA
    """Of this file."""
