"""What a wire protocol can show: readiness that is told by the first text only, and figures that
are not there to be seen. Pure."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from rtvc.record import ConnectionRow, Manifest, Run, TurnRow
from rtvc.summary.figures import METRICS, Summary, Utterances
from rtvc.summary.timed import metric_of

INFERRED = "inferred"
"""`Manifest.ready` of a protocol without a ready message."""


def with_inferred_ready(run: Run) -> Run:
    """Connection times of sessions that never say that they are ready.

    The speaker speaks at once. What its first text took longer than the text of a session that
    is warm, the session was not ready for:

        connection time = handshake + time to first partial − the same of a warm utterance

    of the same clip where it was said again, else the run's median. Where the first utterance was
    not heard at all, the session was ready no earlier than the first text less a warm one's wait.
    A session without text, or a run without a warm utterance, has no connection time.
    """
    if run.manifest.ready != INFERRED:
        return run
    spoken: defaultdict[int, list[TurnRow]] = defaultdict(list)
    for turn in run.turns:
        spoken[turn.speaker].append(turn)
    sessions = [_Session(row, spoken[row.speaker]) for row in run.attempts]
    first = {id(session.turns[0]) for session in sessions if session.turns}
    warm = [turn for turn in run.turns if id(turn) not in first]
    return replace(run, connections=[session.row(warm) for session in sessions])


class _Session:
    """One attempt to connect, and the utterances that followed."""

    def __init__(self, row: ConnectionRow, turns: Sequence[TurnRow]) -> None:
        """`turns` are those of its speaker."""
        self._row = row
        mine = (turn for turn in turns if _within(row, turn))
        self.turns = sorted(mine, key=lambda turn: turn.speech_start_at_s)

    def row(self, warm: Sequence[TurnRow]) -> ConnectionRow:
        """With its connection time, where that can be told."""
        row = self._row
        heard = next((t for t in self.turns if t.time_to_first_partial_s is not None), None)
        usual_s = None if heard is None else _warm_wait_s(heard, warm)
        if heard is None or usual_s is None or row.handshake_s is None:
            return row
        if row.connection_s is not None:
            return row
        late_s = (heard.time_to_first_partial_s or 0.0) - usual_s
        if heard is not self.turns[0]:
            late_s += heard.first_word_end_at_s - row.opened_at_s - row.handshake_s
        setup_s = max(0.0, late_s)
        return replace(row, setup_s=setup_s, connection_s=row.handshake_s + setup_s)


def _within(row: ConnectionRow, turn: TurnRow) -> bool:
    closed_at_s = row.closed_at_s
    begun = turn.speech_start_at_s >= row.opened_at_s
    return begun and (closed_at_s is None or turn.speech_start_at_s <= closed_at_s)


def _warm_wait_s(heard: TurnRow, warm: Sequence[TurnRow]) -> float | None:
    """Time to first partial once a session is warm; None where no utterance tells."""
    known = [turn for turn in warm if turn.time_to_first_partial_s is not None and turn != heard]
    same = [turn for turn in known if (turn.text, turn.voice) == (heard.text, heard.voice)]
    waits = [turn.time_to_first_partial_s or 0.0 for turn in same or known]
    return median(waits) if waits else None


def as_observed(summary: Summary, manifest: Manifest) -> Summary:
    """Without figures that the protocol cannot show; absent, never 0."""
    hidden = set(manifest.not_observable)
    seen = replace(
        summary,
        protocol=manifest.protocol,
        ready=manifest.ready,
        not_observable=sorted(hidden),
    )
    if not hidden:
        return seen
    nothing = metric_of([])
    metrics = {
        name: nothing if name in hidden else metric for name, metric in summary.metrics.items()
    }
    return replace(seen, metrics=metrics, utterances=_visible(summary.utterances, hidden))


def _visible(utterances: Utterances, hidden: set[str]) -> Utterances:
    if "replies_missing" in hidden:
        utterances = replace(utterances, replies_expected=None, replies_missing=None)
    if "premature_finals" in hidden:
        utterances = replace(
            utterances, premature_finals=None, cut_utterances=None, premature_share=None
        )
    return utterances


OBSERVABLE = frozenset(METRICS) | {"replies_missing", "premature_finals"}
"""What `Manifest.not_observable` may name."""
