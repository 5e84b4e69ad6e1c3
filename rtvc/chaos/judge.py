"""What users felt of a fault: rows of a load test and a window in, figures out. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rtvc.record import ConnectionRow, TurnRow
from rtvc.results.chaos import Span
from rtvc.stats import Quantile
from rtvc.summary import transcription_delay

TARGET_S = 0.5
"""Transcription delay that is good enough, whatever it was before."""

TIMES = 1.5
"""Or so many times what it was before."""

IN_A_ROW = 3
"""So many turns one after the other must be served well for it to be over."""


GOING_AWAY = 1001
"""How a server that stops closes its sessions; any other end is none of its stopping."""

SLACK_S = 1.0
"""The load test's clock is known to so much at the worst."""

WORDS_HEARD = 3
"""An utterance of so many words of which a final has none was not written down."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What a load test recorded, instants by one clock."""

    turns: tuple[TurnRow, ...]
    """Utterances."""
    connections: tuple[ConnectionRow, ...]
    """Attempts, each once."""

    def later(self, seconds: float) -> "Rows":
        """The same by a clock that began so much earlier."""
        return Rows(
            tuple(_later_turn(turn, seconds) for turn in self.turns),
            tuple(
                replace(
                    row,
                    opened_at_s=row.opened_at_s + seconds,
                    closed_at_s=None if row.closed_at_s is None else row.closed_at_s + seconds,
                )
                for row in self.connections
            ),
        )

    def plus(self, more: "Rows") -> "Rows":
        """Both; speakers of `more` are others."""
        first = 1 + max((row.speaker for row in self.connections), default=-1)
        return Rows(
            (*self.turns, *(replace(t, speaker=t.speaker + first) for t in more.turns)),
            (
                *self.connections,
                *(replace(c, speaker=c.speaker + first) for c in more.connections),
            ),
        )


def _later_turn(turn: TurnRow, seconds: float) -> TurnRow:
    moved: dict[str, Any] = {
        name: None if value is None else value + seconds
        for name in _INSTANTS
        for value in [getattr(turn, name)]
    }
    return replace(turn, **moved)


_INSTANTS = (
    "speech_start_at_s",
    "first_word_end_at_s",
    "speech_end_at_s",
    "first_partial_at_s",
    "final_at_s",
    "reply_first_audio_at_s",
    "reply_last_audio_at_s",
    "barge_in_stop_at_s",
)


@dataclass(frozen=True, slots=True)
class Felt:
    """What users felt of one fault."""

    before: Span
    """Turns that were over before it began."""
    during: Span
    """Turns that it met."""
    after: Span
    """Turns that were spoken when it was over."""
    finals_lost: int
    """As in `rtvc.results.chaos.Fault`."""
    sessions_ended: int
    """The same."""
    ended_beside: int
    """The same."""
    cross_words: int
    """The same."""
    refused: int
    """The same, of speakers only."""
    rows_lost: int
    """The same."""
    limit_s: float
    """The same."""
    recovery_s: float | None
    """The same."""
    recovery_n: int
    """The same."""


def judge(rows: Rows, begin_s: float, end_s: float, *, ends_sessions: bool) -> Felt:
    """What was felt of a fault between two instants (the same one: it took no time)."""
    before = [turn for turn in rows.turns if _over_at_s(turn) < begin_s]
    after = [turn for turn in rows.turns if turn.speech_end_at_s > end_s]
    met = [turn for turn in rows.turns if turn not in before and turn not in after]
    first = span(before)
    limit_s = limit(first)
    recovery_s = recovery(after, end_s, limit_s)
    lost = [row for row in rows.connections if row.outcome == "lost"]
    meant = [row for row in lost if ends_sessions and _is_meant(row, begin_s, end_s)]
    return Felt(
        before=first,
        during=span(met),
        after=span(after),
        finals_lost=finals_lost(rows.turns, meant),
        sessions_ended=len(lost),
        ended_beside=len(lost) - len(meant),
        cross_words=sum(turn.cross_talk_words for turn in rows.turns),
        refused=sum(row.outcome == "refused" for row in rows.connections),
        rows_lost=rows_lost(rows.turns),
        limit_s=limit_s,
        recovery_s=recovery_s,
        recovery_n=len(after),
    )


