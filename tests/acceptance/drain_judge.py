"""What it cost callers that a server behind a proxy was stopped. Pure: rows and instants in.

A session belongs to the server that showed it under /v1/sessions. Those that were open on a
server when it was told to stop have ended in one of four ways:

    finished   the caller had said all, and hung up
    let go     closed with 1001 between two turns, before the deadline
    late       closed with 1001 at the deadline: somebody still spoke, or was being answered
    cut        closed in any other way, or before the deadline while somebody spoke or was answered

Whether somebody spoke is known from both sides: the server's last word of the session, and what
the load test was saying as it ended. A caller may begin to speak in the very moment in which the
session is closed; as long as the server could not know, that is no cut, but it is told.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rtvc.chaos.judge import GOING_AWAY, SLACK_S, finals_lost, span
from rtvc.record import ConnectionRow, TurnRow

LAST_WORDS_S = 6.0
"""From the deadline to the end of a server that writes its last finals: serve.last_final_s, and a
moment to leave."""
UNNOTICED_S = 0.5
"""Speech is on its way for so long, and taken for speech, before a server can know of it."""
STALE_S = 1.0
"""What a server said of a session longer ago says nothing of its end. It lets go who has been quiet
for as long."""
LEAST_SESSIONS = 10
"""Open at all stops together; with fewer, that none was cut says little."""
TALKED = ("ok", "lost")
"""Outcomes of attempts that became sessions."""
TURNED_AWAY = ("refused", "failed")
"""Outcomes of those that did not."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a session was, as its server told."""

    server: str
    """Which of them."""
    busy: bool
    """Whether somebody spoke, or was being answered, when it was last seen."""
    at_s: float
    """When that was; by the load test's clock."""


@dataclass(frozen=True, slots=True)
class Stop:
    """One server told to stop; instants by the load test's clock."""

    server: str
    """Which of them."""
    told_at_s: float
    """SIGTERM."""
    noticed_at_s: float | None
    """The proxy was seen to send nobody there any more; None: it never was."""
    ended_at_s: float
    """Its process was gone."""
    exit_code: int | None
    """None: it had to be killed."""
    back_at_s: float | None
    """Started again, and the proxy was seen to send callers there; None: it never was."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a run."""

    connections: Sequence[ConnectionRow]
    """Attempts, each once."""
    turns: Sequence[TurnRow]
    """Utterances that were spoken to their end."""
    places: Mapping[str, Place]
    """By session id."""
    deadline_s: float
    """Patience of a server that was told to stop: serve.shutdown_s."""
    cut_off_s: Mapping[float, float] = field(default_factory=dict)
    """By the instant of a session's end: seconds of the utterance in whose middle that was."""

    def spoken_s(self, row: ConnectionRow) -> float:
        """How much its caller had said of an utterance when the session ended; 0: nothing."""
        return 0.0 if row.closed_at_s is None else self.cut_off_s.get(row.closed_at_s, 0.0)

    def was_busy(self, row: ConnectionRow) -> bool:
        """Whether the server knew, or had to know, that something was going on at its end."""
        place = self.places.get(row.session_id or "")
        end_s = row.closed_at_s or 0.0
        said_so = place is not None and place.busy and place.at_s >= end_s - STALE_S
        return said_so or self.spoken_s(row) > UNNOTICED_S

    def server_of(self, row: ConnectionRow) -> str | None:
        """None: no server has shown it."""
        place = self.places.get(row.session_id or "")
        return None if place is None else place.server

    @property
    def lost(self) -> list[ConnectionRow]:
        """Sessions that were not ended by their callers."""
        return [row for row in self.connections if row.outcome == "lost"]


@dataclass(frozen=True, slots=True)
class Told:
    """What came of one stop."""

    server: str
    """As in `Stop`."""
    sessions: int
    """Open on it when it was told."""
    finished: int
    """As above."""
    let_go: int
    """As above."""
    late: int
    """As above."""
    cut: int
    """As above."""
    spoken_into_s: tuple[float, ...]
    """Of those let go whose callers had just begun to speak: how much each had said."""
    turns: int
    """Turns of these sessions that were not over when it was told."""
    finals_lost: int
    """Of them, those that were spoken before the session's end and have no final."""
    replies_lost: int
    """Of them, those whose reply was owed before the deadline and never began."""
    went_there: int
    """Sessions that began on it after it was told."""
    went_elsewhere: int
    """Sessions that began on another until it was back."""
    turned_away: int
    """Callers who found no server meanwhile."""
    came_back: int
    """Sessions that began on it once it was started again."""
    noticed_s: float | None
    """From the signal until the proxy was seen to have noticed."""
    drained_s: float
    """From the signal until its process was gone."""
    exit_code: int | None
    """As in `Stop`."""
    delay_before: str
    """Transcription delay of all callers in the calm before, in words."""
    delay_away: str
    """The same while it was away."""


