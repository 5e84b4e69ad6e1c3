"""What is recorded, row by row: one class for each file of a run directory."""

from dataclasses import dataclass
from typing import TypeVar


@dataclass(frozen=True, slots=True)
class ConnectionRow:
    """One attempt of one speaker to connect."""

    speaker: int
    """Number of the simulated speaker, from 0."""
    session_id: str | None
    """As the server named it; None if it never did."""
    opened_at_s: float
    """Just before TCP connect."""
    handshake_s: float | None
    """TCP connect → HTTP 101; None if it failed."""
    setup_s: float | None
    """HTTP 101 → the session is usable; None if it failed."""
    connection_s: float | None
    """Connection time: before TCP connect → usable; None if it failed."""
    outcome: str
    """"ok", "refused" (503 or 1013), "failed" or "lost" (closed by the server mid-run)."""
    reason: str | None
    """Why not ok, one line; of a session that was, the first thing the server complained of."""
    close_code: int | None
    """WebSocket close code, if there was one."""
    closed_at_s: float | None
    """When it ended."""
    failure: str | None = None
    """Why not ok, a name of `rtvc.failures` that stays the same; None if ok."""


@dataclass(frozen=True, slots=True)
class TurnRow:
    """One utterance as the client saw it. `s(a)`: the instant at which offset a was spoken."""

    speaker: int
    """Number of the simulated speaker."""
    session_id: str | None
    """Joins with server_turns.csv."""
    item_id: str | None
    """The last item the utterance became; joins with server_turns.csv."""
    utterance: int
    """Number of the utterance within its speaker, from 0."""
    kind: str
    """"utterance" or "interruption" (spoken over a reply)."""
    voice: str
    """Voice or file it was spoken with."""
    text: str
    """What was said (the corpus's text)."""
    heard: str | None
    """Final transcript(s), joined; None if no final came."""
    speech_start_at_s: float
    """s(start of the first word)."""
    first_word_end_at_s: float
    """s(end of the first word)."""
    speech_end_at_s: float
    """s(a_eos), the annotated true end of speech."""
    first_partial_at_s: float | None
    """First partial (or final) holding text received."""
    final_at_s: float | None
    """Last final transcript received; None: missing, counts as infinite."""
    finals: int
    """Finals received for this utterance."""
    premature_finals: int
    """Finals of utterances that went on: received before the last one, or before s(a_eos)."""
    reply_first_audio_at_s: float | None
    """First reply sample received."""
    reply_last_audio_at_s: float | None
    """Last reply sample received."""
    reply_expected: bool
    """Whether a reply was asked for and not interrupted before it began."""
    interrupted_reply: bool
    """Whether this utterance was spoken over a reply."""
    barge_in_stop_at_s: float | None
    """Last reply sample received after the interruption began; None if none was interrupted."""
    time_to_first_partial_s: float | None
    """s(first word's end) → first partial."""
    transcription_delay_s: float | None
    """s(a_eos) → last final."""
    response_latency_s: float | None
    """s(a_eos) → first reply sample received."""
    barge_in_latency_s: float | None
    """s(first word of the interruption) → last reply sample received."""
    substitutions: int | None
    """Word errors of `heard` against `text`; None if not observable."""
    deletions: int | None
    """Words lost."""
    insertions: int | None
    """Words invented."""
    reference_words: int
    """Words in `text` after normalisation."""
    cross_talk_words: int
    """Words of another speaker's concurrent utterance found in `heard` and not in `text`."""
    warm_up: bool
    """Left out of the summary."""
    partial_interval_s: float | None = None
    """Median time between visible texts while talking; None: none came, or too short to tell."""
    first_word_lost: bool | None = None
    """Whether the first word said is missing in `heard`; None without one."""
    last_word_lost: bool | None = None
    """Whether the last word said is missing in `heard`; None without one."""
    word_ends: str | None = None
    """JSON: seconds since s(start of speech) at which each word of `text` was over; None for
    recordings, whose word times nobody knows."""
    shown: str | None = None
    """What was to be read and when, in seconds since s(start of speech), as `encode_shown` writes
    it; None if nothing was, or if nobody kept it."""


