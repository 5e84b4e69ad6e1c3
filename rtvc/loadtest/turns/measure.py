"""Joins what a speaker said with what came back: observations in, one turn per utterance out.

Pure: times are handed in. Which utterance an item belongs to is decided once, when the item is
first named, and never by counting finals:

1. The server said where in the audio the speech began: the utterance nearest to that position.
2. It did not: the utterance that was being spoken then, or the last one spoken.
3. It tells stretches of audio with their text, and no utterances: see `spans`.

So answers may come late, swapped, twice or never without being credited to the wrong utterance.
A reply belongs to the utterance whose item was committed last before the reply was created.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from rtvc.loadtest.turns.heard import Item, Reply
from rtvc.loadtest.turns.spans import owners
from rtvc.loadtest.turns.visible import interval_s, shown_texts
from rtvc.loadtest.wire.observations import (
    ErrorReported,
    FinalFailed,
    FinalText,
    Garbage,
    ItemCommitted,
    Observation,
    PartialText,
    ReplyAudio,
    ReplyCreated,
    ReplyDone,
    SpansHeard,
    SpeechStarted,
    TextSpan,
)

UNHEARD_S = 0.5
"""A final so long before the end of speech cannot hold it: the rest is to come, or lost."""

PADDING_S = 0.5
"""A server may report speech this much earlier than it began (its prefix padding)."""

END_S = 0.5
"""A text may be said to end this much earlier than its last word does."""

SPANNED = 8
"""Utterances, the latest begun, to which a stretch of text may belong."""


class Utterance(Protocol):
    """The part of a spoken utterance that matters here; times in seconds of the audio stream."""

    @property
    def index(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def voice(self) -> str: ...
    @property
    def speech_start_s(self) -> float: ...
    @property
    def first_word_end_s(self) -> float: ...
    @property
    def speech_end_s(self) -> float: ...
    @property
    def word_ends_s(self) -> tuple[float, ...] | None: ...
    @property
    def complete(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance and what came back for it; instants in seconds since the run's start."""

    utterance: Utterance
    """What was said."""
    item_id: str | None
    """The last item it became; None if the server never named one."""
    heard: str | None
    """Final transcripts in the order of speaking, joined; None if none came."""
    speech_start_at_s: float
    """First sample of the first word spoken."""
    first_word_end_at_s: float
    """Last sample of the first word spoken."""
    speech_end_at_s: float
    """Last sample of speech spoken."""
    first_partial_at_s: float | None
    """First text received."""
    final_at_s: float | None
    """Last final received; None: missing, as is one whose last final came too early to hold the
    end of what was said."""
    finals: int
    """Finals received."""
    premature_finals: int
    """Finals before the last one, or before the speech was over."""
    reply_first_audio_at_s: float | None
    """First reply sample received."""
    reply_last_audio_at_s: float | None
    """Last reply sample received."""
    reply_expected: bool
    """Whether a reply was due."""
    interrupted_reply: bool
    """Whether it was spoken over a reply."""
    barge_in_stop_at_s: float | None
    """When that reply was neither received nor heard any more; None if there was none."""
    partial_interval_s: float | None = None
    """Median time between visible texts while talking; None if there were none."""
    shown: tuple[tuple[float, str], ...] = ()
    """(when, all that was to be read from then on), change by change."""


@dataclass(frozen=True, slots=True)
class Stray:
    """Text that came though nothing had been said."""

    at_s: float
    """When."""
    text: str
    """What."""
    final: bool
    """Whether it would not change any more."""


