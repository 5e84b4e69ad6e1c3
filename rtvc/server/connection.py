"""One session of `/v1/realtime`: client events in, server events out.

reader ─ append ─▶ Listener ─ voice events ─▶ _heard ─┐
       ─ others ─▶ Listener (in order)  ─▶ _obey      ├─▶ Outbox ─▶ writer
                               RealtimeReply ─────────┘
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from numpy import float32
from numpy.typing import NDArray
from starlette.websockets import WebSocket

from rtvc.audio import alaw_decode, pcm16_to_float, ulaw_decode
from rtvc.errors import ProtocolError
from rtvc.protocol import realtime
from rtvc.server.conversation import Conversation, Item, item_from
from rtvc.server.ear import Ear
from rtvc.server.listener import Listener
from rtvc.server.outbox import Outbox
from rtvc.server.realtime_reply import RealtimeReply, ReplySettings, reply_settings
from rtvc.server.realtime_settings import (
    initial_config,
    session_to_wire,
    turn_notice,
    voice_settings,
)
from rtvc.server.reply import ReplyTimings
from rtvc.server.services import Services
from rtvc.server.session_life import SessionLife, Timer, new_id, with_engine
from rtvc.server.turn_timing import TurnClock
from rtvc.voice.session import (
    FinalTranscript,
    PartialTranscript,
    SpeechStarted,
    SpeechStopped,
    TranscriptFailed,
    VoiceEvent,
    VoiceSettings,
)

_DECODERS: dict[str, Callable[[bytes], NDArray[float32]]] = {
    "audio/pcm": pcm16_to_float,
    "audio/pcmu": ulaw_decode,
    "audio/pcma": alaw_decode,
}
_BYTES_PER_SAMPLE = {"audio/pcm": 2, "audio/pcmu": 1, "audio/pcma": 1}
_KEPT_TURNS = 16


class RealtimeConnection:
    """A caller of `/v1/realtime`."""

    def __init__(
        self, socket: WebSocket, services: Services, *, kind: realtime.SessionKind, extras: bool
    ) -> None:
        self._socket = socket
        self._services = services
        self._clock = services.clock
        self._extras = extras
        self.session_id = new_id("sess")
        self._conversation_id = new_id("conv")
        self._config = self._announced = initial_config(services, kind)
        self._events = realtime.ServerEvents(new_id)
        self._outbox = Outbox(socket.send_text, timeout_s=services.settings.serve.send_timeout_s)
        self._ear = Ear(services.new_vad(), decode=pcm16_to_float, rate_hz=24_000)
        self._listener = Listener(
            services,
            self.session_id,
            self._ear,
            self._voice_settings(),
            new_item_id=lambda: new_id("item"),
            on_event=self._heard,
        )
        self._life = SessionLife(socket, self.session_id, self._listener)
        self._conversation = Conversation()
        self._reply: RealtimeReply | None = None
        self._replies: dict[str, RealtimeReply] = {}
        self._turns: dict[str, TurnClock] = {}
        self._silence = Timer()
        self._opened_at_s = self._clock.now()
        self._utterances = 0
        self._interruptions = 0

    # The life of a session.

    async def run(self) -> None:
        """Serve until either side ends it."""
        await self._socket.accept(subprotocol=self._subprotocol())
        engine = self._services.engine
        await with_engine(self._socket, engine, self.session_id, self._serve)

    async def _serve(self) -> None:
        self._services.sessions[self.session_id] = self
        self._post(self._events.session_created(self._wire()))
        self._post_status()
        self._services.readiness.listen(self._post_status)
        try:
            await self._life.run(
                reader=self._read(), listener=self._listener.run(), writer=self._outbox.run()
            )
        finally:
            self._silence.stop()
            self._services.readiness.unlisten(self._post_status)
            self._services.sessions.pop(self.session_id, None)

    def describe(self, now_s: float) -> dict[str, Any]:
        """The session as /v1/sessions shows it: no text, no audio."""
        inbox = self._listener.inbox
        return {
            "id": self.session_id,
            "protocol": "openai-realtime",
            "type": self._config.type,
            "age_s": round(now_s - self._opened_at_s, 3),
            "audio_s": round(self._listener.voice.audio_s, 3),
            "speaking": self._listener.voice.speaking,
            "replying": self._replying,
            "utterances": self._utterances,
            "interruptions": self._interruptions,
            "premature_suspects": self._listener.premature_suspects,
            "echo_frames": self._ear.echo_frames,
            "audio_backlog_s": round(inbox.backlog_s, 3),
            "unsent_messages": len(self._outbox),
        }

    def _subprotocol(self) -> str | None:
        offered = self._socket.scope.get("subprotocols") or []
        return "realtime" if "realtime" in offered else None

    # Out.

    def _post(self, event: dict[str, Any]) -> None:
        self._outbox.post(realtime.encode(event))

    def _post_status(self) -> None:
        if not self._extras:
            return
        services, readiness = self._services, self._services.readiness
        engine = services.engine.status
        notices = filter(None, (services.notice, turn_notice(self._config, services)))
        status = realtime.ServerStatus(
            state=readiness.state,
            progress=round(readiness.progress, 3),
            detail=readiness.detail,
            model=engine.model,
            model_kind=engine.model_kind,
            llm=services.llm.name,
            tts=services.tts.name,
            notice=" · ".join(notices) or None,
            sessions=services.admission.sessions,
            max_sessions=services.admission.max_sessions,
        )
        self._post(self._events.rtvc_status(status))

    # In.

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            try:
                await self._take(message.get("text"))
            except ProtocolError as error:
                self._post(self._events.protocol_error(error))

    async def _take(self, text: str | None) -> None:
        if text is None:
            raise ProtocolError("expected a text frame with JSON, got a binary frame")
        event = realtime.parse_client_event(text)
        if isinstance(event, realtime.InputAudioBufferAppend):
            await self._append(event)
        elif isinstance(event, realtime.SessionUpdate):
            # Audio behind this message is in its format, though audio before it is still unheard.
            self._announced = self._announced.updated(event.session, event_id=event.event_id)
            await self._listener.control(partial(self._update_session, self._announced))
        else:
            await self._listener.control(partial(self._obey_or_explain, event))

    async def _append(self, event: realtime.InputAudioBufferAppend) -> None:
        data = event.pcm_bytes()
        audio_format = self._announced.audio.input.format
        width = _BYTES_PER_SAMPLE[audio_format.type]
        if len(data) % width:
            raise ProtocolError(
                f"audio: expected whole 16-bit samples, got {len(data)} bytes",
                param="audio",
                event_id=event.event_id,
            )
        if data:
            await self._listener.append(data, len(data) / width / audio_format.rate_hz)

    async def _obey_or_explain(self, event: realtime.ClientEvent) -> None:
        try:
            await self._obey(event)
        except ProtocolError as error:
            error.event_id = error.event_id or event.event_id
            self._post(self._events.protocol_error(error))

    async def _obey(self, event: realtime.ClientEvent) -> None:  # noqa: C901 - one row an event
        match event:
            case realtime.InputAudioBufferCommit():
                await self._commit()
            case realtime.InputAudioBufferClear():
                self._listener.voice.clear()
                self._post(self._events.cleared())
            case realtime.ConversationItemCreate():
                self._create_item(event)
            case realtime.ConversationItemDelete():
                self._conversation.remove(event.item_id)
                self._post(self._events.item_deleted(event.item_id))
            case realtime.ConversationItemRetrieve():
                item = self._conversation.get(event.item_id)
                self._post(self._events.item_retrieved(item.to_wire()))
            case realtime.ConversationItemTruncate():
                self._truncate(event)
            case realtime.ResponseCreate():
                self._create_response(event)
            case realtime.ResponseCancel():
                self._cancel_response(event)
            case _:
                raise ProtocolError(
                    f"{event.type} has no meaning over a WebSocket: the client plays the audio",
                    code="unsupported_event",
                    param="type",
                )

    # What the client asks for.

    async def _update_session(self, config: realtime.SessionConfig) -> None:
        before, notice = self._config.audio.input.format, turn_notice(self._config, self._services)
        self._config = config
        after = self._config.audio.input.format
        if after != before:
            self._ear.change_input(_DECODERS[after.type], after.rate_hz)
        self._listener.voice.configure(self._voice_settings())
        transcription = self._config.audio.input.transcription
        if transcription is not None:
            self._listener.language = transcription.language or self._listener.language
            self._listener.prompt = transcription.prompt
        self._post(self._events.session_updated(self._wire()))
        if turn_notice(self._config, self._services) != notice:
            self._post_status()

    def _voice_settings(self) -> VoiceSettings:
        judged = self._services.turn_model is not None
        return voice_settings(self._config, self._services.settings.turn, turn_model=judged)

    def _wire(self) -> dict[str, Any]:
        return session_to_wire(self._config, self.session_id, self._services)

    async def _commit(self) -> None:
        if not await self._listener.commit():
            raise ProtocolError(
                "expected audio in the input buffer to commit, got none",
                code="input_audio_buffer_commit_empty",
            )

    def _create_item(self, event: realtime.ConversationItemCreate) -> None:
        item_id = event.item.id or new_id("item")
        item = item_from(event.item, item_id)
        previous = self._conversation.add(item, after=event.previous_item_id)
        wire = item.to_wire()
        self._post(self._events.item_added(wire, previous_item_id=previous))
        self._post(self._events.item_done(wire, previous_item_id=previous))

    def _truncate(self, event: realtime.ConversationItemTruncate) -> None:
        item = self._conversation.get(event.item_id)
        reply = self._replies.get(event.item_id)
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
        self._conversation.update(event.item_id, text=heard, complete=False)
        self._ear.reply_flushed(self._clock.now())
        truncated = self._events.item_truncated(event.item_id, audio_end_ms=event.audio_end_ms)
        self._post(truncated)

    def _create_response(self, event: realtime.ResponseCreate) -> None:
        if self._config.type == "transcription":
            raise ProtocolError(
                "a transcription session does not reply", code="unsupported_event", param="type"
            )
        if self._replying:
            raise ProtocolError(
                "the conversation already has a response in progress",
                code="conversation_already_has_active_response",
            )
        wish = event.response or realtime.ResponseSettings()
        kept = wish.conversation != "none"
        settings = self._reply_settings(wish, kept)
        instructions = wish.instructions or self._config.instructions
        self._start_reply(settings, self._messages(wish, instructions), turn=None)

    def _messages(self, wish: realtime.ResponseSettings, instructions: str) -> Any:
        if wish.input is None:
            return self._conversation.messages(instructions)
        context = Conversation()
        for number, entry in enumerate(wish.input):
            if isinstance(entry, realtime.ItemReference):
                context.add(replace(self._conversation.get(entry.id), item_id=f"input_{number}"))
            else:
                context.add(item_from(entry, f"input_{number}"))
        return context.messages(instructions)

    def _reply_settings(self, wish: realtime.ResponseSettings, kept: bool) -> ReplySettings:
        base = reply_settings(
            self._config, self._services, conversation_id=self._conversation_id if kept else None
        )
        modality = (wish.output_modalities or self._config.output_modalities)[0]
        tokens = wish.max_output_tokens
        return replace(
            base,
            audio=modality == "audio",
            voice=wish.voice or base.voice,
            max_tokens=tokens if isinstance(tokens, int) else base.max_tokens,
            metadata=wish.metadata,
        )

    def _cancel_response(self, event: realtime.ResponseCancel) -> None:
        reply = self._reply
        if reply is None or reply.over or event.response_id not in (None, reply.response_id):
            raise ProtocolError(
                "expected a response in progress to cancel, found none",
                code="response_cancel_not_active",
            )
        self._interrupt("client_cancelled")

    # What was heard.

    def _heard(self, event: VoiceEvent) -> None:
        match event:
            case SpeechStarted():
                self._speech_started(event)
            case SpeechStopped():
                self._speech_stopped(event)
            case PartialTranscript():
                self._partial(event)
            case FinalTranscript():
                self._final(event)
            case TranscriptFailed():
                self._failed(event)

    def _speech_started(self, event: SpeechStarted) -> None:
        start_ms = round(event.start_s * 1000)
        self._post(self._events.speech_started(event.item_id, audio_start_ms=start_ms))
        self._silence.stop()
        detection = self._config.turn_detection
        if detection is not None and detection.interrupt_response:
            self._interrupt("turn_detected")

    def _speech_stopped(self, event: SpeechStopped) -> None:
        self._utterances += 1
        if self._config.turn_detection is not None:
            end_ms = round(event.end_s * 1000)
            self._post(self._events.speech_stopped(event.item_id, audio_end_ms=end_ms))
        self._turns[event.item_id] = TurnClock(event)
        while len(self._turns) > _KEPT_TURNS:
            self._turns.pop(next(iter(self._turns)))
        item = Item(event.item_id, "user", None, spoken=True)
        previous = self._conversation.add(item)
        self._post(self._events.committed(event.item_id, previous_item_id=previous))
        self._post(self._events.item_added(item.to_wire(), previous_item_id=previous))

    def _partial(self, event: PartialTranscript) -> None:
        if self._extras:
            self._post(
                self._events.rtvc_hypothesis(
                    event.item_id,
                    revision=event.revision,
                    text=event.text,
                    stable_text=event.stable_text,
                    audio_ms=round(event.audio_s * 1000),
                )
            )
        if event.new_words and self._transcribing:
            first = event.stable_text.split() == list(event.new_words)
            delta = ("" if first else " ") + " ".join(event.new_words)
            self._post(self._events.transcription_delta(event.item_id, delta))

    def _final(self, event: FinalTranscript) -> None:
        if self._transcribing:
            self._post(
                self._events.transcription_completed(
                    event.item_id, event.text, audio_s=event.audio_s
                )
            )
        turn = self._turns.get(event.item_id)
        cost = self._listener.costs.pop(event.item_id, None)
        if turn is not None:
            turn.cost, turn.final_at_s = cost, self._clock.now()
            self._post_turn(turn, "transcript", None)
        self._item_done(event.item_id, event.text)
        self._reply_to(event, turn)

    def _failed(self, event: TranscriptFailed) -> None:
        self._listener.costs.pop(event.item_id, None)
        failed = self._events.transcription_failed(
            event.item_id, event.reason, code="transcription_failed"
        )
        self._post(failed)
        self._item_done(event.item_id, None)

    def _item_done(self, item_id: str, text: str | None) -> None:
        item = self._conversation.update(item_id, text=text)
        if item is not None:
            ids = [entry.item_id for entry in self._conversation]
            place = ids.index(item_id)
            previous = ids[place - 1] if place else None
            self._post(self._events.item_done(item.to_wire(), previous_item_id=previous))

    def _reply_to(self, event: FinalTranscript, turn: TurnClock | None) -> None:
        """Unless nothing was said, or the person goes on: then their next words are waited for."""
        if not event.text or not self._config.replies or self._listener.voice.speaking:
            return
        if self._replying:
            return
        self._reply_now(turn)

    def _reply_now(self, turn: TurnClock | None) -> None:
        """As the session's settings say."""
        settings = reply_settings(
            self._config, self._services, conversation_id=self._conversation_id
        )
        messages = self._conversation.messages(self._config.instructions)
        self._start_reply(settings, messages, turn=turn)

    def _post_turn(self, turn: TurnClock, stage: Any, response_id: str | None) -> None:
        timings = turn.timings(stage, response_id, self._services.engine.status.model)
        if timings is not None and self._extras:
            self._post(self._events.rtvc_turn(timings))

    @property
    def _transcribing(self) -> bool:
        return self._config.audio.input.transcription is not None

    # Replies.

    @property
    def _replying(self) -> bool:
        return self._reply is not None and not self._reply.over

    def _start_reply(
        self, settings: ReplySettings, messages: Any, *, turn: TurnClock | None
    ) -> None:
        response_id, item_id = new_id("resp"), new_id("item")
        guarded = settings.audio and self._config.turn_detection is not None

        def first_audio(timings: ReplyTimings) -> None:
            if turn is not None:
                turn.reply, turn.reply_at_s = timings, self._clock.now()
                self._post_turn(turn, "reply", response_id)

        reply = RealtimeReply(
            self._services,
            self._outbox,
            self._events,
            settings,
            response_id=response_id,
            item_id=item_id,
            ear=self._ear if guarded else None,
            post=self._post,
            on_first_audio=first_audio,
        )
        reply.previous_item_id = self._conversation.last_id
        if settings.conversation_id is not None:
            self._conversation.add(Item(item_id, "assistant", None, settings.audio, complete=False))
        if turn is not None:
            turn.reply_asked_at_s = self._clock.now()
        self._reply = self._replies[item_id] = reply
        while len(self._replies) > _KEPT_TURNS:
            self._replies.pop(next(iter(self._replies)))
        self._silence.stop()
        reply.start()
        self._life.start_reply(self._run_reply(reply, messages))

    async def _run_reply(self, reply: RealtimeReply, messages: Any) -> None:
        status = await reply.run(messages)
        self._conversation.update(reply.item_id, text=reply.text, complete=status == "completed")
        self._await_speech(reply)

    def _await_speech(self, reply: RealtimeReply) -> None:
        """Start the session's idle timeout once the reply has been played."""
        detection = self._config.turn_detection
        if isinstance(detection, realtime.ServerVad) and detection.idle_timeout_ms is not None:
            begun_s = reply.first_audio_at_s or self._clock.now()
            played_at_s = max(begun_s + reply.audio_ms / 1000, self._clock.now())
            wait_s = played_at_s - self._clock.now() + detection.idle_timeout_ms / 1000
            self._silence.start(wait_s, self._nobody_spoke)

    def _nobody_spoke(self) -> None:
        """The idle timeout: the silence is committed as an empty utterance and replied to."""
        if self._replying or self._listener.voice.speaking:
            return
        end_ms = round(self._listener.voice.audio_s * 1000)
        item = Item(new_id("item"), "user", "", spoken=True)
        previous = self._conversation.add(item)
        self._post(
            self._events.timeout_triggered(item.item_id, audio_start_ms=end_ms, audio_end_ms=end_ms)
        )
        self._post(self._events.committed(item.item_id, previous_item_id=previous))
        self._post(self._events.item_added(item.to_wire(), previous_item_id=previous))
        self._post(self._events.item_done(item.to_wire(), previous_item_id=previous))
        self._reply_now(None)

    def _interrupt(self, reason: Any) -> None:
        """Stop the reply that is being made or played; keep in mind what was heard of it."""
        reply, now_s = self._reply, self._clock.now()
        if reply is None:
            return
        playing = self._ear.reply_playing(now_s)
        if reply.over and not playing:
            return
        self._interruptions += 1
        self._life.cancel_replies()
        heard = reply.heard_by(now_s) if reply.settings.audio else reply.text
        self._conversation.update(reply.item_id, text=heard, complete=False)
        reply.finish("cancelled", reason=reason)
        self._ear.reply_flushed(now_s)
