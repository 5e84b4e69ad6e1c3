"""One session of `/ws`: RealtimeVoiceChat's protocol over the same ears, engine and replies.

reader ─ packets ─▶ SampleRateFinder ─▶ Listener ─ voice events ─▶ _heard ─┐
       ─ commands ─▶ Listener (in order) ─▶ _obey                          ├─▶ Outbox ─▶ writer
                                            SpokenAnswer ──────────────────┘
"""

import logging
from functools import partial
from typing import Any, Literal

from starlette.websockets import WebSocket

from rtvc.audio import pcm16_to_float
from rtvc.config import TurnSettings
from rtvc.errors import ProtocolError
from rtvc.protocol.realtimevoicechat import (
    ASSUMED_RATE_HZ,
    AudioPacket,
    ClearHistory,
    ClientMessage,
    SampleRateFinder,
    ServerMessage,
    ServerMessageType,
    SetSpeed,
    TtsStart,
    TtsStop,
    decode_packet,
    encode_server_message,
    parse_client_message,
)
from rtvc.server.access.visits import visit_of
from rtvc.server.ear import Ear
from rtvc.server.replies.reply import ReplyTimings
from rtvc.server.services import Services
from rtvc.server.sessions.conversation import Conversation, Item
from rtvc.server.sessions.listener import Cost, Listener
from rtvc.server.sessions.outbox import Outbox
from rtvc.server.sessions.realtimevoicechat_reply import SpokenAnswer
from rtvc.server.sessions.session_life import Endable, SessionLife, new_id, with_engine
from rtvc.server.sessions.turn_timing import TurnClock
from rtvc.voice.endpointing import EndpointingSettings
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


def listening_settings(turn: TurnSettings, speed: int | None) -> VoiceSettings:
    """How to listen at a position of the page's slider, 0 (at once) to 100 (patient).

    None: the slider was not touched, and the server's own settings hold.
    """
    endpointing = (
        EndpointingSettings(
            threshold=turn.threshold,
            silence_s=None if turn.silence_ms is None else turn.silence_ms / 1000,
        )
        if speed is None
        else patience(turn.threshold, speed)
    )
    return VoiceSettings(
        endpointing,
        prefix_padding_s=turn.prefix_padding_ms / 1000,
        partial_interval_s=turn.least_partial_interval_s,
        partials=turn.partials != "off",
    )


def patience(threshold: float, speed: int) -> EndpointingSettings:
    """Silence that ends a turn, near what RealtimeVoiceChat waits at the same position.

    >>> patience(0.5, 50).unset_silence_s
    0.65
    """
    share = speed / 100
    return EndpointingSettings(
        threshold=threshold,
        silence_s=None,
        unset_silence_s=0.15 + share,
        unmarked_silence_s=0.3 + 1.7 * share,
        unfinished_silence_s=0.6 + 2.4 * share,
        brief_words=0,
        clause_openers=frozenset(),
    )


