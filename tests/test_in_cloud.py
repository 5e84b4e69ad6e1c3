"""How a server is joined with its cloud: its settings, how it stands, what it shows."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from rtvc.config import Settings, load_settings
from rtvc.errors import UsageError
from rtvc.server.cloud.figures import Standing
from rtvc.server.cloud.instance import Identity
from rtvc.server.cloud.metadata import ENDPOINT
from rtvc.server.lifecycle import startup
from rtvc.server.lifecycle.in_cloud import join_cloud, leave_cloud, standing
from rtvc.server.lifecycle.reload import Reload
from rtvc.server.services import Services
from rtvc.server.web.app import for_strangers, readiness_body
from rtvc.server.web.documented import ServerState
from rtvc.server.web.scrape import Scraper
from tests.cloud_world import INSTANCE_ID, metadata_service
from tests.servers import free_port
from tests.test_server_realtimevoicechat import World, world

__all__ = ["world"]


def chosen(**cloud: Any) -> Settings:
    return load_settings({"cloud": cloud}, environment={})


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of these tests reaches AWS, whatever credentials there are."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


def stays(deadline_s: float) -> None:
    raise AssertionError(f"told to leave within {deadline_s} s")


# Settings.


def test_a_server_knows_of_no_cloud_unless_it_is_told() -> None:
    assert chosen().cloud.provider == "none"


def test_containers_set_it_by_variables() -> None:
    found = load_settings(
        environment={
            "RTVC_CLOUD_PROVIDER": "aws",
            "RTVC_CLOUD_CAPACITY": "24",
            "RTVC_CLOUD_GROUP": "voice",
            "RTVC_CLOUD_NAMESPACE": "Acme/voice",
        }
    )
    assert (found.cloud.provider, found.cloud.capacity) == ("aws", 24)
    assert (found.cloud.group, found.cloud.namespace) == ("voice", "Acme/voice")


@pytest.mark.parametrize(
    ("cloud", "said"),
    [
        ({"provider": "gcp"}, "cloud.provider: expected 'none' or 'aws', got 'gcp'"),
        ({"namespace": "AWS/EC2"}, "cloud.namespace: expected up to 255 characters"),
        ({"namespace": ""}, "cloud.namespace: expected up to 255 characters"),
        ({"namespace": "x" * 256}, "cloud.namespace: expected up to 255 characters"),
        ({"namespace": "tab\t"}, "cloud.namespace: expected up to 255 characters"),
        ({"publish_every_s": 0.5}, "cloud.publish_every_s"),
        ({"capacity": 0}, "cloud.capacity"),
        ({"idle_before_unprotected_s": -1}, "cloud.idle_before_unprotected_s"),
        ({"deregistration_delay_s": -1}, "cloud.deregistration_delay_s"),
    ],
)
def test_a_wrong_setting_is_explained(cloud: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        chosen(**cloud)
    assert said in str(refused.value)


# How it stands.


def test_how_a_server_stands(world: World) -> None:
    services = world.services
    services.settings = chosen(capacity=5)
    services.admission.max_sessions = 8
    assert standing(services) == Standing("starting", 0, 8, capacity=5)
    services.readiness.update("speech-to-text", "ready", 1.0)
    services.admission.enter()
    world.engine.headroom_sessions = 0.3
    assert standing(services) == Standing("ready", 1, 8, capacity=5, headroom=0.3, closed=True)
    services.readiness.draining = True
    assert standing(services).state == "draining"


def test_who_goes_by_slots_alone_is_not_full_before_they_are_taken(world: World) -> None:
    services = world.services
    services.settings = load_settings({"serve": {"admission": "slots"}}, environment={})
    services.admission.max_sessions = 8
    services.admission.enter()
    world.engine.headroom_sessions = 0.3
    found = standing(services)
    assert (found.headroom, found.closed) == (None, False)


def test_the_boot_is_known_once_both_ends_are(world: World) -> None:
    boot = world.services.metrics.boot
    boot.launched(datetime(2026, 1, 1, 12, 0, tzinfo=UTC))
    assert standing(world.services).boot_to_ready_s is None
    boot.ready(20.0, datetime(2026, 1, 1, 12, 2, tzinfo=UTC))
    assert standing(world.services).boot_to_ready_s == 120.0


# Joining, and what is shown.


async def test_without_a_cloud_nothing_is_begun(world: World) -> None:
    before = asyncio.all_tasks()
    join_cloud(world.services, stays)
    assert world.services.cloud is None
    assert asyncio.all_tasks() == before
    await leave_cloud(world.services, asyncio.Event())
    assert readiness_body(world.services)["instance"] is None


async def test_readiness_names_the_instance_to_who_may_know(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with metadata_service() as service:
        monkeypatch.setenv(ENDPOINT, service.url)
        world.services.settings = chosen(provider="aws")
        join_cloud(world.services, stays)
        cloud = world.services.cloud
        assert cloud is not None
        assert readiness_body(world.services)["instance"] is None
        async with asyncio.timeout(20):
            while cloud.identity is None:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        body = readiness_body(world.services)
        assert body["instance"]["id"] == INSTANCE_ID
        assert body["instance"]["group"] is None
        assert "instance" not in for_strangers(body)
        assert set(ServerState.model_fields) <= set(body)
        await leave_cloud(world.services, asyncio.Event())


async def test_a_machine_that_is_to_end_may_though_something_cannot_be_closed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[asyncio.Event] = []

    async def broken(_: Services) -> None:
        raise OSError("no way")

    async def leave(_: Services, given_up: asyncio.Event) -> None:
        left.append(given_up)

    monkeypatch.setattr(startup, "close", broken)
    monkeypatch.setattr(startup, "leave_cloud", leave)
    reload = Reload(world.services, startup._sources(world.services, None), None)
    given_up = asyncio.Event()
    with pytest.raises(OSError, match="no way"):
        await startup._let_go(world.services, reload, given_up)
    assert left == [given_up]


async def test_what_failed_is_scraped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = world.services.metrics.cloud_failures
    assert b"rtvc_cloud_failures_total{" not in await Scraper(world.services).text()
    monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{free_port()}")
    world.services.settings = chosen(provider="aws")
    join_cloud(world.services, stays)
    async with asyncio.timeout(20):
        while not failures["metadata"]:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    await leave_cloud(world.services, asyncio.Event())
    text = (await Scraper(world.services).text()).decode()
    assert f'rtvc_cloud_failures_total{{call="metadata"}} {failures["metadata"]}' in text
    assert 'rtvc_cloud_failures_total{call="put_metric_data"} 0' in text


async def test_the_boot_is_scraped(world: World) -> None:
    boot = world.services.metrics.boot
    assert b"rtvc_boot_to_ready_seconds{" not in await Scraper(world.services).text()
    identity = Identity("i-1", "t", "z", "r", datetime(2026, 1, 1, 12, 0, tzinfo=UTC))
    boot.ready(20.5, datetime(2026, 1, 1, 12, 2, tzinfo=UTC))
    boot.launched(identity.launched_at)
    text = (await Scraper(world.services).text()).decode()
    assert 'rtvc_boot_to_ready_seconds{since="process"} 20.5' in text
    assert 'rtvc_boot_to_ready_seconds{since="instance"} 120' in text
