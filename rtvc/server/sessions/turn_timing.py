"""Where the time of one turn went, from its last speech sample to its transcript and reply."""

from dataclasses import dataclass
from typing import Literal

from rtvc.instruments.stages import Segment, in_a_row, split_at, unaccounted_s
from rtvc.protocol.realtime import TurnSegment, TurnTimings
from rtvc.server.replies.reply import ReplyTimings
from rtvc.server.sessions.listener import Cost
from rtvc.voice.session import SpeechStopped


@dataclass(slots=True)
class TurnClock:
    """Instants of one turn, all on the server's clock."""

    stopped: SpeechStopped
    """The end of the utterance."""
    cost: Cost | None = None
    """What the final transcript cost; None: not there yet."""
    final_at_s: float | None = None
    """When the final transcript was sent."""
    reply_asked_at_s: float | None = None
    """When the language model was asked."""
    reply: ReplyTimings | None = None
    """Of the first reply audio."""
    reply_at_s: float | None = None
    """When the first reply audio was sent."""

    def timings(
        self, stage: Literal["transcript", "reply"], response_id: str | None, model: str
    ) -> TurnTimings | None:
        """The turn's segments; None before there is a final transcript."""
        if self.cost is None or self.final_at_s is None:
            return None
        start_s = self.stopped.last_speech_at_s
        hidden, felt = self._segments()
        end_s = self.final_at_s
        if stage == "reply" and self.reply_at_s is not None:
            felt += self._reply_segments()
            end_s = self.reply_at_s
        return TurnTimings(
            item_id=self.stopped.item_id,
            response_id=response_id,
            stage=stage,
            transcription_delay_ms=_ms(self.final_at_s - start_s),
            response_latency_ms=None if self.reply_at_s is None else _ms(self.reply_at_s - start_s),
            audio_ms=_ms(self.stopped.audio_s),
            segments=[_wire(segment, start_s) for segment in felt],
            hidden=[_wire(segment, start_s) for segment in hidden],
            unaccounted_ms=_ms(unaccounted_s(felt, end_s - start_s)),
            batch_size=self.cost.hypothesis.batch_size,
            model=model,
            last_speech_ms=_ms(self.stopped.last_speech_s),
            received_ms=_ms(self.stopped.received_s),
        )

    def _segments(self) -> tuple[list[Segment], list[Segment]]:
        """Waiting for the endpoint, then what of the work it did not hide."""
        stopped = self.stopped
        waits, judging = _endpoint(stopped)
        hidden, felt = split_at(self._work(), stopped.decided_at_s)
        hidden = [*judging, *hidden]
        assert self.cost is not None
        assert self.final_at_s is not None
        ready_s = max(self.cost.received_at_s, stopped.decided_at_s)
        emit = Segment("emit", ready_s, max(0.0, self.final_at_s - ready_s))
        return hidden, [*waits, *felt, emit]

    def _work(self) -> list[Segment]:
        assert self.cost is not None
        hypothesis = self.cost.hypothesis
        return in_a_row(
            self.cost.asked_at_s,
            [
                ("queue_wait", hypothesis.queue_wait_s),
                ("features", hypothesis.features_s),
                ("encode", hypothesis.encode_s),
                ("decode", hypothesis.decode_s),
            ],
        )

    def _reply_segments(self) -> list[Segment]:
        assert self.final_at_s is not None
        asked_s = self.final_at_s if self.reply_asked_at_s is None else self.reply_asked_at_s
        timings = self.reply or ReplyTimings()
        steps = [
            ("llm_ttft", timings.llm_ttft_s),
            ("llm_sentence", timings.first_sentence_s),
            ("tts_ttfb", timings.tts_ttfb_s),
        ]
        segments = in_a_row(asked_s, [(name, s) for name, s in steps if s is not None])
        ready_s = segments[-1].end_s if segments else asked_s
        sent_s = ready_s if self.reply_at_s is None else self.reply_at_s
        sent = Segment("send", ready_s, max(0.0, sent_s - ready_s))
        return [*segments, sent]


def _endpoint(stopped: SpeechStopped) -> tuple[list[Segment], list[Segment]]:
    """The wait for the endpoint, and what of the turn model's work it hid.

    What the turn model took is felt only where nothing but its answer was missing.
    """
    judgement = stopped.judgement
    policy_s = stopped.decided_at_s
    if judgement is not None and judgement.held_up_from_s is not None:
        policy_s = min(judgement.held_up_from_s, policy_s)
    waits = in_a_row(
        stopped.last_speech_at_s,
        [
            ("vad_delay", stopped.silence_seen_at_s - stopped.last_speech_at_s),
            ("endpoint_wait", policy_s - stopped.silence_seen_at_s),
        ],
    )
    if policy_s < stopped.decided_at_s:
        waits += [Segment("turn_model", policy_s, stopped.decided_at_s - policy_s)]
    if judgement is None:
        return waits, []
    took_s = judgement.answered_at_s - judgement.asked_at_s
    asked = in_a_row(judgement.asked_at_s, [("turn_model", took_s)])
    return waits, split_at(asked, policy_s)[0]


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)


def _wire(segment: Segment, origin_s: float) -> TurnSegment:
    return TurnSegment(segment.name, _ms(segment.start_s - origin_s), _ms(segment.duration_s))
