"""One speaker on the line, in two greenlets.

The sender keeps an absolute schedule: frame i is due at the stream's start + (i + 1) frames, the
instant of its last sample. A frame that is late leaves at once and its lag is noted. The
receiver reads and stamps at once; on a simulated bad line, when it would have come (`SlowLine`).

gevent is met here and in the generator only; importing it patches nothing, the locustfile does.
"""

import contextlib
import itertools
import math
import random
from collections import Counter, deque
from dataclasses import dataclass, field

import gevent

from rtvc.clock import Clock
from rtvc.loadtest.speakers.call import Call
from rtvc.loadtest.speakers.meter import Meter, frame_lag_s
from rtvc.loadtest.speakers.slow_line import SlowLine
from rtvc.loadtest.spec import LAST_WORD_S, LoadSpec
from rtvc.loadtest.turns.measure import Turn
from rtvc.loadtest.wire.attempt import Attempt, open_session
from rtvc.loadtest.wire.network import Link
from rtvc.loadtest.wire.transport import (
    GOODBYE_S,
    Connection,
    Frame,
    Frames,
    LostError,
    UnmaskedFrame,
)
from rtvc.loadtest.wire.wires import Wire
from rtvc.speech.scenario import Scenario

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
    wire: Wire
    """The protocol that is spoken."""
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
    frames: Frames | None
    """Audio as it goes over the wire; None: no two calls send it alike."""
    scenario: Scenario = field(default_factory=Scenario)
    """What the speakers do, and how they are connected."""


class LiveCall:
    """A call and its connection."""

    def __init__(self, number: int, call: Call, board: Switchboard) -> None:
        self.number = number
        self.call = call
        self.attempt = Attempt(
            number, board.clock.now(), ready_inferred=board.wire.ready == "inferred"
        )
        self._board = board
        self._clock = board.clock
        self._lost: LostError | None = None
        self._over = False
        self._dismissed_at_s = math.inf
        seed = f"{board.spec.seed}/{number}/link"
        network = board.scenario.of(number).network
        self._link = Link(network, random.Random(seed))
        self._way_down = Link(network, random.Random(f"{seed}/down"), "down")
        self._held: deque[tuple[float, float, Frame]] = deque()
        self._last_send_s = (0.0, 0.0)

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
                opened=self.call.upgraded,
                turned_away=lambda: self.call.turned_away,
                understood=lambda: self.call.understood,
            )
        except gevent.Timeout:
            self.attempt.time_out(spec.connect_timeout_s, self._clock.now())
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
        perfect = self._way_down.perfect
        line = connection if perfect else SlowLine(connection, self._way_down, self._clock)
        receiver = gevent.spawn(self._receive, line, connection)
        try:
            self._send(connection, start_s)
        except LostError as error:
            self._lost = self._lost or error
        finally:
            self._hang_up()
            receiver.kill()
            if isinstance(line, SlowLine):
                line.close()

    def _receive(self, line: Connection | SlowLine, connection: Connection) -> None:
        try:
            while not self._over:
                message = line.receive()
                if message is not None:
                    for answer in self.call.receive(message, self._clock.now()):
                        connection.send(answer)
                    self._heed_goodbye()
        except LostError as error:
            if not self._over:
                self._lost = error

    def _heed_goodbye(self) -> None:
        said = self.call.turned_away
        if said is not None:
            raise LostError(said.reason, None, failure=said.failure)

    def _frame(self) -> Frame:
        """The next one of the stream."""
        pcm16, frames = self.call.next_pcm16(), self._board.frames
        return UnmaskedFrame(self.call.append(pcm16)) if frames is None else frames.ready(pcm16)

    def _send(self, connection: Connection, start_s: float) -> None:
        clock, frame_s = self._clock, self._board.spec.frame_s
        self._last_send_s = (start_s, start_s)
        for index in itertools.count():
            due_s = start_s + (index + 1) * frame_s
            self._let_go(connection, due_s)
            # Also when late: the other speakers must get their turn.
            gevent.sleep(max(0.0, due_s - clock.now()))
            if self._lost is not None or self._is_done(clock.now()):
                return
            for message in self.call.tick(clock.now()):
                connection.send(message)
            frame = self._frame()
            departs_s = self._departs_s(frame, due_s)
            if departs_s > due_s:
                self._held.append((departs_s, (index + 1) * frame_s, frame))
            else:
                self._depart(connection, frame, (index + 1) * frame_s, due_s)

    def _departs_s(self, frame: Frame, due_s: float) -> float:
        """When the simulated network delivers it."""
        return due_s if self._link.perfect else self._link.departs_s(due_s, len(frame.format()))

    def _let_go(self, connection: Connection, until_s: float) -> None:
        """Frames that the network held back so far."""
        while self._held and self._held[0][0] <= until_s:
            departs_s, audio_s, frame = self._held.popleft()
            gevent.sleep(max(0.0, departs_s - self._clock.now()))
            self._depart(connection, frame, audio_s, departs_s)

    def _depart(
        self, connection: Connection, frame: Frame, audio_s: float, departs_s: float
    ) -> None:
        """Send a frame; late is what leaves after it departs by its schedule and its network."""
        board, clock = self._board, self._clock
        frame_s = board.spec.frame_s
        sent_s = clock.now()
        self.call.sent(audio_s, sent_s)
        connection.send_frame(frame)
        lag_s, blocked_s = frame_lag_s(departs_s, sent_s, *self._last_send_s, frame_s)
        board.meter.frame(lag_s)
        if blocked_s > frame_s:
            board.counts["blocked_sends"] += 1
        self._last_send_s = (sent_s, clock.now())

    def _is_done(self, now_s: float) -> bool:
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
            self._say_goodbye()
            self.attempt.reason = self.call.measurement.complaint
            self.attempt.close(now_s)
        else:
            lost = self._lost
            said = self.call.turned_away
            outcome = said.outcome if said else "lost"
            self.attempt.fail(outcome, lost.reason, lost.close_code, now_s, lost.failure)

    def _say_goodbye(self) -> None:
        """A server that does not read gets none."""
        connection = self.attempt.connection
        if connection is not None:
            connection.set_timeout(GOODBYE_S)
            with contextlib.suppress(LostError):
                for message in self.call.goodbye():
                    connection.send(message)

    def last_turns(self) -> list[Turn]:
        """What is left when the call is over."""
        measurement, now_s = self.call.measurement, self._clock.now()
        if self._lost is not None:
            return measurement.lost(now_s)
        # A turn that is settled is told as such, with the reply that it should have had.
        return [*measurement.settled(now_s), *measurement.cut(now_s)]

    @property
    def cut_off_s(self) -> float:
        """Seconds of the utterance in whose middle the server hung up; 0: it did not."""
        at_s = self.attempt.closed_at_s
        if self._lost is None or at_s is None:
            return 0.0
        return self.call.measurement.under_way_s(at_s)

    def what_went_wrong(self) -> Counter[str]:
        return self.call.measurement.counts
