"""Settings: `rtvc.toml` < `RTVC_*` < flags. The only file that reads the environment.

`[stt] model` in rtvc.toml is `RTVC_STT_MODEL` in the environment and `--model` on the command
line. Settings are read once, frozen, and handed down.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)

from rtvc.errors import UsageError
from rtvc.hiding import hide, without_secrets

_PREFIX = "RTVC_"
_MIN_KEY_CHARS = 16
DEFAULT_FILE = Path("rtvc.toml")
"""Read where no other file is named."""

FLAT_OUT_INTERVAL_S = 0.03
"""Audio between the answer to one partial and the next, when they are made flat out."""

Port = Annotated[int, Field(ge=0, le=65535)]


def _http_url(value: str) -> str:
    if re.fullmatch(r"https?://[^\s/]+\S*", value) is None:
        raise ValueError("expected a URL such as http://localhost:11434/v1")
    return value


def _secret_http_url(value: SecretStr) -> SecretStr:
    _http_url(value.get_secret_value())
    return value


def _access_key(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < _MIN_KEY_CHARS:
        raise ValueError(f"expected a key of at least {_MIN_KEY_CHARS} characters")
    return value


def _origins(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if re.fullmatch(r"https?://[^\s/@?#]+", value) is None:
            raise ValueError("expected origins such as https://voice.example or http://box:8000")
    return tuple(value.lower() for value in values)


def _namespace(value: str) -> str:
    if re.fullmatch(r"[!-~](?:[ -~]{0,253}[!-~])?", value) is None or value.startswith("AWS/"):
        raise ValueError("expected up to 255 characters of ASCII that do not begin with AWS/")
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]
SecretUrl = Annotated[SecretStr, AfterValidator(_secret_http_url)]
"""May hold a user and a password."""
Positive = Annotated[float, Field(gt=0)]


def _listed(value: object) -> object:
    """What stands in one text, between commas, as a list."""
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(",") if part.strip()]


Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class _Section(BaseModel):
    """A frozen group of settings that refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ServeSettings(_Section):
    """The server's door."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Port = 8000
    """TCP port; 0 picks a free one."""
    max_sessions: Annotated[int, Field(ge=1)] = 32
    """Sessions at once; one more is refused with 503."""
    admission: Literal["headroom", "slots"] = "headroom"
    """Refuse one more session before the delay target breaks, or only when all slots are taken."""
    tls: str | None = None
    """"self-signed", or "CERT.pem,KEY.pem"; None: plain http."""
    audio_queue_s: Positive = 10.0
    """Audio of one session that may wait to be heard; more is an error."""
    send_timeout_s: Positive = 15.0
    """A client that reads nothing for so long is closed."""
    ping_interval_s: Positive = 20.0
    """WebSocket pings; as long again without an answer closes the session."""
    keep_alive_s: Annotated[int, Field(ge=1)] = 5
    """How long a connection without a request stays open. Behind a load balancer: longer than that
    keeps one (idle_timeout 60 s: 70), or a request now and then meets one that just closed."""
    max_upload_mb: Positive = 100.0
    """Largest file at /v1/audio/transcriptions."""
    max_file_s: Positive = 3600.0
    """Longest file there."""
    shutdown_s: Positive = 30.0
    """How long a server that is told to stop (SIGTERM) lets sessions finish."""
    stop_idle_s: Positive = 30.0
    """Sessions that sent nothing for so long do not hold up its stop."""
    last_final_s: Positive = 5.0
    """How long it then waits for the last finals of those still speaking."""
    inject: Texts = ()
    """Faults on purpose, each NAME[=AMOUNT][@BEGIN[+LENGTH]]; see docs/profile/faults.md."""
    otel_endpoint: SecretUrl | None = None
    """Collector that gets each turn as an OpenTelemetry trace, by OTLP over HTTP; None: none."""
    instruments: bool = True
    """Metrics, the probe of the event loop, timings of turns; off only to measure their cost."""


class SttSettings(_Section):
    """Speech-to-text."""

    model: str | None = None
    """Catalogue name, folder, "selftest", "pocketsphinx"; None: the best that can be had."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs."""
    compute_type: str = "auto"
    """CTranslate2 compute type, such as int8 or float16."""
    beam_size: Annotated[int, Field(ge=1, le=20)] = 1
    """Beams of the decoder; 1 is greedy."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Inferences at once; None: found for the machine."""
    threads_per_worker: Annotated[int, Field(ge=1)] | None = None
    """CPU threads of one inference; None: found for the machine."""
    max_batch: Annotated[int, Field(ge=1)] | None = None
    """Utterances in one inference; None: found for the machine."""
    warm_up_audio_s: Annotated[float, Field(ge=0, le=30)] = 0.0
    """Audio of every length up to this, in every size of batch, is inferred once before the server
    is ready, so that nobody is the first to bring it; 0: one length. Not by engines of sessions."""
    language: str | None = None
    """ISO-639-1; None: the model's own, or what the client says."""
    prompt: str | None = None
    """Context that every transcription leans on, unless the client gives its own."""
    hotwords: str | None = None
    """Names and rare words that may be said; told to the model beside any prompt."""
    sharing: Literal["shared", "pool", "per-session"] = "shared"
    """One engine for everyone, a few of them, or one loaded for each session."""
    pool_size: Annotated[int, Field(ge=1, le=64)] = 2
    """Engines of a pool."""
    delay_target_ms: Annotated[int, Field(ge=100)] = 500
    """End of speech → final transcript, 95 of 100: what admission keeps to."""
    encoder_context: Literal["auto", "full", "short", "guarded"] = "auto"
    """What the encoder sees: 30 s, the audio alone, or the latter checked; "auto": as the
    weights were trained."""

    def context(self, prompt: str | None) -> str | None:
        """What the model is told beforehand, given the client's own prompt.

        >>> SttSettings(prompt="A call.", hotwords="Ada Lovelace").context("A lecture.")
        'Ada Lovelace A lecture.'
        """
        return " ".join(filter(None, (self.hotwords, prompt or self.prompt))) or None


