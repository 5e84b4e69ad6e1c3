"""Turns as a tap sees them: what passed, with the instant it passed, goes in; turns come out. Pure.

A turn is what the server took for one: a final transcript, or an item it committed. What was
spoken is known by level only (`rtvc.profile.tap.speech`), so the end of speech is an estimate,
right to a frame of 20 ms and to the regularity of the client's packets.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from rtvc.profile.tap.speech import FRAME_S, LoudFrame, SpeechLevel

GRACE_S = 10.0
"""A final or a reply that has not come so long after its turn is not waited for."""

GOING_ON_S = 0.06
"""With speech this shortly before a final, somebody is still talking: no server waits less."""

SPOKE_ON_S = 0.1
"""So much speech behind the end of a turn was not its last syllable."""

GAP_S = 1.0
"""A longer silence divides what one turn said from what was said before it."""

BURST_S = 0.05
"""Messages with text that come closer together than this are one text for whoever reads."""

MOST_DRAFTS = 32
MOST_REPLIES = 8
MOST_SIGNS = 64
MOST_PAST = 256


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn; instants in seconds since the tap began, on its clock. None: not observable."""

    connection: int
    """Number of the connection, from 0."""
    turn: int
    """Number of the turn within its connection, from 0."""
    protocol: str
    """"openai-realtime", "realtimevoicechat" or "whisperlive"."""
    speech_start_at_s: float | None
    """First frame of speech; None: none was heard, or the end is unknown."""
    speech_end_at_s: float | None
    """End of the last frame of speech; None: no speech was heard, or it was still going on."""
    first_partial_at_s: float | None
    """First text for it, the final included; None: none came."""
    final_at_s: float | None
    """Its final transcript; None: it did not come."""
    reply_first_audio_at_s: float | None
    """First audio of the reply; None: none came."""
    reply_last_audio_at_s: float | None
    """Last audio of the reply."""
    partials: int
    """Texts before the final, a burst of messages counted once."""
    first_partial_delay_s: float | None
    """Seconds, speech start → first text."""
    partial_interval_s: float | None
    """Seconds: median between texts while talking; None: fewer than two came."""
    transcription_delay_s: float | None
    """Seconds, speech end → final transcript; None: one of them is unknown."""
    response_latency_s: float | None
    """Seconds, speech end → first audio of the reply."""
    barge_in_latency_s: float | None
    """Seconds, start of this turn's speech → the reply it interrupted was stopped, and no more of
    it came; None: it interrupted none."""
    spoke_on: bool
    """Speech was heard behind the turn's end and before its final: it was cut, or is late."""
    heard: str | None
    """The final transcript; None: it did not come, or text is not kept."""


@dataclass(frozen=True, slots=True)
class _Sign:
    """A message upon which a client falls silent."""

    at_s: float
    """When it passed."""
    certain: bool
    """Whether it shows that a reply was cut; else it only may have been."""


@dataclass(slots=True)
class _Reply:
    """One spoken answer as it passed."""

    first_audio_at_s: float | None = None
    """None so far."""
    last_audio_at_s: float | None = None
    """None so far."""
    plays_until_s: float = 0.0
    """When a client that plays it from its first audio on would be through."""
    over_at_s: float | None = None
    """The server said that no more will come."""
    begun_at_s: float = 0.0
    """When the server announced it."""
    signs: deque[_Sign] = field(default_factory=lambda: deque(maxlen=MOST_SIGNS))
    """Why it may have been cut."""

    def hear(self, at_s: float, audio_s: float) -> None:
        if self.first_audio_at_s is None:
            self.first_audio_at_s = at_s
        self.last_audio_at_s = at_s
        self.plays_until_s = max(self.plays_until_s, at_s) + audio_s

    def playing(self, at_s: float) -> bool:
        """Whether it was being played, or more of it was to come."""
        if self.first_audio_at_s is None or at_s < self.first_audio_at_s:
            return False
        return at_s < self.plays_until_s or self.over_at_s is None or at_s < self.over_at_s

    def stopped_at_s(self, onset_s: float) -> float | None:
        """When it was cut by speech that began at `onset_s`; None if it was not."""
        signs = [sign for sign in self.signs if sign.at_s >= onset_s]
        if not any(sign.certain for sign in signs):
            return None
        return max(signs[0].at_s, self.last_audio_at_s or 0.0)

    @property
    def last_sign_at_s(self) -> float:
        return max(self.begun_at_s, self.last_audio_at_s or 0.0)


