"""What random weights write means nothing: it is neither scored nor shown, and never counted 0."""

from pathlib import Path

import pytest

from rtvc.loadtest.turns.measure import Turn
from rtvc.loadtest.turns.rows import turn_row
from rtvc.report.page import build_report
from rtvc.slo import judge, parse_objectives
from rtvc.speech.corpus import builtin_clips
from rtvc.speech.speaker import SpokenUtterance
from rtvc.summary import load_summary
from tests.synthetic_run import a_manifest, write_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    told = {"model": "synthetic:tiny.en", "model_kind": "synthetic weights"}
    write_run(tmp_path / "run", manifest=a_manifest(**told))
    return tmp_path / "run"


def test_no_word_is_scored_whatever_the_rows_say(folder: Path) -> None:
    build_report(folder)
    accuracy = load_summary(folder).accuracy
    assert (accuracy.wer, accuracy.cross_talk_words, accuracy.cross_talk_turns) == (None,) * 3
    assert (accuracy.utterances, accuracy.reference_words) == (0, 0)
    assert accuracy.unscored > 10


def test_the_report_says_so_and_shows_no_words(folder: Path) -> None:
    page = build_report(folder).read_text("utf-8")
    assert page.count("not observable") >= 3
    assert "cross-talk words (0 turns)" not in page
    assert "Measured with synthetic weights" in page


def test_delays_are_judged_and_words_cannot_be(folder: Path) -> None:
    build_report(folder)
    summary = load_summary(folder)
    asked = parse_objectives(["transcription_delay_p95<5s", "wer<10%", "cross_talk==0"])
    verdicts = judge(summary, asked).verdicts
    assert [verdict.status for verdict in verdicts][1:] == ["no data", "no data"]
    timed = judge(summary, parse_objectives(["transcription_delay_p50<5s"]))
    assert timed.verdicts[0].measured is not None
    assert "synthetic weights" in timed.sentence


@pytest.mark.parametrize(("scored", "heard"), [(True, "(synthetic)"), (False, None)])
def test_a_row_keeps_no_text_where_none_is_scored(scored: bool, heard: str | None) -> None:
    utterance = SpokenUtterance(0, builtin_clips(1, seed=3)[0], "utterance", 0.0, complete=True)
    heard_turn = Turn(
        utterance=utterance,
        item_id="item_1",
        heard="(synthetic)",
        speech_start_at_s=0.1,
        first_word_end_at_s=0.4,
        speech_end_at_s=1.5,
        first_partial_at_s=None,
        final_at_s=1.8,
        finals=1,
        premature_finals=0,
        reply_first_audio_at_s=None,
        reply_last_audio_at_s=None,
        reply_expected=False,
        interrupted_reply=False,
        barge_in_stop_at_s=None,
    )
    row = turn_row(
        heard_turn,
        speaker=0,
        session_id=None,
        others=lambda: ["words of others"],
        warm_up_s=0.0,
        scored=scored,
    )
    assert row.heard == heard
    assert (row.substitutions is None) is not scored
    assert row.transcription_delay_s == pytest.approx(0.3)
