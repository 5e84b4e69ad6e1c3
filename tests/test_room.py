"""Who gives up a slot when all are taken: sessions that never said anything, and nobody else."""

import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from rtvc.server import room
from rtvc.server.room import SILENT_S, longest_silent
from rtvc.server.web.app import build_app
from tests.test_server_realtimevoicechat import World, world
from tests.test_stopping import Session

__all__ = ["world"]


def session(idle_s: float, *, silent: bool = True) -> Session:
    made = Session(idle_s=idle_s)
    made.silent = silent
    return made


def test_the_longest_silent_one_goes_first(world: World) -> None:
    sessions = world.services.sessions
    assert longest_silent(world.services) is None
    sessions["spoke"] = session(10 * SILENT_S, silent=False)
    sessions["new"] = session(0.9 * SILENT_S)
    assert longest_silent(world.services) is None
    sessions["silent"], sessions["longer"] = session(SILENT_S), session(2 * SILENT_S)
    assert longest_silent(world.services) is sessions["longer"]
    sessions["longer"].end(1013, "told already")
    assert longest_silent(world.services) is sessions["silent"]


def test_a_silent_session_gives_its_place_to_a_newcomer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SILENT_S", 0.0)
    world.services.readiness.update("speech-to-text", "ready", 1.0)
    with (
        TestClient(build_app(world.services)) as client,
        client.websocket_connect("/ws") as first,
        client.websocket_connect("/ws") as second,
    ):
        with pytest.raises(WebSocketDisconnect) as gone:
            first.receive_text()
        assert gone.value.code == 1013
        assert "never said anything" in gone.value.reason
        second.send_text('{"type": "tts_start"}')
        # Once it is heard of, the place is its own.
        while next(iter(world.services.sessions.values())).silent:
            client.get("/healthz")
        with pytest.raises(WebSocketDenialResponse), client.websocket_connect("/ws"):
            pass
    assert world.services.admission.refused == 1


def test_nobody_gives_up_a_place_where_places_are_not_what_is_missing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SILENT_S", 0.0)
    world.services.readiness.update("speech-to-text", "ready", 1.0)
    world.services.admission.max_sessions = 2
    with (
        TestClient(build_app(world.services)) as client,
        client.websocket_connect("/ws"),
    ):
        world.engine.headroom_sessions = 0.4
        with pytest.raises(WebSocketDenialResponse), client.websocket_connect("/ws"):
            pass
        (only,) = world.services.sessions.values()
        assert not only.ending


def test_a_session_that_spoke_keeps_its_place(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SILENT_S", 1e6)
    world.services.readiness.update("speech-to-text", "ready", 1.0)
    with (
        TestClient(build_app(world.services)) as client,
        client.websocket_connect("/ws"),
        pytest.raises(WebSocketDenialResponse) as full,
        client.websocket_connect("/ws"),
    ):
        pass
    assert full.value.status_code == 503
