"""The figures of one run: what `summarize` makes, and all that is judged, compared and drawn."""

from dataclasses import dataclass, field

from rtvc.record import StepRow

METRICS = (
    "connection",
    "transcription_delay",
    "time_to_first_partial",
    "partial_interval",
    "word_latency",
    "response_latency",
    "barge_in_latency",
    "generator_lag",
)
"""Every timed metric, in the order in which people ask."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One timed metric over the run."""

    n: int
    """Samples, missing ones included where they count as infinite."""
    missing: int
    """Answers that never came."""
    p50: float | None
    """Seconds; None where n does not support it."""
    p90: float | None
    """Seconds; None where n does not support it."""
    p95: float | None
    """Seconds; None where n does not support it."""
    p95_low: float | None
    """Seconds: 95 % confidence interval of p95; None where n does not support it."""
    p95_high: float | None
    """Seconds: its other end."""
    p99: float | None
    """Seconds; None where n does not support it."""
    max: float | None
    """Seconds; None without samples, infinite if one is."""
    max_observed: float | None
    """Seconds: largest of the answers that came; None if none did."""
    mean: float | None
    """Seconds; infinite if one sample is."""
    at_least: dict[str, float] = field(default_factory=dict)
    """Seconds, by quantile that n does not support: it is no less, at 99 %; if that is known."""
    min: float | None = None
    """Seconds; None without samples."""
    more: dict[str, float] = field(default_factory=dict)
    """Seconds, by quantiles that are asked for less often; those that n supports."""

    def aggregate(self, name: str) -> float | None:
        """Seconds: the figure of that name, "p95" or "max"; None where n does not support it."""
        if name in _OWN_FIELDS:
            value: float | None = getattr(self, name)
            return value
        return self.more.get(name)


_OWN_FIELDS = frozenset({"p50", "p90", "p95", "p99", "min", "max", "mean"})


@dataclass(frozen=True, slots=True)
class Reason:
    """Why attempts to connect were not ok."""

    outcome: str
    """"refused", "failed" or "lost"."""
    reason: str
    """One line."""
    times: int
    """Attempts that ended so."""
    failure: str | None = None
    """A name of `rtvc.failures`; None in older runs."""


@dataclass(frozen=True, slots=True)
class Connections:
    """Attempts to connect, by how they ended; refused is not failed."""

    attempts: int
    """All of them."""
    ok: int
    """Usable and closed by us."""
    refused: int
    """Told to come back later (503 or 1013)."""
    failed: int
    """Never usable."""
    lost: int
    """Closed by the server mid-run."""
    concurrent: int
    """Largest number of sessions open at once."""
    reasons: list[Reason] = field(default_factory=list)
    """Why those that were not ok were not, the most frequent first."""
    complaint: str | None = None
    """The first thing the server complained of in a session; None if it did not."""

    @property
    def usable(self) -> int:
        """Those that came to be a session."""
        return self.ok + self.lost


@dataclass(frozen=True, slots=True)
class Utterances:
    """What was spoken and what came back."""

    spoken: int
    """Utterances, interruptions included, warm-up left out."""
    warm_up: int
    """Utterances left out."""
    interruptions: int
    """Spoken over a reply."""
    finals_missing: int
    """Utterances without a final transcript."""
    premature_finals: int | None
    """Finals that came while their utterance went on; None if not observable."""
    cut_utterances: int | None
    """Utterances with at least one premature final; None if not observable."""
    premature_share: float | None
    """cut_utterances ÷ spoken; None if nothing was spoken, or not observable."""
    replies_expected: int | None
    """Utterances that a reply should have followed; None if not observable."""
    replies_missing: int | None
    """Replies that never came; None if not observable."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Word errors, pooled over utterances; a missing final loses all its words."""

    utterances: int
    """Utterances scored."""
    unscored: int
    """Utterances whose text could not be observed."""
    reference_words: int
    """Words spoken, after normalisation."""
    substitutions: int
    """Words replaced."""
    deletions: int
    """Words lost."""
    insertions: int
    """Words invented."""
    wer: float | None
    """(S + D + I) ÷ reference words, may exceed 1; None without reference words."""
    cross_talk_words: int | None
    """Words of one speaker found in another's transcript; None if no text is observable."""
    cross_talk_turns: int | None
    """Utterances with at least one such word; None if no text is observable."""
    first_words_lost: int | None = None
    """Utterances whose first word was not heard; None if nobody looked."""
    last_words_lost: int | None = None
    """Utterances whose last word was not heard; None if nobody looked."""
    hallucinated_finals: int | None = None
    """Finals with text in sessions in which nothing had been said; None if nobody looked."""
    hallucinated_words: int | None = None
    """Words in them; None if nobody looked."""
    hallucinated_partials: int | None = None
    """Texts that might still change, in such sessions; None if nobody looked."""


