"""One session at the server: what it hears, what it asks for, when a turn is over, its reply."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from tests.diagnosis_worlds.engine import Cost, Engine, Job
from tests.diagnosis_worlds.hearing import FRAME_S
from tests.diagnosis_worlds.kernel import Task

if TYPE_CHECKING:
    from tests.diagnosis_worlds.server import Server

MESSAGE_S = 0.02
ONSET_FRAMES = 3
TRY_S = 0.064
JUDGE_S = 0.192
PADDING_S = 0.3
FLAT_OUT_S = 0.03
SLICE_S = 1.0
INBOX_S = 10.0

Segments = list[tuple[str, float, float]]
"""(name, start, seconds)."""


@dataclass(slots=True, eq=False)
class Turn:
    """An utterance as the server takes it."""

    item: str
    """Its name."""
    start_s: float
    """Where its audio begins, in the stream."""
    revision: int = 0
    """Counts pauses and what followed them."""
    tried: dict[int, tuple[Job, Cost | None]] = field(default_factory=dict)
    """Tries of the final, by revision; with what they cost once they are answered."""
    partial_from_s: float = 0.0
    """Audio up to which it was last asked."""
    partial_out: bool = False
    """Whether an answer to a partial is awaited."""
    speech_end_s: float = 0.0
    """Where the last speech ended, in the stream."""
    received_s: float = 0.0
    """Audio that had arrived with it."""
    last_speech_at_s: float = 0.0
    """When that arrived."""
    silence_at_s: float | None = None
    """When the first silence after it was judged; None: none was yet."""
    judge_asked_at_s: float | None = None
    """When the turn model was asked about this pause."""
    judged_at_s: float | None = None
    """When it answered."""
    held_up_at_s: float | None = None
    """From when on nothing but its answer was missing."""
    decided_at_s: float = 0.0
    """When the turn was over."""
    unfinished: bool = False
    """Whether its text seems to go on."""


class Session:
    """The server's side of a call."""

    def __init__(self, server: "Server", name: str, engine: Engine, client: "Client") -> None:
        self.server, self.name, self.engine = server, name, engine
        self.client = client
        self._inbox: list[tuple[float, float]] = []
        self._unread: list[float] = []
        self._hearing = False
        self._heard_s = 0.0
        self._frames = 0
        self._onset = 0
        self._turn: Turn | None = None
        self._items = 0
        self._last_decided_s = -math.inf
        self.closed = False
        self.held_until_s = 0.0
        """What comes is kept in order behind what is held so long."""

    @property
    def backlog_s(self) -> float:
        """Audio that has arrived and that nobody has begun to hear."""
        return MESSAGE_S * len(self._inbox)

    # In.

    def append(self, received_s: float) -> None:
        """Audio up to there has arrived."""
        if self._unread or self.backlog_s >= INBOX_S:
            self._unread.append(received_s)  # the socket is not read any more
            return
        self._inbox.append((received_s, self.server.kernel.now))
        self._listen()

    def _listen(self) -> None:
        if self._hearing or not self._inbox or self.closed:
            return
        self._hearing = True
        taken, self._inbox = self._inbox, []
        room = round(INBOX_S / MESSAGE_S)
        read, self._unread = self._unread[:room], self._unread[room:]
        self._inbox = [(received_s, self.server.kernel.now) for received_s in read]
        self._hear(taken)

    def _hear(self, taken: list[tuple[float, float]]) -> None:
        count = round(SLICE_S / MESSAGE_S)
        piece, rest = taken[:count], taken[count:]
        self.server.hearing.hear(MESSAGE_S * len(piece), lambda: self._heard(piece, rest))

    def _heard(self, piece: list[tuple[float, float]], rest: list[tuple[float, float]]) -> None:
        if self.closed:
            return
        for received_s, arrived_s in piece:
            while (self._frames + 1) * FRAME_S <= received_s + 1e-9:
                self._frame(self._frames, received_s, arrived_s)
                self._frames += 1
        self._hearing = False
        if rest:
            self._hearing = True
            self._hear(rest)
        else:
            self._listen()

    def _frame(self, number: int, received_s: float, arrived_s: float) -> None:
        end_s = (number + 1) * FRAME_S
        speech = self.client.speech_at(end_s - FRAME_S / 2)
        turn = self._turn
        if turn is None:
            self._onset = self._onset + 1 if speech else 0
            if self._onset >= ONSET_FRAMES:
                self._begin(end_s, received_s, arrived_s)
        elif speech:
            self._speech(turn, end_s, received_s, arrived_s)
        else:
            self._silence(turn, end_s)

    def _begin(self, end_s: float, received_s: float, arrived_s: float) -> None:
        server = self.server
        start_s = max(end_s - ONSET_FRAMES * FRAME_S - PADDING_S, 0.0)
        item = f"item_{self.name[5:13]}{self._items:012x}"
        self._items += 1
        turn = self._turn = Turn(item, start_s, partial_from_s=start_s)
        turn.unfinished = server.random.random() < 0.1
        self._onset = 0
        if start_s + PADDING_S - self._last_decided_s < 1.0:
            server.figures.suspects += 1
        self._speech(turn, end_s, received_s, arrived_s)
        server.send(self, self.client.began, item, turn.start_s, bytes_=300)

    def _speech(self, turn: Turn, end_s: float, received_s: float, arrived_s: float) -> None:
        if turn.silence_at_s is not None:
            if turn.tried.get(turn.revision) is not None:
                turn.revision += 1
            turn.silence_at_s = turn.judge_asked_at_s = None
            turn.judged_at_s = turn.held_up_at_s = None
        turn.speech_end_s, turn.received_s = end_s, received_s
        turn.last_speech_at_s = arrived_s
        interval_s = FLAT_OUT_S if self.server.faults.flood else self.engine.partial_s
        if not turn.partial_out and end_s - turn.partial_from_s >= interval_s:
            self._ask("partial", turn, end_s)

    # Silence.

    def _silence(self, turn: Turn, end_s: float) -> None:
        now_s = self.server.kernel.now
        if turn.silence_at_s is None:
            turn.silence_at_s = now_s
        silence_s = end_s - turn.speech_end_s + 1e-9
        if silence_s >= self._needed_s(turn):
            self._decide(turn, end_s)
            return
        if silence_s >= TRY_S and turn.revision not in turn.tried:
            self._ask("speculative", turn, end_s)
        if silence_s >= JUDGE_S and self.server.judges and turn.judge_asked_at_s is None:
            turn.judge_asked_at_s = now_s
            revision = turn.revision
            self.server.judge(lambda: self._judged(turn, revision))
        waits = turn.judge_asked_at_s is not None and turn.judged_at_s is None
        if waits and turn.held_up_at_s is None and silence_s >= self._policy_s:
            turn.held_up_at_s = now_s

    @property
    def _policy_s(self) -> float:
        return self.server.world.silence_s + self.server.faults.silence_s

    def _needed_s(self, turn: Turn) -> float:
        if self.server.judges:
            return self._policy_s if turn.judged_at_s is not None else math.inf
        tried = turn.tried.get(turn.revision)
        pending = tried is None or tried[1] is None
        more_s = self.server.world.hesitation_s
        return self._policy_s + (more_s if pending or turn.unfinished else 0.0)

    def _judged(self, turn: Turn, revision: int) -> None:
        if turn is not self._turn or turn.revision != revision or turn.judge_asked_at_s is None:
            return
        turn.judged_at_s = self.server.kernel.now
        end_s = self._frames * FRAME_S
        if end_s - turn.speech_end_s + 1e-9 >= self._policy_s:
            self._decide(turn, end_s)

    def _decide(self, turn: Turn, end_s: float) -> None:
        self._turn = None
        self._last_decided_s = end_s
        turn.decided_at_s = self.server.kernel.now
        tried = turn.tried.get(turn.revision)
        if tried is None:
            self._ask("final", turn, end_s)
        elif tried[1] is None:
            self.engine.promote(tried[0])
        else:
            self._final(turn, tried[0], tried[1])

    # Transcripts.

    def _ask(self, kind: str, turn: Turn, end_s: float) -> None:
        kernel = self.server.kernel
        audio_s = end_s - turn.start_s
        job = Job(
            self.name, turn.item, kind, turn.revision, audio_s, kernel.now,
            lambda job, cost, failed: self.server.loop.call(
                0.0001, self._answered, turn, job, cost, failed
            ),
        )  # fmt: skip
        if kind == "partial":
            turn.partial_out = True
        if kind == "speculative":
            turn.tried[turn.revision] = (job, None)
        self.engine.submit(job)

    def _answered(self, turn: Turn, job: Job, cost: Cost | None, failed: bool) -> None:
        if self.closed:
            return
        tried = turn.tried.get(job.revision)
        was_try = tried is not None and tried[0] is job
        if cost is not None:
            self._observe(job, cost, was_try)
        if job.kind == "partial":
            self._partial(turn, cost)
        elif cost is None:
            self._went_wrong(turn, job, failed)
        elif job.kind == "final" and job.revision == turn.revision:
            self._final(turn, job, cost)
        elif was_try:
            turn.tried[job.revision] = (job, cost)
            if job.revision == turn.revision:
                self._show(turn)

    def _partial(self, turn: Turn, cost: Cost | None) -> None:
        turn.partial_out = False
        turn.partial_from_s = max(turn.partial_from_s, self._frames * FRAME_S)
        if cost is not None:
            self._show(turn)

    def _show(self, turn: Turn) -> None:
        if turn is self._turn:
            self.server.send(self, self.client.partial, turn.item, bytes_=400)

    def _observe(self, job: Job, cost: Cost, was_try: bool) -> None:
        kinds = {job.kind, "speculative"} if was_try else {job.kind}
        for kind in sorted(kinds):
            self.server.figures.answered(kind, cost.queue_wait_s, cost.inference_s, cost.batch)

    def _went_wrong(self, turn: Turn, job: Job, failed: bool) -> None:
        if job.kind == "final":
            if failed:
                self.server.send(self, self.client.failed, turn.item, bytes_=300)
        elif job.revision == turn.revision:
            turn.tried.pop(turn.revision, None)

    def _final(self, turn: Turn, job: Job, cost: Cost) -> None:
        server = self.server
        received_s = server.kernel.now
        server.loop.call(0.0002, self._emit, turn, job, cost, received_s)

    def _emit(self, turn: Turn, job: Job, cost: Cost, received_s: float) -> None:
        server = self.server
        sent_s = server.kernel.now
        felt, hidden = segments(turn, job, cost, received_s, sent_s)
        delay_s = sent_s - turn.last_speech_at_s
        figures = server.figures
        figures.delay(delay_s)
        for name, _, seconds in felt:
            figures.stage(name, "felt", seconds)
        for name, _, seconds in hidden:
            figures.stage(name, "hidden", seconds)
        figures.stage("unaccounted", "felt", abs(delay_s - sum(s for *_, s in felt)))
        server.send(self, self.client.final, turn, felt, hidden, bytes_=1200)
        server.kernel.spawn(self._reply(turn, felt, hidden, sent_s))

    # The reply.

    def _reply(self, turn: Turn, felt: Segments, hidden: Segments, final_s: float) -> Task:
        server, world, faults = self.server, self.server.world, self.server.faults
        kernel, loop, rng = server.kernel, server.loop, self.server.random
        yield loop.finish_s(0.0005) - kernel.now
        asked_s = kernel.now
        active = server.active
        ttft_s, sentence_s = (s * math.exp(rng.gauss(0, 0.15)) for s in world.llm_s)
        yield ttft_s + (faults.llm_s if active() else 0.0)
        yield loop.finish_s(0.0002) - kernel.now
        first_s = kernel.now
        yield sentence_s
        yield loop.finish_s(0.0005) - kernel.now
        ready_s = kernel.now
        if faults.tts_s and active():
            yield faults.tts_s
        yield server.cores.work("server", world.tts_s * math.exp(rng.gauss(0, 0.15)))
        yield loop.finish_s(0.0005) - kernel.now
        sounded_s = kernel.now
        yield loop.finish_s(0.003) - kernel.now
        sent_s = kernel.now
        if self.closed:
            return
        steps = [("llm_ttft", asked_s, first_s), ("llm_sentence", first_s, ready_s)]
        steps += [("tts_ttfb", ready_s, sounded_s), ("send", sounded_s, sent_s)]
        reply = [(name, start_s, end_s - start_s) for name, start_s, end_s in steps]
        for name, _, seconds in reply:
            server.figures.stage(name, "felt", seconds)
        server.figures.response(sent_s - turn.last_speech_at_s)
        audio_s = rng.uniform(1.0, 2.5)
        server.send(self, self.client.sound, turn, [*felt, *reply], hidden, audio_s, bytes_=50_000)
        yield 0.05 + audio_s / 8
        server.send(self, self.client.sound_over, turn.item, bytes_=60_000)


