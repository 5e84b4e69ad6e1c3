"""Sessions that speak and ask one engine for transcripts, without a server. Pure: instants come in.

    speech   |---------------------|  silence        |
    asked        partial  partial    tried as final  | over: the final is shown when it is there
                                     |<- 64 ms       |<- 250 ms

As in the server: a partial every so often (as often as the engine's advice has it), never while
another is under way; a final tried at the first silence; the utterance over after the silence that
endpointing waits for. Nobody resumes, and nothing is lost on a network.
"""

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count

import numpy as np

from rtvc.bench.clips import RATE_HZ, BenchClip
from rtvc.errors import UsageError
from rtvc.stt.headroom import LoadMeter, partial_workers, targets_for
from rtvc.stt.scheduler import Scheduler
from rtvc.stt.tickets import Batch, Limits
from rtvc.stt.transcriber import AudioArray, Job, JobKind

ADVICE_EVERY_S = 0.25
"""How often the cadence of partials is worked out anew, as in the engine."""

NOBODY_REFUSED = 1_000_000
"""Jobs held at most: here what is too much shows as delay."""


@dataclass(frozen=True, slots=True)
class Habits:
    """How the sessions speak and listen."""

    pause_s: tuple[float, float] = (1.5, 2.5)
    """Seconds between the end of one utterance and the next, as in the scenario "steady"."""
    start_within_s: float = 4.0
    """Seconds over which the sessions begin; finals count from then on."""
    tried_after_s: float = 0.064
    """Seconds of silence after which the final is tried."""
    silence_s: float = 0.25
    """Seconds of silence after which the utterance is over."""
    partials: bool = True
    """Whether partials are asked for at all."""


class _Step(Enum):
    BEGIN = auto()
    PARTIAL = auto()
    TRY = auto()
    OVER = auto()


@dataclass(frozen=True, slots=True, eq=False)
class _Said:
    """A clip as the sessions say it."""

    audio: AudioArray
    """16 kHz mono, with enough silence after it."""
    start_s: float
    """Seconds from its first sample: where speech begins."""
    end_s: float
    """Seconds from its first sample: where speech ends."""
    language: str
    """ISO-639-1."""


@dataclass(slots=True, eq=False)
class _Utterance:
    """What one session says now."""

    number: int
    """Counts up over all sessions."""
    said: _Said
    """What."""
    began_at_s: float
    """Instant of its first sample."""
    revision: int = 0
    """Of the job asked for last."""
    awaiting: bool = False
    """Whether a partial is under way."""
    partial_due: bool = False
    """Whether the next partial is only waiting for the one under way."""
    answered_at_s: float | None = None
    """When the final's text was there; None: not yet."""
    over: bool = False
    """Whether endpointing has ended it."""

    @property
    def ended_at_s(self) -> float:
        """Instant of its last speech."""
        return self.began_at_s + self.said.end_s


@dataclass(order=True, slots=True)
class _Event:
    """Something that happens by itself."""

    at_s: float
    """Instant."""
    order: int
    """Counts up: of two at once the one planned first comes first."""
    step: _Step = field(compare=False)
    """What happens."""
    session: int = field(compare=False)
    """To which session."""
    number: int | None = field(compare=False)
    """To which of its utterances; None: to the one that begins with it."""


