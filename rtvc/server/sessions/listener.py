"""From microphone bytes to voice events, in order: inbox → ear → voice session → engine.

Everything that a client sends and that has to keep its place among the audio goes through one
bounded inbox. A full inbox stops the reading of the socket, so a client that sends faster than
real time is slowed down and loses nothing.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rtvc.errors import TranscriberError
from rtvc.instruments.queues import MeasuredQueue, QueueState
from rtvc.server.ear import Chunk, Ear
from rtvc.server.services import Services
from rtvc.server.sessions.turn_judge import TurnJudge
from rtvc.stt.transcriber import Hypothesis, Job, JobKind
from rtvc.voice.session import (
    JudgeTurn,
    Purpose,
    SpeechStarted,
    SpeechStopped,
    Transcribe,
    VoiceEvent,
    VoiceSession,
    VoiceSettings,
)

Control = Callable[[], Awaitable[None]]

_SLICE_S = 1.0
"""Most audio heard at a time, so that one session's upload does not hold up the others."""
_LIMIT_ITEMS = 500
_KEPT_COSTS = 16
_KEPT_DELAYS = 5
_BEHIND_S = 0.25
"""Audio in the inbox beyond what is just passing through."""
_SUSPECT_S = 1.0
"""Speech that comes back so soon after the end of a turn may have been cut in two."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one hypothesis cost, as the session felt it."""

    asked_at_s: float
    """When the session asked."""
    received_at_s: float
    """When the answer was there."""
    hypothesis: Hypothesis
    """The answer."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """One hypothesis asked of the engine and not answered yet."""

    item_id: str
    """The utterance."""
    revision: int
    """As the voice session counts."""
    at_s: float
    """When the session asked."""


class Listener:
    """One session's way in."""

    def __init__(
        self,
        services: Services,
        session_id: str,
        ear: Ear,
        settings: VoiceSettings,
        *,
        new_item_id: Callable[[], str],
        on_event: Callable[[VoiceEvent], None],
    ) -> None:
        self._services = services
        self._clock = services.clock
        self._session_id = session_id
        self.ear = ear
        self.voice = VoiceSession(settings, new_item_id)
        self._on_event = on_event
        self._inbox: MeasuredQueue[Chunk | Control] = MeasuredQueue(
            "session_audio", limit_s=services.settings.serve.audio_queue_s, seconds_of=_seconds
        )
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()
        self._jobs: dict[asyncio.Task[None], _Asked] = {}
        self._judge = TurnJudge(services, self.voice, handle=self._handle, on_end=self._job_ended)
        self._decided_at_s = 0.0
        self.premature_suspects = 0
        """Turns after whose end speech came back within a second, before a reply was heard."""
        self._broke: BaseException | None = None
        self._last_at_s = self._clock.now()
        self.silent = True
        """Whether the client has sent nothing yet."""
        self._deaf = False
        self.costs: dict[str, Cost] = {}
        """By item: what the hypothesis cost that is, or may become, its final; the latest few."""
        self._adaptive = services.turn.partials == "adaptive"
        self.delays_s: deque[float] = deque(maxlen=_KEPT_DELAYS)
        """Transcription delays of the last turns, the latest last."""
        self._stt = services.settings.stt
        self.language: str | None = self._stt.language
        self.prompt: str | None = None

    @property
    def inbox(self) -> QueueState:
        return self._inbox.state(self._clock.now())

    def report(self) -> dict[str, Any]:
        """The way in as /v1/sessions shows it: no text, no audio."""
        inbox = self.inbox
        oldest_s = inbox.oldest_age_s
        return {
            "audio_s": round(self.voice.audio_s, 3),
            "speaking": self.voice.speaking,
            "premature_suspects": self.premature_suspects,
            "echo_frames": self.ear.echo_frames,
            "idle_s": round(self.idle_s, 3),
            "audio_backlog_s": round(inbox.backlog_s, 3),
            "audio_depth": inbox.depth,
            "audio_oldest_age_s": None if oldest_s is None else round(oldest_s, 3),
            "audio_dropped": inbox.dropped,
            "transcription_delays_s": list(self.delays_s),
        }

    @property
    def idle_s(self) -> float:
        """Seconds since the client last sent anything."""
        return self._clock.now() - self._last_at_s

    @property
    def busy(self) -> bool:
        """Whether a transcript is owed, or there is audio that nobody has listened to."""
        return self.voice.unfinished or self.inbox.backlog_s > _BEHIND_S

    def transcribed(self, delay_s: float) -> None:
        """A turn has its final transcript, so long after its last speech sample."""
        self.delays_s.append(round(delay_s, 3))

    async def append(self, data: bytes, seconds: float) -> None:
        """Microphone audio in the session's input format; waits while the inbox is full."""
        arrived_at_s = self._clock.now()
        slices = max(1, round(seconds / _SLICE_S))
        size = -(-len(data) // (2 * slices)) * 2
        for start in range(0, len(data), size or 2):
            piece = data[start : start + size]
            await self._put(Chunk(piece, seconds * len(piece) / len(data), arrived_at_s))

    async def control(self, action: Control) -> None:
        """Run `action` once all audio before it has been heard."""
        await self._put(action)

    async def _put(self, item: Chunk | Control) -> None:
        self._last_at_s = self._clock.now()
        self.silent = False
        while not self._inbox.has_room(_seconds(item)) or len(self._inbox) >= _LIMIT_ITEMS:
            self._taken.clear()
            await self._taken.wait()
        self._inbox.put(item, self._clock.now())
        self._arrived.set()

    async def run(self) -> None:
        """Listen until cancelled; what an answer's handling raised is raised here."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            if self._broke is not None:
                raise self._broke
            items = self._inbox.take_all()
            self._taken.set()
            for chunks, control in _in_order(items):
                if control is not None:
                    await control()
                else:
                    await self._hear(chunks)

    async def flush(self) -> None:
        """Hear what is held back for a full frame: before a commit."""
        now_s = self._clock.now()
        frames = await self._services.hearing.run(partial(self.ear.flush, now_s))
        for frame in frames:
            self._handle(self.voice.feed(frame, self._clock.now()))

    async def commit(self) -> bool:
        """The client says that the utterance is over; False if there was no audio."""
        await self.flush()
        events = self.voice.commit(self._clock.now())
        self._handle(events)
        return bool(events)

    async def finish(self) -> None:
        """Hear what has come, commit what is being said, and wait until its final is told."""
        heard = asyncio.Event()

        async def hear_no_more() -> None:
            if self.voice.speaking or self.voice.uncommitted:
                await self.commit()
            self._deaf = True
            heard.set()

        await self.control(hear_no_more)
        await heard.wait()
        while self._jobs and self.voice.unfinished:
            await asyncio.wait(list(self._jobs), return_when=asyncio.FIRST_COMPLETED)

    async def close(self) -> None:
        """Leave no job behind."""
        self._services.engine.cancel_session(self._session_id)
        await self._judge.close()
        for task in self._jobs:
            task.cancel()
        if self._jobs:
            await asyncio.wait(list(self._jobs))

    async def _hear(self, chunks: Sequence[Chunk]) -> None:
        if self._deaf:
            return
        self.ear.in_utterance = self.voice.speaking
        if self.voice.speaking and self._adaptive:
            self.voice.advised_interval_s = self._services.engine.partial_interval_s
        frames = await self._services.hearing.hear(self.ear, chunks)
        for frame in frames:
            now_s = self._clock.now()
            audible = self.ear.reply_audible(now_s)
            self._handle(self.voice.feed(frame, now_s, reply_playing=audible))

    def _handle(self, events: Sequence[VoiceEvent]) -> None:
        for event in events:
            if isinstance(event, Transcribe):
                self._start(event)
            elif isinstance(event, JudgeTurn):
                self._judge.ask(event)
            else:
                self._suspect(event)
                self._on_event(event)

    def _suspect(self, event: VoiceEvent) -> None:
        if isinstance(event, SpeechStopped):
            self._decided_at_s = event.decided_at_s
        elif isinstance(event, SpeechStarted) and event.silence_s is not None:
            soon = event.silence_s <= _SUSPECT_S
            if soon and not self.ear.replied_since(self._decided_at_s):
                self.premature_suspects += 1
                self._services.metrics.suspected()

    def _start(self, request: Transcribe) -> None:
        asked_at_s = self._asked_at_s(request)
        task = asyncio.create_task(
            self._transcribe(request, asked_at_s), name=f"transcribe-{request.purpose}"
        )
        self._jobs[task] = _Asked(request.item_id, request.revision, asked_at_s)
        task.add_done_callback(self._job_ended)

    def _job_ended(self, task: asyncio.Task[None]) -> None:
        self._jobs.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._broke = error
            self._arrived.set()

    def _asked_at_s(self, request: Transcribe) -> float:
        """A final whose speculative job is under way becomes that job, and is as old."""
        for asked in self._jobs.values() if request.tried else ():
            if (asked.item_id, asked.revision) == (request.item_id, request.revision):
                return asked.at_s
        return self._clock.now()

    async def _transcribe(self, request: Transcribe, asked_at_s: float) -> None:
        key = (request.item_id, request.purpose, request.revision)
        try:
            hypothesis = await self._services.engine.transcribe(self._job(request, asked_at_s))
        except TranscriberError as error:
            self._handle(self.voice.failed(*key, str(error)))
            return
        if hypothesis is not None:
            self._services.metrics.answered(request.purpose.value, hypothesis)
        if hypothesis is not None and request.purpose is not Purpose.PARTIAL:
            self._keep_cost(request.item_id, Cost(asked_at_s, self._clock.now(), hypothesis))
        self._handle(self.voice.hypothesis(*key, None if hypothesis is None else hypothesis.text))

    def _keep_cost(self, item_id: str, cost: Cost) -> None:
        """An utterance that was cleared never takes its cost away: only the latest are kept."""
        self.costs.pop(item_id, None)
        self.costs[item_id] = cost
        while len(self.costs) > _KEPT_COSTS:
            self.costs.pop(next(iter(self.costs)))

    def _job(self, request: Transcribe, now_s: float) -> Job:
        return Job(
            session_id=self._session_id,
            item_id=request.item_id,
            kind=JobKind(request.purpose.value),
            revision=request.revision,
            audio=request.audio,
            enqueued_at_s=now_s,
            language=self.language,
            prompt=self._stt.context(self.prompt),
        )


def _seconds(item: Chunk | Control) -> float:
    return item.seconds if isinstance(item, Chunk) else 0.0


def _in_order(
    items: Sequence[Chunk | Control],
) -> Iterator[tuple[list[Chunk], Control | None]]:
    """Runs of chunks together, no longer than a slice; controls one by one."""
    run: list[Chunk] = []
    run_s = 0.0
    for item in items:
        if run and (run_s >= _SLICE_S or not isinstance(item, Chunk)):
            yield run, None
            run, run_s = [], 0.0
        if isinstance(item, Chunk):
            run.append(item)
            run_s += item.seconds
        else:
            yield [], item
    if run:
        yield run, None