class Measurement:
    """All turns of one call."""

    def __init__(
        self,
        *,
        conversation: bool,
        grace_s: float = 10.0,
        settle_s: float = 1.0,
        finals_end_turns: bool = True,
    ) -> None:
        """A final later than `grace_s` is missing; a turn is kept open `settle_s` after its last
        final, in case the utterance was split and more is to come. Where finals claim no end of a
        turn (`finals_end_turns`), none of them is premature."""
        self._conversation = conversation
        self._grace_s = grace_s
        self._settle_s = settle_s
        self._finals_end_turns = finals_end_turns
        self._stream_start_s = 0.0
        self._utterances: Sequence[Utterance] = ()
        self._items: dict[str, Item] = {}
        self._replies: dict[str, Reply] = {}
        self._committed: Item | None = None
        self._told: set[int] = set()
        self._all_told_below = 0
        self.counts: Counter[str] = Counter()
        """What went wrong, by name."""
        self._complaints: dict[str, str] = {}
        self._strays: list[Stray] = []

    def begin(self, stream_start_s: float, utterances: Sequence[Utterance]) -> None:
        """`utterances` is the speaker's own growing list."""
        self._stream_start_s = stream_start_s
        self._utterances = utterances

    @property
    def replies(self) -> Mapping[str, Reply]:
        """By response id, in order of creation."""
        return self._replies

    @property
    def complaint(self) -> str | None:
        """The first thing the server said went wrong, what it cost told first; None: nothing."""
        told = self._complaints
        return told.get("reply") or told.get("final") or told.get("error")

    def observe(self, seen: Observation) -> None:
        match seen:
            case ReplyCreated() | ReplyAudio() | ReplyDone():
                self._observe_reply(seen)
            case Garbage(name=name):
                self.counts[name] += 1
            case ErrorReported(reason=reason):
                self.counts["server_errors"] += 1
                self._complaints.setdefault("error", reason)
            case _:
                self._observe_text(seen)

    def _observe_text(self, seen: Observation) -> None:
        match seen:
            case SpeechStarted(at_s, item_id, audio_start_s):
                self._item(item_id, at_s, audio_start_s)
            case ItemCommitted(at_s, item_id):
                self._committed = self._item(item_id, at_s)
            case PartialText(at_s, item_id, text):
                self._changing_text(self._item(item_id, at_s), at_s, text)
            case SpansHeard(at_s, spans):
                for span in spans:
                    self._span(span, at_s)
            case FinalText(at_s, item_id, text):
                self._final(self._item(item_id, at_s), at_s, text)
            case FinalFailed(at_s, item_id, reason):
                self._item(item_id, at_s).failed = True
                self._complaints.setdefault("final", reason)
                self.counts["failed_transcriptions"] += 1
            case _:
                pass

    def _observe_reply(self, seen: ReplyCreated | ReplyAudio | ReplyDone) -> None:
        reply = self._reply(seen.response_id, seen.at_s)
        match seen:
            case ReplyAudio(at_s, _, item_id, audio_s):
                reply.hear(at_s, item_id, audio_s)
            case ReplyDone(at_s, _, _, reason):
                reply.done_at_s, reply.failed = at_s, seen.failed
                if reason is not None:
                    self._complaints.setdefault("reply", reason)
                self.counts["failed_replies"] += seen.failed
            case _:
                pass

    def _item(self, item_id: str, at_s: float, audio_start_s: float | None = None) -> Item:
        item = self._items.get(item_id)
        if item is None:
            item = Item(item_id, self._utterance_at(at_s - self._stream_start_s, audio_start_s))
            self._items[item_id] = item
        return item

    def _begun(self, now_s: float, most: int) -> list[Utterance]:
        """Those begun by then, the latest first."""
        latest = (u for u in reversed(self._utterances) if u.speech_start_s <= now_s)
        return list(islice(latest, most))

    def _utterance_at(self, now_s: float, audio_start_s: float | None) -> int | None:
        begun = self._begun(now_s, 4)
        if not begun:
            return None
        if audio_start_s is None or not 0 <= audio_start_s <= now_s:
            return begun[0].index
        return min(begun, key=lambda u: _distance_s(u, audio_start_s)).index

    def _reply(self, response_id: str, at_s: float) -> Reply:
        reply = self._replies.get(response_id)
        if reply is None:
            item = self._committed
            utterance = (
                item.utterance if item else self._utterance_at(at_s - self._stream_start_s, None)
            )
            reply = Reply(response_id, utterance, item.item_id if item else None)
            self._replies[response_id] = reply
        return reply

    def _partial(self, item: Item, at_s: float, text: str) -> None:
        if text.strip():
            item.show(at_s, text.strip())

    def _changing_text(self, item: Item, at_s: float, text: str) -> None:
        if item.utterance is None and item.first_partial_at_s is None and text.strip():
            self._stray(at_s, text, final=False)
        self._partial(item, at_s, text)

    def _final(self, item: Item, at_s: float, text: str) -> None:
        if item.final_at_s is not None:
            self.counts["duplicate_finals"] += 1
            return
        if item.utterance in self._told or self._too_late(item.utterance, at_s):
            self.counts["late_finals"] += 1
            item.failed = True
            return
        if item.utterance is None and text.strip():
            self._stray(at_s, text, final=True)
        self._partial(item, at_s, text)
        item.final_at_s, item.text = at_s, text

    def _span(self, span: TextSpan, at_s: float) -> None:
        """A stretch of text: a final makes an item, what may still change keeps one open."""
        begun = self._begun(at_s - self._stream_start_s, SPANNED)[::-1]
        if not begun:
            if span.text.strip():
                self._stray(at_s, span.text, final=span.final)
            return
        for utterance, text in owners(span, begun):
            changing = self._changing(utterance)
            changing.superseded = span.final
            if span.final:
                changing.hide(at_s)
            if span.final:
                name = f"{utterance.index}@{span.start_s:.3f}"
                item = Item(name, utterance.index, end_s=span.end_s)
                self._final(self._items.setdefault(item.item_id, item), at_s, text)
            else:
                self._partial(changing, at_s, text)

    def _changing(self, utterance: Utterance) -> Item:
        """Where the changing text of an utterance is kept."""
        item = Item(f"{utterance.index}@", utterance.index)
        return self._items.setdefault(item.item_id, item)

    def _stray(self, at_s: float, text: str, *, final: bool) -> None:
        """Text where nothing had been said."""
        if final:
            self.counts["finals_without_utterance"] += 1
        self._strays.append(Stray(at_s, text, final))

    def drain_strays(self) -> list[Stray]:
        """Texts that came though nothing had been said; since the last call."""
        strays, self._strays = self._strays, []
        return strays

    def _too_late(self, index: int | None, at_s: float) -> bool:
        if index is None:
            return False
        return at_s > self._end_at_s(self._utterances[index]) + self._grace_s

    def speech_end_s(self, item_id: str) -> float | None:
        """Offset in the stream of the true end of an item's speech; None: nothing was said."""
        item = self._items.get(item_id)
        if item is None or item.utterance is None:
            return None
        return self._utterances[item.utterance].speech_end_s

    def answered_at_s(self, item_id: str, response_id: str | None) -> float | None:
        """When the reply was first heard, or without one the item's final came; None: not yet."""
        if response_id is not None:
            reply = self._replies.get(response_id)
            return reply.first_audio_at_s if reply else None
        item = self._items.get(item_id)
        return item.final_at_s if item else None

    def settled(self, now_s: float) -> list[Turn]:
        """Turns about which nothing more is to be learnt; each is told once."""
        return [self._tell(u) for u in self._waiting(now_s) if self._is_settled(u, now_s)]

    def cut(self, now_s: float) -> list[Turn]:
        """The caller hangs up early: what came, came; what still had time is not held missing."""
        waiting = self._waiting(now_s)
        kept = [
            u
            for u in waiting
            if self._heard_out(u, self._finals(u.index))
            or now_s > self._end_at_s(u) + self._grace_s
        ]
        return [self._tell(u, patient=False) for u in kept]

    def lost(self, now_s: float) -> list[Turn]:
        """The server hung up: whatever had been said and was not answered is missing."""
        return [self._tell(u) for u in self._waiting(now_s)]

    def under_way_s(self, now_s: float) -> float:
        """Seconds of speech of the utterance that is being spoken; 0: none is."""
        begun = self._begun(now_s - self._stream_start_s, 1)
        if not begun or now_s >= self._end_at_s(begun[0]):
            return 0.0
        return now_s - self._stream_start_s - begun[0].speech_start_s

    def all_settled(self, now_s: float) -> bool:
        return not any(not self._is_settled(u, now_s) for u in self._waiting(now_s))

    def _waiting(self, now_s: float) -> list[Utterance]:
        while self._all_told_below in self._told:
            self._all_told_below += 1
        return [
            u
            for u in self._utterances[self._all_told_below :]
            if u.index not in self._told and u.complete and now_s >= self._end_at_s(u)
        ]

    def _end_at_s(self, utterance: Utterance) -> float:
        return self._stream_start_s + utterance.speech_end_s

    def _is_settled(self, utterance: Utterance, now_s: float) -> bool:
        return self._text_settled(utterance, now_s) and self._reply_settled(utterance, now_s)

    def _text_settled(self, utterance: Utterance, now_s: float) -> bool:
        if now_s > self._end_at_s(utterance) + self._grace_s:
            return True
        items = self._items_of(utterance.index)
        if not items or any(item.open for item in items):
            return False
        if not _to_its_end(utterance, items) or not self._heard_out(utterance, items):
            # What was said after the last of them is still to be answered.
            return False
        return now_s >= (_last_final_at_s(items) or 0.0) + self._settle_s

    def _heard_out(self, utterance: Utterance, items: Sequence[Item]) -> bool:
        """Whether a final came late enough to hold the end of what was said."""
        last_at_s = _last_final_at_s(items)
        return last_at_s is not None and last_at_s >= self._end_at_s(utterance) - UNHEARD_S

    def _reply_settled(self, utterance: Utterance, now_s: float) -> bool:
        if not self._conversation:
            return True
        replies = self._replies_to(utterance.index)
        last_heard_s = max([self._end_at_s(utterance), *(_last_sign_s(r) for r in replies)])
        if now_s > last_heard_s + self._grace_s:
            return True
        if not replies or replies[-1].user_item_id != self._last_item_id(utterance.index):
            return False
        interrupted = self._interrupted(utterance)
        return all(
            r.done_at_s is not None for r in [*replies, *([interrupted] if interrupted else [])]
        )

    def _items_of(self, index: int) -> list[Item]:
        return [item for item in self._items.values() if item.utterance == index]

    def _replies_to(self, index: int) -> list[Reply]:
        return [reply for reply in self._replies.values() if reply.utterance == index]

    def _last_item_id(self, index: int) -> str | None:
        items = self._items_of(index)
        return items[-1].item_id if items else None

    def _finals(self, index: int) -> list[Item]:
        """Those with text; empty ones stand only where there is no other."""
        finals = [item for item in self._items_of(index) if item.final_at_s is not None]
        return [item for item in finals if item.text.strip()] or finals[:1]

    def _interrupted(self, utterance: Utterance) -> Reply | None:
        start_s = self._stream_start_s + utterance.speech_start_s
        over = [r for r in self._replies.values() if r.interrupted_by(start_s)]
        return over[-1] if over else None

    def _tell(self, utterance: Utterance, *, patient: bool = True) -> Turn:
        self._told.add(utterance.index)
        end_s = self._end_at_s(utterance)
        items, finals = self._items_of(utterance.index), self._finals(utterance.index)
        final_at_s = _last_final_at_s(finals) if self._heard_out(utterance, finals) else None
        partials = [i.first_partial_at_s for i in items if i.first_partial_at_s is not None]
        replies = [r for r in self._replies_to(utterance.index) if not r.failed]
        audible = [r for r in replies if r.first_audio_at_s is not None]
        interrupted = self._interrupted(utterance)
        shown = shown_texts(items)
        for item in items:
            item.texts.clear()
        return Turn(
            utterance=utterance,
            item_id=(finals or items)[-1].item_id if items else None,
            heard=" ".join(f.text.strip() for f in finals).strip() if finals else None,
            speech_start_at_s=self._stream_start_s + utterance.speech_start_s,
            first_word_end_at_s=self._stream_start_s + utterance.first_word_end_s,
            speech_end_at_s=end_s,
            first_partial_at_s=min(partials, default=None),
            final_at_s=final_at_s,
            finals=len(finals),
            premature_finals=_premature(finals, end_s) if self._finals_end_turns else 0,
            reply_first_audio_at_s=audible[-1].first_audio_at_s if audible else None,
            reply_last_audio_at_s=audible[-1].last_audio_at_s if audible else None,
            reply_expected=self._conversation and (patient or bool(audible)),
            interrupted_reply=interrupted is not None,
            partial_interval_s=interval_s(
                self._stream_start_s + utterance.first_word_end_s,
                sorted(at_s for item in items for at_s in item.shown_at_s),
                end_s,
            ),
            barge_in_stop_at_s=interrupted.quiet_at_s if interrupted else None,
            shown=shown,
        )


def _last_final_at_s(items: Sequence[Item]) -> float | None:
    return max((item.final_at_s for item in items if item.final_at_s is not None), default=None)


def _to_its_end(utterance: Utterance, items: Sequence[Item]) -> bool:
    """Whether the text, where it has places, reaches the end of what was said."""
    ends = [item.end_s for item in items if item.end_s is not None]
    return not ends or max(ends) >= utterance.speech_end_s - END_S


def _distance_s(utterance: Utterance, position_s: float) -> float:
    before_s = utterance.speech_start_s - PADDING_S - position_s
    return max(0.0, before_s, position_s - utterance.speech_end_s)


def _last_sign_s(reply: Reply) -> float:
    return max(reply.last_audio_at_s or 0.0, reply.playback.silent_at_s or 0.0)


def _premature(finals: Sequence[Item], end_s: float) -> int:
    times = [f.final_at_s for f in finals if f.final_at_s is not None]
    return sum(1 for at_s in times if at_s < max(times) or at_s < end_s)