class Crowd:
    """So many sessions; `step` plays what comes next, `answered` tells them what they got."""

    def __init__(
        self,
        sessions: int,
        clips: Sequence[BenchClip],
        rng: random.Random,
        *,
        began_at_s: float = 0.0,
        habits: Habits | None = None,
    ) -> None:
        """All begin within a few seconds of `began_at_s`.

        Raises:
            UsageError: there is nothing to say.
        """
        if sessions < 1 or not clips:
            raise UsageError(
                f"expected sessions and clips to hold, got {sessions} and {len(clips)}"
            )
        self.habits = habits or Habits()
        self._rng = rng
        self._said = [_prepared(clip, self.habits.silence_s) for clip in clips]
        self._now: list[_Utterance | None] = [None] * sessions
        self._finishing: dict[tuple[int, int], _Utterance] = {}
        self._numbers = count()
        self._orders = count()
        self._events: list[_Event] = []
        self._counts_from_s = began_at_s + self.habits.start_within_s
        self._delays_s: list[float] = []
        for session in range(sessions):
            first_s = began_at_s + rng.uniform(0, self.habits.start_within_s)
            self._at(first_s, _Step.BEGIN, session)

    @property
    def sessions(self) -> int:
        return len(self._now)

    @property
    def next_at_s(self) -> float:
        """Instant of what comes next by itself."""
        return self._events[0].at_s if self._events else math.inf

    def step(self, partial_interval_s: float) -> tuple[float, Job | None]:
        """Play what comes next: its instant, and what a session asks for then."""
        event = heapq.heappop(self._events)
        match event.step:
            case _Step.BEGIN:
                self._begin(event, partial_interval_s)
                return event.at_s, None
            case _Step.PARTIAL:
                return event.at_s, self._partial(event, partial_interval_s)
            case _Step.TRY:
                return event.at_s, self._try(event)
            case _Step.OVER:
                return event.at_s, self._over(event)

    def answered(self, job: Job, now_s: float) -> None:
        """A job was transcribed."""
        session, number = _from(job)
        if job.kind is JobKind.PARTIAL:
            self._partial_ended(session, number, now_s)
            return
        utterance = self._find(session, number)
        if utterance is not None and utterance.answered_at_s is None:
            utterance.answered_at_s = now_s
            self._shown(session, utterance, now_s)

    def dropped(self, job: Job, now_s: float) -> None:
        """A job will never run."""
        if job.kind is JobKind.PARTIAL:
            self._partial_ended(*_from(job), now_s)

    def delays_s(self, now_s: float, patience_s: float) -> list[float]:
        """End of speech → final shown; finals that are late by now count with their age."""
        waiting = [*self._finishing.values(), *(each for each in self._now if each is not None)]
        ages_s = [
            now_s - each.ended_at_s
            for each in waiting
            if each.answered_at_s is None and each.ended_at_s >= self._counts_from_s
        ]
        return [*self._delays_s, *(age_s for age_s in ages_s if age_s > patience_s)]

    def _at(self, at_s: float, step: _Step, session: int, number: int | None = None) -> None:
        heapq.heappush(self._events, _Event(at_s, next(self._orders), step, session, number))

    def _begin(self, event: _Event, partial_interval_s: float) -> None:
        said = self._rng.choice(self._said)
        utterance = _Utterance(next(self._numbers), said, event.at_s)
        session, number = event.session, utterance.number
        self._now[session] = utterance
        if self.habits.partials:
            first_s = event.at_s + said.start_s + partial_interval_s
            self._at(first_s, _Step.PARTIAL, session, number)
        ended_at_s = utterance.ended_at_s
        self._at(ended_at_s + self.habits.tried_after_s, _Step.TRY, session, number)
        self._at(ended_at_s + self.habits.silence_s, _Step.OVER, session, number)

    def _partial(self, event: _Event, partial_interval_s: float) -> Job | None:
        utterance = self._now[event.session]
        if utterance is None or utterance.number != event.number:
            return None
        if event.at_s >= utterance.ended_at_s:
            return None
        if utterance.awaiting:
            utterance.partial_due = True
            return None
        utterance.awaiting, utterance.partial_due = True, False
        next_s = event.at_s + partial_interval_s
        self._at(next_s, _Step.PARTIAL, event.session, utterance.number)
        return self._job(event, utterance, JobKind.PARTIAL)

    def _partial_ended(self, session: int, number: int, now_s: float) -> None:
        utterance = self._now[session]
        if utterance is None or utterance.number != number:
            return
        utterance.awaiting = False
        if utterance.partial_due:
            utterance.partial_due = False
            self._at(now_s, _Step.PARTIAL, session, number)

    def _try(self, event: _Event) -> Job | None:
        utterance = self._now[event.session]
        return None if utterance is None else self._job(event, utterance, JobKind.SPECULATIVE)

    def _over(self, event: _Event) -> Job | None:
        """The utterance is over: its final is shown, or is asked for under what was tried."""
        utterance, self._now[event.session] = self._now[event.session], None
        assert utterance is not None
        utterance.over = True
        pause_s = self._rng.uniform(*self.habits.pause_s)
        self._at(event.at_s + pause_s, _Step.BEGIN, event.session)
        if utterance.answered_at_s is not None:
            self._shown(event.session, utterance, event.at_s)
            return None
        self._finishing[event.session, utterance.number] = utterance
        return self._job(event, utterance, JobKind.FINAL)

    def _job(self, event: _Event, utterance: _Utterance, kind: JobKind) -> Job:
        # A final keeps the revision of what was tried: the scheduler makes one job of both.
        utterance.revision += kind is not JobKind.FINAL
        heard = round((event.at_s - utterance.began_at_s) * RATE_HZ)
        return Job(
            session_id=str(event.session),
            item_id=str(utterance.number),
            kind=kind,
            revision=utterance.revision,
            audio=utterance.said.audio[:heard],
            enqueued_at_s=event.at_s,
            language=utterance.said.language,
        )

    def _find(self, session: int, number: int) -> _Utterance | None:
        utterance = self._now[session]
        if utterance is not None and utterance.number == number:
            return utterance
        return self._finishing.get((session, number))

    def _shown(self, session: int, utterance: _Utterance, now_s: float) -> None:
        """Its final is visible, if it is over as well as answered."""
        if not utterance.over:
            return
        self._finishing.pop((session, utterance.number), None)
        if utterance.ended_at_s >= self._counts_from_s:
            self._delays_s.append(now_s - utterance.ended_at_s)


