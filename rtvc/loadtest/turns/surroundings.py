"""What a turn's time consists of before and after what the server timed.

Three segments that only the client can tell, once the server says which sample it took for the
last of the speech, and how much audio had arrived with it:

    vad_offset   the true end of speech → that sample; negative if the server heard it end early
    framing      that sample spoken → the message that brought the server to it sent
    transport    that message sent → the answer received, less what the server timed in between

The last compares two durations, each of one clock; instants of two machines are never subtracted.
It holds the network both ways, and a server that reads its socket late.
"""

from bisect import bisect_left
from collections import deque
from dataclasses import replace
from typing import Protocol

from rtvc.loadtest.wire.observations import Segment, TurnTimed

KEPT = 8192
"""Messages whose times are remembered: 2.7 minutes at 20 ms."""

SLACK_S = 0.0005
"""Positions are told in hundredths of a millisecond; a message is longer than 1 ms."""


class SendTimes:
    """When which part of the audio was sent."""

    def __init__(self, kept: int = KEPT) -> None:
        self._ends_s: deque[float] = deque(maxlen=kept)
        self._sent_at_s: deque[float] = deque(maxlen=kept)

    def sent(self, audio_s: float, at_s: float) -> None:
        """All audio up to `audio_s`, an offset in the stream, has been sent at `at_s`."""
        self._ends_s.append(audio_s)
        self._sent_at_s.append(at_s)

    def when(self, audio_s: float) -> float | None:
        """When the audio up to there had been sent; None: not yet, or long ago.

        >>> times = SendTimes()
        >>> times.sent(0.02, 7.0), times.sent(0.04, 7.5)
        (None, None)
        >>> times.when(0.03), times.when(0.041)
        (7.5, None)
        """
        if not self._ends_s or audio_s < self._ends_s[0] - SLACK_S:
            return None
        place = bisect_left(self._ends_s, audio_s - SLACK_S)
        return self._sent_at_s[place] if place < len(self._ends_s) else None


class Spoken(Protocol):
    """What the measurement of the call knows of the turn."""

    def speech_end_s(self, item_id: str) -> float | None: ...
    def answered_at_s(self, item_id: str, response_id: str | None) -> float | None: ...


def with_surroundings(
    timed: TurnTimed, stream_start_s: float, times: SendTimes, spoken: Spoken
) -> TurnTimed:
    """The server's account of a turn, with what only the client can tell.

    As it was, where the server did not say what it took for the end of speech, or the client no
    longer knows when it sent that.
    """
    end_s = spoken.speech_end_s(timed.item_id)
    answered_at_s = spoken.answered_at_s(timed.item_id, timed.response_id)
    if None in (timed.last_speech_s, timed.received_s, end_s, answered_at_s):
        return timed
    assert timed.last_speech_s is not None
    assert timed.received_s is not None
    assert end_s is not None
    assert answered_at_s is not None
    sent_at_s = times.when(timed.received_s)
    if sent_at_s is None:
        return timed
    server_s = max((s.start_s + s.duration_s for s in timed.segments if not s.hidden), default=0.0)
    offset_s = timed.last_speech_s - end_s
    framing_s = sent_at_s - (stream_start_s + timed.last_speech_s)
    transport_s = answered_at_s - sent_at_s - server_s
    before = (
        Segment("vad_offset", -framing_s - offset_s, offset_s, hidden=False),
        Segment("framing", -framing_s, framing_s, hidden=False),
    )
    # Less than nothing means that the server claims more than passed: that stays unaccounted.
    after = Segment("transport", server_s, max(0.0, transport_s), hidden=False)
    return replace(timed, segments=(*before, *timed.segments, after))
