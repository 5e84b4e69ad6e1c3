"""One speaker on the line, in two greenlets.

The sender keeps an absolute schedule: frame i is due at the stream's start + (i + 1) frames, the
instant of its last sample. A frame that is late leaves at once and its lag is noted. The
receiver reads and stamps at once.

gevent is met here and in the generator only; importing it patches nothing, the locustfile does.
"""

import itertools
import math
from collections import Counter
from dataclasses import dataclass

import gevent

from rtvc.clock import Clock
from rtvc.loadtest.attempt import Attempt, open_session
from rtvc.loadtest.call import Call
from rtvc.loadtest.measure import Turn
from rtvc.loadtest.meter import Meter, frame_lag_s
from rtvc.loadtest.spec import LAST_WORD_S, LoadSpec
from rtvc.loadtest.transport import Connection, Frames, LostError

IO_TIMEOUT_S = 10.0
"""A server that reads nothing for so long has hung up; a quiet receiver looks up as often."""


@dataclass(slots=True)
class Shift:
    """When this run's speakers stop; shared by all of them."""

    stop_at_s: float
    """Seconds since the run's start; then each ends its utterance and awaits its answer."""
    interrupted: bool = False
    """Hang up at once."""


@dataclass(frozen=True, slots=True)
class Switchboard:
    """What every call of a run shares."""

    spec: LoadSpec
    """What the run is to do."""
    clock: Clock
    """Seconds since the run's start."""
    meter: Meter
    """Watches how late frames leave."""
    counts: Counter[str]
    """What went wrong, by name."""
    shift: Shift
    """When to stop."""
    api_key: str | None
    """Bearer token; None: none is sent."""
    frames: Frames
    """Audio as it goes over the wire."""


class LiveCall:
    """A call and its connection."""

    def __init__(self, number: int, call: Call, board: Switchboard) -> None:
        self.number = number
        self.call = call
        self.attempt = Attempt(number, board.clock.now())
        self._board = board
        self._clock = board.clock
        self._lost: LostError | None = None
        self._over = False
        self._dismissed_at_s = math.inf

    @property
    def session_id(self) -> str | None:
        return self.call.session_id

    def connect(self) -> bool:
        """Whether the session became usable; the attempt tells why not."""
        spec = self._board.spec
        limit = gevent.Timeout(spec.connect_timeout_s)
        limit.start()
        try:
            open_session(
                self.attempt,
                url=spec.url,
                clock=self._clock,
                timeout_s=spec.connect_timeout_s,
                insecure=spec.insecure,
                api_key=self._board.api_key,
                receive=self.call.receive,
                usable=lambda: (self.call.usable_at_s, self.call.session_id),
            )
        except gevent.Timeout:
            reason = f"{self.attempt.step} took longer than {spec.connect_timeout_s:g} s"
            self.attempt.fail("failed", reason, None, self._clock.now())
        finally:
            limit.close()
        return self.attempt.connection is not None

    def dismiss(self, at_s: float) -> None:
        """Leave once the current utterance is over and answered."""
        self._dismissed_at_s = min(self._dismissed_at_s, at_s)

    def converse(self) -> None:
        """Speak until the shift is over or the server hangs up."""
        connection = self.attempt.connection
        if connection is None:
            return
        connection.set_timeout(IO_TIMEOUT_S)
        start_s = self._clock.now()
        self.call.begin(start_s)
        receiver = gevent.spawn(self._receive, connection)
        try:
            self._send(connection, start_s)
        except LostError as error:
            self._lost = self._lost or error
        finally:
            self._hang_up()
            receiver.kill()

    def _receive(self, connection: Connection) -> None:
        try:
            while not self._over:
                message = connection.receive()
                if message is not None:
                    for answer in self.call.receive(message, self._clock.now()):
                        connection.send(answer)
        except LostError as error:
            if not self._over:
                self._lost = error

    def _send(self, connection: Connection, start_s: float) -> None:
        clock, board = self._clock, self._board
        frame_s = board.spec.frame_s
        before_s = after_s = start_s
        for index in itertools.count():
            due_s = start_s + (index + 1) * frame_s
            # Also when late: the other speakers must get their turn.
            gevent.sleep(max(0.0, due_s - clock.now()))
            if self._lost is not None or self._is_done(clock.now()):
                return
            frame = board.frames.ready(self.call.next_pcm16())
            sent_s = clock.now()
            self.call.sent((index + 1) * frame_s, sent_s)
            connection.send_frame(frame)
            lag_s, blocked_s = frame_lag_s(due_s, sent_s, before_s, after_s, frame_s)
            board.meter.frame(lag_s)
            if blocked_s > frame_s:
                board.counts["blocked_sends"] += 1
            before_s, after_s = sent_s, clock.now()

    def _is_done(self, now_s: float) -> bool:
        self.call.tick(now_s)
        shift = self._board.shift
        stop_at_s = min(shift.stop_at_s, self._dismissed_at_s)
        if now_s < stop_at_s:
            return False
        self.call.stop(now_s)
        overdue = now_s > stop_at_s + LAST_WORD_S
        return shift.interrupted or overdue or self.call.finished(now_s)

    def _hang_up(self) -> None:
        self._over = True
        now_s = self._clock.now()
        if self._lost is None:
            self.attempt.reason = self.call.measurement.complaint
            self.attempt.close(now_s)
        else:
            self.attempt.fail("lost", self._lost.reason, self._lost.close_code, now_s)

    def last_turns(self) -> list[Turn]:
        """What is left when the call is over."""
        measurement, now_s = self.call.measurement, self._clock.now()
        if self._lost is not None:
            return measurement.lost(now_s)
        # A turn that is settled is told as such, with the reply that it should have had.
        return [*measurement.settled(now_s), *measurement.cut(now_s)]

    def what_went_wrong(self) -> Counter[str]:
        return self.call.measurement.counts