def told_of(stop: Stop, from_s: float, until_s: float, seen: Seen) -> Told:
    """From the beginning of the calm before a stop until the next one, or the run's end."""
    there = [row for row in seen.connections if _was_open(row, stop, seen)]
    lost = [row for row in there if row.outcome == "lost"]
    kinds = [kind_of(row, stop, seen) for row in there]
    ids = {row.session_id for row in there}
    turns = [
        turn
        for turn in seen.turns
        if turn.session_id in ids and not _was_over(turn, stop.told_at_s - SLACK_S)
    ]
    back_at_s = until_s if stop.back_at_s is None else stop.back_at_s
    meanwhile = _begun(seen, stop.told_at_s + SLACK_S, back_at_s)
    draining = _begun(seen, stop.told_at_s + SLACK_S, stop.ended_at_s)
    later = _begun(seen, stop.ended_at_s, until_s)
    return Told(
        server=stop.server,
        sessions=len(there),
        finished=kinds.count("finished"),
        let_go=kinds.count("let go"),
        late=kinds.count("late"),
        cut=kinds.count("cut"),
        spoken_into_s=_spoken_into_s(there, kinds, seen),
        turns=len(turns),
        finals_lost=finals_lost(turns, lost),
        replies_lost=_replies_lost(
            turns, [row for row in lost if kind_of(row, stop, seen) != "late"]
        ),
        went_there=sum(seen.server_of(row) == stop.server for row in draining),
        went_elsewhere=sum(seen.server_of(row) != stop.server for row in meanwhile),
        turned_away=sum(
            row.outcome in TURNED_AWAY and stop.told_at_s - SLACK_S < row.opened_at_s < back_at_s
            for row in seen.connections
        ),
        came_back=sum(seen.server_of(row) == stop.server for row in later),
        noticed_s=None if stop.noticed_at_s is None else stop.noticed_at_s - stop.told_at_s,
        drained_s=stop.ended_at_s - stop.told_at_s,
        exit_code=stop.exit_code,
        delay_before=_delay(seen, from_s, stop.told_at_s),
        delay_away=_delay(seen, stop.told_at_s, back_at_s),
    )


def _begun(seen: Seen, from_s: float, until_s: float) -> list[ConnectionRow]:
    """Sessions that began meanwhile."""
    return [
        row
        for row in seen.connections
        if row.outcome in TALKED and from_s <= row.opened_at_s < until_s
    ]


def _was_open(row: ConnectionRow, stop: Stop, seen: Seen) -> bool:
    """A session that was lost may be told to have ended a moment before the signal."""
    if seen.server_of(row) != stop.server or row.outcome not in TALKED:
        return False
    slack_s = SLACK_S if row.outcome == "lost" else 0.0
    closed = row.closed_at_s is not None and row.closed_at_s < stop.told_at_s - slack_s
    return row.opened_at_s < stop.told_at_s + SLACK_S and not closed


def _was_over(turn: TurnRow, at_s: float) -> bool:
    """Whether its text had come, and all of its reply that ever came."""
    last_s = max(turn.speech_end_at_s, turn.final_at_s or 0.0, turn.reply_last_audio_at_s or 0.0)
    return turn.final_at_s is not None and last_s < at_s


def kind_of(row: ConnectionRow, stop: Stop, seen: Seen) -> str:
    """How a session ended that was open at a stop."""
    if row.outcome == "ok":
        return "finished"
    if row.close_code != GOING_AWAY or row.closed_at_s is None:
        return "cut"
    if row.closed_at_s >= stop.told_at_s + seen.deadline_s - SLACK_S:
        return "late"
    return "cut" if seen.was_busy(row) else "let go"


