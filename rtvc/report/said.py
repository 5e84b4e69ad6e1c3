"""What was said and what was heard: the worst utterances, and every speaker's conversation."""

from difflib import SequenceMatcher
from itertools import groupby
from typing import Any

from rtvc.record import Run, TurnRow
from rtvc.report.timeline import Excerpt
from rtvc.report.wording import seconds
from rtvc.summary import UTTERANCE_METRICS, transcription_delay, word_errors

WORST = 8
"""Utterances listed with their words."""

MOST_SAID = 400
"""Utterances listed of whole conversations; more than that nobody reads on a page."""


def conversations(run: Run, excerpt: Excerpt) -> list[dict[str, Any]]:
    """By speaker, what was said in the stretch that the timeline draws, and when what came."""
    chosen = set(_readable(excerpt))
    turns = [turn for turn in excerpt.turns if turn.speaker in chosen]
    turns.sort(key=lambda turn: (turn.speaker, turn.speech_start_at_s))
    return [
        {
            "speaker": speaker,
            "rows": [_said_row(turn, with_text=run.manifest.text_observable) for turn in spoken],
        }
        for speaker, spoken in groupby(turns, key=lambda turn: turn.speaker)
    ]


def _readable(excerpt: Excerpt) -> list[int]:
    """As many of the speakers drawn as fit into the list, in their order."""
    left, chosen = MOST_SAID, list[int]()
    for speaker in excerpt.speakers:
        left -= sum(turn.speaker == speaker for turn in excerpt.turns)
        if left < 0 and chosen:
            break
        chosen.append(speaker)
    return chosen


def left_out(excerpt: Excerpt) -> str:
    """Which of them are listed, if not all of the run."""
    listed = len(_readable(excerpt))
    if listed == excerpt.everyone:
        return ""
    return (
        f" ({listed} of {excerpt.everyone} speakers, "
        f"{excerpt.begin_s:.0f} to {excerpt.end_s:.0f} s)"
    )


def _said_row(turn: TurnRow, *, with_text: bool) -> dict[str, Any]:
    """Times since the end of the utterance, but for the first text, which is since its start."""
    heard = [("same", turn.text)]
    if with_text and turn.heard is not None:
        heard = word_changes(turn.text, turn.heard)
    return {
        "at": f"{turn.speech_start_at_s:.1f} s",
        "words": heard,
        "partial": seconds(turn.time_to_first_partial_s),
        "final": seconds(transcription_delay(turn)),
        "reply": seconds(UTTERANCE_METRICS["response_latency"](turn)),
        "notes": ", ".join(_notes(turn)),
    }


def _notes(turn: TurnRow) -> list[str]:
    noted = {
        "interrupts a reply": turn.interrupted_reply,
        "cut by a premature final": turn.premature_finals > 0,
        "another's words": turn.cross_talk_words > 0,
        "warm-up": turn.warm_up,
    }
    return [note for note, holds in noted.items() if holds]


def worst(run: Run) -> list[dict[str, Any]]:
    """Utterances with word errors, most first, the slower of equals first."""
    if not run.manifest.text_observable:
        return []
    errors_of = ((turn, word_errors(turn)) for turn in run.turns if not turn.warm_up)
    scored = [(sum(errors), turn) for turn, errors in errors_of if errors and sum(errors)]
    scored.sort(key=lambda pair: (-pair[0], -transcription_delay(pair[1])))
    return [_worst_row(turn, errors) for errors, turn in scored[:WORST]]


def _worst_row(turn: TurnRow, errors: int) -> dict[str, Any]:
    return {
        "who": f"{turn.speaker}, utterance {turn.utterance}",
        "words": word_changes(turn.text, turn.heard or ""),
        "errors": f"{errors} in {turn.reference_words}",
        "delay": seconds(transcription_delay(turn)),
    }


def word_changes(said: str, heard: str) -> list[tuple[str, str]]:
    """Runs of words as ("same" | "lost" | "new", words); for eyes, the counts come from jiwer.

    >>> word_changes("turn the light on", "Turn a light on.")
    [('same', 'turn'), ('lost', 'the'), ('new', 'a'), ('same', 'light on')]
    """
    old, new = said.split(), heard.split()
    plain_old, plain_new = list(map(_plain_word, old)), list(map(_plain_word, new))
    changes = []
    matcher = SequenceMatcher(None, plain_old, plain_new, autojunk=False)
    for kind, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        if kind == "equal":
            changes.append(("same", " ".join(old[old_from:old_to])))
            continue
        changes.append(("lost", " ".join(old[old_from:old_to])))
        changes.append(("new", " ".join(new[new_from:new_to])))
    return [(kind, words) for kind, words in changes if words]


def _plain_word(word: str) -> str:
    return word.lower().strip(".,!?;:\"'()")
