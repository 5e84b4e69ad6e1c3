"""What became of connections, utterances and words."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from rtvc.failures import NO_FINAL, NO_REPLY, UNKNOWN
from rtvc.record import ConnectionRow, SampleRow, TurnRow
from rtvc.summary.figures import Accuracy, Connections, Errors, Reason, Utterances
from rtvc.summary.timed import transcription_delay

USABLE = ("ok", "lost")
"""Outcomes of attempts that came to be a session."""

HALLUCINATED_WORDS = "hallucinated_words"
"""Sample that the generator writes for each final that came though nothing had been said."""
HALLUCINATED_PARTIAL_WORDS = "hallucinated_partial_words"
"""The same of a text that might still change."""
HALLUCINATED = (HALLUCINATED_WORDS, HALLUCINATED_PARTIAL_WORDS)
CUT_OFF_SPEECH = "cut_off_speech_seconds"
"""Sample that the generator writes for each session that the server ended while its caller spoke:
how much had been said of that utterance, of which there is no turn; at the session's end."""

REASONS = 8
"""Different reasons why attempts to connect were not ok, kept at most."""


def connections_of(rows: Sequence[ConnectionRow]) -> Connections:
    outcomes = [row.outcome for row in rows]
    return Connections(
        attempts=len(rows),
        ok=outcomes.count("ok"),
        refused=outcomes.count("refused"),
        failed=outcomes.count("failed"),
        lost=outcomes.count("lost"),
        concurrent=_concurrent(rows),
        reasons=_reasons(rows),
        complaint=next((row.reason for row in rows if row.outcome == "ok" and row.reason), None),
    )


def _reasons(rows: Sequence[ConnectionRow]) -> list[Reason]:
    counted = Counter(
        (row.outcome, row.reason or "no reason given", row.failure)
        for row in rows
        if row.outcome != "ok"
    )
    return [
        Reason(outcome, reason, times, failure)
        for (outcome, reason, failure), times in counted.most_common(REASONS)
    ]


def _concurrent(rows: Sequence[ConnectionRow]) -> int:
    """Largest number of usable sessions open at once."""
    edges: list[tuple[float, int]] = []
    for row in rows:
        usable_s = row.handshake_s if row.connection_s is None else row.connection_s
        # A session that was to be read from its text stood once its WebSocket did.
        if usable_s is not None and (row.connection_s is not None or row.outcome in USABLE):
            edges.append((row.opened_at_s + usable_s, 1))
            edges.append((math.inf if row.closed_at_s is None else row.closed_at_s, -1))
    open_now = most = 0
    for _, change in sorted(edges):
        open_now += change
        most = max(most, open_now)
    return most


def utterances_of(all_turns: Sequence[TurnRow]) -> Utterances:
    turns = [turn for turn in all_turns if not turn.warm_up]
    cut = sum(turn.premature_finals > 0 for turn in turns)
    expected = [turn for turn in turns if turn.reply_expected]
    return Utterances(
        spoken=len(turns),
        warm_up=len(all_turns) - len(turns),
        interruptions=sum(turn.kind == "interruption" for turn in turns),
        finals_missing=sum(math.isinf(transcription_delay(turn)) for turn in turns),
        premature_finals=sum(turn.premature_finals for turn in turns),
        cut_utterances=cut,
        premature_share=cut / len(turns) if turns else None,
        replies_expected=len(expected),
        replies_missing=sum(turn.response_latency_s is None for turn in expected),
    )


def word_errors(turn: TurnRow) -> tuple[int, int, int] | None:
    """(S, D, I); all words lost if no final came; None if the text was not observable."""
    counts = (turn.substitutions, turn.deletions, turn.insertions)
    if None not in counts:
        return (turn.substitutions or 0, turn.deletions or 0, turn.insertions or 0)
    return (0, turn.reference_words, 0) if turn.final_at_s is None else None


def accuracy_of(turns: Sequence[TurnRow], samples: Iterable[SampleRow] = ()) -> Accuracy:
    scored = [(turn, errors) for turn in turns if (errors := word_errors(turn)) is not None]
    words = sum(turn.reference_words for turn, _ in scored)
    substitutions, deletions, insertions = (
        sum(errors[kind] for _, errors in scored) for kind in range(3)
    )
    total = substitutions + deletions + insertions
    made_up = [row for row in samples if row.name in HALLUCINATED]
    finals = [row.value for row in made_up if row.name == HALLUCINATED_WORDS]
    return Accuracy(
        utterances=len(scored),
        unscored=len(turns) - len(scored),
        reference_words=words,
        substitutions=substitutions,
        deletions=deletions,
        insertions=insertions,
        wer=total / words if words else None,
        cross_talk_words=sum(turn.cross_talk_words for turn in turns),
        cross_talk_turns=sum(turn.cross_talk_words > 0 for turn in turns),
        first_words_lost=_known(turn.first_word_lost for turn in turns),
        last_words_lost=_known(turn.last_word_lost for turn in turns),
        hallucinated_finals=len(finals),
        hallucinated_words=round(sum(finals)),
        hallucinated_partials=len(made_up) - len(finals),
    )


def _known(flags: Iterable[bool | None]) -> int | None:
    """How many are true; None where nothing is known."""
    known = [flag for flag in flags if flag is not None]
    return sum(known) if known else None


def not_observable(turns: Sequence[TurnRow]) -> Accuracy:
    """Of a model whose text means nothing, not even that a word was lost."""
    return Accuracy(
        utterances=0,
        unscored=len(turns),
        reference_words=0,
        substitutions=0,
        deletions=0,
        insertions=0,
        wer=None,
        cross_talk_words=None,
        cross_talk_turns=None,
    )


def errors_of(connections: Connections, utterances: Utterances) -> Errors:
    count = connections.refused + connections.failed + connections.lost
    count += utterances.finals_missing + (utterances.replies_missing or 0)
    attempts = connections.attempts + utterances.spoken + (utterances.replies_expected or 0)
    return Errors(count, attempts, count / attempts if attempts else None)


_COUNT = "_count"


def message_counts(samples: Iterable[SampleRow], until_s: float = math.inf) -> Counter[str]:
    """What went wrong with messages up to an instant: the generator writes running counts."""
    latest = {
        row.name.removesuffix(_COUNT): round(row.value)
        for row in samples
        if row.source == "generator" and row.name.endswith(_COUNT) and row.at_s <= until_s
    }
    return Counter(latest)


def failures_of(
    rows: Iterable[ConnectionRow], utterances: Utterances, messages: Counter[str]
) -> dict[str, int]:
    """All that went wrong, by name, the most frequent first."""
    counted = messages + Counter(row.failure or UNKNOWN for row in rows if row.outcome != "ok")
    counted += Counter(
        {NO_FINAL: utterances.finals_missing, NO_REPLY: utterances.replies_missing or 0}
    )
    return dict(counted.most_common())