def _spoken_into_s(
    rows: Sequence[ConnectionRow], kinds: Sequence[str], seen: Seen
) -> tuple[float, ...]:
    let_go = (row for row, kind in zip(rows, kinds, strict=True) if kind == "let go")
    return tuple(spoken_s for row in let_go if (spoken_s := seen.spoken_s(row)) > 0)


def _replies_lost(turns: Sequence[TurnRow], closed: Sequence[ConnectionRow]) -> int:
    """Owed to those who were closed and had not heard the beginning of it."""
    closed_at_s = {row.session_id: row.closed_at_s or 0.0 for row in closed}
    return sum(
        turn.reply_expected
        and turn.response_latency_s is None
        and turn.session_id in closed_at_s
        and turn.speech_end_at_s <= closed_at_s[turn.session_id]
        for turn in turns
    )


def _delay(seen: Seen, from_s: float, until_s: float) -> str:
    found = span([turn for turn in seen.turns if from_s <= turn.speech_end_at_s < until_s])
    if found.delay_s is None:
        return "–"
    shown = "∞" if math.isinf(found.delay_s) else f"{found.delay_s * 1000:.0f} ms"
    return f"{shown} ({found.delay_name}, n={found.turns})"


def why_void(told: Sequence[Told], seen: Seen, generator_says: str | None) -> str | None:
    """Why nothing is proven; None: something is."""
    if generator_says is not None:
        return f"the load generator did not keep up: {generator_says}"
    unplaced = sum(
        row.outcome in TALKED and seen.server_of(row) is None for row in seen.connections
    )
    if unplaced:
        return f"expected to know each session's server, got {unplaced} that none has shown"
    sessions = sum(one.sessions for one in told)
    if sessions < LEAST_SESSIONS or not all(one.sessions for one in told):
        return f"expected {LEAST_SESSIONS} sessions or more at the stops, and some at each"
    return None


def checks(told: Sequence[Told], seen: Seen) -> dict[str, bool]:
    """Each promise with whether it is kept."""
    replies_lost = sum(one.replies_lost for one in told)
    turned_away = sum(row.outcome in TURNED_AWAY for row in seen.connections)
    at_most_s = seen.deadline_s + LAST_WORDS_S
    return {
        "no turn is lost": not finals_lost(seen.turns, seen.lost) and not replies_lost,
        "no session is cut before the deadline": not any(one.cut for one in told),
        "no other session is ended by a server": (
            len(seen.lost) == sum(one.let_go + one.late + one.cut for one in told)
        ),
        "new sessions go to the other server": all(
            one.went_elsewhere and not one.went_there for one in told
        ),
        "nobody is turned away": not turned_away,
        "the server ends by itself, in time": all(
            one.exit_code == 0 and one.drained_s <= at_most_s for one in told
        ),
        "it comes back and gets sessions again": all(one.came_back for one in told),
    }


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"


def _spoken(values_s: Sequence[float]) -> str:
    """How many, and the most that one of them had said."""
    return f"{len(values_s)} ({1000 * max(values_s):.0f} ms)" if values_s else "0"


COLUMNS: dict[str, Callable[[Told], object]] = {
    "stopped": lambda one: one.server,
    "sessions": lambda one: one.sessions,
    "finished": lambda one: one.finished,
    "let go": lambda one: one.let_go,
    "at the deadline": lambda one: one.late,
    "cut": lambda one: one.cut,
    "as they began to speak": lambda one: _spoken(one.spoken_into_s),
    "turns": lambda one: one.turns,
    "turns lost": lambda one: one.finals_lost + one.replies_lost,
    "new on the other": lambda one: one.went_elsewhere,
    "new on it": lambda one: one.went_there,
    "turned away": lambda one: one.turned_away,
    "proxy noticed after": lambda one: _seconds(one.noticed_s),
    "ended after": lambda one: _seconds(one.drained_s),
    "delay before": lambda one: one.delay_before,
    "delay while away": lambda one: one.delay_away,
    "new once back": lambda one: one.came_back,
}
"""Of the table."""


def table(told: Sequence[Told]) -> list[str]:
    """Markdown, one row a stop."""
    rows = [[str(cell(one)) for cell in COLUMNS.values()] for one in told]
    return [f"| {' | '.join(row)} |" for row in (list(COLUMNS), ["---"] * len(COLUMNS), *rows)]