class TurnSettings(_Section):
    """When someone has spoken, and when they have finished."""

    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Speech probability from which a frame is speech."""
    prefix_padding_ms: Annotated[int, Field(ge=0, le=2000)] = 300
    """Audio kept from before speech was noticed."""
    silence_ms: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """Silence that ends a turn; None: 250, longer while the text is unfinished."""
    detection: Literal["server_vad", "semantic_vad"] = "server_vad"
    """What ends the turns of a Realtime session that does not say: a silence, or a turn model."""
    partial_interval_ms: Annotated[int, Field(ge=50)] = 400
    """Audio between two partial transcripts at least."""
    partials: Literal["adaptive", "flat-out", "off"] = "adaptive"
    """Rarer under load, each as soon as the one before is answered, or none."""

    @property
    def least_partial_interval_s(self) -> float:
        """A flat-out session asks again as soon as it has its answer."""
        flat_out = self.partials == "flat-out"
        return FLAT_OUT_INTERVAL_S if flat_out else self.partial_interval_ms / 1000


class LlmSettings(_Section):
    """The language model."""

    backend: Literal["scripted", "openai"] = "scripted"
    """"scripted" needs nothing; "openai" is any compatible endpoint."""
    url: HttpUrl = "http://127.0.0.1:11434/v1"
    """Base URL of the endpoint; the default is a local Ollama."""
    model: str = "llama3.2"
    """Model to ask the endpoint for."""
    api_key: SecretStr | None = None
    """Sent as a Bearer token; None: none."""
    system: str = (
        "You are a friendly voice assistant. Answer in one to three short spoken sentences."
    )
    """Instructions a session starts with."""
    max_tokens: Annotated[int, Field(ge=1)] = 400
    """Longest reply."""
    timeout_s: Positive = 20.0
    """Longest wait for the next token."""
    first_token_s: Positive = 10.0
    """Longest wait for the first token, a second try included."""
    max_chars: Annotated[int, Field(ge=1)] = 8000
    """Longest reply in characters, whatever the model counts as tokens; then it is cut."""
    apology: str = "Sorry, I cannot answer right now. Please try again in a moment."
    """Said when no reply can be had; empty: nothing is said."""
    broken_off: str = "Sorry, I lost my thread."
    """Said when a reply breaks off in the middle; empty: nothing is said."""
    scripted_ttft_s: Annotated[float, Field(ge=0)] = 0.15
    """Time to first token of "scripted"."""
    scripted_tokens_per_s: Positive = 60.0
    """Pace of "scripted"."""


class TtsSettings(_Section):
    """The speech synthesizer."""

    backend: Literal["espeak", "openai"] = "espeak"
    """"espeak" needs nothing; "openai" is any compatible endpoint."""
    url: HttpUrl = "http://127.0.0.1:8880/v1"
    """Base URL of the endpoint."""
    model: str = "tts-1"
    """Model to ask the endpoint for."""
    voice: str | None = None
    """Voice; None: the backend's own."""
    api_key: SecretStr | None = None
    """Sent as a Bearer token; None: none."""
    timeout_s: Positive = 10.0
    """Longest wait for the next piece of audio; for the first, a second try included."""


