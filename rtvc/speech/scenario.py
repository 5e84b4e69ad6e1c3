"""What simulated speakers do: one record, read from a TOML file or shipped under a name.

    like = "conversation"          what is not said here is as there
    [behaviour] [speech] [arrivals] [acoustics] [network]
    [[mix]]                        speakers that differ from each other

Every key is described in docs/loadtest/scenarios.md. Strict: an unknown key, a wrong type or a
value out of range is a `UsageError` that names the file, the key, what was expected and what came.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from rtvc.errors import UsageError, why
from rtvc.speech.checks import (
    Check,
    Choice,
    Flag,
    Number,
    Range,
    Text,
    Texts,
    check_fields,
    known_keys,
    read_table,
)
from rtvc.speech.synthesis import VOICES

BUILTIN_SCENARIOS = (
    "conversation",
    "dictation",
    "steady",
    "two-at-once",
    "synchronised-turn-ends",
    "connect-storm",
    "interruptions",
    "long-monologue",
    "silence",
    "mixed",
    "soak",
)
"""Shipped scenarios; "conversation" is the default."""

FOLDER = Path(__file__).with_name("scenarios")

BEHAVIOUR: dict[str, Check] = {
    "pause_s": Range(0, 3600),
    "think_s": Range(0, 3600),
    "wait_for_reply": Flag(),
    "reply_timeout_s": Number(0, 600),
    "interruption_probability": Number(0, 1),
    "interrupt_after_s": Range(0, 600),
    "start_within_s": Number(0, 3600),
    "turn_ends_every_s": Number(0.5, 600),
    "turn_ends_apart_s": Number(0, 60),
    "silent": Flag(),
    "connect_rounds": Number(0, 1000, whole=True),
}

SPEECH: dict[str, Check] = {
    "words": Range(1, 40, whole=True),
    "words_per_minute": Range(80, 450, whole=True),
    "voices": Texts(VOICES),
    "monologue_s": Range(1, 600),
    "gap_s": Range(0, 10),
}

ARRIVALS: dict[str, Check] = {
    "kind": Choice(("closed", "open")),
    "ramp_s": Number(0, 3600),
    "per_minute": Number(0.01, 60_000),
    "stay_s": Range(1, 86_400),
}

ACOUSTICS: dict[str, Check] = {
    "noise": Choice(("white", "pink", "babble")),
    "snr_db": Number(-20, 80),
    "rt60_s": Number(0.05, 5),
}

NETWORK: dict[str, Check] = {
    "loss": Number(0, 0.5),
    "jitter_ms": Number(0, 10_000),
    "bandwidth_kbit_s": Number(1, 10_000_000),
    "down_kbit_s": Number(1, 10_000_000),
    "rtt_ms": Number(0, 10_000),
}


@dataclass(frozen=True, slots=True)
class SpeechMix:
    """What is said, and in which voices; recordings are taken as they are."""

    words: tuple[int, int] = (3, 16)
    """Words of a sentence."""
    words_per_minute: tuple[int, int] = (130, 200)
    """How fast it is spoken."""
    voices: tuple[str, ...] = ()
    """Voices to draw from; empty: all that are known good."""
    monologue_s: tuple[float, float] | None = None
    """Seconds of speech in an utterance of joined sentences; None: each sentence is one."""
    gap_s: tuple[float, float] = (0.08, 0.18)
    """Seconds of silence between joined sentences."""

    def __post_init__(self) -> None:
        check_fields(self, SPEECH)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When speakers come, and how long they stay."""

    kind: str = "closed"
    """"closed": so many speakers, who stay; "open": callers come at random and leave again."""
    ramp_s: float | None = None
    """Closed: seconds over which all arrive; None: 0.2 for each, 5 at most."""
    per_minute: float | None = None
    """Open: callers a minute; None: as many as keep --speakers on the line on average."""
    stay_s: tuple[float, float] | None = None
    """Open: seconds for which a caller stays."""

    def __post_init__(self) -> None:
        check_fields(self, ARRIVALS)
        if self.kind == "open" and (self.stay_s is None or self.ramp_s is not None):
            raise UsageError("arrivals: expected stay_s, and no ramp_s, where callers come and go")
        if self.kind == "closed" and (self.stay_s, self.per_minute) != (None, None):
            raise UsageError('arrivals: expected kind = "open" where per_minute or stay_s is given')

    @property
    def mean_stay_s(self) -> float | None:
        """None where everybody stays."""
        return None if self.stay_s is None else sum(self.stay_s) / 2


