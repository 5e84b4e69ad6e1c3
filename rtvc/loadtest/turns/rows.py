"""Turns as measured → rows as recorded: latencies, word errors, other people's words."""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from rtvc.loadtest.turns.measure import Turn
from rtvc.loadtest.wire.observations import TurnTimed
from rtvc.record import ServerTurnRow, TurnRow, encode_shown
from rtvc.transcript import WordErrors, cross_talk_words, lost_ends, normalise, word_errors

LOOK_BACK_S = 15.0
"""An answer that went astray may be to something another speaker said so long before."""


def turn_row(
    turn: Turn,
    *,
    speaker: int,
    session_id: str | None,
    others: Callable[[], Sequence[str]],
    warm_up_s: float,
    scored: bool = True,
) -> TurnRow:
    """`others` gives the texts spoken by other speakers meanwhile; asked only when needed."""
    utterance = turn.utterance
    heard = turn.heard if scored else None
    errors = None if heard is None else word_errors(utterance.text, heard)
    first_lost, last_lost = _lost_ends(utterance.text, heard, errors)
    return TurnRow(
        speaker=speaker,
        session_id=session_id,
        item_id=turn.item_id,
        utterance=utterance.index,
        kind=utterance.kind,
        voice=utterance.voice,
        text=utterance.text,
        heard=heard,
        speech_start_at_s=turn.speech_start_at_s,
        first_word_end_at_s=turn.first_word_end_at_s,
        speech_end_at_s=turn.speech_end_at_s,
        first_partial_at_s=turn.first_partial_at_s,
        final_at_s=turn.final_at_s,
        finals=turn.finals,
        premature_finals=turn.premature_finals,
        reply_first_audio_at_s=turn.reply_first_audio_at_s,
        reply_last_audio_at_s=turn.reply_last_audio_at_s,
        reply_expected=turn.reply_expected,
        interrupted_reply=turn.interrupted_reply,
        barge_in_stop_at_s=turn.barge_in_stop_at_s,
        time_to_first_partial_s=_since(turn.first_word_end_at_s, turn.first_partial_at_s),
        transcription_delay_s=_since(turn.speech_end_at_s, turn.final_at_s),
        response_latency_s=_since(turn.speech_end_at_s, turn.reply_first_audio_at_s),
        barge_in_latency_s=_since(turn.speech_start_at_s, turn.barge_in_stop_at_s),
        substitutions=errors.substitutions if errors else None,
        deletions=errors.deletions if errors else None,
        insertions=errors.insertions if errors else None,
        reference_words=_reference_words(utterance.text, errors),
        cross_talk_words=foreign_words(heard or "", utterance.text, others),
        warm_up=turn.speech_start_at_s < warm_up_s,
        partial_interval_s=turn.partial_interval_s,
        first_word_lost=first_lost,
        last_word_lost=last_lost,
        word_ends=_word_ends(turn),
        shown=_shown(turn) if scored else None,
    )


def _word_ends(turn: Turn) -> str | None:
    ends_s, start_s = turn.utterance.word_ends_s, turn.utterance.speech_start_s
    return None if ends_s is None else json.dumps([round(end_s - start_s, 3) for end_s in ends_s])


def _shown(turn: Turn) -> str | None:
    return encode_shown((at_s - turn.speech_start_at_s, text) for at_s, text in turn.shown)


def _since(start_s: float, end_s: float | None) -> float | None:
    return None if end_s is None else end_s - start_s


def _reference_words(text: str, errors: WordErrors | None) -> int:
    return errors.reference_words if errors else len(normalise(text).split())


def _lost_ends(
    text: str, heard: str | None, errors: WordErrors | None
) -> tuple[bool | None, bool | None]:
    if heard is None or errors is None:
        return None, None
    return lost_ends(text, heard) if errors.errors else (False, False)


def foreign_words(heard: str, own: str, others: Callable[[], Sequence[str]]) -> int:
    """`cross_talk_words`, without its cost where it cannot find anything: it takes two words
    of another's text that are not one's own, or one where there are no more.

    >>> foreign_words("turn on the lights", "turn on the lights", lambda: 1 / 0)
    0
    """
    strange = _words(heard) - _words(own)
    if not strange:
        return 0
    enough = min(2, len(strange))
    suspects = [text for text in others() if len(strange & _words(text)) >= enough]
    return cross_talk_words(heard, own, suspects) if suspects else 0


def learn(texts: Iterable[str]) -> None:
    """Normalise what will be said before the clock starts, not between two frames."""
    for text in texts:
        word_errors(text, text)
        _words(text)


@lru_cache(maxsize=4096)
def _words(text: str) -> frozenset[str]:
    return frozenset(normalise(text).split())


def server_turn_rows(timed: TurnTimed, session_id: str) -> list[ServerTurnRow]:
    return [
        ServerTurnRow(
            session_id=session_id,
            item_id=timed.item_id,
            stage=timed.stage,
            segment=segment.name,
            start_s=segment.start_s,
            duration_s=segment.duration_s,
            hidden=segment.hidden,
        )
        for segment in timed.segments
    ]
