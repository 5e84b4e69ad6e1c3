"""One simulated person and the session that listens to them, in virtual time. Pure.

The session does as `rtvc.voice.session` and `rtvc.voice.endpointing` do, without audio: partials
while there is speech, a speculative final at the first silence, the final when the turn is over,
each stamped with a revision. Instants are those at which the server knows of what was said.
"""

import math
import random
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Protocol

import numpy as np

from rtvc.plan.events import Calendar
from rtvc.plan.talk import FRAME_S, Listening, Talk
from rtvc.stt.tickets import Ticket
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, Job, JobKind
from rtvc.summary import TALKING_S

_NOTHING = np.float32(0)
"""Repeated without taking memory, it is audio of any length."""


class Ears(Protocol):
    """The server, as one session sees it."""

    def ask(self, job: Job) -> bool:
        """Have it transcribed; False: refused."""

    def interval_s(self) -> float:
        """Seconds between two partials that the engine advises now."""


@dataclass(slots=True)
class Tally:
    """What came of all utterances that count."""

    delays_s: list[float] = field(default_factory=list)
    """True end of speech → final transcript at the client; infinite if none came."""
    intervals_s: list[float] = field(default_factory=list)
    """Between two texts of an utterance: its median; infinite if none came while there was time."""
    jobs: int = 0
    """Asked for, of all utterances."""


@dataclass(slots=True, eq=False)
class _Utterance:
    """One turn of a person."""

    item_id: str
    """Its name."""
    began_at_s: float
    """Its first sample arrived."""
    counts: bool
    """Whether it is measured."""
    partial_at_s: float
    """Audio up to here was given to a partial."""
    revision: int = 0
    """Counts up."""
    awaiting_partial: bool = False
    """Whether one is under way."""
    pausing: bool = False
    """Whether there is silence."""
    over: bool = False
    """Whether the turn has been called over."""
    done: bool = False
    """Whether its final is there, or will never be."""
    tried: int | None = None
    """Revision of the speculative final of this pause; None: none is asked for."""
    answered: bool = False
    """Whether that one's text is there."""
    check: int = 0
    """Number of the latest look at whether a partial is due; earlier ones are void."""
    silent_from_s: float = 0.0
    """The last speech that was heard ends here, as the server counts."""
    ended_at_s: float = 0.0
    """True end of speech."""
    shown_at_s: float | None = None
    """When a text was last shown."""
    gaps_s: list[float] = field(default_factory=list)
    """Between two texts."""

    @property
    def listening(self) -> bool:
        """Whether partials are made of it."""
        return not (self.pausing or self.over or self.awaiting_partial)