class RealtimeVoiceChatConnection(Endable):
    """A caller of `/ws`."""

    def __init__(self, socket: WebSocket, services: Services) -> None:
        self._socket = socket
        self._visit = visit_of(socket.scope)
        self._services = services
        self._clock = services.clock
        self._turn_settings = services.turn
        self._system = services.settings.llm.system
        self.session_id = new_id("sess")
        self._finder = SampleRateFinder()
        self._rate_hz = ASSUMED_RATE_HZ
        self._outbox = Outbox(socket.send_text, timeout_s=services.settings.serve.send_timeout_s)
        self._ear = Ear(services.new_vad(), decode=pcm16_to_float, rate_hz=ASSUMED_RATE_HZ)
        self._listener = Listener(
            services,
            self.session_id,
            self._ear,
            listening_settings(self._turn_settings, None),
            new_item_id=lambda: new_id("item"),
            on_event=self._heard,
        )
        self._life = SessionLife(socket, self.session_id, self._listener, self._outbox)
        self._conversation = Conversation()
        self._answer: SpokenAnswer | None = None
        self._turn: TurnClock | None = None
        self._client_playing = False
        self._partial = ""  # what the page shows as being said
        self._opened_at_s = self._clock.now()
        self._utterances = 0
        self._interruptions = 0
        self._ignored = 0

    # The life of a session.

    async def run(self) -> None:
        """Serve until either side ends it; nothing is sent before someone speaks."""
        await self._socket.accept()
        engine = self._services.engine
        await with_engine(self._socket, engine, self.session_id, self._serve)

    async def _serve(self) -> None:
        self._services.sessions[self.session_id] = self
        self._visit.finishes_by(self.end)
        try:
            await self._life.run(
                reader=self._read(), listener=self._listener.run(), writer=self._outbox.run()
            )
        finally:
            self._services.sessions.pop(self.session_id, None)

    def describe(self, now_s: float) -> dict[str, Any]:
        """The session as /v1/sessions shows it: no text, no audio."""
        return {
            "id": self.session_id,
            "protocol": "realtimevoicechat",
            "type": "realtime",
            "key": self._visit.key_id,
            "age_s": round(now_s - self._opened_at_s, 3),
            **self._listener.report(),
            "replying": self._answer is not None and not self._answer.over,
            "utterances": self._utterances,
            "interruptions": self._interruptions,
            "unsent_messages": len(self._outbox),
            "sample_rate_hz": self._rate_hz,
            "sample_rate_confidence": round(self._finder.confidence, 3),
            "ignored_messages": self._ignored,
        }

    def busy(self, now_s: float) -> bool:
        """Whether someone speaks, a transcript is owed, or a reply is made or played."""
        answer = self._answer
        talking = answer is not None and (not answer.over or answer.playing(now_s))
        return talking or self._listener.busy

    # Out.

    def _post(self, kind: ServerMessageType, content: str = "") -> None:
        self._outbox.post(encode_server_message(ServerMessage(kind, content)))

    # In.

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            try:
                await self._take(message)
            except ProtocolError as error:
                self._ignore(str(error))

    async def _take(self, message: Any) -> None:
        packet = message.get("bytes")
        if packet is not None:
            await self._take_audio(decode_packet(packet))
            return
        command = parse_client_message(message.get("text") or "")
        if command is None:
            self._ignore("a type that the protocol does not know")
        else:
            await self._listener.control(partial(self._obey, command))

    def _ignore(self, reason: str) -> None:
        """There is no way to tell the client; the first time, the log is told."""
        self._ignored += 1
        if self._ignored == 1:
            _log.warning("session %s: message ignored: %s", self.session_id, reason)

    async def _take_audio(self, packet: AudioPacket) -> None:
        self._client_playing = packet.playing
        if not packet.samples:
            return
        found_hz = self._finder.feed(packet.timestamp_ms, packet.samples) or ASSUMED_RATE_HZ
        if found_hz != self._rate_hz:
            self._rate_hz = found_hz
            await self._listener.control(partial(self._change_rate, found_hz))
        if self._visit.heard(packet.samples / found_hz):
            await self._listener.append(packet.pcm, packet.samples / found_hz)

    async def _change_rate(self, rate_hz: int) -> None:
        self._ear.change_input(pcm16_to_float, rate_hz)

    async def _obey(self, command: ClientMessage) -> None:
        match command:
            case TtsStart():
                if self._answer is not None:
                    self._answer.playback_started(self._clock.now())
            case TtsStop():
                self._playback_stopped()
            case ClearHistory():
                # The page has wiped its bubbles, and a last one must not come back.
                self._interrupt(show_heard=False)
                self._conversation.clear()
                self._partial = ""
            case SetSpeed(speed=speed):
                settings = listening_settings(self._turn_settings, speed)
                self._listener.voice.configure(settings)

    def _playback_stopped(self) -> None:
        """Sent at every underrun, too: only the end of a whole answer means silence."""
        answer, now_s = self._answer, self._clock.now()
        if answer is None:
            return
        answer.playback_stopped(now_s)
        if answer.over:
            self._answer = None
            self._ear.reply_flushed(now_s)

    # What was heard.

    def _heard(self, event: VoiceEvent) -> None:
        match event:
            case SpeechStarted():
                self._interrupt()
            case PartialTranscript():
                self._show_partial(event.text)
            case SpeechStopped():
                self._utterances += 1
                self._turn = TurnClock(event)
                self._conversation.add(Item(event.item_id, "user", None, spoken=True))
            case FinalTranscript():
                self._final(event)
            case TranscriptFailed():
                self._listener.costs.pop(event.item_id, None)
                self._withdraw_partial()
                _log.warning("session %s: no transcript: %s", self.session_id, event.reason)

    def _show_partial(self, text: str) -> None:
        if text and text != self._partial:
            self._partial = text
            self._post("partial_user_request", text)

    def _withdraw_partial(self) -> None:
        """No final will replace what the page shows as being said."""
        if self._partial:
            self._partial = ""
            self._post("partial_user_request", "")

    def _final(self, event: FinalTranscript) -> None:
        cost = self._listener.costs.pop(event.item_id, None)
        if not event.text:
            self._withdraw_partial()
            return
        if self._conversation.update(event.item_id, text=event.text) is None:
            # The history was cleared while this was being transcribed.
            self._conversation.add(Item(event.item_id, "user", event.text, spoken=True))
        self._partial = ""
        self._post("final_user_request", event.text)
        free = self._answer is None or self._answer.over
        answers = free and not self._listener.voice.speaking and not self._life.ending
        turn = self._timed(event.item_id, cost, answers=answers)
        if answers:
            self._start_answer(turn)

    def _timed(self, item_id: str, cost: Cost | None, *, answers: bool) -> TurnClock | None:
        """The turn whose transcript was just sent; None: it is not the latest."""
        turn = self._turn
        if turn is None or turn.stopped.item_id != item_id:
            return None
        turn.cost, turn.final_at_s = cost, self._clock.now()
        self._measure(turn, "transcript", replying=answers)
        return turn

    def _measure(
        self, turn: TurnClock, stage: Literal["transcript", "reply"], *, replying: bool = False
    ) -> None:
        if not self._services.instruments:
            return
        timings = turn.timings(stage, None, self._services.engine.status.model)
        if timings is not None:
            if stage == "transcript":
                self._listener.transcribed(timings.transcription_delay_ms / 1000)
            self._services.turn_timed(self.session_id, timings, replying=replying)

    # Answers.

    def _start_answer(self, turn: TurnClock | None) -> None:
        def first_audio(timings: ReplyTimings) -> None:
            if turn is not None:
                turn.reply, turn.reply_at_s = timings, self._clock.now()
                self._measure(turn, "reply")

        answer = SpokenAnswer(
            self._services,
            self._outbox,
            self._ear,
            item_id=new_id("item"),
            on_first_audio=first_audio,
        )
        if turn is not None:
            turn.reply_asked_at_s = self._clock.now()
        messages = self._conversation.messages(self._system)
        self._conversation.add(Item(answer.item_id, "assistant", None, True, complete=False))
        self._answer = answer
        self._life.start_reply(self._run_answer(answer, messages))

    async def _run_answer(self, answer: SpokenAnswer, messages: Any) -> None:
        await answer.run(messages)
        self._keep(answer, answer.text, complete=answer.failure is None)

    def _keep(self, answer: SpokenAnswer, said: str, *, complete: bool) -> None:
        """Keep in mind what was said; an apology apart, or the model would imitate it."""
        text, apology = answer.parted(said)
        self._conversation.update(answer.item_id, text=text, apology=apology, complete=complete)

    def _interrupt(self, *, show_heard: bool = True) -> None:
        """Stop the answer that is being made or played; keep in mind what was heard of it."""
        answer, now_s = self._answer, self._clock.now()
        if answer is None:
            return
        if answer.over and not (self._client_playing or answer.playing(now_s)):
            return
        self._interruptions += 1
        self._life.cancel_replies()
        heard = answer.heard_by(now_s)
        self._keep(answer, heard, complete=False)
        answer.finish(heard if show_heard else "")
        self._answer = None
        self._ear.reply_flushed(now_s)
        self._post("stop_tts")
        self._post("tts_interruption")