@dataclass(slots=True)
class _Draft:
    """A turn that is not over."""

    from_s: float
    """Position in the audio behind which its speech lies."""
    bounded: bool
    """Whether the server named that position."""
    taken_at_s: float | None = None
    """When its audio was complete for the server; None: it is being spoken."""
    start: LoudFrame | None = None
    """First speech."""
    end: LoudFrame | None = None
    """Last speech."""
    shown_at_s: list[float] = field(default_factory=list)
    """When text for it came, each burst once."""
    final_at_s: float | None = None
    """None so far."""
    failed: bool = False
    """The server gave its transcript up."""
    spoke_on: bool = False
    """Speech was heard behind its end, before its final."""
    text: str | None = None
    """Of the final, if text is kept."""
    reply: _Reply | None = None
    """What answered it."""

    def show(self, at_s: float) -> None:
        if not self.shown_at_s or at_s - self.shown_at_s[-1] > BURST_S:
            self.shown_at_s.append(at_s)


class Turns:
    """All turns of one connection; a protocol's reader says what happened."""

    def __init__(
        self,
        connection: int,
        protocol: str,
        speech: SpeechLevel,
        *,
        replies: bool,
        keep_text: bool = False,
        grace_s: float = GRACE_S,
    ) -> None:
        """`speech` is fed by the reader. `replies`: the server answers with speech."""
        self.replies = replies
        self._connection = connection
        self._protocol = protocol
        self._speech = speech
        self._keep_text = keep_text
        self._grace_s = grace_s
        self._drafts: dict[str, _Draft] = {}
        self._past: deque[str] = deque(maxlen=MOST_PAST)
        self._replies: deque[_Reply] = deque(maxlen=MOST_REPLIES)
        self._last_taken: _Draft | None = None
        self._floor_s = 0.0
        self._told = 0

    # What happened.

    def begin(self, key: str, from_s: float | None = None) -> None:
        """A turn is being spoken; `from_s` is the position in the audio the server named."""
        if key in self._drafts or key in self._past:
            return
        while len(self._drafts) >= MOST_DRAFTS:
            del self._drafts[next(iter(self._drafts))]
        floor_s = self._floor_s if from_s is None else max(self._floor_s, from_s)
        self._drafts[key] = _Draft(floor_s, from_s is not None)

    def take(
        self, key: str, at_s: float, until_s: float | None = None, *, by_client: bool = False
    ) -> None:
        """Its audio is complete. `until_s` is the position in the audio at which it ended, None
        if nobody named one; `by_client`: the client said so, and may have while speaking."""
        draft = self._draft(key)
        if draft.taken_at_s is not None or key in self._past:
            return
        draft.taken_at_s = at_s
        self._last_taken = draft
        end = self._speech.last(until_s)
        known = until_s is not None or by_client
        if end is not None and not known and at_s - end.at_s < GOING_ON_S:
            draft.spoke_on, end = True, None
        if end is not None and end.end_s > draft.from_s:
            draft.end = end
            gap_s = None if draft.bounded else GAP_S
            draft.start = self._speech.onset(end, draft.from_s, gap_s)
        self._floor_s = self._speech.position_s if end is None else end.end_s

    def show(self, key: str, at_s: float) -> None:
        """Some text of it came."""
        self._draft(key).show(at_s)

    def finish(self, key: str, at_s: float, text: str) -> None:
        """Its final transcript came."""
        self.take(key, at_s)
        draft = self._draft(key)
        draft.final_at_s = at_s
        newest = self._speech.last()
        if draft.end and newest and newest.end_s > draft.end.end_s + SPOKE_ON_S:
            draft.spoke_on = True
        if self._keep_text:
            draft.text = text

    def fail(self, key: str) -> None:
        """Its final transcript will not come."""
        self._draft(key).failed = True

    def reply_begun(self, at_s: float) -> None:
        """The server announced an answer to the turn it took last."""
        reply = _Reply(begun_at_s=at_s)
        self._replies.append(reply)
        turn = self._last_taken
        if turn is not None and (turn.reply is None or turn.reply.first_audio_at_s is None):
            turn.reply = reply

    def reply_heard(self, at_s: float, audio_s: float) -> None:
        """So many seconds of the answer came."""
        if not self._replies or self._replies[-1].over_at_s is not None:
            self.reply_begun(at_s)
        self._replies[-1].hear(at_s, audio_s)

    def reply_over(self, at_s: float) -> None:
        """No more of the answer will come."""
        if self._replies and self._replies[-1].over_at_s is None:
            self._replies[-1].over_at_s = at_s

    def stop_sign(self, at_s: float, *, certain: bool) -> None:
        """A message upon which a client falls silent."""
        if self._replies:
            self._replies[-1].signs.append(_Sign(at_s, certain))

    # What comes of it.

    def settled(self, now_s: float) -> list[Turn]:
        """Turns that are over, each once."""
        return self._tell([k for k, draft in self._drafts.items() if self._is_over(draft, now_s)])

    def rest(self) -> list[Turn]:
        """The connection is closed: turns that were taken, with what came of them."""
        return self._tell([k for k, d in self._drafts.items() if d.taken_at_s is not None])

    def _draft(self, key: str) -> _Draft:
        """What comes for a turn that was told is lost on a draft that nobody keeps."""
        self.begin(key)
        return self._drafts.get(key) or _Draft(0.0, bounded=False)

    def _is_over(self, draft: _Draft, now_s: float) -> bool:
        if draft.taken_at_s is None:
            return False
        if draft.final_at_s is None and not draft.failed:
            return now_s > draft.taken_at_s + self._grace_s
        if not self.replies:
            return True
        reply = draft.reply
        if reply is None or reply.first_audio_at_s is None:
            # A silent one may be a call of a tool, with the spoken one to follow.
            sign_at_s = draft.taken_at_s if reply is None else reply.last_sign_at_s
            waited_from_s = max(draft.final_at_s or 0.0, sign_at_s)
            return draft is not self._last_taken or now_s > waited_from_s + self._grace_s
        over = reply.over_at_s is not None
        return over or now_s > reply.last_sign_at_s + self._grace_s

    def _tell(self, keys: Sequence[str]) -> list[Turn]:
        self._past.extend(keys)
        return [self._turn(self._drafts.pop(key)) for key in keys]

    def _turn(self, draft: _Draft) -> Turn:
        number, self._told = self._told, self._told + 1
        start_at_s = None if draft.start is None else draft.start.at_s - FRAME_S
        end_at_s = None if draft.end is None else draft.end.at_s
        reply = draft.reply or _Reply()
        shown = _shown(draft, start_at_s)
        before = [at_s for at_s in shown if draft.final_at_s is None or at_s < draft.final_at_s]
        texts = [*shown[:1], *([] if draft.final_at_s is None else [draft.final_at_s])]
        first_at_s = min(texts, default=None)
        return Turn(
            connection=self._connection,
            turn=number,
            protocol=self._protocol,
            speech_start_at_s=start_at_s,
            speech_end_at_s=end_at_s,
            first_partial_at_s=first_at_s,
            final_at_s=draft.final_at_s,
            reply_first_audio_at_s=reply.first_audio_at_s,
            reply_last_audio_at_s=reply.last_audio_at_s,
            partials=len(before),
            first_partial_delay_s=_between(start_at_s, first_at_s),
            partial_interval_s=_interval_s(before, end_at_s),
            transcription_delay_s=_between(end_at_s, draft.final_at_s),
            response_latency_s=_between(end_at_s, reply.first_audio_at_s),
            barge_in_latency_s=self._barge_in_s(start_at_s),
            spoke_on=draft.spoke_on,
            heard=draft.text,
        )

    def _barge_in_s(self, onset_s: float | None) -> float | None:
        if onset_s is None:
            return None
        over = [reply for reply in self._replies if reply.playing(onset_s)]
        return _between(onset_s, over[-1].stopped_at_s(onset_s)) if over else None


def _shown(draft: _Draft, start_at_s: float | None) -> list[float]:
    """Late texts of the turn before are none of this one."""
    return [at_s for at_s in draft.shown_at_s if start_at_s is None or at_s >= start_at_s]


def _between(from_s: float | None, to_s: float | None) -> float | None:
    return None if from_s is None or to_s is None else to_s - from_s


def _interval_s(shown_at_s: Sequence[float], end_at_s: float | None) -> float | None:
    if end_at_s is None:
        return None
    waits = [b - a for a, b in pairwise(at_s for at_s in shown_at_s if at_s <= end_at_s)]
    return median(waits) if waits else None
