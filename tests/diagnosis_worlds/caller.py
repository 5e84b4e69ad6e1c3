"""The load generator: people who talk, wait for an answer and talk on; and what they note down."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from rtvc.record import ConnectionRow, GeneratorRow, ServerTurnRow, TurnRow
from rtvc.speech.sentences import sentence
from rtvc.stats import Histogram
from tests.diagnosis_worlds.kernel import Signal, Task
from tests.diagnosis_worlds.machine import Lane, Thread
from tests.diagnosis_worlds.server import Server
from tests.diagnosis_worlds.session import MESSAGE_S, Segments, Session, Turn

GRACE_S = 10.0
REPLY_S = 15.0
CONNECT_S = 15.0
LOOK_S = 0.02
PROBE_S = 0.05
WAKE_S = 0.0005
"""By how much a sleeper wakes late, on average."""
THINK_S = (0.5, 1.5)
START_S = 3.0
SETTLE_S = 1.0
BASE_CPU = 0.012
"""Cores that the generator's own housekeeping takes."""
PROCESS = 4242


@dataclass(slots=True, eq=False)
class Utterance:
    """One sentence; instants in seconds of the stream, answers in seconds of the run."""

    index: int
    """Number within its speaker."""
    text: str
    """What is said."""
    bursts: list[tuple[float, float]]
    """Stretches of speech."""
    heard_end_s: float
    """Where voice detection hears it end."""
    shown_at_s: list[float] = field(default_factory=list)
    """When text became visible."""
    item: str | None = None
    """As the server named it."""
    final_at_s: float | None = None
    failed: bool = False
    reply_at_s: float | None = None
    reply_last_at_s: float | None = None
    reply_over_s: float | None = None
    """When the reply had been heard to its end."""

    @property
    def start_s(self) -> float:
        return self.bursts[0][0]

    @property
    def end_s(self) -> float:
        return self.bursts[-1][1]

    @property
    def first_word_s(self) -> float:
        return min(self.start_s + 0.35, self.bursts[0][1])


def spoken(index: int, start_s: float, text: str, rng: random.Random) -> Utterance:
    """A sentence from there on, with the short breaks that speech has."""
    at_s, bursts = start_s, list[tuple[float, float]]()
    rest_s = max(0.8, 0.33 * len(text.split()) * rng.uniform(0.85, 1.15))
    while rest_s > 0:
        burst_s = min(rest_s, rng.uniform(0.5, 1.6))
        burst_s = rest_s if rest_s - burst_s < 0.25 else burst_s
        bursts.append((at_s, at_s + burst_s))
        at_s += burst_s + rng.uniform(0.04, 0.15)
        rest_s -= burst_s
    offset_s = min(max(rng.gauss(-0.02, 0.03), -0.1), 0.06)
    return Utterance(index, text, bursts, bursts[-1][1] + offset_s)