@dataclass(frozen=True, slots=True)
class Errors:
    """What went wrong among what was asked for."""

    count: int
    """Connections refused, failed or lost, finals missing, replies missing."""
    attempts: int
    """Connection attempts, utterances, replies expected."""
    rate: float | None
    """count ÷ attempts; None without attempts."""


@dataclass(frozen=True, slots=True)
class Goodput:
    """What was served well: within every target that an utterance, or a connection, can meet."""

    utterances: int
    """Utterances judged."""
    good: int
    """Those answered, and within every target on a single utterance."""
    share: float | None
    """good ÷ utterances; None without utterances."""
    throughput_per_s: float | None
    """Utterances a second that got their final transcript; None if the length is unknown."""
    goodput_per_s: float | None
    """Good ones a second; None if the length is unknown."""
    speakers: int
    """Speakers judged: those who tried to connect."""
    good_speakers: int
    """Those whose connection and every utterance was good, and who said something."""
    speakers_share: float | None
    """good_speakers ÷ speakers; None without speakers."""


@dataclass(frozen=True, slots=True)
class Generator:
    """Whether the load generator kept up; if not, the run proves nothing."""

    valid: bool
    """Lag p99 within one frame, CPU within its limit."""
    reason: str | None
    """Why not valid; None if valid."""
    frames: int
    """Frames sent."""
    late_frames: int
    """Frames sent more than one frame late."""
    late_share: float | None
    """late_frames ÷ frames; None without frames."""
    lag_p99: float | None
    """Seconds; None without frames."""
    cpu_p95: float | None
    """CPU seconds per second of the busiest process, p95 of its seconds; None if unknown."""
    loop_lag_max: float | None
    """Seconds: largest oversleep of the loop probe; None if unknown."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of the server's turns."""

    stage: str
    """"transcript" or "reply"."""
    name: str
    """As the server named it."""
    hidden: bool
    """Hidden by speculation: shown apart, not part of the sum."""
    wait: bool
    """Whether nothing was computed for the turn meanwhile."""
    n: int
    """Turns with this segment."""
    p50: float | None
    """Seconds; None where n does not support it."""
    p95: float | None
    """Seconds; None where n does not support it."""
    max: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A turn whose length is typical of one quantile, taken apart; its parts add up.

    Quantiles of segments do not add up, so the segments are averaged over the turns whose
    length is nearest in rank to the quantile (the middle one and 2.5 % of turns either side).
    """

    stage: str
    """"transcript" or "reply"."""
    label: str
    """"p50", "p95" or "max", of the turn's length."""
    n: int
    """Turns in this stage."""
    turns: int
    """Turns averaged."""
    total_s: float
    """Sum of the segments."""
    segments: dict[str, float]
    """Seconds by segment, in order."""
    hidden: dict[str, float]
    """Seconds of hidden work by segment, in order."""


@dataclass(frozen=True, slots=True)
class Summary:
    """All that is judged, compared and drawn of a run."""

    schema_version: int
    """Version of this structure."""
    started_at: str
    """UTC, ISO 8601."""
    duration_s: float | None
    """Length of the run; None if nothing was recorded."""
    cut_off: bool
    """Whether the run ended before its time: it was interrupted, or never closed."""
    speakers: int
    """Simulated speakers that tried to connect."""
    model: str | None
    """As the server named it; None if it did not say."""
    model_kind: str | None
    """What it is, in words; None if the server did not say."""
    self_test: bool
    """Whether the figures come from the self-test model."""
    metrics: dict[str, Metric]
    """By name, one for each of METRICS."""
    connections: Connections
    """Attempts to connect."""
    utterances: Utterances
    """What was spoken and what came back."""
    accuracy: Accuracy
    """Word errors and cross-talk."""
    errors: Errors
    """What went wrong."""
    generator: Generator
    """Whether the load generator kept up."""
    segments: list[Segment]
    """Server time by segment; empty if the server sends none."""
    stacks: list[Stack]
    """Typical turns taken apart; empty if the server sends none."""
    steps: list[StepRow] = field(default_factory=list)
    """Steps of a search for the capacity; the other figures are those of one of them."""
    interrupted: bool = False
    """Whether somebody stopped the run: then nothing is judged."""
    planned_duration_s: float | None = None
    """Seconds that were to be measured after the warm-up; None if that was left open."""
    measured_s: float | None = None
    """Seconds that were; None if nothing was recorded."""
    scenario: str | None = None
    """What the speakers did; None if not recorded."""
    url: str | None = None
    """The server; None if not recorded."""
    protocol: str | None = None
    """Wire protocol spoken; None if not recorded."""
    ready: str | None = None
    """How sessions are known to be usable: "message" or "inferred"; None if not recorded."""
    not_observable: list[str] = field(default_factory=list)
    """What the protocol cannot show, named as objectives name it."""
    failures: dict[str, int] = field(default_factory=dict)
    """How often what went wrong, by its name in `rtvc.failures`, the most frequent first."""
    goodput: Goodput | None = None
    """What met its targets; None where the targets were not known."""
    aborted: str | None = None
    """The objective that ended the run before its time; None: none did."""
