"""Another's words, and words cut at an utterance's ends: caught every time, and named."""

import json
import random
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.loadtest.speakers.clips import builtin_corpus
from rtvc.loadtest.turns.rows import foreign_words
from rtvc.record import RunWriter, TurnRow, load_run
from rtvc.report.page import build_report
from rtvc.slo import judge, parse_objectives
from rtvc.speech.sentences import sentence, words_of
from rtvc.summary import summarize
from rtvc.transcript import lost_ends, normalise, word_errors
from tests.acceptance.exactness import SCENARIO
from tests.loadtest_runs import Done, loadtest, serving
from tests.reference_clips import write_clips
from tests.reference_server import without_ends
from tests.synthetic_run import a_connection, a_manifest, a_second, a_turn

WORDS = ("turn", "on", "the", "light", "in", "kitchen", "please", "now")
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9)


def strange_words(heard: str, own: str, others: Sequence[str]) -> int:
    return foreign_words(heard, own, lambda: others)


def sentences(seed: int, count: int) -> list[str]:
    """Texts that none is part of another, as the speakers of a run have them."""
    rng, found = random.Random(seed), list[str]()
    while len(found) < count:
        text = sentence(rng)
        words = set(normalise(text).split())
        parts = (set(normalise(other).split()) for other in found)
        if len(words_of(text)) <= 16 and not any(words <= o or o <= words for o in parts):
            found.append(text)
    return found


def test_the_texts_of_a_run_hold_no_other_text_of_it() -> None:
    deal = builtin_corpus(5, 60.0, 1).deal
    words = [frozenset(normalise(clip.text).split()) for clips in deal for clip in clips]
    assert len(words) >= 50
    assert not any(a <= b for a, b in permutations(words, 2))


@pytest.mark.parametrize("seed", range(40))
def test_a_swapped_transcript_is_caught_every_time(seed: int) -> None:
    said = sentences(seed, 24)
    rng = random.Random(seed)
    for own in said:
        others = [text for text in said if text != own]
        heard = rng.choice(others)
        assert strange_words(heard, own, others) > 0, (own, heard)


@pytest.mark.parametrize("seed", range(10))
def test_ones_own_transcript_is_never_taken_for_anothers(seed: int) -> None:
    said = sentences(seed, 24)
    for own in said:
        others = [text for text in said if text != own]
        for cut in ("none", "first", "last", "both"):
            heard = without_ends(own, cut)
            if normalise(heard) not in map(normalise, others):
                assert strange_words(heard, own, others) == 0


@pytest.mark.parametrize("seed", range(20))
def test_a_transcript_that_goes_on_in_anothers_words_is_caught(seed: int) -> None:
    said = sentences(seed, 24)
    rng = random.Random(seed)
    for own, other in zip(said, rng.sample(said, len(said)), strict=True):
        strange = set(normalise(other).split()) - set(normalise(own).split())
        # Two that everybody does not say all the time: such words are short.
        if sum(len(word) > 6 for word in strange) >= 2:
            heard = f"{own} {other}"
            assert strange_words(heard, own, [other]) >= 2, (own, other)


def test_one_word_is_enough_where_the_whole_transcript_is_anothers() -> None:
    own, other = "turn on the lamp", "turn on the radio"
    assert strange_words(other, own, [other]) == 1
    assert strange_words(other, own, [f"{other} now"]) == 0, "a word misheard"
    assert strange_words("open a door", "open the door", ["open a door"]) == 1


@given(texts, st.integers(1, 3), st.integers(0, 3))
@settings(deadline=None)
def test_words_cut_at_the_ends_are_always_named(said: list[str], first: int, last: int) -> None:
    kept = said[first : max(first, len(said) - last)]
    first_lost, last_lost = lost_ends(" ".join(said), " ".join(kept))
    assert first_lost
    if last or not kept:
        assert last_lost


@given(texts, texts)
@settings(deadline=None)
def test_a_lost_end_is_one_edit_less_to_explain(said: list[str], heard: list[str]) -> None:
    def edits(words: list[str]) -> int:
        return word_errors(" ".join(words), " ".join(heard)).errors

    expected = (edits(said[1:]) < edits(said), edits(said[:-1]) < edits(said))
    assert lost_ends(" ".join(said), " ".join(heard)) == expected


@given(texts, st.data())
@settings(deadline=None)
def test_a_word_that_was_only_misheard_is_not_lost(said: list[str], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(said) - 1))
    heard = [*said[:at], "strange", *said[at + 1 :]]
    assert lost_ends(" ".join(said), " ".join(heard)) == (False, False)


@given(texts, st.lists(st.just("um"), max_size=3))
@settings(deadline=None)
def test_words_that_were_added_are_not_lost(said: list[str], more: list[str]) -> None:
    text = " ".join(said)
    assert lost_ends(text, " ".join([*more, *said])) == (False, False)
    assert lost_ends(text, " ".join([*said, *more])) == (False, False)
    assert lost_ends("", " ".join(more)) == (False, False)