@dataclass(frozen=True, slots=True)
class Acoustics:
    """What the microphone hears beside the speaker."""

    noise: str | None = None
    """"white", "pink" or "babble" (others talking), without a break; None: no noise."""
    snr_db: float = 20.0
    """Decibels by which speech at its usual level is louder than the noise."""
    rt60_s: float | None = None
    """Seconds in which the room's reverberation falls by 60 dB; None: no room."""

    def __post_init__(self) -> None:
        check_fields(self, ACOUSTICS)


@dataclass(frozen=True, slots=True)
class Network:
    """A speaker's way to the server and back, as TCP lets it be felt."""

    loss: float = 0.0
    """Share of messages that are lost on their way, up or down, and sent again."""
    jitter_ms: float = 0.0
    """Milliseconds: most by which a message is held up, drawn evenly from 0."""
    bandwidth_kbit_s: float | None = None
    """Kilobits a second, upwards; None: no limit."""
    rtt_ms: float = 0.0
    """Milliseconds to the server and back; half of it holds up every message."""
    down_kbit_s: float | None = None
    """Kilobits a second, downwards; None: no limit."""

    def __post_init__(self) -> None:
        check_fields(self, NETWORK)


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the speakers of a mix."""

    weight: int
    """Speakers of this kind among as many as all weights add up to."""
    scenario: "Scenario"
    """What they do."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """How a speaker behaves; ranges are drawn from uniformly."""

    pause_s: tuple[float, float] = (3.0, 3.0)
    """Seconds of silence from one clip to the next where nobody replies."""
    think_s: tuple[float, float] = (0.5, 1.5)
    """Seconds from the end of a reply, as heard, to the next utterance."""
    wait_for_reply: bool = True
    """Whether the speaker lets the other side answer, where it does."""
    reply_timeout_s: float = 15.0
    """Seconds after the utterance, or its last final transcript, until no reply is hoped for."""
    interruption_probability: float = 0.0
    """Share of replies that are interrupted."""
    interrupt_after_s: tuple[float, float] = (0.7, 2.0)
    """Seconds of a reply that are heard before it is interrupted."""
    start_within_s: float = 3.0
    """The first utterance begins within so many seconds, so that speakers are out of step."""
    turn_ends_every_s: float | None = None
    """All speakers end their speech together, at multiples of so many seconds of the clock that
    they share; who is not ready skips one. None: each in its own time."""
    turn_ends_apart_s: float = 0.0
    """Then speaker n ends n times so many seconds later."""
    silent: bool = False
    """Whether nothing is ever said."""
    connect_rounds: int = 0
    """Only connect, so many times, all speakers at once; 0: speak."""
    speech: SpeechMix = field(default_factory=SpeechMix)
    """What is said."""
    arrivals: Arrivals = field(default_factory=Arrivals)
    """When speakers come and go."""
    acoustics: Acoustics = field(default_factory=Acoustics)
    """Noise and room."""
    network: Network = field(default_factory=Network)
    """The way to the server."""
    name: str = "conversation"
    """As runs and reports name it."""
    about: str = ""
    """One line for the help."""
    speakers: int | None = None
    """How many where nothing is said; None: the command's default."""
    duration_s: float | None = None
    """Seconds of measuring where nothing is said; None: the command's default."""
    transcription: bool | None = None
    """Needs transcription sessions (True) or replies (False); None: runs with both."""
    objectives: tuple[str, ...] = ()
    """What is judged where nothing is said; empty: the command's default."""
    parts: tuple[Part, ...] = ()
    """A mix: speakers differ, and this one's own behaviour means nothing. Empty: all are alike."""

    def __post_init__(self) -> None:
        check_fields(self, BEHAVIOUR)
        if self.silent and (self.speech.monologue_s or self.connect_rounds):
            raise UsageError(
                "expected no monologue_s and no connect_rounds where silent = true: nothing is said"
            )

    def of(self, number: int) -> "Scenario":
        """What one speaker does: in a mix, kinds take turns, so that any few are a fair sample."""
        if not self.parts:
            return self
        turns = _turns(tuple(part.weight for part in self.parts))
        return self.parts[turns[number % len(turns)]].scenario

    @property
    def kinds(self) -> "tuple[Scenario, ...]":
        """The different things that speakers do."""
        return tuple(part.scenario for part in self.parts) or (self,)

    def without_replies(self) -> "Scenario":
        """The same where nobody answers: nobody waits for it."""
        parts = tuple(replace(p, scenario=p.scenario.without_replies()) for p in self.parts)
        return replace(self, wait_for_reply=False, parts=parts)