class Client(Protocol):
    """What a session needs of the other end: the truth about the sound, and somebody to tell."""

    def speech_at(self, stream_s: float) -> bool: ...
    def deliver(self, call: Callable[..., None], told: tuple[Any, ...]) -> None: ...
    def began(self, item: str, start_s: float) -> None: ...
    def partial(self, item: str) -> None: ...
    def failed(self, item: str) -> None: ...
    def final(self, turn: Turn, felt: Segments, hidden: Segments) -> None: ...
    def sound(self, turn: Turn, felt: Segments, hidden: Segments, audio_s: float) -> None: ...
    def sound_over(self, item: str) -> None: ...


def segments(
    turn: Turn, job: Job, cost: Cost, received_s: float, sent_s: float
) -> tuple[Segments, Segments]:
    """(felt, hidden) of a transcript: waits, then what of the work they did not hide."""
    decided_s = turn.decided_at_s
    seen_s = turn.silence_at_s if turn.silence_at_s is not None else decided_s
    policy_s = decided_s if turn.held_up_at_s is None else min(turn.held_up_at_s, decided_s)
    felt: Segments = [
        ("vad_delay", turn.last_speech_at_s, seen_s - turn.last_speech_at_s),
        ("endpoint_wait", seen_s, policy_s - seen_s),
    ]
    if policy_s < decided_s:
        felt.append(("turn_model", policy_s, decided_s - policy_s))
    hidden: Segments = []
    if turn.judge_asked_at_s is not None and turn.judged_at_s is not None:
        until_s = min(turn.judged_at_s, policy_s)
        if until_s > turn.judge_asked_at_s:
            hidden.append(("turn_model", turn.judge_asked_at_s, until_s - turn.judge_asked_at_s))
    at_s = job.asked_at_s
    work = (cost.queue_wait_s, cost.features_s, cost.encode_s, cost.decode_s)
    for name, seconds in zip(("queue_wait", "features", "encode", "decode"), work, strict=True):
        before_s = min(max(decided_s - at_s, 0.0), seconds)
        if before_s > 0:
            hidden.append((name, at_s, before_s))
        if seconds > before_s:
            felt.append((name, at_s + before_s, seconds - before_s))
        at_s += seconds
    ready_s = max(received_s, decided_s)
    felt.append(("emit", ready_s, sent_s - ready_s))
    return felt, hidden