class AccessSettings(_Section):
    """Who may come in, and how much of the server one caller may take."""

    keys_file: Path | None = None
    """Keys of callers, as `rtvc keys make` writes them; None: there is none."""
    key: Annotated[SecretStr, AfterValidator(_access_key)] | None = None
    """One key more, named "environment"; from RTVC_ACCESS_KEY, for containers."""
    origins: Annotated[Texts, AfterValidator(_origins)] = ()
    """Pages of other sites that may call, such as https://voice.example."""
    proxies: Texts = ()
    """Addresses or networks of proxies in front, whose X-Forwarded-For is believed."""
    open: bool = False
    """Whether anyone may come in, from any machine and any page."""
    sessions_per_address: Annotated[int, Field(ge=1)] | None = None
    """Sessions at once from one address; None: as many as there is room for."""
    connects_per_minute: Annotated[int, Field(ge=1)] | None = 1200
    """Sessions and uploads that one address may begin in a minute; None: any number."""
    audio_s_per_hour: Positive | None = None
    """Audio that one address may send in an hour; None: any amount."""
    wrong_keys_per_minute: Annotated[int, Field(ge=1)] = 30
    """An address that offers more of them is not listened to for a while."""
    messages_per_s: Positive | None = 1000.0
    """Messages of one session; one that sends more is slowed down; None: any number."""
    idle_s: Positive | None = 600.0
    """A session that sends nothing for so long is closed; None: never."""
    session_s: Positive | None = 10_800.0
    """Longest session; None: no bound."""
    head_s: Positive = 10.0
    """A connection that has sent no whole request head by then is closed."""
    max_connections: Annotated[int, Field(ge=1)] = 4096
    """TCP connections at once, sessions included."""
    connections_per_address: Annotated[int, Field(ge=1)] = 1024
    """Of them from one address and without a session."""

    @property
    def keyed(self) -> bool:
        """Whether callers need a key."""
        return self.keys_file is not None or self.key is not None


class CloudSettings(_Section):
    """The cloud that the server runs in, and what it is told there."""

    provider: Literal["none", "aws"] = "none"
    """"aws": an EC2 instance, in an Auto Scaling group or alone; "none" asks and tells nobody."""
    namespace: Annotated[str, AfterValidator(_namespace)] = "rtvc"
    """CloudWatch's, of what is published."""
    publish_every_s: Annotated[float, Field(ge=1)] = 10.0
    """Between two times that it is."""
    capacity: Annotated[int, Field(ge=1)] | None = None
    """Sessions that this machine holds, as a load test found; None: serve.max_sessions."""
    group: str | None = None
    """Auto Scaling group; None: asked for, if there is one."""
    idle_before_unprotected_s: Annotated[float, Field(ge=0)] = 300.0
    """After so long without a session an instance that the group has too many of may be ended."""
    deregistration_delay_s: Annotated[float, Field(ge=0)] | None = None
    """The load balancer's, after which it cuts what is left on an instance that is to end."""


class Settings(_Section):
    """All settings."""

    serve: ServeSettings = Field(default_factory=ServeSettings)
    stt: SttSettings = Field(default_factory=SttSettings)
    turn: TurnSettings = Field(default_factory=TurnSettings)
    llm: LlmSettings = Field(default_factory=LlmSettings)
    tts: TtsSettings = Field(default_factory=TtsSettings)
    access: AccessSettings = Field(default_factory=AccessSettings)
    cloud: CloudSettings = Field(default_factory=CloudSettings)

    def public(self) -> dict[str, Any]:
        """Everything but the secrets, for manifests."""
        hidden = {
            name: {key for key, value in section if isinstance(value, SecretStr)}
            for name, section in self
        }
        shown: dict[str, Any] = without_secrets(self.model_dump(mode="json", exclude=hidden))
        return shown

    def secrets(self) -> tuple[str, ...]:
        """The values that no log may hold."""
        return tuple(
            value.get_secret_value()
            for _, section in self
            for _, value in section
            if isinstance(value, SecretStr)
        )


