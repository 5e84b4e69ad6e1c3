"""What the user asked for → what the generator is to do."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from rtvc.errors import UsageError
from rtvc.loadtest.scale.spread import Spread
from rtvc.loadtest.speakers.arrivals import Schedule, default_ramp_s, rate_per_minute
from rtvc.loadtest.spec import LoadSpec, endpoint_url, session_url
from rtvc.loadtest.wire.wires import AUTO, NO_REPLIES, Wire, is_told, wire_for
from rtvc.speech.scenario import Scenario, load_scenario, scenario_to_dict

STORM = "connect-storm"

ANCHORS = "rtvc-1"
"""Names the instants that delays are timed from; runs with other ones must not be compared."""

LONGEST_WARM_UP_S = 60.0
"""Where nobody says how long it is."""

CONNECT_TIMEOUT_S = 15.0

GRACE_S = 10.0

MAX_SPEAKERS = 1000
"""Of one generator process; far beyond what one holds on schedule."""

SEARCH_S = 12 * 3600.0
"""No search takes longer."""

SPEAKERS, DURATION_S = 10, 60.0
"""Of a run where neither the user nor the scenario says how many and how long."""

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True, slots=True)
class Wish:
    """A load test, as asked for."""

    url: str
    """Server, with or without a path."""
    speakers: int = SPEAKERS
    """Concurrent simulated speakers."""
    duration_s: float = DURATION_S
    """Seconds of measuring, after the warm-up."""
    scenario: str | None = None
    """Name or TOML file; None: conversation, or dictation where nobody replies."""
    speech: Path | None = None
    """Folder of recordings; None: the built-in synthetic speakers."""
    targets: tuple[str, ...] = ()
    """Objectives; empty: the default ones."""
    seed: int = 0
    """Of texts, voices and moments."""
    warm_up_s: float | None = None
    """Seconds recorded but not summarised; None: as long as the ramp."""
    ramp_s: float | None = None
    """Seconds over which speakers arrive; None: 0.2 for each, 5 at most."""
    transcription: bool = False
    """Transcription sessions, without replies."""
    protocol: str = AUTO
    """Wire protocol; "auto": what the URL tells, or the server when it is asked."""
    storm_rounds: int = 0
    """Rounds of a connect storm; 0: a run of calls."""
    insecure: bool = False
    """Accept any certificate."""
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    """A session that takes longer to become usable has failed."""
    grace_s: float = GRACE_S
    """A final, or a reply, that takes longer is missing."""
    frame_ms: float | None = None
    """Milliseconds of audio in one message; None: as the protocol's own clients send it."""
    find_capacity: bool = False
    """Search for the most speakers that are held; `speakers` is the most to try."""
    start_speakers: int = 1
    """Where the search begins."""
    step_s: float = 30.0
    """Least seconds of measuring in each of its steps."""
    spread: Spread = field(default_factory=Spread)
    """Over how many generators the speakers are spread."""
    keep_text: bool = False
    """Whether the words of recordings stay in the record; those of synthetic speakers do."""

    @property
    def chosen(self) -> Scenario:
        """What the speakers do.

        Raises:
            UsageError: there is no such scenario, or its file is not as it should be.
        """
        if self.scenario is None:
            nobody_replies = self.transcription or not self.wire.conversation
            usual = "dictation" if nobody_replies else "conversation"
            return load_scenario(STORM if self.storm_rounds > 0 else usual)
        named = load_scenario(self.scenario)
        storms = self.storm_rounds > 0 and not named.connect_rounds
        return load_scenario(STORM) if storms else named

    @property
    def wire(self) -> Wire:
        """The protocol, as far as it is known.

        Raises:
            UsageError: nobody knows it.
        """
        return wire_for(self.protocol, self.url)

    @property
    def session_url(self) -> str:
        """As every speaker opens it."""
        if self.wire.may_transcribe_only:
            return session_url(self.url, transcription=self.transcribes)
        return endpoint_url(self.url, self.wire.path)

    @property
    def transcribes(self) -> bool:
        """Whether sessions only transcribe: asked for, what the scenario is about, or all that
        the server can."""
        if not self.wire.conversation:
            return True
        wanted = self.transcription or self.chosen.transcription is True
        return wanted and self.wire.may_transcribe_only

    @property
    def not_observable(self) -> frozenset[str]:
        """What such a session cannot show, named as objectives name it."""
        return self.wire.not_observable | (NO_REPLIES if self.transcribes else frozenset())

    @property
    def is_storm(self) -> bool:
        return self.chosen.connect_rounds > 0

    @property
    def judged_by(self) -> tuple[str, ...]:
        """Objectives: what was asked for, or what the scenario is about."""
        return self.targets or self.chosen.objectives

    @property
    def colocated(self) -> bool | None:
        """Whether the server is on this machine, as far as the URL tells."""
        return True if urlsplit(self.url).hostname in _LOOPBACK else None


