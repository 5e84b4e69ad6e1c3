"""What the user asked for → what the generator is to do."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from rtvc.errors import UsageError
from rtvc.loadtest.spec import LoadSpec, session_url
from rtvc.speech.speaker import SCENARIOS

PROTOCOLS = ("openai-realtime",)

STORM = "connect-storm"

CONNECT_TIMEOUT_S = 15.0

GRACE_S = 10.0

MAX_SPEAKERS = 1000
"""Of one generator process; far beyond what one holds on schedule."""

SEARCH_S = 12 * 3600.0
"""No search takes longer."""

FRAMES_MS = (20, 40, 60, 100)
"""Lengths of a frame that divide speech evenly and are in use."""

STORM_TARGETS = ("connection_p95<3s", "errors<1%")
"""What is judged where nothing is said."""

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True, slots=True)
class Wish:
    """A load test, as asked for."""

    url: str
    """Server, with or without a path."""
    speakers: int = 10
    """Concurrent simulated speakers."""
    duration_s: float = 60.0
    """Seconds of measuring, after the warm-up."""
    scenario: str | None = None
    """Name; None: conversation, or dictation where nobody replies."""
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
    protocol: str = PROTOCOLS[0]
    """Wire protocol."""
    storm_rounds: int = 0
    """Rounds of a connect storm; 0: a run of calls."""
    insecure: bool = False
    """Accept any certificate."""
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    """A session that takes longer to become usable has failed."""
    grace_s: float = GRACE_S
    """A final, or a reply, that takes longer is missing."""
    frame_ms: int = 20
    """Milliseconds of audio in one message."""
    find_capacity: bool = False
    """Search for the most speakers that are held; `speakers` is the most to try."""
    start_speakers: int = 1
    """Where the search begins."""
    step_s: float = 30.0
    """Least seconds of measuring in each of its steps."""

    @property
    def is_storm(self) -> bool:
        return self.storm_rounds > 0 or self.scenario == STORM

    @property
    def judged_by(self) -> tuple[str, ...]:
        """Objectives; a storm has no transcripts to judge."""
        return self.targets or (STORM_TARGETS if self.is_storm else ())

    @property
    def colocated(self) -> bool | None:
        """Whether the server is on this machine, as far as the URL tells."""
        return True if urlsplit(self.url).hostname in _LOOPBACK else None


def make_spec(wish: Wish, run_dir: Path, work_dir: Path) -> LoadSpec:
    """Raises UsageError for what cannot be run."""
    _check(wish)
    ramp_s = min(5.0, wish.speakers * 0.2) if wish.ramp_s is None else wish.ramp_s
    storm, search = wish.is_storm, wish.find_capacity
    warm_up_s = ramp_s if wish.warm_up_s is None else wish.warm_up_s
    return LoadSpec(
        kind="connect-storm" if storm else "search" if search else "calls",
        url=session_url(wish.url, transcription=wish.transcription),
        protocol=wish.protocol,
        speakers=wish.speakers,
        # The steps of a search have their own times.
        warm_up_s=0.0 if search else warm_up_s,
        duration_s=SEARCH_S if search else wish.duration_s,
        ramp_s=0.0 if search else ramp_s,
        rounds=max(1, wish.storm_rounds) if storm else 0,
        scenario=_scenario(wish),
        transcription=wish.transcription,
        seed=wish.seed,
        connect_timeout_s=wish.connect_timeout_s,
        grace_s=wish.grace_s,
        frame_s=wish.frame_ms / 1000,
        insecure=wish.insecure,
        run_dir=str(run_dir),
        work_dir=str(work_dir),
    )


def _check(wish: Wish) -> None:
    if not 1 <= wish.speakers <= MAX_SPEAKERS:
        raise UsageError(f"expected 1 to {MAX_SPEAKERS} speakers, got {wish.speakers}")
    if not 0 < wish.duration_s <= 86_400:
        raise UsageError(
            f"expected a --duration of more than 0 s, up to a day, got {wish.duration_s:g} s"
        )
    _check_seconds(wish)
    _check_search(wish)
    if wish.frame_ms not in FRAMES_MS:
        known = ", ".join(map(str, FRAMES_MS))
        raise UsageError(f"expected --frame-ms of {known}, got {wish.frame_ms}")
    if wish.protocol not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        raise UsageError(f"expected a protocol ({known}), got {wish.protocol!r}")
    if wish.storm_rounds < 0:
        raise UsageError(f"expected 0 or more rounds of a storm, got {wish.storm_rounds}")


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


def _scenario(wish: Wish) -> str:
    if wish.is_storm:
        return STORM
    name = wish.scenario or ("dictation" if wish.transcription else "conversation")
    if name not in SCENARIOS:
        known = ", ".join([*SCENARIOS, STORM])
        raise UsageError(f"expected a scenario ({known}), got {name!r}")
    if wish.transcription and SCENARIOS[name].wait_for_reply:
        raise UsageError(
            f"nobody replies in a transcription session, but the scenario {name!r} waits for "
            "replies; use dictation"
        )
    return name


def default_folder(name: str, now: datetime) -> Path:
    """
    >>> default_folder("conversation-10", datetime(2026, 1, 2, 3, 4, 5)).as_posix()
    'reports/runs/20260102T030405Z-conversation-10'
    """
    return Path("reports/runs") / f"{now:%Y%m%dT%H%M%SZ}-{name}"
