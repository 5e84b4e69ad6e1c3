"""The log reader, held to logs of one client whose every instant is known."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.profile.logs.lines import Kind, parse_line
from rtvc.profile.logs.reader import CHUNK_S, HIDDEN_CHUNK_S
from rtvc.profile.logs.summary import LoggedTurn, LogSummary, Samples
from rtvc.stats import Quantile
from tests.voice_log_checks import log_of, near, read, same_quantiles
from tests.voice_log_writer import (
    RESOLUTIONS_S,
    LogWriter,
    Stamper,
    connect,
    fault,
    hourless,
    one_speaker,
    one_turn,
    queue_full,
    timeless,
)

# RealtimeVoiceChat, one client.


@pytest.mark.parametrize("colours", [True, False])
@pytest.mark.parametrize("stamp", RESOLUTIONS_S, ids=lambda stamp: stamp.__name__)
def test_every_figure_is_within_the_logs_resolution(stamp: Stamper, colours: bool) -> None:
    writer = one_speaker(seed=7, turns=130)
    truth, within_s = writer.truth, RESOLUTIONS_S[stamp]
    summary = read(writer.realtimevoicechat(stamp, colours=colours))
    turns = truth.turns
    expected = {
        "policy_wait": [turn.policy_wait_s for turn in turns],
        "endpoint_wait": [turn.endpoint_s - turn.speech_end_s for turn in turns],
        "final": [turn.final_s - turn.endpoint_s for turn in turns],
        "speech_to_final": [turn.final_s - turn.speech_end_s for turn in turns],
        "ttft": truth.ttfts_s,
        "ttfa": [turn.ttfa_s for turn in turns],
        "total": [turn.total_s for turn in turns],
        "partial_gap": truth.partial_gaps_s,
        "abort": truth.aborts_s,
        "model_load": truth.loads_s,
    }
    for name, values_s in expected.items():
        same_quantiles(summary.figures[name], values_s, within_s)
    assert {name for name, pair in summary.figures.items() if pair} == set(expected)
    assert summary.resolution_s is not None
    assert summary.resolution_s <= within_s
    assert near(summary.span_s, truth.last_s, within_s)


@pytest.mark.parametrize("seed", range(5))
def test_every_turn_is_within_the_logs_resolution(seed: int) -> None:
    writer = one_speaker(seed, turns=40)
    summary = read(writer.realtimevoicechat())
    assert summary.turns == len(summary.last_turns) == 40
    assert summary.mixed_turns == 0
    for turn, truth in zip(summary.last_turns, writer.truth.turns, strict=True):
        assert turn.policy_wait_s == truth.policy_wait_s
        assert near(turn.endpoint_wait_s, truth.endpoint_s - truth.speech_end_s, 0.01)
        assert near(turn.final_s, truth.final_s - truth.endpoint_s, 0.01)
        assert near(turn.speech_to_final_s, truth.final_s - truth.speech_end_s, 0.01)
        assert turn.ttft_s == truth.ttft_s
        assert turn.ttfa_s == truth.ttfa_s
        assert near(turn.total_s, truth.total_s, 0.01)
        assert turn.partials == len(truth.partials_s)
        assert near(turn.at_s, truth.endpoint_s, 0.01)


def test_counts_are_exact() -> None:
    writer = one_speaker(seed=3, turns=60)
    summary, truth = read(writer.realtimevoicechat()), writer.truth
    assert truth.drops
    assert truth.wasted
    assert truth.errors
    assert summary.counts["drops"] == truth.drops
    assert summary.dropped_s == pytest.approx(truth.drops * CHUNK_S)
    assert summary.backlog_s == pytest.approx(max(truth.queue_lengths) * HIDDEN_CHUNK_S)
    assert summary.counts["wasted"] == summary.counts["aborts"] == truth.wasted
    assert summary.counts["errors"] == sum(summary.faults.values()) == truth.errors
    assert summary.counts["model_loads"] == 1
    assert summary.counts["clients"] == 1
    assert [moment.clients for moment in summary.clients] == [1, 0]
    assert summary.boot_latency_s == pytest.approx(0.8125)
    assert summary.loaded_per_session is False


def test_what_is_absent_is_none() -> None:
    writer = LogWriter(1)
    connect(writer, 0)
    summary = read(writer.realtimevoicechat())
    assert set(summary.figures.values()) == {None}
    assert summary.counts["drops"] == 0
    assert summary.backlog_s is None
    assert summary.loaded_per_session is None
    assert summary.boot_latency_s is None
    assert summary.turns == 0
    nothing = read(b"hello\n")
    assert nothing.server is None
    assert nothing.turns is nothing.span_s is nothing.dropped_s is None
    assert set(nothing.counts.values()) == {None}


def test_lines_without_a_time_are_counted_and_not_timed() -> None:
    writer = one_speaker(seed=2, turns=20)
    summary = read(writer.realtimevoicechat(timeless))
    assert summary.turns == 20
    assert summary.figures["endpoint_wait"] is summary.figures["total"] is None
    assert summary.span_s is None
    # What stands in the line itself needs no stamp.
    same_quantiles(summary.figures["ttft"], writer.truth.ttfts_s, 1e-6)
    assert any("no line bears a time" in note for note in summary.unknown)


def test_a_log_that_begins_in_the_middle_shows_what_it_can() -> None:
    writer = one_speaker(seed=5, turns=30)
    lines = writer.realtimevoicechat(noise=False).splitlines(keepends=True)
    ends = [n for n, raw in enumerate(lines) if "⏹️ Recording stopped.".encode() in raw]
    summary = read(b"".join(lines[ends[3] :]))
    assert summary.turns == 27
    first = summary.last_turns[0]
    assert first.endpoint_wait_s is first.total_s is first.partials is None
    assert near(
        first.final_s, writer.truth.turns[3].final_s - writer.truth.turns[3].endpoint_s, 0.01
    )
    assert any("1 sessions were open before" in note for note in summary.unknown)


def test_a_reply_that_is_interrupted_still_ends_its_turn() -> None:
    writer = LogWriter(1)
    connect(writer, 0)
    over_s = one_turn(writer, 1, answer=1)
    lines = [raw for raw in _lines(writer) if b"cycle finished" not in raw]
    writer = LogWriter(2)
    one_turn(writer, over_s + 5, answer=2)
    summary = read(b"".join(lines + _lines(writer)))
    assert [turn.number for turn in summary.last_turns] == [1, 2]
    assert all(turn.total_s for turn in summary.last_turns)


def test_an_answer_keeps_its_turn_when_the_next_one_has_begun() -> None:
    log = log_of(
        "00:00.00 server INFO ✅ Client connected via WebSocket.",
        "00:01.00 transcribe INFO 👂▶️ Recording started.",
        "00:02.00 transcribe INFO 👂🤫 Silence state changed: ACTIVE",
        "00:02.10 speech_pip INFO 🧠🚀 [Gen 1] Calling LLM generate...",
        "00:02.50 transcribe INFO 👂⏹️ Recording stopped.",
        "00:02.90 transcribe INFO 👂✅ Final user text: Hi.",
        "00:04.00 transcribe INFO 👂▶️ Recording started.",
        "00:04.10 speech_pip INFO 🧠⏱️ [Gen 1] LLM Worker: TTFT: 2.0000s",
        "00:04.60 audio_modu INFO 👄🚀 [Gen 1] Quick audio start. TTFA: 0.30s. Text: Hi...",
    )
    turn = read(log).last_turns[0]
    assert (turn.ttft_s, turn.ttfa_s) == (2.0, 0.3)
    assert turn.total_s == pytest.approx(2.6)


def test_speech_that_resumed_before_the_endpoint_has_no_silence_to_time() -> None:
    turn = read(
        log_of(
            "00:00.00 server INFO ✅ Client connected via WebSocket.",
            "00:01.00 transcribe INFO 👂▶️ Recording started.",
            "00:02.00 transcribe INFO 👂🤫 Silence state changed: ACTIVE",
            "00:02.30 transcribe INFO 👂🤫 Silence state changed: INACTIVE",
            "00:03.50 transcribe INFO 👂⏹️ Recording stopped.",
            "00:03.90 transcribe INFO 👂✅ Final user text: Hi.",
        )
    ).last_turns[0]
    assert turn.endpoint_wait_s is turn.speech_to_final_s is None
    assert turn.final_s == pytest.approx(0.4)


ANSWER = (
    "00:01.10 speech_pip INFO 🧠🚀 [Gen 1] Calling LLM generate...",
    "00:01.40 speech_pip INFO 🧠⏱️ [Gen 1] LLM Worker: TTFT: 0.3000s",
    "00:01.50 audio_modu INFO 👄🚀 [Gen 1] Quick audio start. TTFA: 0.10s. Text: Hi...",
)
ENDING = (
    "00:02.00 transcribe INFO 👂🤫 Silence state changed: ACTIVE",
    "00:02.50 transcribe INFO 👂⏹️ Recording stopped.",
    "00:02.90 transcribe INFO 👂✅ Final user text: Hi.",
)


def _aborted(at: str, *before: str) -> tuple[LogSummary, LoggedTurn]:
    """A turn with an answer that is aborted `at`, behind the lines `before`."""
    lines = [
        "00:00.00 server INFO ✅ Client connected via WebSocket.",
        "00:01.00 transcribe INFO 👂▶️ Recording started.",
        *ANSWER,
        *before,
        f"{at} speech_pip INFO 🛑🚀 [Gen 1] Abortion process starting...",
        f"{at} speech_pip INFO 🛑✅ [Gen 1] Abort processing complete.",
        *(line for line in ENDING if line not in before),
    ]
    summary = read(log_of(*lines))
    return summary, summary.last_turns[0]


def test_an_answer_aborted_before_the_endpoint_was_wasted_and_answers_no_turn() -> None:
    summary, turn = _aborted("00:01.60")
    assert (summary.counts["aborts"], summary.counts["wasted"]) == (1, 1)
    assert turn.ttft_s is turn.ttfa_s is turn.total_s is None
    assert turn.final_s == pytest.approx(0.4)


def test_an_answer_aborted_after_the_endpoint_was_its_turns() -> None:
    summary, turn = _aborted("00:04.00", *ENDING)
    assert (summary.counts["aborts"], summary.counts["wasted"]) == (1, 0)
    assert (turn.ttft_s, turn.ttfa_s) == (0.3, 0.1)
    assert turn.total_s == pytest.approx(0.5)


def test_the_abort_of_an_older_answer_leaves_the_newer_one() -> None:
    newer = (
        "00:01.55 speech_pip INFO 🧠🚀 [Gen 2] Calling LLM generate...",
        "00:01.57 speech_pip INFO 🧠⏱️ [Gen 2] LLM Worker: TTFT: 0.0200s",
    )
    summary, turn = _aborted("00:01.60", *newer)
    assert (summary.counts["aborts"], summary.counts["wasted"]) == (1, 0)
    assert turn.ttft_s == 0.02


def test_interruptions_slow_chunks_and_raised_waits_are_counted() -> None:
    summary = read(
        log_of(
            "00:00.00 server INFO ✅ Client connected via WebSocket.",
            "00:01.00 server INFO 🎙️ Recording started. TTS Client Playing: False",
            "00:02.00 server INFO 🎙️ Recording started. TTS Client Playing: True",
            "00:03.00 turndetect WARN ⚠️ Final pause (0.30s) is less than minimum (0.91s). Using it",
            "00:03.10 turndetect WARN ⚠️ Final pause (0.40s) is less than minimum (0.91s). Using it",
            "00:04.00 audio_modu INFO 👄❌ [Gen 1] Quick chunk slow (gap=0.910s > 0.700s).",
            "00:04.10 audio_modu INFO 👄❌ [Gen 1] Final chunk slow (gap=0.810s > 0.700s).",
            "00:04.20 audio_modu INFO 👄❌ [Gen 1] Final chunk slow (gap=0.710s > 0.700s).",
        )
    )
    counted = [summary.counts[name] for name in ("barge_ins", "wait_floor", "slow_chunks")]
    assert counted == [1, 2, 3]


def test_a_wait_holds_until_another_is_set() -> None:
    turn = (
        "00:02.00 transcribe INFO 👂▶️ Recording started.",
        "00:03.00 transcribe INFO 👂⏹️ Recording stopped.",
        "00:03.10 transcribe INFO 👂❗ Forced Final user text: Hi.",
    )
    wait = "00:01.00 transcribe INFO 👂⏳ New waiting time: 0.46 for text: Hello."
    summary = read(log_of(wait, *turn, *(line.replace("00:0", "00:1") for line in turn)))
    assert [one.policy_wait_s for one in summary.last_turns] == [0.46, 0.46]
    assert [one.final_s for one in summary.last_turns] == [pytest.approx(0.1)] * 2


def test_a_fork_that_logs_only_the_end_of_the_turn_is_read() -> None:
    log = log_of(
        "00:01.00 transcribe INFO 👂▶️ Recording started.",
        "00:02.00 transcribe INFO 👂🤫 Silence state changed: ACTIVE",
        "00:02.50 server INFO 🖥️🏁 ===== USER TURN END =====",
        "00:02.90 transcribe INFO 👂✅ Final user text: Hi.",
    )
    (turn,) = read(log).last_turns
    assert turn.endpoint_wait_s == pytest.approx(0.5)
    assert turn.final_s == pytest.approx(0.4)


def _lines(writer: LogWriter) -> list[bytes]:
    return writer.realtimevoicechat(noise=False).splitlines(keepends=True)


# Noise.

MARKED = ["Recording stopped.", "Final user text: x", "LLM Worker: TTFT: 9.0s", "ERROR", "INFO"]

garbage = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")),
    st.sampled_from(MARKED).map(str.encode),
    st.sampled_from(MARKED).map(lambda text: f"59:59.99 server INFO said: he {text}".encode()),
    st.sampled_from(MARKED).map(lambda text: f"\x1b[9m 99:99 {text}".encode()),
)

CLEAN = one_speaker(seed=11, turns=8).realtimevoicechat(noise=False)
CLEAN_JSON = read(CLEAN).as_json()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 10_000), garbage), max_size=40))
def test_garbage_never_raises_and_never_changes_a_figure(
    insertions: list[tuple[int, bytes]],
) -> None:
    lines = CLEAN.splitlines(keepends=True)
    for place, junk in insertions:
        lines.insert(place % (len(lines) + 1), junk.replace(b"\n", b" ") + b"\n")
    found = read(b"".join(lines)).as_json()
    assert {**found, "lines": 0} == {**CLEAN_JSON, "lines": 0}


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read(raw: bytes) -> None:
    parse_line(raw)
    read(raw)


def test_what_people_say_is_no_event() -> None:
    for said in (
        "Recording stopped.",
        "Client connected via WebSocket.",
        "Audio queue full (50/50)",
    ):
        event = parse_line(f"00:01.00 transcribe INFO 👂📝 Partial transcription: {said}".encode())
        assert event is not None
        assert event.kind is Kind.PARTIAL
        sent = f"00:01.00 server     INFO 🖥️📤 →→Client: {{'content': '{said}'}}"
        assert parse_line(sent.encode()) is None


# Samples.


@settings(deadline=None)
@given(st.lists(st.integers(0, 60_000), min_size=1, max_size=300), st.sampled_from([0.5, 0.95]))
def test_samples_have_the_quantiles_of_stats(steps: list[int], q: float) -> None:
    samples = Samples()
    for count in steps:
        samples.add(count / 10_000)
    found, expected = samples.quantile(q), Quantile.of([count / 10_000 for count in steps], q)
    assert found.n == expected.n
    assert found.maximum == pytest.approx(expected.maximum)
    assert found.value == (None if expected.value is None else pytest.approx(expected.value))


def test_memory_does_not_grow_with_the_log() -> None:
    samples = Samples()
    for count in range(20_000):
        samples.add(count % 50 / 100)
    assert len(samples._counts) == 50


def test_fault_messages_are_kept_in_part_only() -> None:
    writer = LogWriter(1)
    connect(writer, 0)
    queue_full(writer, 1)
    fault(writer, 2)
    for number in range(100):
        writer.line(3 + number, "server", f"failure {number} " + "x" * 500, "ERROR")
    summary = read(writer.realtimevoicechat(hourless))
    assert summary.counts["errors"] == 101
    assert len(summary.faults) == 20
    assert max(map(len, summary.faults)) == 120


def test_turns_are_kept_in_part_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtvc.profile.logs.reader.TURNS_KEPT", 5)
    summary = read(one_speaker(seed=1, turns=9).realtimevoicechat())
    assert [turn.number for turn in summary.last_turns] == [5, 6, 7, 8, 9]
    assert summary.turns == 9
    assert isinstance(summary.last_turns[0], LoggedTurn)
