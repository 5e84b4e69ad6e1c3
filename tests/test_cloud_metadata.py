"""EC2's metadata service, asked as it wants to be asked."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import pytest

from rtvc.clock import FakeClock
from rtvc.errors import CloudError
from rtvc.server.cloud import metadata
from rtvc.server.cloud.instance import Identity, SpotNotice
from rtvc.server.cloud.metadata import ENDPOINT, TOKEN_S, Metadata
from tests.cloud_world import (
    DOCUMENT,
    INSTANCE_ID,
    REBALANCE,
    REGION,
    SPOT,
    TARGET_STATE,
    MetadataService,
    document,
    metadata_service,
)
from tests.servers import free_port


@pytest.fixture
def service() -> Iterator[MetadataService]:
    with metadata_service() as running:
        yield running


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def asked(service: MetadataService, clock: FakeClock) -> AsyncIterator[Metadata]:
    made = Metadata(clock, service.url)
    yield made
    await made.close()


async def trouble(of: Metadata) -> CloudError:
    with pytest.raises(CloudError) as raised:
        await of.identity()
    return raised.value


async def test_who_the_instance_is(asked: Metadata) -> None:
    launched_at = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)
    identity = Identity(INSTANCE_ID, "g6.xlarge", "eu-west-1a", REGION, launched_at)
    assert await asked.identity() == identity
    assert identity.to_wire("voice") == {
        "provider": "aws",
        "id": INSTANCE_ID,
        "type": "g6.xlarge",
        "zone": "eu-west-1a",
        "region": REGION,
        "group": "voice",
    }


@pytest.mark.parametrize("told", [None, "", "long ago"])
async def test_a_launch_that_is_not_told_is_unknown(
    asked: Metadata, service: MetadataService, told: str | None
) -> None:
    service.texts[DOCUMENT] = document(pendingTime=told)
    assert (await asked.identity()).launched_at is None


async def test_what_is_not_there_is_an_answer(asked: Metadata) -> None:
    assert await asked.target_state() is None
    assert await asked.spot_notice() is None
    assert not await asked.rebalance_recommended()


async def test_what_is_there(asked: Metadata, service: MetadataService) -> None:
    service.texts |= {
        TARGET_STATE: "Terminated\n",
        SPOT: '{"action": "stop", "time": "2026-01-31T08:22:00Z"}',
        REBALANCE: '{"noticeTime": "2026-01-31T08:00:00Z"}',
    }
    assert await asked.target_state() == "Terminated"
    assert await asked.spot_notice() == SpotNotice("stop", datetime(2026, 1, 31, 8, 22, tzinfo=UTC))
    assert await asked.rebalance_recommended()


async def test_one_token_is_good_for_many_questions(
    asked: Metadata, service: MetadataService
) -> None:
    for _ in range(5):
        await asked.target_state()
    assert service.made == 1
    assert service.asked == [TARGET_STATE] * 5


async def test_a_token_is_renewed_at_half_of_its_life(
    asked: Metadata, service: MetadataService, clock: FakeClock
) -> None:
    await asked.target_state()
    clock.advance(TOKEN_S / 2)
    await asked.target_state()
    assert service.made == 1
    clock.advance(1)
    await asked.target_state()
    assert service.made == 2


async def test_a_token_that_is_refused_is_replaced_once(
    asked: Metadata, service: MetadataService
) -> None:
    await asked.identity()
    service.tokens.clear()
    assert (await asked.identity()).instance_id == INSTANCE_ID
    assert service.made == 2


async def test_a_service_that_takes_no_token_is_not_asked_for_ever(
    asked: Metadata, service: MetadataService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "tokens", _Forgetful())
    error = await trouble(asked)
    assert "expected 200 or 404, got 401" in str(error)
    assert service.made == 2


class _Forgetful(set[str]):
    """Keeps nothing."""

    def add(self, element: str) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<html>", "expected a JSON object, got '<html>'"),
        ("[]", "expected a JSON object, got '[]'"),
        ('{"instanceId": "i-1"}', "expected a document with instanceType, got none"),
        (None, "expected an identity document, got 404"),
    ],
)
async def test_a_document_that_is_none_is_explained(
    asked: Metadata, service: MetadataService, text: str | None, said: str
) -> None:
    service.texts = {} if text is None else {DOCUMENT: text}
    error = await trouble(asked)
    assert said in str(error)
    assert error.trouble == "other"


async def test_a_spot_notice_without_an_instant_is_explained(
    asked: Metadata, service: MetadataService
) -> None:
    service.texts[SPOT] = '{"action": "terminate"}'
    with pytest.raises(CloudError, match=r"expected a time such as .*, got None"):
        await asked.spot_notice()


async def test_metadata_that_is_switched_off_says_so(
    asked: Metadata, service: MetadataService
) -> None:
    service.status = 403
    said = str(await trouble(asked))
    assert "expected a token, got 403" in said
    assert "metadata service on?" in said


async def test_off_ec2_it_says_what_is_missing() -> None:
    asked = Metadata(FakeClock(), f"http://127.0.0.1:{free_port()}")
    error = await trouble(asked)
    await asked.close()
    assert error.trouble == "unreachable"
    assert "is this an EC2 instance" in str(error)
    assert "a container with a network of its own" in str(error)
    assert "http_put_response_hop_limit" in str(error)


async def test_a_service_that_does_not_answer_is_given_up(
    service: MetadataService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "_ANSWER_S", 0.2)
    service.open.clear()
    asked = Metadata(FakeClock(), service.url)
    assert (await trouble(asked)).trouble == "unreachable"
    await asked.close()


async def test_an_address_that_is_none_is_explained() -> None:
    asked = Metadata(FakeClock(), "169.254.169.254")
    assert (await trouble(asked)).trouble == "unreachable"
    await asked.close()


async def test_the_environment_may_name_another_address_and_no_proxy_is_asked(
    service: MetadataService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENDPOINT, f"{service.url}/")
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    asked = Metadata(FakeClock())
    assert (await asked.identity()).instance_id == INSTANCE_ID
    await asked.close()
