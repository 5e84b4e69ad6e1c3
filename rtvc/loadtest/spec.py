"""What a load run is to do, as the command hands it to the generator process in a file."""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from rtvc.errors import UsageError
from rtvc.speech.scenario import Scenario, load_scenario, scenario_from_dict

ENDPOINT_PATH = "/v1/realtime"

LAST_WORD_S = 60.0
"""No call outlasts the run's end by more than this."""

SpecKind = Literal["calls", "connect-storm", "search"]

_BARE_ADDRESS = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^\s:/?#\[\]]+)(?::[0-9]+)?(?:[/?].*)?")
"""A host by name or number, perhaps a port, perhaps a path."""

_WEBSOCKET_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """One run of one generator process."""

    kind: SpecKind
    """Speak ("calls"), only connect again and again ("connect-storm"), or speak in steps, as
    many as are ordered ("search")."""
    url: str
    """WebSocket URL with its query, as every speaker opens it."""
    protocol: str
    """Name of a wire protocol (`wires`)."""
    speakers: int
    """Concurrent simulated speakers; in a search, the most of them."""
    warm_up_s: float
    """Seconds from the run's start whose utterances are recorded and left out of the summary."""
    duration_s: float
    """Seconds of measuring after the warm-up; every speaker then ends its utterance."""
    ramp_s: float
    """Seconds over which the speakers arrive."""
    rounds: int
    """Rounds of a connect storm; 0 for calls."""
    scenario: str
    """Name of what the speakers do."""
    transcription: bool
    """A transcription session: nobody replies."""
    seed: int
    """Of everything that is drawn."""
    connect_timeout_s: float
    """From before TCP connect to the session being usable."""
    grace_s: float
    """A final later than this is missing."""
    frame_s: float
    """Seconds of audio in one message."""
    insecure: bool
    """Whether a certificate that nobody signed is accepted."""
    run_dir: str
    """Where rows are appended."""
    work_dir: str
    """Private folder of clips, this file and the stop request."""
    scored: bool = True
    """Whether what was heard is compared with what was said; not where it means nothing."""
    scenario_fields: dict[str, Any] = field(default_factory=dict)
    """The scenario, whole, so that nobody else needs its file; empty: the shipped one."""
    arrivals_per_minute: float | None = None
    """Callers who come and go; None: the speakers come over the ramp and stay."""
    part: int = 0
    """Which of the run's generators this is, from 0."""
    parts: int = 1
    """Generators of the run; speaker k is the concern of number k mod parts."""
    web_port: int | None = None
    """Port of Locust's page on this machine; None: no page."""
    keep_text: bool = True
    """Whether what was said and heard may stay in the record."""

    @property
    def behaviour(self) -> Scenario:
        """What the speakers do; made anew each time."""
        if not self.scenario_fields:
            return load_scenario(self.scenario)
        return scenario_from_dict(self.scenario_fields, self.scenario)

    @property
    def numbers(self) -> range:
        """The speakers of this generator, numbered as in the whole run."""
        return range(self.part, self.speakers, self.parts)

    @property
    def conversation(self) -> bool:
        """Whether replies are asked for."""
        return not self.transcription

    @property
    def stop_file(self) -> Path:
        """Its existence asks the generator to stop in order."""
        return Path(self.work_dir) / "stop"

    @property
    def page_stop_file(self) -> Path:
        """Written with it where somebody pressed the button of Locust's page."""
        return Path(self.work_dir) / "stopped-on-page"

    @property
    def clips_file(self) -> Path:
        name = "clips.npz" if self.parts == 1 else f"clips-{self.part}.npz"
        return Path(self.work_dir) / name

    @property
    def key_file(self) -> Path:
        """Bearer token, only there if one was given; never part of the record."""
        return Path(self.work_dir) / "key"

    @property
    def order_file(self) -> Path:
        """The order in force, of a search."""
        return Path(self.work_dir) / "order.json"

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")


def load_spec(path: Path) -> LoadSpec:
    fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return LoadSpec(**fields)


@dataclass(frozen=True, slots=True)
class Order:
    """How many speakers a search wants now."""

    step: int
    """Number of the step; a higher one replaces a lower one."""
    speakers: int
    """Those from 0 to here speak; the others finish what they are saying and leave."""
    ramp_s: float
    """Seconds over which new ones arrive."""
    over: bool = False
    """Whether the search is over: nobody comes back."""

    def save(self, path: Path) -> None:
        """Whole or not at all: the reader never meets half an order."""
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(asdict(self)), encoding="utf-8")
        draft.replace(path)


def load_order(path: Path) -> Order | None:
    """None while there is none."""
    try:
        return Order(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def with_scheme(url: str) -> str:
    """HTTP where nobody says what.

    >>> with_scheme("localhost:8000"), with_scheme("wss://voice.test")
    ('http://localhost:8000', 'wss://voice.test')

    Raises:
        UsageError: it names no scheme, and is no host, port and path either.
    """
    if "://" in url:
        return url
    if url and not _BARE_ADDRESS.fullmatch(url):
        raise UsageError(f"expected a URL such as ws://127.0.0.1:8000, got {url!r}")
    return f"http://{url}"


def session_url(url: str, *, transcription: bool) -> str:
    """The URL each speaker opens: the path if none was given, and our own query fields.

    >>> session_url("ws://127.0.0.1:8000", transcription=False)
    'ws://127.0.0.1:8000/v1/realtime?rtvc=1'
    >>> session_url("https://voice.test/v1/realtime?model=m", transcription=True)
    'wss://voice.test/v1/realtime?model=m&rtvc=1&intent=transcription'
    """
    parts = urlsplit(endpoint_url(url, ENDPOINT_PATH))
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    query.setdefault("rtvc", "1")
    if transcription:
        query["intent"] = "transcription"
    return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), ""))


def endpoint_url(url: str, path: str) -> str:
    """As a WebSocket is opened: `path` if none was given, and nothing else of ours.

    >>> endpoint_url("http://box:9090/?token=t", "/ws")
    'ws://box:9090/ws?token=t'
    """
    parts = urlsplit(url)
    scheme = _WEBSOCKET_SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise UsageError(f"expected a URL such as ws://127.0.0.1:8000, got {url!r}")
    kept = path if parts.path in ("", "/") else parts.path
    return urlunsplit((scheme, parts.netloc, kept, parts.query, ""))


def http_url(url: str, path: str) -> str:
    """The server's HTTP address of `path`.

    >>> http_url("wss://voice.test/v1/realtime?rtvc=1", "/readyz")
    'https://voice.test/readyz'
    """
    parts = urlsplit(url)
    scheme = "https" if parts.scheme in ("wss", "https") else "http"
    return urlunsplit((scheme, parts.netloc, path, "", ""))
