"""One session of `/v1/realtime`: client events in, server events out.

reader ─ append ─▶ Listener ─ voice events ─▶ _heard ─┐
       ─ others ─▶ Listener (in order)  ─▶ _obey      ├─▶ Outbox ─▶ writer
                               RealtimeReply ─────────┘
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from numpy import float32
from numpy.typing import NDArray
from starlette.websockets import WebSocket

from rtvc.audio import alaw_decode, pcm16_to_float, ulaw_decode
from rtvc.errors import ProtocolError
from rtvc.hiding import without_places
from rtvc.protocol import realtime
from rtvc.server.access.visits import visit_of
from rtvc.server.ear import Ear
from rtvc.server.services import Services
from rtvc.server.sessions.conversation import Conversation, Item, item_from
from rtvc.server.sessions.listener import Listener
from rtvc.server.sessions.outbox import Outbox
from rtvc.server.sessions.realtime_replies import Replies
from rtvc.server.sessions.realtime_settings import (
    initial_config,
    session_to_wire,
    turn_notice,
    voice_settings,
)
from rtvc.server.sessions.session_life import Endable, SessionLife, Timer, new_id, with_engine
from rtvc.server.sessions.turn_timing import TurnClock
from rtvc.voice.session import (
    FinalTranscript,
    PartialTranscript,
    SpeechStarted,
    SpeechStopped,
    TranscriptFailed,
    VoiceEvent,
    VoiceSettings,
)

_log = logging.getLogger(__name__)

_DECODERS: dict[str, Callable[[bytes], NDArray[float32]]] = {
    "audio/pcm": pcm16_to_float,
    "audio/pcmu": ulaw_decode,
    "audio/pcma": alaw_decode,
}
_BYTES_PER_SAMPLE = {"audio/pcm": 2, "audio/pcmu": 1, "audio/pcma": 1}
_KEPT_TURNS = 16


class RealtimeConnection(Endable):
    """A caller of `/v1/realtime`."""

    def __init__(
        self,
        socket: WebSocket,
        services: Services,
        *,
        kind: realtime.SessionKind,
        extras: bool,
        preset: dict[str, Any] | None = None,
    ) -> None:
        """`preset` changes the settings to start from, as a session.update would.

        Raises:
            ProtocolError: names the field of `preset` at fault.
        """
        self._visit = visit_of(socket.scope)
        self._socket = socket
        self._services = services
        self._clock = services.clock
        self._turn_settings = services.turn
        self._extras = extras
        self.session_id = new_id("sess")
        self._config = self._announced = initial_config(services, kind)
        if preset is not None:
            self._announced = self._config.updated(preset)
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
        self._life = SessionLife(socket, self.session_id, self._listener, self._outbox)
        self._conversation = Conversation()
        self._replies = Replies(
            services,
            self._outbox,
            self._events,
            self._ear,
            self._life,
            self._conversation,
            config=self._config,
            post=self._post,
            on_first_audio=self._reply_begun,
            on_played=self._played,
            on_spare=self._spare_voice_spoke,
        )
        self._turns: dict[str, TurnClock] = {}
        self._silence = Timer()
        self._spare_noted = False
        self._opened_at_s = self._clock.now()
        self._utterances = 0
        if preset is not None:
            self._configure(self._announced)

    # The life of a session.

    async def run(self) -> None:
        """Serve until either side ends it."""
        await self._socket.accept(subprotocol=self._subprotocol())
        engine = self._services.engine
        await with_engine(self._socket, engine, self.session_id, self._serve)

    async def _serve(self) -> None:
        self._services.sessions[self.session_id] = self
        self._visit.finishes_by(self.end)
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
        return {
            "id": self.session_id,
            "protocol": "openai-realtime",
            "type": self._config.type,
            "key": self._visit.key_id,
            "age_s": round(now_s - self._opened_at_s, 3),
            **self._listener.report(),
            "replying": self._replies.active,
            "utterances": self._utterances,
            "interruptions": self._replies.interruptions,
            "unsent_messages": len(self._outbox),
        }

    def busy(self, now_s: float) -> bool:
        """Whether someone speaks, a transcript is owed, or a reply is made or played."""
        talking = self._replies.active or self._ear.reply_playing(now_s)
        return talking or self._listener.busy

    def _subprotocol(self) -> str | None:
        offered = self._socket.scope.get("subprotocols") or []
        return "realtime" if "realtime" in offered else None

    # Out.

    def _post(self, event: dict[str, Any]) -> None:
        self._outbox.post(realtime.encode(event))

    def _spare_voice_spoke(self) -> None:
        if not self._spare_noted:
            self._spare_noted = True
            self._post_status("speech synthesis failed: the built-in voice speaks instead")

    def _post_status(self, note: str | None = None) -> None:
        if not self._extras:
            return
        services, readiness = self._services, self._services.readiness
        engine = services.engine.status
        notices = filter(None, (services.notice, turn_notice(self._config, services), note))
        status = realtime.ServerStatus(
            state=readiness.state,
            progress=round(readiness.progress, 3),
            detail=readiness.detail,
            model=engine.model,
            model_kind=engine.model_kind,
            llm=services.llm.name,
            tts=services.tts.name,
            notice=without_places(" · ".join(notices)) or None,
            sessions=services.admission.sessions,
            max_sessions=services.admission.max_sessions,
            headroom_sessions=engine.headroom_sessions,
            degradation=engine.degradation.label,
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
            seconds = len(data) / width / audio_format.rate_hz
            if self._visit.heard(seconds):
                await self._listener.append(data, seconds)

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
                self._replies.truncate(event)
            case realtime.ResponseCreate():
                self._silence.stop()
                self._replies.create(event)
            case realtime.ResponseCancel():
                self._replies.cancel(event)
            case _:
                raise ProtocolError(
                    f"{event.type} has no meaning over a WebSocket: the client plays the audio",
                    code="unsupported_event",
                    param="type",
                )

    # What the client asks for.

    async def _update_session(self, config: realtime.SessionConfig) -> None:
        notice = turn_notice(self._config, self._services)
        self._configure(config)
        self._post(self._events.session_updated(self._wire()))
        if turn_notice(self._config, self._services) != notice:
            self._post_status()

    def _configure(self, config: realtime.SessionConfig) -> None:
        before = self._config.audio.input.format
        self._config = self._replies.config = config
        after = self._config.audio.input.format
        if after != before:
            self._ear.change_input(_DECODERS[after.type], after.rate_hz)
        self._listener.voice.configure(self._voice_settings())
        transcription = self._config.audio.input.transcription
        if transcription is not None:
            self._listener.language = transcription.language or self._listener.language
            self._listener.prompt = transcription.prompt

    def _voice_settings(self) -> VoiceSettings:
        judged = self._services.turn_model is not None
        return voice_settings(self._config, self._turn_settings, turn_model=judged)

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
            self._replies.interrupt("turn_detected")

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
            self._post_turn(turn, "transcript", None, replying=self._will_reply(event))
        self._item_done(event.item_id, event.text)
        self._reply_to(event, turn)

    def _failed(self, event: TranscriptFailed) -> None:
        self._listener.costs.pop(event.item_id, None)
        _log.warning("session %s: no transcript: %s", self.session_id, event.reason)
        failed = self._events.transcription_failed(
            event.item_id, without_places(event.reason), code="transcription_failed"
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
        if self._will_reply(event):
            self._silence.stop()
            self._replies.start(turn)

    def _will_reply(self, event: FinalTranscript) -> bool:
        """Unless nothing was said, or the person goes on: then their next words are waited for."""
        if not event.text or not self._config.replies or self._listener.voice.speaking:
            return False
        if self._life.ending:
            return False
        return not self._replies.active

    def _post_turn(
        self, turn: TurnClock, stage: Any, response_id: str | None, *, replying: bool = False
    ) -> None:
        if not self._services.instruments:
            return
        timings = turn.timings(stage, response_id, self._services.engine.status.model)
        if timings is None:
            return
        if stage == "transcript":
            self._listener.transcribed(timings.transcription_delay_ms / 1000)
        self._services.turn_timed(self.session_id, timings, replying=replying)
        if self._extras:
            self._post(self._events.rtvc_turn(timings))

    @property
    def _transcribing(self) -> bool:
        return self._config.audio.input.transcription is not None

    def _reply_begun(self, turn: TurnClock, response_id: str) -> None:
        self._post_turn(turn, "reply", response_id)

    def _played(self, in_s: float) -> None:
        """A reply will have been played in `in_s`: then the session's idle timeout begins."""
        detection = self._config.turn_detection
        if isinstance(detection, realtime.ServerVad) and detection.idle_timeout_ms is not None:
            self._silence.start(in_s + detection.idle_timeout_ms / 1000, self._nobody_spoke)

    def _nobody_spoke(self) -> None:
        """The idle timeout: the silence is committed as an empty utterance and replied to."""
        if self._replies.active or self._listener.voice.speaking:
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
        self._replies.start(None)