class Caller:
    """Speaks until `until_s`, and counts what came of utterances begun from `from_s` on."""

    def __init__(
        self,
        calendar: Calendar,
        ears: Ears,
        talk: Talk,
        listening: Listening,
        tally: Tally,
        *,
        name: str,
        rng: random.Random,
        from_s: float,
        until_s: float,
    ) -> None:
        self._calendar = calendar
        self._ears = ears
        self._talk = talk
        self._listening = listening
        self._tally = tally
        self._name = name
        self._rng = rng
        self._from_s, self._until_s = from_s, until_s
        self._message_at_s = rng.uniform(0, talk.message_s)
        self._number = 0
        self._open: dict[str, _Utterance] = {}

    def start(self) -> None:
        """Connected; speaks within a while."""
        self._calendar.after(self._rng.uniform(0, self._talk.start_within_s), self._begin)

    def hang_up(self) -> None:
        """Whatever is still awaited never came."""
        for utterance in [*self._open.values()]:
            if utterance.over:
                self._give_up(utterance)

    def _when_heard(self, instant_s: float) -> float:
        """When the server has what was said until then: with the message that it is in."""
        message_s = self._talk.message_s
        if not message_s:
            return instant_s
        messages = math.ceil((instant_s - self._message_at_s) / message_s - 1e-9)
        return self._message_at_s + messages * message_s

    # The person.

    def _begin(self) -> None:
        now_s = self._calendar.now_s
        if now_s >= self._until_s:
            return
        self._number += 1
        utterance = _Utterance(
            f"{self._name}-{self._number}",
            now_s,
            now_s >= self._from_s,
            partial_at_s=now_s - self._listening.padding_s,
        )
        self._open[utterance.item_id] = utterance
        self._look(utterance, self._listening.endpointing.onset_s)
        self._speak(utterance, self._stretches())

    def _stretches(self) -> list[float]:
        """Seconds of speech, with pauses between them."""
        speech_s = self._rng.choice(self._talk.speech_s)
        if self._rng.random() >= self._talk.inner_pauses:
            return [speech_s]
        first_s = speech_s * self._rng.uniform(0.3, 0.8)
        return [first_s, speech_s - first_s]

    def _speak(self, utterance: _Utterance, stretches: list[float]) -> None:
        late_s = self._rng.uniform(*self._listening.heard_late_s)
        utterance.pausing = False
        heard = partial(self._fall_silent, utterance, stretches[1:], late_s)
        self._calendar.after(stretches[0] + late_s, heard)

    def _fall_silent(self, utterance: _Utterance, rest: list[float], late_s: float) -> None:
        """The last speech has arrived, so much later than it was spoken."""
        now_s = self._calendar.now_s
        utterance.pausing = True
        utterance.silent_from_s, utterance.ended_at_s = now_s, now_s - late_s
        settings = self._listening.endpointing
        soonest = self._listening.frames(self._listening.silence_s(answered=True))
        tries = soonest > self._listening.frames(settings.speculative_s)
        if rest:
            pause_s = self._rng.uniform(*self._talk.inner_pause_s)
            tries = tries and pause_s > settings.speculative_s
            self._calendar.after(pause_s, partial(self._resume, utterance, rest))
        else:
            end = partial(self._consider_end, utterance, soonest)
            self._calendar.at(self._when_heard(now_s + soonest * FRAME_S), end)
        if tries:
            tried_s = now_s + self._listening.frames(settings.speculative_s) * FRAME_S
            self._calendar.at(self._when_heard(tried_s), partial(self._try_final, utterance))

    def _resume(self, utterance: _Utterance, rest: list[float]) -> None:
        """What was tried is void."""
        utterance.revision += 1
        utterance.tried, utterance.answered = None, False
        self._speak(utterance, rest)
        self._look(utterance, 0.0)

    # The session.

    def _ask(self, utterance: _Utterance, kind: JobKind) -> bool:
        now_s = self._calendar.now_s
        heard_s = now_s - utterance.began_at_s + self._listening.padding_s
        audio = np.broadcast_to(_NOTHING, max(round(heard_s * SAMPLE_RATE_HZ), 1))
        self._tally.jobs += 1
        return self._ears.ask(
            Job(self._name, utterance.item_id, kind, utterance.revision, audio, now_s)
        )

    def _look(self, utterance: _Utterance, seconds: float) -> None:
        """See later whether a partial is due; voids looks planned before."""
        utterance.check += 1
        look = partial(self._partial_when_due, utterance, utterance.check)
        self._calendar.at(self._when_heard(self._calendar.now_s + seconds), look)

    def _partial_when_due(self, utterance: _Utterance, check: int) -> None:
        if check != utterance.check or not utterance.listening:
            return
        if self._listening.partials == "off":
            return
        now_s = self._calendar.now_s
        interval_s = self._listening.interval_s
        if self._listening.partials == "adaptive":
            interval_s = max(interval_s, self._ears.interval_s())
        left_s = utterance.partial_at_s + interval_s - now_s
        if left_s > 1e-9:
            self._look(utterance, self._listening.frames(left_s) * FRAME_S)
            return
        utterance.partial_at_s = now_s
        utterance.revision += 1
        utterance.awaiting_partial = True
        if not self._ask(utterance, JobKind.PARTIAL):
            self._partial_gone(utterance)

    def _partial_gone(self, utterance: _Utterance) -> None:
        """The next frame shows whether another is due."""
        utterance.awaiting_partial = False
        self._look(utterance, FRAME_S / 2)

    def _try_final(self, utterance: _Utterance) -> None:
        if not utterance.pausing:
            # The same message brought the next word.
            return
        utterance.revision += 1
        utterance.tried, utterance.answered = utterance.revision, False
        if not self._ask(utterance, JobKind.SPECULATIVE):
            utterance.tried = None

    def _consider_end(self, utterance: _Utterance, frames: int) -> None:
        """After so many frames of silence: a text on its way may be waited for."""
        needed_s = self._listening.silence_s(answered=utterance.answered)
        if frames < self._listening.frames(needed_s):
            later = partial(self._consider_end, utterance, frames + 1)
            next_s = utterance.silent_from_s + (frames + 1) * FRAME_S
            self._calendar.at(self._when_heard(next_s), later)
            return
        utterance.over = True
        if self._talk.reply_s is None:
            pause_s = self._rng.uniform(*self._talk.pause_s)
            self._calendar.at(utterance.ended_at_s + pause_s, self._begin)
        if utterance.answered:
            self._finish(utterance, self._calendar.now_s)
            return
        if utterance.tried is None:
            utterance.revision += 1
            utterance.tried = utterance.revision
        if not self._ask(utterance, JobKind.FINAL):
            self._give_up(utterance)

    def _finish(self, utterance: _Utterance, now_s: float) -> None:
        self._close(utterance, now_s + self._listening.sent_s - utterance.ended_at_s)

    def _give_up(self, utterance: _Utterance) -> None:
        self._close(utterance, math.inf)

    def _close(self, utterance: _Utterance, delay_s: float) -> None:
        if utterance.done:
            return
        utterance.done = True
        del self._open[utterance.item_id]
        if utterance.counts:
            self._tally.delays_s.append(delay_s)
            self._keep_interval(utterance)
        if self._talk.reply_s is not None:
            reply_s = self._rng.uniform(*self._talk.reply_s)
            think_s = self._rng.uniform(*self._talk.pause_s)
            self._calendar.after(reply_s + think_s, self._begin)

    def _keep_interval(self, utterance: _Utterance) -> None:
        if self._listening.partials == "off":
            return
        talked_s = utterance.ended_at_s - utterance.began_at_s
        if utterance.gaps_s:
            self._tally.intervals_s.append(median(utterance.gaps_s))
        elif utterance.shown_at_s is None and talked_s >= TALKING_S:
            self._tally.intervals_s.append(math.inf)

    # Answers.

    def answered(self, ticket: Ticket) -> None:
        """A job of this session was answered."""
        utterance = self._open.get(ticket.job.item_id)
        if utterance is None:
            return
        if ticket.job.kind is JobKind.PARTIAL:
            if not utterance.over:
                self._show(utterance)
            self._partial_gone(utterance)
        elif ticket.job.revision == utterance.tried:
            self._take_text(utterance)
        elif not utterance.over:
            # Of a pause that is past: good to be seen, and no more.
            self._show(utterance)

    def _take_text(self, utterance: _Utterance) -> None:
        """Of the pause under way, or of the turn that is over."""
        utterance.answered = True
        if utterance.over:
            self._finish(utterance, self._calendar.now_s)
        else:
            self._show(utterance)

    def lost(self, ticket: Ticket) -> None:
        """A job of this session will never run."""
        utterance = self._open.get(ticket.job.item_id)
        if utterance is None:
            return
        if ticket.job.kind is JobKind.PARTIAL:
            self._partial_gone(utterance)
        elif ticket.job.kind is JobKind.FINAL:
            self._give_up(utterance)
        elif ticket.job.revision == utterance.tried and not utterance.over:
            utterance.tried = None

    def _show(self, utterance: _Utterance) -> None:
        now_s = self._calendar.now_s
        if utterance.shown_at_s is not None:
            utterance.gaps_s.append(now_s - utterance.shown_at_s)
        utterance.shown_at_s = now_s
