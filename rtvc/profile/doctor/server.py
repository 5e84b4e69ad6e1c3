"""What a running server answers over HTTP.

Reading and judging are apart: `read_server` asks it, `judge_server` is pure.
"""

import ipaddress
import json
import statistics
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from rtvc.api_key import bearer
from rtvc.clock import Clock
from rtvc.profile.doctor.findings import Finding
from rtvc.profile.target import http_address, no_answer, untrusted

SLOW_ANSWER_S = 0.5
ASKED_TIMES = 5
HTTP_TIMEOUT_S = 3.0

HEALTH_PATHS = ("/healthz", "/health")
READY_PATH = "/readyz"
MODELS_PATH = "/v1/models"

NO_ANSWER = "no-answer"
"""Id of the finding that there is no server to be looked at."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    """HTTP."""
    body: Any = None
    """Its JSON; None: it was none."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server answered."""

    url: str
    """Scheme, host and port."""
    answers: Mapping[str, Answer]
    """Path → answer."""
    median_s: float | None = None
    """Time of one answer, the middle of several; None: it never answered."""
    trouble: str | None = None
    """Why it did not, in one line; None: it did."""
    untrusted: bool = False
    """Its certificate is of nobody that this machine trusts."""


def read_server(target: str, clock: Clock, api_key: str | None = None) -> ServerFacts:
    """Ask for its health and its models; a certificate that nobody vouches for is noted."""
    url = http_address(target, "")
    try:
        return _read_server(url, clock, trust=True, api_key=api_key)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if untrusted(str(error)) is None:
            return ServerFacts(url, {}, trouble=no_answer(url, error))
    try:
        # Whoever it is, it gets no key.
        return _read_server(url, clock, trust=False, api_key=None)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return ServerFacts(url, {}, trouble=no_answer(url, error), untrusted=True)


def _read_server(url: str, clock: Clock, *, trust: bool, api_key: str | None) -> ServerFacts:
    with httpx.Client(
        base_url=url, timeout=HTTP_TIMEOUT_S, verify=trust, headers=bearer(api_key)
    ) as client:
        answers = {
            path: _answer(client.get(path)) for path in (*HEALTH_PATHS, READY_PATH, MODELS_PATH)
        }
        # The cheapest thing that it has; a path that is not there costs it as little.
        path = next((p for p in HEALTH_PATHS if answers[p].status == 200), HEALTH_PATHS[0])
        times = []
        for _ in range(ASKED_TIMES):
            asked_s = clock.now()
            client.get(path)
            times.append(clock.now() - asked_s)
    return ServerFacts(url, answers, median_s=statistics.median(times), untrusted=not trust)


def _answer(response: httpx.Response) -> Answer:
    body = None
    with suppress(ValueError, RecursionError):
        body = json.loads(response.content)
    return Answer(response.status_code, body)


def judge_server(facts: ServerFacts) -> list[Finding]:
    """What its answers mean."""
    if facts.trouble is not None:
        return [Finding(NO_ANSWER, "bad", "the server does not answer", facts.trouble)]
    return [*_health(facts), *_speed(facts), *_its_models(facts), *_door(facts)]


def _health(facts: ServerFacts) -> Iterator[Finding]:
    statuses = {
        path: answer.status
        for path, answer in facts.answers.items()
        if path in (*HEALTH_PATHS, READY_PATH)
    }
    evidence = ", ".join(f"{path} {status}" for path, status in statuses.items())
    alive = any(statuses.get(path) == 200 for path in HEALTH_PATHS)
    tells = statuses.get(READY_PATH) in (200, 503)
    if not alive and not tells:
        yield Finding("no-health", "warning", "no health endpoint answers", evidence)
    elif not tells:
        what = "it tells that it lives, and not whether it is ready"
        yield Finding("no-health", "note", what, evidence)
    else:
        yield Finding("health", "good", "it tells whether it is ready", evidence)
    yield from _readiness(facts.answers.get(READY_PATH))


def _readiness(answer: Answer | None) -> Iterator[Finding]:
    body = answer.body if answer is not None and isinstance(answer.body, dict) else {}
    if answer is not None and answer.status == 503:
        said = str(body.get("detail") or body.get("state") or "503")
        yield Finding("not-ready", "note", "it is not ready", f"{READY_PATH}: {said}")
    notice = body.get("notice")
    if isinstance(notice, str) and notice:
        yield Finding("notice", "note", "it has something to say of itself", notice)


def _speed(facts: ServerFacts) -> Iterator[Finding]:
    if facts.median_s is None:
        return
    evidence = f"{facts.median_s * 1000:.0f} ms, the middle of {ASKED_TIMES}"
    if facts.median_s > SLOW_ANSWER_S:
        yield Finding("slow-answer", "warning", "its simplest answer takes long", evidence)
    else:
        yield Finding("slow-answer", "good", "it answers at once", evidence)


def _its_models(facts: ServerFacts) -> Iterator[Finding]:
    answer = facts.answers.get(MODELS_PATH)
    body = answer.body if answer is not None and isinstance(answer.body, dict) else {}
    listed = body.get("data")
    for model in listed if isinstance(listed, list) else ():
        if isinstance(model, dict) and "sharing" in model:
            yield from _engine(model)


def _engine(model: Mapping[str, Any]) -> Iterator[Finding]:
    sharing = model["sharing"]
    evidence = f"{MODELS_PATH}: {model.get('id')}, sharing {sharing}"
    if sharing == "per-session":
        yield Finding("per-session-models", "bad", "each session has a model of its own", evidence)
    else:
        yield Finding("models-shared", "good", "sessions share the model", evidence)
    if model.get("calibration_s") is None:
        evidence = f"{MODELS_PATH}: {model.get('id')}, calibration_s absent"
        yield Finding("uncalibrated", "note", "the engine is not calibrated", evidence)


def _door(facts: ServerFacts) -> Iterator[Finding]:
    parts = urlsplit(facts.url)
    if facts.untrusted:
        what = "its certificate is not trusted by this machine"
        yield Finding("tls-untrusted", "note", what, facts.url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        what = "a page from it gets no microphone"
        yield Finding("no-microphone", "warning", what, f"{facts.url}: no TLS")


def is_loopback(host: str) -> bool:
    """Whether browsers take a page from there for a local one.

    >>> is_loopback("localhost"), is_loopback("127.0.0.9"), is_loopback("::1"), is_loopback("box")
    (True, True, True, False)
    """
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
