"""What the log of a voice server says about its turns: pure, streaming, in bounded memory.

RealtimeVoiceChat does not say which session a line belongs to. While one client is connected its
lines pair up (end of speech → endpoint → final text → first audio); while several are, only what
stands within one line is known, such as a time to first token. Nothing is guessed: what a log
cannot show is None.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rtvc.profile.logs.lines import Event, Kind, LogTime, Server, parse_line
from rtvc.profile.logs.loads import Loads
from rtvc.profile.logs.summary import (
    COUNTS,
    FIGURES,
    SHOWN,
    ClientsAt,
    LoggedTurn,
    LogSummary,
    News,
    Observation,
    Samples,
)

CHUNK_S = 2048 / 48000
"""Seconds: one packet of RealtimeVoiceChat's page, at the rate that its server assumes."""

HIDDEN_CHUNK_S = 512 / 16000
"""Seconds: one entry of the queue inside RealtimeSTT."""

DISORDER_S = 0.05
"""Seconds: threads may log this much out of order; such a negative duration is none at all."""

TURNS_KEPT = 10_000
MOMENTS_KEPT = 10_000
FAULTS_KEPT = 20


@dataclass(slots=True)
class _Talk:
    """A turn while it goes on; instants in seconds since the log's first stamp."""

    mixed: bool = False
    partials: int = 0
    partial_at_s: float | None = None
    silent_at_s: float | None = None
    ended_at_s: float | None = None
    final_at_s: float | None = None
    audio_at_s: float | None = None
    policy_wait_s: float | None = None
    ttft_s: float | None = None
    ttfa_s: float | None = None
    heard_whole: bool = False
    """Whether its beginning is in the log."""
    answered: bool = False
    """Whether its last audio has left."""

    def forget_answer(self) -> None:
        self.ttft_s = self.ttfa_s = self.audio_at_s = None


