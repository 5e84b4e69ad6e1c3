"""EC2's metadata service: who this instance is, and whether it is to end.

Only the version that wants a token is spoken (IMDSv2): one is asked for first, and anew when half
of its life is over or when it is refused.
"""

from datetime import UTC, datetime
from typing import Any

import httpx

from rtvc.clock import Clock
from rtvc.config import interface
from rtvc.errors import CloudError, why
from rtvc.server.cloud.instance import Identity, SpotNotice

ENDPOINT = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
"""The variable that AWS's own tools take for another address."""
_DEFAULT_URL = "http://169.254.169.254"
TOKEN_S = 21_600
"""Life of a token: the longest there is."""
_ANSWER_S = 2.0
"""The service is on the same host."""
_HINT = (
    "is this an EC2 instance with its metadata service on? From a container with a network of its "
    "own it takes a hop limit of 2 (http_put_response_hop_limit)"
)


class Metadata:
    """Asks; every question may raise `CloudError`."""

    def __init__(self, clock: Clock, url: str | None = None) -> None:
        """`url` None: as the environment says, or the one that all instances have."""
        self._clock = clock
        self._url = (url or interface(ENDPOINT) or _DEFAULT_URL).rstrip("/")
        # Plain http on a link of the host's own: no proxy, and no certificates to load.
        self._client = httpx.AsyncClient(timeout=_ANSWER_S, trust_env=False, verify=False)
        self._token: str | None = None
        self._token_at_s = 0.0

    async def identity(self) -> Identity:
        """Who this instance is."""
        path = "dynamic/instance-identity/document"
        told = await self._object(path)
        if told is None:
            raise self._wrong(path, "an identity document, got 404")
        try:
            return Identity(
                instance_id=str(told["instanceId"]),
                type=str(told["instanceType"]),
                zone=str(told["availabilityZone"]),
                region=str(told["region"]),
                launched_at=_instant(told.get("pendingTime")),
            )
        except KeyError as error:
            raise self._wrong(path, f"a document with {error.args[0]}, got none") from None

    async def target_state(self) -> str | None:
        """Where its group leads it: InService, Terminated, …; None: it is in no group."""
        return await self._text("meta-data/autoscaling/target-lifecycle-state")

    async def spot_notice(self) -> SpotNotice | None:
        """That EC2 takes it back; None: it does not, so far."""
        path = "meta-data/spot/instance-action"
        told = await self._object(path)
        if told is None:
            return None
        at = _instant(told.get("time"))
        if at is None:
            raise self._wrong(
                path, f"a time such as 2026-01-31T08:22:00Z, got {told.get('time')!r}"
            )
        return SpotNotice(str(told.get("action", "terminate")), at)

    async def rebalance_recommended(self) -> bool:
        """Whether EC2 thinks that it will take it back sooner than others."""
        return await self._text("meta-data/events/recommendations/rebalance") is not None

    async def close(self) -> None:
        """Let go of the connection."""
        await self._client.aclose()

    async def _object(self, path: str) -> dict[str, Any] | None:
        answer = await self._found(path)
        if answer is None:
            return None
        try:
            told = answer.json()
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise self._wrong(path, f"a JSON object, got {answer.text[:40]!r}")
        return told

    async def _text(self, path: str) -> str | None:
        answer = await self._found(path)
        return None if answer is None else answer.text.strip()

    async def _found(self, path: str) -> httpx.Response | None:
        """None: there is no such thing, which is an answer."""
        answer = await self._asked(path)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            self._token = None
            answer = await self._asked(path)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if answer.status_code != httpx.codes.OK:
            raise self._wrong(path, f"200 or 404, got {answer.status_code}")
        return answer

    async def _asked(self, path: str) -> httpx.Response:
        headers = {"X-aws-ec2-metadata-token": await self._valid_token()}
        return await self._sent("GET", path, headers)

    async def _valid_token(self) -> str:
        now_s = self._clock.now()
        if self._token is None or now_s - self._token_at_s > TOKEN_S / 2:
            headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_S)}
            answer = await self._sent("PUT", "api/token", headers)
            if answer.status_code != httpx.codes.OK:
                raise self._wrong("api/token", f"a token, got {answer.status_code}; {_HINT}")
            self._token, self._token_at_s = answer.text.strip(), now_s
        return self._token

    async def _sent(self, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
        try:
            return await self._client.request(method, f"{self._url}/latest/{path}", headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            message = (
                f"EC2's metadata service at {self._url} does not answer ({why(error)}): {_HINT}"
            )
            raise CloudError(message, trouble="unreachable") from None

    def _wrong(self, path: str, said: str) -> CloudError:
        return CloudError(f"EC2's metadata service, {path}: expected {said}")


def _instant(text: object) -> datetime | None:
    """
    >>> _instant("2026-01-31T08:22:00Z"), _instant("soon"), _instant(None)
    (datetime.datetime(2026, 1, 31, 8, 22, tzinfo=datetime.timezone.utc), None, None)
    """
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