@dataclass(frozen=True, slots=True)
class ServerTurnRow:
    """One segment of one turn as the server timed it; the segments of a turn are contiguous."""

    session_id: str
    """The server's session."""
    item_id: str
    """The utterance."""
    stage: str
    """"transcript" or "reply"."""
    segment: str
    """vad_delay, endpoint_wait, queue_wait, features, encode, decode, emit, llm_ttft, …"""
    start_s: float
    """Since the last speech sample arrived; negative for what came before."""
    duration_s: float
    """Length of the segment; negative for a vad_offset where speech was heard to end early."""
    hidden: bool
    """Work hidden by speculation: shown, not counted in the sum."""


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One reading of one gauge."""

    at_s: float
    """When."""
    source: str
    """"server" or "generator"."""
    name: str
    """Metric name with its unit."""
    value: float
    """The reading."""


@dataclass(frozen=True, slots=True)
class GeneratorRow:
    """The load generator watching itself, one row a second and process."""

    at_s: float
    """End of the second."""
    process: int
    """Process id; 0: several generators, added up."""
    speakers: int
    """Speakers connected."""
    frames: int
    """Frames sent in this second."""
    late_frames: int
    """Frames sent more than 20 ms late."""
    lag_max_s: float
    """Largest actual send − due."""
    lag_histogram: str
    """Sparse counts of lag in 0.1 ms bins, "bin:count bin:count"; histograms add up."""
    cpu_ratio: float | None
    """CPU seconds per second of this process; None if unknown."""
    loop_lag_max_s: float | None
    """Largest oversleep of a 50 ms probe."""


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step of a search for the largest load that meets the targets."""

    step: int
    """Number of the step, from 0."""
    speakers: int
    """Concurrent speakers wanted."""
    purpose: str
    """"climb", "bisect" or "confirm"."""
    ordered_at_s: float
    """Speakers began to come or go."""
    measured_from_s: float | None
    """Speech from here on counts; None if it never came to that."""
    measured_until_s: float
    """End of the last utterance that counts, with its final."""
    outcome: str
    """"passed", "failed", "void" (the generator was saturated) or "undecided"."""
    reason: str | None
    """Why not passed, one line."""
    binding: str | None
    """What held it back, as far as the server tells: "inference", "turn policy", …"""
    stopped_early: bool
    """Whether it was decided before its measuring time was over."""
    utterances: int
    """Utterances that count."""
    errors: int
    """Connections refused, failed or lost, finals and replies missing."""
    cut_utterances: int
    """Utterances with a premature final."""
    delay_p50_s: float | None
    """Transcription delay; None where the utterances do not support it."""
    delay_p95_s: float | None
    """Transcription delay; None where the utterances do not support it."""
    delay_max_s: float | None
    """Largest transcription delay; infinite if a final is missing; None without utterances."""
    partial_interval_p50_s: float | None
    """Time between visible texts while talking; None if unknown."""
    trend: float | None
    """Seconds of delay added per second of the step; None if there is no upward trend."""
    lag_p99_s: float | None
    """The generator's own lag."""
    throughput_per_s: float | None = None
    """Utterances a second that got their final transcript; None if unknown."""
    goodput_per_s: float | None = None
    """Utterances a second within every target on a single utterance; None if unknown."""
    goodput_share: float | None = None
    """Share of utterances within every such target; None without utterances."""
    good_speakers: int | None = None
    """Speakers of whom every utterance was; None if unknown."""
    evidence: str | None = None
    """What the server's metrics said of the cause, or that it has none; None if not asked."""


Row = ConnectionRow | TurnRow | ServerTurnRow | SampleRow | GeneratorRow | StepRow
RowT = TypeVar("RowT", ConnectionRow, TurnRow, ServerTurnRow, SampleRow, GeneratorRow, StepRow)

FILES: dict[type[Row], str] = {
    ConnectionRow: "connections.csv",
    TurnRow: "turns.csv",
    ServerTurnRow: "server_turns.csv",
    SampleRow: "samples.csv",
    GeneratorRow: "generator.csv",
    StepRow: "steps.csv",
}
"""Where rows of each kind live."""