def judged(folder: Path, rows: Sequence[TurnRow], *objectives: str) -> tuple[Any, str]:
    """(judgement, page) of a run with these turns."""
    with RunWriter(folder, a_manifest()) as writer:
        writer.append(a_connection(0), a_connection(1), a_second(), *rows)
    summary = summarize(load_run(folder))
    build_report(folder)
    page = (folder / "report.html").read_text("utf-8")
    return judge(summary, parse_objectives(objectives)), page


def test_the_verdict_tells_of_anothers_words_whatever_was_asked_for(tmp_path: Path) -> None:
    rows = [a_turn(0, i, cross_talk_words=4 if i == 3 else 0) for i in range(120)]
    judgement, page = judged(tmp_path, rows)
    assert judgement.outcome == "met"
    assert "1 of 120 transcripts hold another's words" in judgement.sentence
    assert "cross-talk words (1 turns)" in page


def test_the_verdict_tells_of_cut_words_where_they_are_often_lost(tmp_path: Path) -> None:
    for name, count, told in (("few", 5, False), ("many", 20, True)):
        rows = [a_turn(0, i, first_word_lost=i < count, last_word_lost=False) for i in range(120)]
        judgement, page = judged(tmp_path / name, rows)
        assert ("transcripts lack the first word" in judgement.sentence) is told
        assert "last word" not in judgement.sentence
        assert "first words lost" in page


@pytest.mark.parametrize(("count", "code"), [(0, 0), (1, 99)])
def test_an_objective_can_ask_that_no_word_is_cut(tmp_path: Path, count: int, code: int) -> None:
    rows = [a_turn(0, i, last_word_lost=i < count, first_word_lost=False) for i in range(120)]
    judgement, _ = judged(tmp_path, rows, "last_words_lost==0", "first_words_lost==0")
    assert judgement.exit_code == code


def reference_run(tmp_path: Path, *server: str, slo: str) -> tuple[Done, dict[str, Any]]:
    """Four speakers for some seconds, and what the server did on purpose."""
    clips, scenario = tmp_path / "clips", tmp_path / "scenario.toml"
    write_clips(clips, 16, 3)
    scenario.write_text(SCENARIO, "utf-8")
    with serving("tests.reference_server", "--clips", str(clips), *server) as running:
        done = loadtest(
            *(f"ws://127.0.0.1:{running.port}", tmp_path / "run", "--transcription"),
            *("--speech", str(clips), "--scenario", str(scenario), "--ramp", "0.5"),
            *("--speakers", "4", "--duration", "7", "--grace", "4", "--slo", slo),
        )
        answer = httpx.get(f"{running.http}/notes", timeout=30, trust_env=False)
    return done, json.loads(answer.text)


@pytest.mark.slow
def test_swapped_transcripts_are_caught_in_a_run(tmp_path: Path) -> None:
    done, notes = reference_run(tmp_path, "--swap", "transcripts", slo="cross_talk==0")
    swapped = {
        note["item_id"]
        for note in notes["utterances"]
        if note["sent"] is not None and note["sent"] != note["said"]
    }
    assert swapped
    caught = {turn.item_id for turn in done.run.turns if turn.cross_talk_words}
    assert caught == swapped, "every one of them, and no other"
    assert done.code in (3, 99), done.errors
    if done.code == 99:
        assert "transcripts hold another's words" in done.summary["verdict"]
    assert done.summary["accuracy"]["cross_talk_turns"] == len(caught)


@pytest.mark.slow
def test_swapped_audio_is_caught_in_a_run(tmp_path: Path) -> None:
    done, notes = reference_run(tmp_path, "--swap", "audio", slo="cross_talk==0")
    run, told = done.run, done.summary["failures"]
    astray = [note for note in notes["utterances"] if note["sent"] is not None]
    astray = [note for note in astray if not note["item_id"].startswith(f"s{note['speaker']}-")]
    assert astray
    caught = [turn for turn in run.turns if turn.cross_talk_words]
    assert caught
    assert all(turn.cross_talk_words for turn in run.turns if turn.heard not in (None, turn.text))
    # A transcript that came while its session had said nothing, or was told, has a name as well.
    finals = sum(turn.finals for turn in run.turns)
    other = ("finals_without_utterance", "late_finals", "duplicate_finals")
    assert finals + sum(told.get(name, 0) for name in other) >= len(astray)
    assert done.code in (3, 99), done.errors


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["first", "last"])
def test_words_cut_by_the_server_are_named_in_a_run(tmp_path: Path, cut: str) -> None:
    done, _ = reference_run(tmp_path, "--cut", cut, slo=f"{cut}_words_lost==0")
    turns = [turn for turn in done.run.turns if turn.heard is not None]
    assert turns
    assert all((turn.first_word_lost, turn.last_word_lost)[cut == "last"] for turn in turns)
    heard = done.summary["accuracy"]
    assert heard[f"{cut}_words_lost"] == len(turns)
    assert heard["cross_talk_words"] == 0
    assert done.code in (3, 99), done.errors
    assert f"{cut} words lost" in done.page
