"""Who spoke when, and when what came back: a lane for each speaker."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rtvc.record import ConnectionRow, Run, TurnRow
from rtvc.report.svg import (
    WIDTH,
    Figure,
    Scale,
    bar,
    bottom_axis,
    cross,
    line,
    picture,
    ring,
    text,
)
from rtvc.slo import shown
from rtvc.summary import transcription_delay

LEFT, RIGHT = 84, WIDTH - 16
"""Edges of the plotting area, in user units."""

WINDOW_S = 90.0
"""Seconds: longest stretch that is drawn; a longer one would be a grey smear."""

MOST_LANES = 50
"""Speakers drawn."""

LANES = ((16, 24), (28, 18), (MOST_LANES, 13))
"""Up to so many speakers, so many user units for each."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The part of a run that is drawn."""

    begin_s: float
    """First instant."""
    end_s: float
    """Last instant."""
    turns: list[TurnRow]
    """Utterances inside, of every speaker."""
    attempts: list[ConnectionRow]
    """Sessions that went wrong inside."""
    speakers: list[int]
    """Those drawn, by number."""
    everyone: int
    """Speakers in the run."""

    @property
    def thinned(self) -> bool:
        return self.everyone > len(self.speakers)


def excerpt(run: Run) -> Excerpt | None:
    """The whole run, or the stretch around its slowest turn, and the speakers worth a look."""
    if not run.turns:
        return None
    begin, end = _window(run.turns)
    inside = [
        turn for turn in run.turns if begin <= turn.speech_start_at_s and _ends_at(turn) <= end
    ]
    wrong = [row for row in run.attempts if row.outcome != "ok" and begin <= _ended_at(row) <= end]
    return Excerpt(
        begin_s=begin,
        end_s=end,
        turns=inside,
        attempts=wrong,
        speakers=_chosen(inside, wrong),
        everyone=len({turn.speaker for turn in run.turns} | {row.speaker for row in run.attempts}),
    )


def _window(turns: Sequence[TurnRow]) -> tuple[float, float]:
    last = max(_ends_at(turn) for turn in turns)
    if last <= WINDOW_S:
        return 0.0, max(last * 1.01, 1.0)
    slowest = max(turns, key=lambda turn: (not turn.warm_up, transcription_delay(turn)))
    begin = min(max(0.0, slowest.speech_start_at_s - WINDOW_S / 2), last - WINDOW_S)
    return begin, begin + WINDOW_S


def _ends_at(turn: TurnRow) -> float:
    return max(turn.speech_end_at_s, turn.final_at_s or 0.0, turn.reply_last_audio_at_s or 0.0)


def _ended_at(row: ConnectionRow) -> float:
    return row.opened_at_s if row.closed_at_s is None else row.closed_at_s


def _chosen(turns: Sequence[TurnRow], wrong: Sequence[ConnectionRow]) -> list[int]:
    """Where something went wrong first, then the slowest."""
    worst = {row.speaker: math.inf for row in wrong}
    for turn in turns:
        delay = -math.inf if turn.warm_up else transcription_delay(turn)
        if turn.reply_expected and turn.response_latency_s is None:
            delay = math.inf
        worst[turn.speaker] = max(worst.get(turn.speaker, -math.inf), delay)
    slowest = sorted(worst, key=lambda speaker: worst[speaker], reverse=True)[:MOST_LANES]
    return sorted(slowest)


def timeline(run: Run, *, texts: bool = True) -> Figure | None:
    """`texts`: whether what was said may stand under the pointer."""
    part = excerpt(run)
    if part is None:
        return None
    lane = _lane(len(part.speakers))
    height = 26 + lane * len(part.speakers)
    x = Scale(part.begin_s, part.end_s, LEFT, RIGHT)
    parts = bottom_axis(x, height, 20, "s")
    for row, speaker in enumerate(part.speakers):
        parts += _lane_marks(part, speaker, x, 26 + lane * (row + 0.5), lane / 24, texts=texts)
    return Figure(
        "timeline",
        "Who spoke when",
        f"{_which(part)}{part.begin_s:.0f} to {part.end_s:.0f} s. Speech, its first text, then the "
        "wait for its final transcript, then the reply as received (faster than it is played). "
        "Warm-up is pale.",
        picture(height + 28, parts, "Timeline of utterances, finals and replies by speaker"),
    )


def _lane(speakers: int) -> int:
    return next((height for most, height in LANES if speakers <= most), LANES[-1][1])


def _which(part: Excerpt) -> str:
    if not part.thinned:
        return ""
    return (
        f"{len(part.speakers)} of {part.everyone} speakers are drawn, those with lost or the "
        "slowest answers; "
    )


def _lane_marks(
    part: Excerpt, speaker: int, x: Scale, middle: float, scale: float, *, texts: bool
) -> list[str]:
    marks = [
        text(LEFT - 10, middle + 4, f"speaker {speaker}", "tick", "end"),
        line(LEFT, middle, RIGHT, middle, "lane"),
    ]
    for turn in part.turns:
        if turn.speaker == speaker:
            marks += _turn_marks(turn, x, middle, scale, texts=texts)
    for row in part.attempts:
        if row.speaker == speaker:
            hint = f"speaker {speaker}: {row.outcome}, {row.reason or 'no reason given'}"
            marks.append(cross(x(_ended_at(row)), middle, "cross-session", hint))
    return marks


def _turn_marks(turn: TurnRow, x: Scale, y: float, scale: float, *, texts: bool) -> list[str]:
    pale = " pale" if turn.warm_up else ""
    start, end, half = turn.speech_start_at_s, turn.speech_end_at_s, 6 * scale
    who = f"speaker {turn.speaker}, utterance {turn.utterance}"
    said = f"{who}: {turn.text}" if texts else who
    marks = [bar(x(start), y - half, x(end) - x(start), 2 * half, f"speech{pale}", said)]
    marks += _answer_marks(turn, x, y, half, who, pale)
    if turn.premature_finals:
        marks.append(line(x(start) + 3, y - 1.5 * half, x(end) - 3, y - 1.5 * half, "cut"))
    if turn.cross_talk_words:
        hint = f"{who}: heard {turn.cross_talk_words} words of another speaker"
        marks.append(bar(x(start), y + half, x(end) - x(start), half / 2, "over", hint))
    return marks + _reply_marks(turn, x, y, half / 2, who, pale)


def _answer_marks(turn: TurnRow, x: Scale, y: float, half: float, who: str, pale: str) -> list[str]:
    end, final, first = turn.speech_end_at_s, turn.final_at_s, turn.first_partial_at_s
    marks = []
    if final is None:
        marks.append(cross(x(end) + 7, y, "cross", f"{who}: no final"))
    elif final > end:
        hint = f"{who}: final after {shown(transcription_delay(turn), 's')}"
        marks.append(bar(x(end), y - half, x(final) - x(end), 2 * half, f"waiting{pale}", hint))
    if first is not None:
        marks.append(line(x(first), y - half, x(first), y + half, f"first-text{pale}"))
    return marks


def _reply_marks(turn: TurnRow, x: Scale, y: float, half: float, who: str, pale: str) -> list[str]:
    first, last = turn.reply_first_audio_at_s, turn.reply_last_audio_at_s
    if first is not None and last is not None:
        hint = f"{who}: reply after {shown(turn.response_latency_s or 0.0, 's')}"
        return [bar(x(first), y - half, x(last) - x(first), 2 * half, f"reply{pale}", hint)]
    if turn.reply_expected and turn.final_at_s is not None:
        return [ring(x(turn.final_at_s) + 8, y, 3.2, "no-reply", f"{who}: no reply")]
    return []