def span(turns: Sequence[TurnRow]) -> Span:
    """Figures of some turns."""
    delays_s = [transcription_delay(turn) for turn in turns]
    delay = Quantile.of(delays_s, 0.95)
    expected = [turn for turn in turns if turn.reply_expected]
    return Span(
        turns=len(turns),
        finals_missing=sum(_is_missing(turn) for turn in turns),
        replies_expected=len(expected),
        replies_missing=sum(turn.response_latency_s is None for turn in expected),
        delay_s=delay.printable,
        delay_name="max" if delay.value is None else "p95",
        delay_max_s=delay.maximum,
    )


def limit(before: Span) -> float:
    """Delay up to which a turn is served well."""
    usual_s = before.delay_s
    if usual_s is None or math.isinf(usual_s):
        return TARGET_S
    return max(TIMES * usual_s, TARGET_S)


def finals_lost(turns: Sequence[TurnRow], meant: Sequence[ConnectionRow]) -> int:
    """Utterances without a final. Of sessions that were meant to end, what was not yet said when
    one was closed cannot be written down any more: it does not count."""
    closed_at_s = {row.speaker: row.closed_at_s or 0.0 for row in meant}
    return sum(
        _is_missing(turn) and turn.speech_end_at_s <= closed_at_s.get(turn.speaker, math.inf)
        for turn in turns
    )


def _is_meant(row: ConnectionRow, begin_s: float, end_s: float) -> bool:
    """Whether a session was closed while the fault went on, and as a server that stops does."""
    at_s = math.inf if row.closed_at_s is None else row.closed_at_s
    return row.close_code == GOING_AWAY and begin_s - SLACK_S <= at_s <= end_s + SLACK_S


def _is_missing(turn: TurnRow) -> bool:
    """Whether there is no final, or one in which nothing of a whole sentence stands."""
    silent = turn.heard is not None and not turn.heard.strip()
    blank = silent and turn.reference_words >= WORDS_HEARD
    return blank or math.isinf(transcription_delay(turn))


def rows_lost(turns: Iterable[TurnRow]) -> int:
    """Utterances of which there is no row between two that have one."""
    numbers: dict[int, set[int]] = {}
    for turn in turns:
        numbers.setdefault(turn.speaker, set()).add(turn.utterance)
    return sum(max(seen) + 1 - len(seen) for seen in numbers.values())


def recovery(after: Sequence[TurnRow], end_s: float, limit_s: float) -> float | None:
    """Seconds from a fault's end until the last trouble before some turns in a row were served
    well; 0: there was none; None: it never came to that many."""
    in_order = sorted(after, key=lambda turn: turn.speech_end_at_s)
    in_a_row, trouble_at_s = 0, end_s
    for turn in in_order:
        if served_well(turn, limit_s):
            in_a_row += 1
            if in_a_row == IN_A_ROW:
                return trouble_at_s - end_s
        else:
            in_a_row, trouble_at_s = 0, max(trouble_at_s, turn.speech_end_at_s, _told_at_s(turn))
    return None


def served_well(turn: TurnRow, limit_s: float) -> bool:
    """Whether its text came in time, and a reply if one was due."""
    answered = not turn.reply_expected or turn.response_latency_s is not None
    return answered and transcription_delay(turn) <= limit_s


def why_void(felt: Felt, generator_says: str | None) -> str | None:
    """Why nothing is proven; None: something is."""
    if generator_says is not None:
        return f"the load generator did not keep up: {generator_says}"
    if felt.before.turns < IN_A_ROW:
        return f"expected {IN_A_ROW} turns or more before the fault, got {felt.before.turns}"
    if felt.after.turns < IN_A_ROW:
        return f"expected {IN_A_ROW} turns or more after the fault, got {felt.after.turns}"
    return None


def why_absent(marks: Sequence[str], counted: Mapping[str, float | None]) -> str | None:
    """Why nothing is proven because the fault did not come about; None: it did, or nothing that is
    counted could tell.

    >>> why_absent(["restarts"], {"restarts": 0.0})
    'the fault did not come about: restarts did not rise'
    >>> why_absent(["restarts"], {"restarts": 2.0})
    """
    known = [name for name in marks if counted.get(name) is not None]
    if not known or any(counted[name] for name in known):
        return None
    return f"the fault did not come about: {', '.join(known)} did not rise"


def _told_at_s(turn: TurnRow) -> float:
    return turn.speech_end_at_s if turn.final_at_s is None else turn.final_at_s


def _over_at_s(turn: TurnRow) -> float:
    """When its text was there, and its reply had begun; infinite: it never was."""
    if turn.final_at_s is None:
        return math.inf
    if not turn.reply_expected:
        return turn.final_at_s
    if turn.reply_first_audio_at_s is None:
        return math.inf
    return max(turn.final_at_s, turn.reply_first_audio_at_s)