class Meter:
    """The generator watching itself."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.frames = self.late = 0
        self.lag_max_s = 0.0
        self.lags = Histogram()
        self.loop_lag_s = 0.0

    def frame(self, lag_s: float) -> None:
        self.frames += 1
        self.late += lag_s > MESSAGE_S
        self.lag_max_s = max(self.lag_max_s, lag_s)
        self.lags.add(lag_s)

    def row(self, at_s: float, speakers: int, cpu: float) -> GeneratorRow:
        row = GeneratorRow(
            at_s, PROCESS, speakers, self.frames, self.late, self.lag_max_s, self.lags.text(),
            cpu, self.loop_lag_s,
        )  # fmt: skip
        self._reset()
        return row


class Caller:
    """One speaker, from connecting to hanging up."""

    def __init__(self, call_center: "CallCenter", number: int) -> None:
        self._center = call_center
        self._server, self._kernel = call_center.server, call_center.server.kernel
        self._thread = call_center.thread
        self.number = number
        self._random = random.Random(f"{call_center.seed} {number}")
        self._up = Lane(self._kernel, self._server.way_s)
        self._down = Lane(self._kernel, self._server.way_s)
        self.name = f"sess_{self._random.getrandbits(80):020x}"
        self.utterances: list[Utterance] = []
        self._stream_s = 0.0
        self._sent_s: list[float] = []
        self._session: Session | None = None
        self._gone = False
        self.rows: list[ServerTurnRow] = []

    # Connecting.

    def call(self) -> Task:
        """The whole life of the call."""
        kernel, server = self._kernel, self._server
        opened_s = kernel.now
        yield self._random.uniform(0.0003, 0.001) + 2 * self._center.tcp_way_s()
        yield self._up.arrival_s() - kernel.now
        yield server.loop.finish_s(0.0015) - kernel.now
        yield self._down.arrival_s() - kernel.now
        yield self._thread.finish_s(0.0003) - kernel.now
        upgraded_s = kernel.now
        usable = Signal()
        server.open(self.name, self, lambda session: self._created(session, usable))
        self._patience(usable)
        self._session = yield usable
        if self._session is None:
            server.drop_engine(self.name)
            self._connection(opened_s, upgraded_s, None, kernel.now)
            return
        usable_s = kernel.now
        self._center.live += 1
        self._begin()
        yield from self._converse()
        self._connection(opened_s, upgraded_s, usable_s, kernel.now)
        self._hang_up()

    def _created(self, session: Session, usable: Signal) -> None:
        if usable.done:
            self._server.close(session)
            return
        arrives_s = self._down.arrival_s()
        self._kernel.at(arrives_s, self._thread.call, 0.0002, usable.fire, session)

    def _patience(self, usable: Signal) -> None:
        self._kernel.after(CONNECT_S, usable.fire, None)

    def _connection(
        self, opened_s: float, upgraded_s: float, usable_s: float | None, closed_s: float
    ) -> None:
        since_s = self._center.since_s
        ok = usable_s is not None
        reason = None if ok else f"the session's first word took longer than {CONNECT_S:g} s"
        row = ConnectionRow(
            speaker=self.number,
            session_id=self.name if ok else None,
            opened_at_s=since_s(opened_s),
            handshake_s=upgraded_s - opened_s,
            setup_s=None if usable_s is None else usable_s - upgraded_s,
            connection_s=None if usable_s is None else usable_s - opened_s,
            outcome="ok" if ok else "failed",
            reason=reason,
            close_code=None,
            closed_at_s=since_s(closed_s),
        )
        self._center.connections.append(row)

    def _hang_up(self) -> None:
        self._gone = True
        self._center.live -= 1
        assert self._session is not None
        self._kernel.at(self._up.arrival_s(), self._server.close, self._session)

    # Talking.

    def _begin(self) -> None:
        self._stream_s = self._kernel.now
        self._frame(0)

    def _frame(self, number: int) -> None:
        """Called at the instant at which its last sample has been spoken, from the second on."""
        if self._gone:
            return
        if number:
            due_s = self._kernel.now
            woken_s = min(self._random.expovariate(1 / WAKE_S), MESSAGE_S / 2)
            sent_s = self._thread.finish_s(self._center.frame_s) + woken_s
            self._center.meter.frame(sent_s - due_s)
            self._sent_s.append(sent_s)
            arrives_s = self._up.arrival_s(sent_s)
            assert self._session is not None
            self._kernel.at(arrives_s, self._server.arrived, self._session, number * MESSAGE_S)
        self._kernel.at(self._stream_s + (number + 1) * MESSAGE_S, self._frame, number + 1)

    def _converse(self) -> Task:
        """Say, hope for an answer, think, say on; until it is time."""
        rng, center = self._random, self._center
        at_s = self._kernel.now + rng.uniform(0, START_S)
        while at_s < center.stop_at_s:
            yield at_s - self._kernel.now
            utterance = self._say()
            yield utterance.end_s + self._stream_s - self._kernel.now + 0.1
            yield from self._await(utterance, lambda u: u.reply_over_s is not None, REPLY_S)
            at_s = self._kernel.now + rng.uniform(*THINK_S)
        if self.utterances:
            last = self.utterances[-1]
            yield from self._await(last, lambda u: u.reply_over_s is not None, GRACE_S)
        yield SETTLE_S

    def _await(
        self, utterance: Utterance, met: Callable[[Utterance], bool], patience_s: float
    ) -> Task:
        """In steps: what is hoped for moves the end of hope."""
        while not met(utterance):
            signs = (utterance.final_at_s, utterance.reply_at_s, utterance.reply_last_at_s)
            hope_s = max([s for s in signs if s is not None], default=0.0) + self._center.begun_s
            end_s = max(self._stream_s + utterance.end_s, hope_s)
            if self._kernel.now >= end_s + patience_s:
                return
            yield LOOK_S
        over_s = utterance.reply_over_s
        if over_s is not None:
            yield max(over_s + self._center.begun_s - self._kernel.now, 0.0)

    def _say(self) -> Utterance:
        start_s = self._kernel.now - self._stream_s
        text = self._center.text()
        utterance = spoken(len(self.utterances), start_s, text, self._random)
        self.utterances.append(utterance)
        return utterance

    def speech_at(self, stream_s: float) -> bool:
        """Whether voice detection would take that sample for speech."""
        for utterance in reversed(self.utterances[-4:]):
            if utterance.start_s <= stream_s <= max(utterance.heard_end_s, utterance.end_s):
                *bursts, (last_s, _) = utterance.bursts
                if last_s <= stream_s:
                    return stream_s <= utterance.heard_end_s
                return any(start_s <= stream_s <= end_s for start_s, end_s in bursts)
        return False

    # Hearing.

    def deliver(self, call: Callable[..., None], told: tuple[Any, ...]) -> None:
        """A message leaves the server now."""
        arrives_s = self._down.arrival_s()
        self._kernel.at(arrives_s, self._thread.call, self._center.frame_s, call, *told)

    def began(self, item: str, start_s: float) -> None:
        begun = [u for u in self.utterances if u.item is None and u.start_s <= start_s + 1.0]
        if begun:
            nearest = min(begun, key=lambda u: abs(u.start_s - start_s))
            nearest.item = item

    def partial(self, item: str) -> None:
        utterance = self._utterance(item)
        if utterance is not None:
            utterance.shown_at_s.append(self._now_s())

    def failed(self, item: str) -> None:
        utterance = self._utterance(item)
        if utterance is not None:
            utterance.failed = True

    def final(self, turn: Turn, felt: Segments, hidden: Segments) -> None:
        utterance = self._utterance(turn.item)
        if utterance is None or self._gone:
            return
        now_s = self._now_s()
        if now_s > self._run_s(utterance.end_s) + GRACE_S:
            utterance.failed = True
            return
        utterance.final_at_s = now_s
        utterance.shown_at_s.append(now_s)
        self._write(utterance, turn, "transcript", felt, hidden)

    def sound(self, turn: Turn, felt: Segments, hidden: Segments, audio_s: float) -> None:
        utterance = self._utterance(turn.item)
        if utterance is None or self._gone:
            return
        now_s = self._now_s()
        last_s = max(self._run_s(utterance.end_s), utterance.final_at_s or 0.0)
        if utterance.final_at_s is not None and now_s <= last_s + GRACE_S:
            utterance.reply_at_s = now_s
            self._write(utterance, turn, "reply", felt, hidden)
        utterance.reply_over_s = now_s + audio_s

    def sound_over(self, item: str) -> None:
        utterance = self._utterance(item)
        if utterance is not None:
            utterance.reply_last_at_s = self._now_s()

    def _utterance(self, item: str) -> Utterance | None:
        return next((u for u in reversed(self.utterances) if u.item == item), None)

    def _now_s(self) -> float:
        return self._center.since_s(self._kernel.now)

    def _run_s(self, stream_s: float) -> float:
        return self._center.since_s(self._stream_s + stream_s)

    # Noting down.

    def _write(
        self, utterance: Utterance, turn: Turn, stage: str, felt: Segments, hidden: Segments
    ) -> None:
        origin_s = turn.last_speech_at_s
        offset_s = turn.speech_end_s - utterance.end_s
        sent_s = self._sent_s[round(turn.received_s / MESSAGE_S) - 1]
        framing_s = sent_s - (self._stream_s + turn.speech_end_s)
        server_s = max(start_s + seconds for _, start_s, seconds in felt) - origin_s
        transport_s = self._kernel.now - sent_s - server_s
        all_ = [("vad_offset", -framing_s - offset_s, offset_s, False)]
        all_.append(("framing", -framing_s, framing_s, False))
        all_ += [(n, round(at - origin_s, 5), round(s, 5), False) for n, at, s in felt]
        all_ += [(n, round(at - origin_s, 5), round(s, 5), True) for n, at, s in hidden]
        all_.append(("transport", server_s, max(transport_s, 0.0), False))
        self.rows += [ServerTurnRow(self.name, turn.item, stage, *segment) for segment in all_]

    def turns(self) -> list[TurnRow]:
        """All that was said, and what came of it."""
        return [self._turn(utterance) for utterance in self.utterances]

    def _turn(self, utterance: Utterance) -> TurnRow:
        end_s, word_s = self._run_s(utterance.end_s), self._run_s(utterance.first_word_s)
        start_s = self._run_s(utterance.start_s)
        final_s, reply_s = utterance.final_at_s, utterance.reply_at_s
        words = len(utterance.text.split())
        shown_s = min(utterance.shown_at_s, default=None)
        wrong = int(final_s is not None and self._random.random() < 0.1)
        heard = None if final_s is None else utterance.text
        if wrong and heard is not None:
            heard = " ".join([*heard.split()[:-1], "something"])
        errors = (wrong, 0, 0) if final_s is not None else (None, None, None)
        return TurnRow(
            speaker=self.number, session_id=self.name, item_id=utterance.item,
            utterance=utterance.index, kind="utterance", voice="en-us", text=utterance.text,
            heard=heard, speech_start_at_s=start_s, first_word_end_at_s=word_s,
            speech_end_at_s=end_s, first_partial_at_s=shown_s, final_at_s=final_s,
            finals=int(final_s is not None), premature_finals=0,
            reply_first_audio_at_s=reply_s,
            reply_last_audio_at_s=utterance.reply_last_at_s if reply_s is not None else None,
            reply_expected=True, interrupted_reply=False, barge_in_stop_at_s=None,
            time_to_first_partial_s=None if shown_s is None else shown_s - word_s,
            transcription_delay_s=None if final_s is None else final_s - end_s,
            response_latency_s=None if reply_s is None else reply_s - end_s,
            barge_in_latency_s=None, substitutions=errors[0], deletions=errors[1],
            insertions=errors[2], reference_words=words, cross_talk_words=0,
            warm_up=start_s < self._center.warm_up_s,
            partial_interval_s=_interval_s(word_s, utterance.shown_at_s, end_s),
        )  # fmt: skip


class CallCenter:
    """All speakers of one phase, on the one thread of the load generator."""

    def __init__(self, server: Server, speakers: int, duration_s: float, seed: str) -> None:
        self.server, self.seed = server, seed
        self._kernel = server.kernel
        self.thread = Thread(server.kernel, server.cores, "generator", server.random)
        self.frame_s = server.world.generator_s + server.faults.generator_s
        self.meter = Meter()
        self.begun_s = server.kernel.now
        self.ramp_s = min(5.0, 0.2 * speakers)
        self.warm_up_s = self.ramp_s
        self.duration_s = duration_s
        self.stop_at_s = self.begun_s + self.warm_up_s + duration_s
        self.live = 0
        self.connections: list[ConnectionRow] = []
        self.generator: list[GeneratorRow] = []
        self._random = random.Random(seed)
        self._said: set[str] = set()
        self.callers = [Caller(self, number) for number in range(speakers)]
        self.over = Signal()
        server.kernel.spawn(self._run())
        server.kernel.spawn(self._watch())

    def since_s(self, instant_s: float) -> float:
        """In seconds of the run."""
        return instant_s - self.begun_s

    def tcp_way_s(self) -> float:
        """One way, for what the system does itself when connecting."""
        server = self.server
        return server.way_s() if server.faults.way_of_all else server.world.network_s

    def text(self) -> str:
        """Something that nobody has said yet."""
        while True:
            text = sentence(self._random)
            if 3 <= len(text.split()) <= 12 and text not in self._said:
                self._said.add(text)
                return text

    def _run(self) -> Task:
        left = len(self.callers)
        all_over = Signal()

        def one_over(_: object) -> None:
            nonlocal left
            left -= 1
            if not left:
                all_over.fire()

        for number, caller in enumerate(self.callers):
            arrival_s = self.begun_s + self.ramp_s * number / len(self.callers)
            yield max(arrival_s - self._kernel.now, 0.0)
            self._kernel.spawn(caller.call()).then(one_over)
        yield all_over
        yield 0.3
        self.over.fire()

    def _watch(self) -> Task:
        """Once a second, what the generator knows of itself."""
        used_s, at_s = self.server.cores.used_s("generator"), self._kernel.now
        while not self.over.done:
            for _ in range(round(1 / PROBE_S)):
                yield PROBE_S
                # It wakes after what it was given before.
                late_s = max(self.thread.free_at_s - self._kernel.now, 0.0)
                late_s += self._random.expovariate(1 / 0.0005)
                self.meter.loop_lag_s = max(self.meter.loop_lag_s, late_s)
            self.server.cores.spent("generator", BASE_CPU)
            now_used_s, now_s = self.server.cores.used_s("generator"), self._kernel.now
            cpu = min((now_used_s - used_s) / (now_s - at_s), 1.0)
            used_s, at_s = now_used_s, now_s
            self.generator.append(self.meter.row(self.since_s(now_s), self.live, cpu))


def _interval_s(word_s: float, shown_s: list[float], end_s: float) -> float | None:
    talking = [at_s for at_s in shown_s if at_s <= end_s]
    if not talking:
        return None
    marks = [word_s, *talking] if talking[0] > word_s else talking
    waits = sorted(after - before for before, after in pairwise(marks))
    if not waits or end_s - talking[-1] > waits[len(waits) // 2]:
        waits = sorted([*waits, end_s - talking[-1]])
    return waits[len(waits) // 2]