class LogReader:
    """Feed it lines, ask it for the summary."""

    def __init__(self, server: Server | None = None) -> None:
        self.server = server
        """Whose log it is; None until a line tells."""
        self.lines = 0
        self._known_lines = 0
        self._time = LogTime()
        self._last_at_s: float | None = None
        self._news: list[News] = []
        self._samples = {name: Samples() for name in FIGURES}
        self._counts: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._turns: deque[LoggedTurn] = deque(maxlen=TURNS_KEPT)
        self._mixed_turns = 0
        self._backlog_s: float | None = None
        self._boot_latency_s: float | None = None
        self._start_sessions()
        self._loads = Loads()
        self._start_turns()
        self._on: dict[Kind, Callable[[Event, float | None], None]] = {
            Kind.SERVER_STARTED: self._server_started,
            Kind.LOAD_BEGAN: self._load_began,
            Kind.LOAD_ENDED: self._load_ended,
            Kind.BOOT_LATENCY: self._boot_latency,
            Kind.KNOCKED: self._knocked,
            Kind.CONNECTED: self._connected,
            Kind.LEFT: self._left,
            Kind.SPEECH_BEGAN: self._speech_began,
            Kind.BARGE_IN: self._counted("barge_ins"),
            Kind.PARTIAL: self._partial,
            Kind.SILENCE: self._silence,
            Kind.VOICE: self._voice,
            Kind.WAIT_SET: self._wait_set,
            Kind.WAIT_FLOOR: self._counted("wait_floor"),
            Kind.ENDPOINT: self._endpoint,
            Kind.TURN_END: self._turn_end,
            Kind.FINAL: self._final,
            Kind.GENERATION: self._generation,
            Kind.FIRST_TOKEN: self._first_token,
            Kind.FIRST_AUDIO: self._first_audio,
            Kind.SLOW_CHUNK: self._counted("slow_chunks"),
            Kind.ABORT_BEGAN: self._abort_began,
            Kind.ABORT_ENDED: self._abort_ended,
            Kind.CYCLE_ENDED: self._cycle_ended,
            Kind.DROP: self._drop,
            Kind.BACKLOG: self._hidden_backlog,
            Kind.INFERENCE: self._inference,
            Kind.ERROR: self._error,
        }

    def _start_sessions(self) -> None:
        self._clients = 0
        self._most_clients: int | None = None
        self._client_moments: deque[ClientsAt] = deque(maxlen=MOMENTS_KEPT)
        self._unseen_sessions = 0
        self._knocks = 0
        self._knocked_at_s: float | None = None
        self._inferred_at_s: float | None = None

    def _start_turns(self) -> None:
        self._speaking: _Talk | None = None
        self._replying: _Talk | None = None
        self._policy_wait_s: float | None = None
        self._generation_number: int | None = None
        self._generation_of: _Talk | None = None
        self._abort_at_s: float | None = None

    def feed(self, raw: bytes) -> Sequence[News]:
        """Read a line; what came of it."""
        self.lines += 1
        event = parse_line(raw)
        if event is None or not self._is_ours(event):
            return ()
        self._known_lines += event.kind is not Kind.ERROR
        at_s = self._time.seconds(event.stamp)
        self._last_at_s = self._last_at_s if at_s is None else at_s
        self._news = []
        self._on[event.kind](event, at_s)
        return self._news

    def finish(self) -> Sequence[News]:
        """The log has ended; a turn that was still open may come of it."""
        self._news = []
        self._close_turn()
        return self._news

    def _is_ours(self, event: Event) -> bool:
        if event.server is None:
            return True
        if self.server is None:
            self.server = event.server
        return self.server == event.server

    # What is noted.

    def _observe(self, name: str, value: float, at_s: float | None) -> None:
        self._news.append(Observation(name, value, at_s))

    def _record(self, name: str, value_s: float | None, at_s: float | None) -> None:
        if value_s is not None:
            self._samples[name].add(value_s)
            self._observe(name, value_s, at_s)

    def _count(self, name: str, at_s: float | None) -> None:
        self._counts[name] += 1
        self._observe(name, self._counts[name], at_s)

    def _counted(self, name: str) -> Callable[[Event, float | None], None]:
        return lambda _, at_s: self._count(name, at_s)

    def _error(self, event: Event, at_s: float | None) -> None:
        self._count("errors", at_s)
        message = event.note[:120]
        if message in self._faults or len(self._faults) < FAULTS_KEPT:
            self._faults[message] += 1

    # Processes, models and sessions.

    def _server_started(self, _: Event, at_s: float | None) -> None:
        self._close_turn()
        self._start_turns()
        self._loads.process_started()
        if self._clients:
            self._set_clients(0, at_s)

    def _load_began(self, _: Event, at_s: float | None) -> None:
        on_demand = self.server is not Server.REALTIMEVOICECHAT
        self._loads.began(at_s, self._clients, for_first_client=on_demand)
        self._counts["model_loads"] = self._loads.most_in_process
        self._observe("model_loads", self._loads.in_process, at_s)

    def _load_ended(self, _: Event, at_s: float | None) -> None:
        load = self._loads.ended()
        if load is not None:
            load.took_s = _since(load.at_s, at_s)
            self._record("model_load", load.took_s, at_s)

    def _boot_latency(self, event: Event, _: float | None) -> None:
        self._boot_latency_s = None if event.value is None else event.value / 1000

    def _knocked(self, _: Event, at_s: float | None) -> None:
        self._knocks += 1
        self._knocked_at_s = at_s

    def _connected(self, event: Event, at_s: float | None) -> None:
        if event.server is Server.WHISPERLIVE:
            self._load_ended(event, at_s)
            # One that was refused knocks, and is not heard of again.
            if self._knocks == 1:
                self._record("ready", _since(self._knocked_at_s, at_s), at_s)
            self._knocks = 0
        self._loads.served()
        self._set_clients(self._clients + 1, at_s)
        if self._clients > 1:
            self._close_turn()
            self._speaking = None

    def _left(self, _: Event, at_s: float | None) -> None:
        self._close_turn()
        self._speaking = None
        self._loads.served()
        if self._clients:
            self._set_clients(self._clients - 1, at_s)
        else:
            self._unseen_sessions += 1

    def _set_clients(self, clients: int, at_s: float | None) -> None:
        self._clients = clients
        self._inferred_at_s = None
        self._most_clients = max(self._most_clients or 0, clients)
        self._client_moments.append(ClientsAt(at_s, clients))
        self._observe("clients", clients, at_s)

    @property
    def _alone(self) -> bool:
        return self._clients <= 1

    # One turn.

    def _speech_began(self, _: Event, at_s: float | None) -> None:
        if self._alone:
            # A second beginning without an end: two recorders, or lines are missing.
            self._speaking = _Talk(mixed=self._speaking is not None, heard_whole=True)

    def _partial(self, _: Event, at_s: float | None) -> None:
        talk = self._speaking
        if talk is None or talk.mixed:
            return
        self._record("partial_gap", _since(talk.partial_at_s, at_s), at_s)
        talk.partial_at_s = at_s
        talk.partials += 1

    def _silence(self, _: Event, at_s: float | None) -> None:
        if self._speaking is not None:
            self._speaking.silent_at_s = at_s

    def _voice(self, _: Event, at_s: float | None) -> None:
        if self._speaking is not None:
            self._speaking.silent_at_s = None

    def _wait_set(self, event: Event, _: float | None) -> None:
        # Written only when it changes: it holds for later turns too.
        self._policy_wait_s = event.value

    def _turn_end(self, event: Event, at_s: float | None) -> None:
        # Follows "Recording stopped."; some forks write only this.
        if self._speaking is not None:
            self._endpoint(event, at_s)

    def _endpoint(self, _: Event, at_s: float | None) -> None:
        self._close_turn()
        talk = self._speaking or _Talk()
        self._speaking, self._replying = None, talk
        talk.ended_at_s = at_s
        talk.mixed = talk.mixed or not self._alone
        self._counts["turns"] += 1
        if talk.mixed:
            self._close_turn()
            return
        talk.policy_wait_s = self._policy_wait_s
        self._record("policy_wait", talk.policy_wait_s, at_s)
        self._record("endpoint_wait", _since(talk.silent_at_s, at_s), at_s)

    def _final(self, _: Event, at_s: float | None) -> None:
        talk = self._replying
        if talk is None or talk.final_at_s is not None:
            return
        talk.final_at_s = at_s
        self._record("final", _since(talk.ended_at_s, at_s), at_s)
        self._record("speech_to_final", _since(talk.silent_at_s, at_s), at_s)
        if talk.answered:
            self._close_turn()

    def _cycle_ended(self, _: Event, __: float | None) -> None:
        talk = self._replying
        if talk is not None:
            talk.answered = True
            if talk.final_at_s is not None:
                self._close_turn()

    def _close_turn(self) -> None:
        talk, self._replying = self._replying, None
        if talk is None:
            return
        self._mixed_turns += talk.mixed
        turn = _logged(talk, self._counts["turns"])
        self._turns.append(turn)
        self._record("total", turn.total_s, talk.audio_at_s)
        self._news.append(turn)

    # Its answer.

    def _generation(self, event: Event, _: float | None) -> None:
        self._generation_number = event.generation
        self._generation_of = None
        if self._alone:
            self._generation_of = self._speaking or self._replying
        if self._generation_of is not None:
            self._generation_of.forget_answer()

    def _asked(self, event: Event) -> _Talk | None:
        """The turn that an answer was asked for."""
        if event.generation != self._generation_number:
            newest = self._generation_number
            if newest is not None and (event.generation or 0) < newest:
                return None
            self._generation(event, None)
        return self._generation_of if self._alone else None

    def _first_token(self, event: Event, at_s: float | None) -> None:
        self._record("ttft", event.value, at_s)
        talk = self._asked(event)
        if talk is not None:
            talk.ttft_s = event.value

    def _first_audio(self, event: Event, at_s: float | None) -> None:
        self._record("ttfa", event.value, at_s)
        talk = self._asked(event)
        if talk is not None:
            talk.ttfa_s, talk.audio_at_s = event.value, at_s

    def _abort_began(self, event: Event, at_s: float | None) -> None:
        self._count("aborts", at_s)
        self._abort_at_s = at_s
        talk = self._asked(event)
        if talk is not None and talk is self._speaking:
            talk.forget_answer()
            self._count("wasted", at_s)

    def _abort_ended(self, _: Event, at_s: float | None) -> None:
        if self._alone:
            self._record("abort", _since(self._abort_at_s, at_s), at_s)
        self._abort_at_s = None

    # Queues and inference.

    def _drop(self, event: Event, at_s: float | None) -> None:
        self._count("drops", at_s)
        self._backlog(event, CHUNK_S, at_s)

    def _hidden_backlog(self, event: Event, at_s: float | None) -> None:
        self._backlog(event, HIDDEN_CHUNK_S, at_s)

    def _backlog(self, event: Event, chunk_s: float, at_s: float | None) -> None:
        if event.value is not None:
            backlog_s = event.value * chunk_s
            self._backlog_s = max(self._backlog_s or 0.0, backlog_s)
            self._observe("backlog", backlog_s, at_s)

    def _inference(self, event: Event, at_s: float | None) -> None:
        if self.server is not Server.WHISPERLIVE:
            return
        self._record("inference_audio", event.value, at_s)
        if self._alone:
            self._record("partial_gap", _since(self._inferred_at_s, at_s), at_s)
        self._inferred_at_s = at_s

    # The summary.

    def summary(self) -> LogSummary:
        shown = SHOWN[self.server] if self.server else frozenset[str]()
        talks = self.server is Server.REALTIMEVOICECHAT
        return LogSummary(
            server=self.server,
            lines=self.lines,
            known_lines=self._known_lines,
            span_s=self._last_at_s,
            resolution_s=self._time.resolution_s,
            turns=self._counts["turns"] if talks else None,
            mixed_turns=self._mixed_turns,
            figures={name: samples.pair() for name, samples in self._samples.items()},
            counts=self._shown_counts(shown),
            backlog_s=self._backlog_s,
            dropped_s=self._counts["drops"] * CHUNK_S if talks else None,
            boot_latency_s=self._boot_latency_s,
            loaded_per_session=self._loads.per_session,
            last_turns=tuple(self._turns),
            loads=tuple(self._loads.kept),
            clients=tuple(self._client_moments),
            faults=dict(self._faults),
            unknown=tuple(self._unknown()),
        )

    def _shown_counts(self, shown: frozenset[str]) -> dict[str, int | None]:
        counts = {name: self._counts[name] if name in shown else None for name in COUNTS}
        counts["clients"] = self._most_clients
        return counts

    def _unknown(self) -> list[str]:
        notes = []
        if self._time.resolution_s is None and self._known_lines:
            notes.append("no line bears a time, so no duration is known: docker logs -t adds one")
        if self._mixed_turns:
            notes.append(
                f"{self._mixed_turns} turns came while several clients were connected: the log "
                "does not say whose line is whose, so of these only LLM and TTS times are known"
            )
        if self._unseen_sessions:
            notes.append(
                f"{self._unseen_sessions} sessions were open before the log begins: turns before "
                "they ended may be of several clients"
            )
        if self._loads.overlapped:
            notes.append(
                f"{self._loads.overlapped} model loads overlapped: how long each took is not known"
            )
        return notes + self._unknown_of_server()

    def _unknown_of_server(self) -> list[str]:
        if self.server is Server.WHISPERLIVE:
            return [
                "WhisperLive logs no turns, finals, drops or queues, and not whom it refuses: "
                "rtvc profile tap sees turns and finals from outside"
            ]
        if self.server is None:
            return []
        notes = []
        if self._most_clients is None:
            notes.append("no client connects or leaves in this log: all is taken for one client's")
        if self._backlog_s is None:
            notes.append(
                "no queue was logged as full: RealtimeVoiceChat logs only a queue beyond its limit "
                "(2.1 s before, 16 s behind the resampler, unless changed)"
            )
        return notes


def _logged(talk: _Talk, number: int) -> LoggedTurn:
    leaves_at_s = _later(talk.audio_at_s, talk.ended_at_s)
    return LoggedTurn(
        number=number,
        at_s=talk.ended_at_s,
        mixed=talk.mixed,
        partials=talk.partials if talk.heard_whole and not talk.mixed else None,
        policy_wait_s=talk.policy_wait_s,
        endpoint_wait_s=None if talk.mixed else _since(talk.silent_at_s, talk.ended_at_s),
        final_s=_since(talk.ended_at_s, talk.final_at_s),
        speech_to_final_s=_since(talk.silent_at_s, talk.final_at_s),
        ttft_s=None if talk.mixed else talk.ttft_s,
        ttfa_s=None if talk.mixed else talk.ttfa_s,
        total_s=None if talk.mixed else _since(talk.silent_at_s, leaves_at_s),
    )


def _later(one_s: float | None, other_s: float | None) -> float | None:
    return None if one_s is None or other_s is None else max(one_s, other_s)


def _since(from_s: float | None, to_s: float | None) -> float | None:
    if from_s is None or to_s is None or to_s - from_s < -DISORDER_S:
        return None
    return max(0.0, to_s - from_s)
