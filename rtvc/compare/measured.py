"""What is compared of a run: every timed metric, share and segment, sample by sample. Pure."""

import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from rtvc.compare.bootstrap import Samples, counts, samples
from rtvc.record import Run, TurnRow
from rtvc.summary import UTTERANCE_METRICS, transcription_delay, word_errors, word_latencies_s

Timed = Iterator[tuple[int, float | None]]
"""(speaker, seconds): infinite if it never came, None if it was not asked for."""

Counted = Iterator[tuple[int, float, float]]
"""(speaker, how many, of how many)."""


def _connections(run: Run) -> Timed:
    return ((row.speaker, row.connection_s) for row in run.attempts)


def _measured(run: Run) -> Iterator[TurnRow]:
    return (turn for turn in run.turns if not turn.warm_up)


def _words(run: Run) -> Timed:
    return ((turn.speaker, value) for turn in _measured(run) for value in word_latencies_s(turn))


def _of_turns(read: Callable[[TurnRow], float | None]) -> Callable[[Run], Timed]:
    return lambda run: ((turn.speaker, read(turn)) for turn in _measured(run))


TIMED: Mapping[str, Callable[[Run], Timed]] = MappingProxyType(
    {
        "connection": _connections,
        **{name: _of_turns(read) for name, read in UTTERANCE_METRICS.items()},
        "word_latency": _words,
    }
)
"""Delays, by the names of the summary; the generator's own lag is no figure of the server's."""


def _errors(run: Run) -> Counted:
    for row in run.attempts:
        yield row.speaker, float(row.outcome != "ok"), 1.0
    for turn in _measured(run):
        yield turn.speaker, float(math.isinf(transcription_delay(turn))), 1.0
        if turn.reply_expected:
            yield turn.speaker, float(turn.response_latency_s is None), 1.0


def _word_errors(run: Run) -> Counted:
    if not run.manifest.text_observable:
        return
    for turn in _measured(run):
        errors = word_errors(turn)
        if errors is not None:
            yield turn.speaker, float(sum(errors)), float(turn.reference_words)


def _cross_talk(run: Run) -> Counted:
    if run.manifest.text_observable:
        for turn in _measured(run):
            yield turn.speaker, float(turn.cross_talk_words > 0), 1.0


def _premature(run: Run) -> Counted:
    return ((turn.speaker, float(turn.premature_finals > 0), 1.0) for turn in _measured(run))


def _lost(read: Callable[[TurnRow], bool | None]) -> Callable[[Run], Counted]:
    """Utterances whose first, or last, word was not heard; of those of which that is known."""
    return lambda run: (
        (turn.speaker, float(flag), 1.0)
        for turn in _measured(run)
        if run.manifest.text_observable and (flag := read(turn)) is not None
    )


SHARES: Mapping[str, Callable[[Run], Counted]] = MappingProxyType(
    {
        "errors": _errors,
        "wer": _word_errors,
        "premature_finals": _premature,
        "cross_talk": _cross_talk,
        "first_words_lost": _lost(lambda turn: turn.first_word_lost),
        "last_words_lost": _lost(lambda turn: turn.last_word_lost),
    }
)
"""Shares: of what was asked for, of words, and of utterances."""


def delays(run: Run, name: str) -> Samples:
    """Of one timed metric."""
    return samples([(who, value) for who, value in TIMED[name](run) if value is not None])


def shares(run: Run, name: str) -> Samples:
    """Of one share."""
    return counts(list(SHARES[name](run)))


def segments(run: Run) -> dict[str, Samples]:
    """Seconds a turn by segment of the server's own account; what was hidden is left out."""
    speakers = {turn.session_id: turn.speaker for turn in run.turns}
    warm = {(turn.session_id, turn.item_id) for turn in run.turns if turn.warm_up}
    sums: dict[str, dict[tuple[str, str], float]] = {}
    for row in run.server_turns:
        key = (row.session_id, row.item_id)
        if row.stage == "transcript" and not row.hidden and key not in warm:
            turns = sums.setdefault(row.segment, {})
            turns[key] = turns.get(key, 0.0) + row.duration_s
    return {name: samples(_by_speaker(turns, speakers)) for name, turns in sums.items()}


def _by_speaker(
    turns: Mapping[tuple[str, str], float], speakers: Mapping[str | None, int]
) -> list[tuple[int, float]]:
    return [(speakers[session], s) for (session, _), s in turns.items() if session in speakers]