@lru_cache(maxsize=64)
def _turns(weights: tuple[int, ...]) -> tuple[int, ...]:
    """Indices of parts, spread as evenly as their weights allow.

    >>> _turns((3, 1))
    (0, 0, 1, 0)
    """
    total, owed, turns = sum(weights), [0] * len(weights), []
    for _ in range(total):
        owed = [sofar + weight for sofar, weight in zip(owed, weights, strict=True)]
        chosen = max(range(len(weights)), key=lambda k: owed[k])
        owed[chosen] -= total
        turns.append(chosen)
    return tuple(turns)


_TABLES: dict[str, tuple[type[Any], dict[str, Check]]] = {
    "speech": (SpeechMix, SPEECH),
    "arrivals": (Arrivals, ARRIVALS),
    "acoustics": (Acoustics, ACOUSTICS),
    "network": (Network, NETWORK),
}

_TOP: dict[str, Check] = {
    "about": Text(),
    "speakers": Number(1, 100_000, whole=True),
    "duration_s": Number(0.1, 86_400),
    "transcription": Flag(),
    "objectives": Texts(),
}

_LIKE: dict[str, Check] = {"like": Choice(BUILTIN_SCENARIOS)}

_OWN = ("behaviour", "speech", "acoustics", "network")
"""Tables that say what one speaker does: of each kind, in a mix."""

_MIX: dict[str, Check] = {"weight": Number(1, 1000, whole=True)}


def scenario_from_dict(
    fields: Mapping[str, Any], name: str = "conversation", file: str = "scenario"
) -> Scenario:
    """A scenario as TOML or JSON has it; `file` is named where something is wrong."""
    known_keys(fields, [*_LIKE, *_TOP, "behaviour", *_TABLES, "mix"], file)
    fields = _on_its_base(fields, file)
    top = read_table({key: fields[key] for key in fields if key in _TOP}, _TOP, file)
    if "mix" in fields:
        _refuse_own(fields, file)
        parts = {"parts": _parts(fields["mix"], file)}
        return _made(fields, file, "", ("arrivals",), name=name, **top, **parts)
    return _made(fields, file, "", tuple(_TABLES), name=name, **top)


def _on_its_base(fields: Mapping[str, Any], file: str, place: str = "") -> dict[str, Any]:
    """With what a `like` stands for filled in; what is said here goes first."""
    given = {key: value for key, value in fields.items() if key != "like"}
    if "like" not in fields:
        return given
    like = read_table({"like": fields["like"]}, _LIKE, file, place)["like"]
    filled: dict[str, Any] = scenario_to_dict(load_scenario(like))
    for key, value in given.items():
        table = filled.get(key)
        both = isinstance(table, dict) and isinstance(value, Mapping)
        filled[key] = {**table, **value} if both and table is not None else value
    return filled


