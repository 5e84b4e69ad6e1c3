"""The replies of one Realtime session: one at a time, cut short by speech, cut back to the heard.

What the client asks for (`create`, `cancel`, `truncate`) and what the session decides by itself
(`start` after a turn, `interrupt` by speech) meet here.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rtvc.errors import ProtocolError
from rtvc.protocol import realtime
from rtvc.server.ear import Ear
from rtvc.server.replies.llm import Message
from rtvc.server.replies.reply import ReplyTimings
from rtvc.server.services import Services
from rtvc.server.sessions.conversation import Conversation, Item, item_from
from rtvc.server.sessions.outbox import Outbox
from rtvc.server.sessions.realtime_reply import RealtimeReply, ReplySettings, reply_settings
from rtvc.server.sessions.session_life import SessionLife, new_id
from rtvc.server.sessions.turn_timing import TurnClock

_KEPT = 16
"""Replies that can still be truncated."""


class Replies:
    """The replies of one session."""

    def __init__(
        self,
        services: Services,
        outbox: Outbox,
        events: realtime.ServerEvents,
        ear: Ear,
        life: SessionLife,
        conversation: Conversation,
        *,
        config: realtime.SessionConfig,
        post: Callable[[dict[str, Any]], None],
        on_first_audio: Callable[[TurnClock, str], None],
        on_played: Callable[[float], None],
        on_spare: Callable[[], None],
    ) -> None:
        self._services = services
        self._clock = services.clock
        self._outbox = outbox
        self._events = events
        self._ear = ear
        self._life = life
        self._conversation = conversation
        self._conversation_id = new_id("conv")
        self.config = config
        """The session's settings; the connection keeps them up to date."""
        self._post = post
        self._on_first_audio = on_first_audio
        self._on_played = on_played
        self._on_spare = on_spare
        self._latest: RealtimeReply | None = None
        self._kept: dict[str, RealtimeReply] = {}
        self.interruptions = 0
        """Replies that were cut short."""

    @property
    def active(self) -> bool:
        """Whether a reply is being made."""
        return self._latest is not None and not self._latest.over

    def start(self, turn: TurnClock | None) -> None:
        """Reply to the conversation as the session's settings say; `turn` is what it answers."""
        settings = reply_settings(
            self.config, self._services, conversation_id=self._conversation_id
        )
        self._begin(settings, self._conversation.messages(self.config.instructions), turn)

    # What the client asks for.

    def create(self, event: realtime.ResponseCreate) -> None:
        """
        Raises:
            ProtocolError: this session does not reply, or is replying.
        """
        if self.config.type == "transcription":
            raise ProtocolError(
                "a transcription session does not reply", code="unsupported_event", param="type"
            )
        if self.active:
            raise ProtocolError(
                "the conversation already has a response in progress",
                code="conversation_already_has_active_response",
            )
        wish = event.response or realtime.ResponseSettings()
        instructions = wish.instructions or self.config.instructions
        self._begin(self._settings(wish), self._messages(wish, instructions), None)

    def cancel(self, event: realtime.ResponseCancel) -> None:
        """
        Raises:
            ProtocolError: there is no such response in progress.
        """
        reply = self._latest
        if reply is None or reply.over or event.response_id not in (None, reply.response_id):
            raise ProtocolError(
                "expected a response in progress to cancel, found none",
                code="response_cancel_not_active",
            )
        self.interrupt("client_cancelled")

    def truncate(self, event: realtime.ConversationItemTruncate) -> None:
        """The client says how much of a reply it played.

        Raises:
            ProtocolError: it was no reply, or had less audio.
        """
        item = self._conversation.get(event.item_id)
        reply = self._kept.get(event.item_id)
        if reply is None or item.role != "assistant":
            raise ProtocolError(
                "expected the id of a spoken reply, got that of another item",
                param="item_id",
            )
        if event.audio_end_ms > reply.audio_ms + 1:
            raise ProtocolError(
                f"audio_end_ms: expected at most the {reply.audio_ms:.0f} ms that were sent, "
                f"got {event.audio_end_ms}",
                param="audio_end_ms",
            )
        heard = reply.heard(event.audio_end_ms)
        self._keep(reply, heard, complete=False)
        self._ear.reply_flushed(self._clock.now())
        truncated = self._events.item_truncated(event.item_id, audio_end_ms=event.audio_end_ms)
        self._post(truncated)

    def interrupt(self, reason: Any) -> None:
        """Stop the reply that is being made or played; keep in mind what was heard of it."""
        reply, now_s = self._latest, self._clock.now()
        if reply is None or (reply.over and not self._ear.reply_playing(now_s)):
            return
        self.interruptions += 1
        self._life.cancel_replies()
        heard = reply.heard_by(now_s) if reply.settings.audio else reply.text
        self._keep(reply, heard, complete=False)
        reply.finish("cancelled", reason=reason)
        self._ear.reply_flushed(now_s)

    # How one is made.

    def _begin(
        self, settings: ReplySettings, messages: Sequence[Message], turn: TurnClock | None
    ) -> None:
        reply = self._new(settings, turn)
        if settings.conversation_id is not None:
            item = Item(reply.item_id, "assistant", None, settings.audio, complete=False)
            reply.previous_item_id = self._conversation.add(item)
        if turn is not None:
            turn.reply_asked_at_s = self._clock.now()
        self._latest = self._kept[reply.item_id] = reply
        while len(self._kept) > _KEPT:
            self._kept.pop(next(iter(self._kept)))
        reply.start()
        self._life.start_reply(self._run(reply, messages))

    def _new(self, settings: ReplySettings, turn: TurnClock | None) -> RealtimeReply:
        response_id = new_id("resp")

        def first_audio(timings: ReplyTimings) -> None:
            if turn is not None:
                turn.reply, turn.reply_at_s = timings, self._clock.now()
                self._on_first_audio(turn, response_id)

        guarded = settings.audio and self.config.turn_detection is not None
        return RealtimeReply(
            self._services,
            self._outbox,
            self._events,
            settings,
            response_id=response_id,
            item_id=new_id("item"),
            ear=self._ear if guarded else None,
            post=self._post,
            on_first_audio=first_audio,
            on_spare=self._on_spare,
        )

    async def _run(self, reply: RealtimeReply, messages: Sequence[Message]) -> None:
        status = await reply.run(messages)
        self._keep(reply, reply.text, complete=status == "completed")
        now_s = self._clock.now()
        begun_s = now_s if reply.first_audio_at_s is None else reply.first_audio_at_s
        self._on_played(max(0.0, begun_s + reply.audio_ms / 1000 - now_s))

    def _keep(self, reply: RealtimeReply, said: str, *, complete: bool) -> None:
        """Keep in mind what was said; an apology apart, or the model would imitate it."""
        text, apology = reply.parted(said)
        self._conversation.update(reply.item_id, text=text, apology=apology, complete=complete)

    def _messages(self, wish: realtime.ResponseSettings, instructions: str) -> Sequence[Message]:
        if wish.input is None:
            return self._conversation.messages(instructions)
        context = Conversation()
        for number, entry in enumerate(wish.input):
            if isinstance(entry, realtime.ItemReference):
                context.add(replace(self._conversation.get(entry.id), item_id=f"input_{number}"))
            else:
                context.add(item_from(entry, f"input_{number}"))
        return context.messages(instructions)

    def _settings(self, wish: realtime.ResponseSettings) -> ReplySettings:
        kept = wish.conversation != "none"
        base = reply_settings(
            self.config, self._services, conversation_id=self._conversation_id if kept else None
        )
        modality = (wish.output_modalities or self.config.output_modalities)[0]
        tokens = wish.max_output_tokens
        return replace(
            base,
            audio=modality == "audio",
            voice=wish.voice or base.voice,
            max_tokens=tokens if isinstance(tokens, int) else base.max_tokens,
            metadata=wish.metadata,
        )