def usual_size(scenario: str | None) -> tuple[int, float]:
    """Speakers, and seconds of measuring, where the user says nothing.

    >>> usual_size(None), usual_size("two-at-once")
    ((10, 60.0), (2, 60.0))
    """
    chosen = Scenario() if scenario is None else load_scenario(scenario)
    return chosen.speakers or SPEAKERS, chosen.duration_s or DURATION_S


def make_spec(wish: Wish, run_dir: Path, work_dir: Path) -> LoadSpec:
    """Raises UsageError for what cannot be run."""
    _check(wish)
    scenario = _scenario(wish)
    ramp_s = _ramp_s(wish, scenario)
    storm, search = wish.is_storm, wish.find_capacity
    warm_up_s = _warm_up_s(wish, scenario, ramp_s)
    speakers, per_minute = _callers(wish, scenario, warm_up_s + wish.duration_s)
    return LoadSpec(
        kind="connect-storm" if storm else "search" if search else "calls",
        url=wish.session_url,
        protocol=wish.wire.name,
        speakers=speakers,
        # The steps of a search have their own times.
        warm_up_s=0.0 if search else warm_up_s,
        duration_s=SEARCH_S if search else wish.duration_s,
        ramp_s=0.0 if search else ramp_s,
        rounds=(wish.storm_rounds or scenario.connect_rounds) if storm else 0,
        # Storms are told in connections, whatever their file is called.
        scenario=STORM if storm else scenario.name,
        scenario_fields=scenario_to_dict(scenario),
        arrivals_per_minute=per_minute,
        transcription=wish.transcribes,
        seed=wish.seed,
        connect_timeout_s=wish.connect_timeout_s,
        grace_s=wish.grace_s,
        frame_s=_frame_s(wish),
        insecure=wish.insecure,
        run_dir=str(run_dir),
        work_dir=str(work_dir),
        parts=wish.spread.parts,
        web_port=wish.spread.web_port,
        keep_text=wish.keep_text or wish.speech is None,
    )


def _ramp_s(wish: Wish, scenario: Scenario) -> float:
    if wish.ramp_s is not None:
        return wish.ramp_s
    said_s = scenario.arrivals.ramp_s
    return default_ramp_s(wish.speakers) if said_s is None else said_s


def _warm_up_s(wish: Wish, scenario: Scenario, ramp_s: float) -> float:
    """Until everybody is there; where callers come and go, until the first have left."""
    if wish.warm_up_s is not None:
        return wish.warm_up_s
    stay_s = scenario.arrivals.stay_s
    return ramp_s if stay_s is None else min(stay_s[1], LONGEST_WARM_UP_S)


