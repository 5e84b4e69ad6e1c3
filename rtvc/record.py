"""A run directory: what one run measured, appended row by row, read by every later step.

    run.json  connections.csv  turns.csv  server_turns.csv  samples.csv  generator.csv
    summary.json  report.html

Instants (`*_at_s`) are seconds since the run's start on the load generator's clock, except in
`server_turns.csv`, where they are durations only. `None` (an empty cell) is absent, never 0.
"""

from dataclasses import dataclass


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
    """Why not ok, one line."""
    close_code: int | None
    """WebSocket close code, if there was one."""
    closed_at_s: float | None
    """When it ended."""


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
    """Since the last speech sample arrived."""
    duration_s: float
    """Length of the segment."""
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
    """Process id."""
    speakers: int
    """Speakers connected."""
    frames: int
    """Frames sent in this second."""
    late_frames: int
    """Frames sent more than one frame late."""
    lag_max_s: float
    """Largest actual send − due."""
    lag_histogram: str
    """Sparse counts of lag in 0.1 ms bins, "bin:count bin:count"; histograms add up."""
    cpu_ratio: float | None
    """CPU seconds per second of this process; None if unknown."""
    loop_lag_max_s: float | None
    """Largest oversleep of a 50 ms probe."""