def load_settings(
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    toml: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Settings from file, environment and flags; a flag that is None was not given.

    `toml` None: `rtvc.toml` in the working directory, if there is one.

    Raises:
        UsageError: a file that cannot be read, a name that is unknown, a value that is wrong.
    """
    file = _from_toml(toml)
    variables = _from_environment(os.environ if environment is None else environment)
    merged: dict[str, dict[str, Any]] = {}
    for layer in (file, variables, flags or {}):
        _merge(merged, layer)

    def written(section: str, key: str) -> str:
        """Where a setting was given, as its writer knows it."""
        if (flags or {}).get(section, {}).get(key) is not None:
            return f"setting {section}.{key}"
        if key in variables.get(section, {}):
            return f"{_PREFIX}{section}_{key}".upper()
        return f"{toml or DEFAULT_FILE} [{section}] {key}".rstrip()

    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise UsageError(_explain(error, written)) from None


def interface(name: str) -> str | None:
    """An environment variable of somebody else's that rtvc honours, such as NO_COLOR."""
    return os.environ.get(name)


def cache_folder() -> Path:
    """Where rtvc keeps what can be made again: $XDG_CACHE_HOME/rtvc, or ~/.cache/rtvc."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rtvc"


def child_environment(**extra: str) -> dict[str, str]:
    """The environment for a process that rtvc starts."""
    return {**os.environ, **extra}


def environment_without_settings() -> dict[str, str]:
    """The environment for a process of rtvc's that the user's settings must not change."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_PREFIX)}


def _from_toml(path: Path | None) -> dict[str, dict[str, Any]]:
    chosen = path or DEFAULT_FILE
    if path is None and not chosen.exists():
        return {}
    try:
        found = tomllib.loads(chosen.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read settings from {chosen}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{chosen} is not valid TOML: {error}") from None
    for name, section in found.items():
        if not isinstance(section, dict):
            # Not the value: it may be a key in the wrong place.
            kind = type(section).__name__
            raise UsageError(f"{chosen}: expected a section [{name}], got a value ({kind})")
    return found


def _from_environment(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """`RTVC_STT_MODEL=…` → {"stt": {"model": …}}; an empty value counts as not set."""
    sections: dict[str, dict[str, Any]] = {}
    for name in Settings.model_fields:
        start = f"{_PREFIX}{name.upper()}_"
        for key, value in environment.items():
            if key.startswith(start) and value != "":
                sections.setdefault(name, {})[key.removeprefix(start).lower()] = value
    return sections


def _merge(into: dict[str, dict[str, Any]], more: Mapping[str, Mapping[str, Any]]) -> None:
    for name, section in more.items():
        given = {key: value for key, value in section.items() if value is not None}
        into.setdefault(name, {}).update(given)


def _explain(error: ValidationError, written: Callable[[str, str], str]) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        section, key = (*map(str, problem["loc"]), "")[:2]
        if problem["type"] == "extra_forbidden":
            said = f"unknown setting{_suggestion(section, key, written)}"
        else:
            expected = problem["msg"].removeprefix("Value error, ")
            got = "" if _is_secret(section, key) else f", got {hide(repr(problem['input']))}"
            said = f"{expected.replace('Input should be', 'expected')}{got}"
        lines.append(f"{written(section, key)}: {said}")
    return "; ".join(lines)


def _is_secret(section: str, key: str) -> bool:
    """Whether the setting's value is never shown."""
    known = Settings.model_fields.get(section)
    fields = getattr(known.annotation, "model_fields", {}) if known is not None else {}
    return key in fields and _holds_secret(fields[key].annotation)


def _holds_secret(hint: Any) -> bool:
    """SecretStr, or anything that may hold one.

    >>> _holds_secret(SecretUrl | None), _holds_secret(HttpUrl)
    (True, False)
    """
    return hint is SecretStr or any(_holds_secret(each) for each in get_args(hint))


def _suggestion(section: str, key: str, written: Callable[[str, str], str]) -> str:
    """The nearest name that there is; of a section if that is what is unknown.

    A variable is named in full, as that is what its writer would have to type.
    """
    known = Settings.model_fields.get(section)
    model = known.annotation if known is not None else Settings
    names = list(getattr(model, "model_fields", {}))
    near = difflib.get_close_matches(key if known is not None else section, names, n=1)
    variable = f"{_PREFIX}{section}_".upper()
    if written(section, key).startswith(variable):
        names, near = ([f"{variable}{name.upper()}" for name in some] for some in (names, near))
    return f", did you mean {near[0]}?" if near else f", expected one of {', '.join(names)}"
