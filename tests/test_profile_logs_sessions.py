"""What a log says of several clients, of models, and of WhisperLive."""

import pytest

from rtvc.profile.logs.lines import Server
from tests.voice_log_checks import log_of, near, read, same_quantiles
from tests.voice_log_writer import (
    LogWriter,
    Stamper,
    WhisperLiveTruth,
    asctime,
    boot,
    connect,
    docker_alone,
    leave,
    load,
    one_turn,
    whisperlive_session,
)

# RealtimeVoiceChat, several clients.


def two_speakers(seed: int) -> LogWriter:
    writer = LogWriter(seed)
    at_s = boot(writer) + 1
    connect(writer, at_s)
    connect(writer, at_s + 1)
    for speaker in (0, 1):
        begin_s = at_s + 2 + 0.7 * speaker
        for number in range(10):
            begin_s = one_turn(writer, begin_s, 1 + 10 * speaker + number) + 0.5
    leave(writer, 10_000)
    leave(writer, 10_001)
    return writer


def test_of_interleaved_sessions_only_what_one_line_tells_is_known() -> None:
    writer = two_speakers(seed=4)
    # A pause so long would be lost without a date.
    summary = read(writer.realtimevoicechat(docker_alone))
    assert summary.turns == summary.mixed_turns == 20
    for name in (
        "policy_wait",
        "endpoint_wait",
        "final",
        "speech_to_final",
        "total",
        "partial_gap",
    ):
        assert summary.figures[name] is None
    same_quantiles(summary.figures["ttft"], writer.truth.ttfts_s, 1e-6)
    for turn in summary.last_turns:
        assert turn.mixed
        assert turn.final_s is turn.total_s is turn.ttft_s is turn.policy_wait_s is None
    assert summary.counts["clients"] == 2
    assert any("20 turns came while several clients" in note for note in summary.unknown)


def test_two_recorders_of_clients_unseen_are_not_paired() -> None:
    log = log_of(
        "00:01.00 transcribe INFO 👂▶️ Recording started.",
        "00:01.50 transcribe INFO 👂▶️ Recording started.",
        "00:02.00 transcribe INFO 👂🤫 Silence state changed: ACTIVE",
        "00:02.50 transcribe INFO 👂⏹️ Recording stopped.",
        "00:02.90 transcribe INFO 👂✅ Final user text: Hi.",
    )
    summary = read(log)
    assert summary.mixed_turns == 1
    assert summary.figures["final"] is None


def test_turns_are_timed_again_when_one_client_is_left() -> None:
    writer = two_speakers(seed=4)
    connect(writer, 10_010)
    one_turn(writer, 10_012, answer=30)
    summary = read(writer.realtimevoicechat(docker_alone))
    assert summary.turns == 21
    assert summary.mixed_turns == 20
    assert near(summary.last_turns[-1].total_s, writer.truth.turns[-1].total_s, 0.001)


# Models and clients.


def test_models_loaded_per_session_are_found() -> None:
    writer = LogWriter(6)
    at_s = boot(writer) + 1
    for _ in range(3):
        connect(writer, at_s)
        at_s = load(writer, at_s + 0.01) + 5
    summary = read(writer.realtimevoicechat())
    assert summary.loaded_per_session is True
    assert summary.counts["model_loads"] == 4
    same_quantiles(summary.figures["model_load"], writer.truth.loads_s, 0.01)
    assert [model.clients for model in summary.loads] == [0, 1, 2, 3]
    assert {model.process for model in summary.loads} == {1}


def test_the_first_load_is_per_session_if_a_client_was_there_before_it() -> None:
    writer = LogWriter(6)
    connect(writer, 0)
    load(writer, 1)
    summary = read(writer.realtimevoicechat())
    assert summary.counts["model_loads"] == 1
    assert summary.loaded_per_session is True


def test_whisperlive_loads_its_one_model_for_the_first_client() -> None:
    writer, truth = LogWriter(8), WhisperLiveTruth()
    whisperlive_session(writer, truth, 0, inferences=1)
    assert read(writer.whisperlive(docker_alone)).loaded_per_session is False


def test_a_restart_is_no_second_load() -> None:
    writer = LogWriter(6)
    connect(writer, boot(writer) + 1)
    connect(writer, boot(writer, 100) + 1)
    summary = read(writer.realtimevoicechat())
    assert summary.loaded_per_session is False
    assert summary.counts["model_loads"] == 1
    assert [model.process for model in summary.loads] == [1, 2]
    # The process that ended took its client with it.
    assert summary.counts["clients"] == 1


def test_loads_that_overlap_are_counted_and_not_timed() -> None:
    writer = LogWriter(6)
    load(writer, 0)
    load(writer, 1)
    ends = load(writer, 60)
    summary = read(writer.realtimevoicechat())
    assert [model.took_s is None for model in summary.loads] == [True, True, False]
    assert near(summary.loads[2].took_s, ends - 60, 0.01)
    assert any("2 model loads overlapped" in note for note in summary.unknown)


# WhisperLive.


@pytest.mark.parametrize("stamp", [docker_alone, asctime], ids=lambda stamp: stamp.__name__)
def test_whisperlive_with_stamps(stamp: Stamper) -> None:
    writer, truth, at_s = LogWriter(8), WhisperLiveTruth(), 0.0
    for _ in range(12):
        at_s = whisperlive_session(writer, truth, at_s + 1, inferences=20)
    summary = read(writer.whisperlive(stamp))
    assert summary.server is Server.WHISPERLIVE
    same_quantiles(summary.figures["ready"], truth.readies_s, 0.001)
    same_quantiles(summary.figures["model_load"], truth.loads_s, 0.001)
    same_quantiles(summary.figures["partial_gap"], truth.gaps_s, 0.001)
    same_quantiles(summary.figures["inference_audio"], truth.audio_s, 1e-6)
    assert summary.loaded_per_session is True
    assert summary.counts["model_loads"] == 12
    assert summary.counts["clients"] == 1
    assert summary.turns is summary.dropped_s is summary.counts["drops"] is None


def test_whisperlive_as_it_is_writes_no_time() -> None:
    writer, truth = LogWriter(8), WhisperLiveTruth()
    end_s = whisperlive_session(writer, truth, 0, inferences=20)
    writer.line(end_s, "root", "[ERROR]: Failed to transcribe audio chunk: CUDA", "ERROR")
    summary = read(writer.whisperlive())
    assert summary.figures["ready"] is summary.figures["model_load"] is None
    same_quantiles(summary.figures["inference_audio"], truth.audio_s, 1e-6)
    assert summary.counts["errors"] == 1
    assert summary.faults == {"[ERROR]: Failed to transcribe audio chunk: CUDA": 1}
    assert any("rtvc profile tap" in note for note in summary.unknown)


def test_a_client_that_whisperlive_refused_spoils_no_figure() -> None:
    log = log_of(
        "2026-11-22 10:00:00,000 INFO:root:New client connected",
        "2026-11-22 10:00:01,000 INFO:root:New client connected",
        "2026-11-22 10:00:02,000 INFO:root:Running faster_whisper backend.",
        "2026-11-22 10:00:10,000 INFO:root:New client connected",
        "2026-11-22 10:00:10,500 INFO:root:Running faster_whisper backend.",
    )
    summary = read(log)
    same_quantiles(summary.figures["ready"], [0.5], 1e-6)
    assert summary.counts["clients"] == 2