def _prepared(clip: BenchClip, silence_s: float) -> _Said:
    needed = round((clip.end_s + silence_s) * RATE_HZ)
    missing = max(needed - len(clip.audio_16k), 0)
    audio = np.pad(clip.audio_16k, (0, missing))
    return _Said(audio, clip.speech_start_s, clip.end_s, clip.language)


def _from(job: Job) -> tuple[int, int]:
    """The session and the number of the utterance that a job is of."""
    return int(job.session_id), int(job.item_id)


class Desk:
    """A crowd, and the scheduler and the cadence that the server's engine would have for it."""

    def __init__(
        self, crowd: Crowd, *, workers: int, max_batch: int, target_s: float, now_s: float
    ) -> None:
        """`target_s`: end of speech → final that the cadence of partials leaves room for."""
        self.crowd = crowd
        self._scheduler = Scheduler(
            Limits(
                max_batch=max_batch,
                max_held=NOBODY_REFUSED,
                max_partial_batch=max(max_batch // 2, 1),
                partial_batches=partial_workers(workers),
            )
        )
        self._meter = LoadMeter(workers, max_batch, targets=targets_for(target_s))
        for _ in range(crowd.sessions):
            self._meter.opened(now_s)
        self._advice = self._meter.advise(now_s)
        self._advised_at_s = now_s

    @property
    def wake_at_s(self) -> float:
        """Until then nothing new is asked for."""
        return self.crowd.next_at_s

    def take(self, now_s: float) -> Batch | None:
        """What a free worker should do now; None: nothing."""
        self._play(now_s)
        return self._scheduler.next_batch(now_s)

    def done(self, batch: Batch, now_s: float) -> None:
        """A worker is through with it."""
        self._play(now_s)
        kinds = [ticket.job.kind for ticket in batch.tickets]
        self._meter.served(kinds, now_s - batch.taken_at_s)
        for ticket in self._scheduler.finish(batch.batch_id):
            waited_s = batch.taken_at_s - ticket.since_s
            self._meter.answered(ticket.job.kind, waited_s, now_s - ticket.since_s, now_s)
            self.crowd.answered(ticket.job, now_s)

    def _play(self, now_s: float) -> None:
        """Let everything happen that has happened by now."""
        while self.crowd.next_at_s <= now_s:
            at_s, job = self.crowd.step(self._interval_s(self.crowd.next_at_s))
            if job is not None:
                self._submit(job, at_s)

    def _submit(self, job: Job, at_s: float) -> None:
        self._meter.asked(job.session_id, job.kind, at_s)
        _, dropped = self._scheduler.submit(job, at_s)
        for ticket in dropped:
            self.crowd.dropped(ticket.job, at_s)

    def _interval_s(self, at_s: float) -> float:
        if at_s - self._advised_at_s >= ADVICE_EVERY_S:
            self._advised_at_s = at_s
            self._advice = self._meter.advise(at_s)
        return self._advice.partial_interval_s