def _refuse_own(fields: Mapping[str, Any], file: str) -> None:
    for key in _OWN:
        if key in fields:
            raise UsageError(
                f"{file}: {key}: expected within [[mix]], where speakers differ, as [mix.{key}]"
            )


def _parts(tables: object, file: str) -> tuple[Part, ...]:
    if not isinstance(tables, list | tuple) or not tables:
        raise UsageError(f"{file}: mix: expected one table [[mix]] or more, got {tables!r}")
    return tuple(_part(table, file, f"mix[{index}].") for index, table in enumerate(tables))


def _part(table: object, file: str, place: str) -> Part:
    if not isinstance(table, Mapping):
        raise UsageError(f"{file}: {place[:-1]}: expected a table, got {table!r}")
    known_keys(table, [*_MIX, *_LIKE, *_OWN], file, place)
    weight = read_table({key: table[key] for key in table if key in _MIX}, _MIX, file, place)
    own = _on_its_base({key: table[key] for key in table if key not in _MIX}, file, place)
    if "mix" in own:
        raise UsageError(f"{file}: {place}like: expected speakers of one kind, got a mix")
    kind = _made(own, file, place, ("speech", "acoustics", "network"))
    if kind.connect_rounds:
        raise UsageError(f"{file}: {place}behaviour.connect_rounds: expected 0 in a mix")
    return Part(weight.get("weight", 1), kind)


def _made(
    fields: Mapping[str, Any], file: str, place: str, tables: tuple[str, ...], **more: Any
) -> Scenario:
    behaviour = read_table(fields.get("behaviour", {}), BEHAVIOUR, file, f"{place}behaviour.")
    read = {
        name: read_table(fields.get(name, {}), _TABLES[name][1], file, f"{place}{name}.")
        for name in tables
    }
    try:
        records = {name: _TABLES[name][0](**values) for name, values in read.items()}
        return Scenario(**behaviour, **records, **more)
    except UsageError as error:
        raise UsageError(f"{file}: {place}{error}") from None


def scenario_to_dict(scenario: Scenario) -> dict[str, Any]:
    """Plain values, whole: `scenario_from_dict` makes the same of them, the name apart."""
    top = {key: getattr(scenario, key) for key in _TOP}
    fields = {**top, "arrivals": asdict(scenario.arrivals)}
    if scenario.parts:
        fields["mix"] = [{"weight": p.weight, **_own_to_dict(p.scenario)} for p in scenario.parts]
    else:
        fields.update(_own_to_dict(scenario))
    plain: dict[str, Any] = _plain(fields)
    return plain


def _own_to_dict(scenario: Scenario) -> dict[str, Any]:
    behaviour = {key: getattr(scenario, key) for key in BEHAVIOUR}
    tables = {name: asdict(getattr(scenario, name)) for name in _OWN if name != "behaviour"}
    return {"behaviour": behaviour, **tables}


def _plain(value: Any) -> Any:
    """Lists for tuples, and nothing where nothing is said: TOML knows no null."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def load_scenario(name_or_path: str | Path) -> Scenario:
    """A shipped scenario by its name, or a TOML file.

    Raises:
        UsageError: there is none, or it is not as it should be.
    """
    given = str(name_or_path)
    if given in BUILTIN_SCENARIOS:
        return _builtin(given)
    path = Path(given)
    if path.suffix != ".toml":
        known = ", ".join(BUILTIN_SCENARIOS)
        raise UsageError(f"expected a scenario ({known}, or a FILE.toml), got {given!r}")
    # A file may not pass for what is shipped under its name.
    return _read_file(path, path.name if path.stem in BUILTIN_SCENARIOS else path.stem)


@lru_cache(maxsize=len(BUILTIN_SCENARIOS))
def _builtin(name: str) -> Scenario:
    return _read_file(FOLDER / f"{name}.toml", name)


def _read_file(path: Path, name: str) -> Scenario:
    try:
        fields = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the scenario {path}: {why(error)}") from error
    except ValueError as error:
        raise UsageError(f"{path}: expected TOML, but {why(error)}") from error
    return scenario_from_dict(fields, name, str(path))