def _callers(wish: Wish, scenario: Scenario, run_s: float) -> tuple[int, float | None]:
    """How many speakers there will be, and how many come a minute; None: they come and stay."""
    per_minute = rate_per_minute(scenario.arrivals, wish.speakers)
    if per_minute is None:
        return wish.speakers, None
    schedule = Schedule(
        scenario.arrivals, speakers=1, ramp_s=0.0, per_minute=per_minute, seed=wish.seed
    )
    callers = schedule.until(run_s, MAX_SPEAKERS)
    if callers > MAX_SPEAKERS:
        raise UsageError(
            f"expected at most {MAX_SPEAKERS} callers in a run, got more: {per_minute:g} a minute "
            f"for {run_s:g} s"
        )
    return callers, per_minute


def _check(wish: Wish) -> None:
    most = MAX_SPEAKERS * wish.spread.parts
    if not 1 <= wish.speakers <= most:
        raise UsageError(
            f"expected 1 to {most} speakers, {MAX_SPEAKERS} a generator, got {wish.speakers}"
        )
    wish.spread.check(wish.speakers, storm=wish.is_storm)
    if not 0 < wish.duration_s <= 86_400:
        raise UsageError(
            f"expected a --duration of more than 0 s, up to a day, got {wish.duration_s:g} s"
        )
    _check_seconds(wish)
    _check_search(wish)
    _check_protocol(wish)
    if wish.storm_rounds < 0:
        raise UsageError(f"expected 0 or more rounds of a storm, got {wish.storm_rounds}")


def _check_protocol(wish: Wish) -> None:
    wire = wish.wire
    if wish.transcription and wire.conversation and not wire.may_transcribe_only:
        raise UsageError(f"a session of {wire.name} always replies; leave --transcription out")
    if wish.is_storm and wire.ready == "inferred":
        raise UsageError(
            f"{wire.name} has no word for ready, which a connect storm waits for; let the speakers "
            "speak, and their first text will tell"
        )


def _frame_s(wish: Wish) -> float:
    """A length is checked once it is known which protocol it is for."""
    told = wish.protocol != AUTO or is_told(wish.url)
    return wish.wire.frame_s(wish.frame_ms if told else None)


def _check_search(wish: Wish) -> None:
    if not wish.find_capacity:
        return
    if wish.is_storm:
        raise UsageError("expected a search or a connect storm, got both")
    if not 1 <= wish.start_speakers <= wish.speakers:
        raise UsageError(
            f"expected --start-speakers of 1 to {wish.speakers}, got {wish.start_speakers}"
        )
    if not 5 <= wish.step_s <= 3600:
        raise UsageError(f"expected a --step-duration of 5 to 3600 s, got {wish.step_s:g} s")


def _check_seconds(wish: Wish) -> None:
    for name, seconds in (
        ("--warm-up", wish.warm_up_s),
        ("--ramp", wish.ramp_s),
        ("--connect-timeout", wish.connect_timeout_s),
        ("--grace", wish.grace_s),
    ):
        if seconds is not None and not 0 <= seconds <= 3600:
            raise UsageError(f"expected {name} of 0 to 3600 s, got {seconds:g}")


def _scenario(wish: Wish) -> Scenario:
    chosen = wish.chosen
    nobody_replies = wish.transcription or not wish.wire.conversation
    if nobody_replies and chosen.transcription is False:
        raise UsageError(
            f"nobody replies in a transcription session, but the scenario {chosen.name!r} waits "
            "for replies; use dictation"
        )
    if wish.find_capacity:
        _check_searchable(chosen)
    return chosen.without_replies() if wish.transcribes else chosen


def _check_searchable(chosen: Scenario) -> None:
    if all(kind.silent for kind in chosen.kinds):
        raise UsageError(f"expected speech to search with, but in {chosen.name!r} nobody speaks")
    if chosen.arrivals.kind == "open":
        raise UsageError(
            f"expected speakers who stay for a search, but in {chosen.name!r} callers come and go"
        )


def default_folder(name: str, now: datetime) -> Path:
    """
    >>> default_folder("conversation-10", datetime(2026, 1, 2, 3, 4, 5)).as_posix()
    'reports/runs/20260102T030405Z-conversation-10'
    """
    return Path("reports/runs") / f"{now:%Y%m%dT%H%M%SZ}-{name}"
