"""Settings that are read again: all of them or none, and nobody is cut off."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rtvc.clock import SystemClock
from rtvc.config import AccessSettings, Settings, load_settings
from rtvc.errors import UsageError
from rtvc.server.hearing import Hearing
from rtvc.server.lifecycle.reload import Reload, Sources
from rtvc.server.lifecycle.tls import Certificates, certificate_files
from rtvc.server.replies.llm import Message
from tests.test_server_realtimevoicechat import RecordingLlm, ToneTts, World


class NamedLlm(RecordingLlm):
    """Knows its settings, and whether it was closed."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.name = settings.llm.model
        self.closed = asyncio.Event()

    async def stream(
        self, messages: Sequence[Message], *, max_tokens: int | None
    ) -> AsyncGenerator[str, None]:
        async for word in super().stream(messages, max_tokens=max_tokens):
            assert not self.closed.is_set()
            yield word

    async def close(self) -> None:
        self.closed.set()


class NamedTts(ToneTts):
    """Knows its voice, and whether it was closed; there are voices that nobody has."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.name = str(settings.tts.voice)
        self.closed = asyncio.Event()
        if self.name == "nobody":
            raise UsageError("--voice: expected an espeak-ng voice, got 'nobody'")

    async def close(self) -> None:
        self.closed.set()


class Keys:
    """As `rtvc.server.access` has them."""

    def __init__(self, *revoked: str, error: str | None = None) -> None:
        self._revoked = revoked
        self._error = error
        self.reloads = 0

    def reload(self) -> list[str]:
        self.reloads += 1
        if self._error is not None:
            raise UsageError(self._error)
        return list(self._revoked)

    def use(self, settings: AccessSettings) -> None:
        self.settings = settings


class Server:
    """A world whose settings file the test writes."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.services = world.services
        self.file = folder / "rtvc.toml"
        self.flags: dict[str, dict[str, Any]] = {}
        self.write("")
        self.certificates: Certificates | None = None
        self.built: list[NamedLlm] = []
        self.services.llm = self.llm = NamedLlm(self.services.settings)
        self.services.tts = self.tts = NamedTts(self.services.settings)

    def write(self, text: str) -> None:
        self.file.write_text(text, "utf-8")

    def read(self) -> Settings:
        return load_settings(self.flags, toml=self.file, environment={})

    async def reload(self) -> bool:
        sources = Sources(self.read, self._new_llm, NamedTts, spare=lambda _: None)
        reload = Reload(self.services, sources, self.certificates)
        try:
            return await reload.again()
        finally:
            self._reloads = reload

    def _new_llm(self, settings: Settings) -> NamedLlm:
        self.built.append(NamedLlm(settings))
        return self.built[-1]

    async def close(self) -> None:
        await self._reloads.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with closing(Hearing(SystemClock())) as hearing:
        yield Server(World(hearing), tmp_path)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_what_can_change_does_and_what_cannot_is_told(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.write("[serve]\nmax_sessions = 7\nport = 81\n[turn]\nsilence_ms = 700\n")
    assert await server.reload()
    services = server.services
    assert services.admission.max_sessions == services.settings.serve.max_sessions == 7
    assert services.turn.silence_ms == 700
    assert services.settings.serve.port == 8000
    (record,) = caplog.records
    said = record.getMessage()
    assert "serve.max_sessions 32 → 7" in said
    assert "only after a restart: serve.port 8000 → 81" in said
    assert services.metrics.reloads == {"applied": 1, "refused": 0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[serve]\nmax_sessions = 0\n", "[serve] max_sessions"),
        ("[serve]\nmax_sesions = 3\n", "did you mean max_sessions"),
        ("[serve\n", "not valid TOML"),
        ("[turn]\nsilence_ms = 1\n[tts]\nvoice = 'nobody'\n", "espeak-ng voice"),
        ("[turn]\nsilence_ms = 1\n[llm]\napi_key = ['sk-secret']\n", "llm"),
    ],
)
async def test_a_mistake_changes_nothing_and_is_told_in_one_line(
    server: Server, caplog: pytest.LogCaptureFixture, text: str, said: str
) -> None:
    before = server.services.settings
    server.write(text)
    assert not await server.reload()
    assert server.services.settings is before
    assert (server.services.llm, server.services.tts) == (server.llm, server.tts)
    (record,) = caplog.records
    assert "nothing has changed" in record.getMessage()
    assert said in record.getMessage()
    assert "secret" not in record.getMessage()
    assert "\n" not in record.getMessage()
    assert server.services.metrics.reloads == {"applied": 0, "refused": 1}


async def test_a_file_that_is_gone_changes_nothing(server: Server) -> None:
    server.file.unlink()
    assert not await server.reload()


async def test_flags_go_before_the_file_again(server: Server) -> None:
    server.flags = {"serve": {"max_sessions": 3}}
    server.write("[serve]\nmax_sessions = 7\n")
    assert await server.reload()
    assert server.services.admission.max_sessions == 3


async def test_the_same_settings_leave_the_backends_alone(server: Server) -> None:
    assert await server.reload()
    assert (server.services.llm, server.services.tts) == (server.llm, server.tts)
    assert not server.llm.closed.is_set()


async def test_new_replies_come_from_the_new_model_and_old_ones_are_finished(
    server: Server,
) -> None:
    server.llm.go_on.clear()
    async with server.world.page() as page:
        page.speak(1.0)
        page.pause(1.0)
        await page.socket.until("tts_chunk")
        server.write("[llm]\nmodel = 'another'\n[tts]\nvoice = 'alice'\n")
        assert await server.reload()
        new = server.services.llm
        assert (new.name, server.services.tts.name) == ("another", "alice")
        await asyncio.sleep(0.05)
        assert not server.llm.closed.is_set()
        assert not server.tts.closed.is_set()
        server.llm.go_on.set()
        await page.socket.until("final_assistant_answer")
        expected = "One two three. Four five six."
        assert page.socket.contents("final_assistant_answer") == [expected]
        await until(lambda: server.llm.closed.is_set() and server.tts.closed.is_set())
        page.pause(3.0)
        page.speak(1.0)
        page.pause(1.0)
        await page.socket.until("final_user_request", count=2)
        assert isinstance(new, NamedLlm)
        await until(lambda: len(new.asked) == 1)


async def test_without_replies_the_old_ones_are_closed_at_once(server: Server) -> None:
    server.write("[llm]\nmodel = 'another'\n")
    assert await server.reload()
    async with asyncio.timeout(10):
        await server.llm.closed.wait()
    assert not server.tts.closed.is_set()


async def test_a_server_that_stops_closes_those_that_still_speak(server: Server) -> None:
    server.llm.go_on.clear()
    async with server.world.page() as page:
        page.speak(1.0)
        page.pause(1.0)
        await page.socket.until("tts_chunk")
        server.write("[llm]\nmodel = 'another'\n")
        assert await server.reload()
        await server.close()
        assert server.llm.closed.is_set()
        page.session.end(1001, "over", after_final=False)


async def test_an_open_session_keeps_what_it_began_with(server: Server) -> None:
    server.write("[stt]\nhotwords = 'Ada'\n")
    async with server.world.page() as early:
        assert await server.reload()
        early.speak(1.0)
        early.pause(1.0)
        await early.socket.until("final_user_request")
    assert {job.prompt for job in server.world.engine.jobs} == {None}
    async with server.world.page() as late:
        late.speak(1.0)
        late.pause(1.0)
        await late.socket.until("final_user_request")
    assert server.world.engine.jobs[-1].prompt == "Ada"


async def test_the_keys_are_read_again_and_who_lost_theirs_is_named(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    keys = Keys("bob", "alice")
    server.services = WithAccess(server.services, keys)  # type: ignore[assignment]
    assert await server.reload()
    assert keys.reloads == 1
    assert "keys that are no more, with their sessions: alice, bob" in caplog.text


async def test_keys_that_cannot_be_read_leave_all_as_it_was(server: Server) -> None:
    before = server.services.settings
    server.write("[serve]\nmax_sessions = 7\n[llm]\nmodel = 'another'\n")
    server.services = WithAccess(server.services, Keys(error="line 3"))  # type: ignore[assignment]
    assert not await server.reload()
    assert server.services.settings is before
    assert server.services.llm is server.llm


@pytest.mark.parametrize("wrong", ["voice", "keys"])
async def test_what_was_built_for_nothing_is_closed(server: Server, wrong: str) -> None:
    server.write(
        "[llm]\nmodel = 'another'\n" + ("[tts]\nvoice = 'nobody'\n" if wrong == "voice" else "")
    )
    if wrong == "keys":
        faulty = WithAccess(server.services, Keys(error="line 3"))
        server.services = faulty  # type: ignore[assignment]
    assert not await server.reload()
    (built,) = server.built
    assert built.closed.is_set()
    assert not server.llm.closed.is_set()


async def test_a_bad_certificate_leaves_all_as_it_was(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    files, other = (
        certificate_files("self-signed", tmp_path / name, "127.0.0.1", SystemClock())
        for name in "ab"
    )
    server.certificates = Certificates(files)
    server.write("[serve]\nmax_sessions = 7\n")
    shutil.copy(other.certificate, files.certificate)
    assert not await server.reload()
    assert server.services.admission.max_sessions == 1
    shutil.copy(other.key, files.key)
    assert await server.reload()
    assert server.services.admission.max_sessions == 7


class WithAccess:
    """Services that have somebody at the door."""

    def __init__(self, services: Any, access: Keys) -> None:
        self._services = services
        self.access = access

    def __getattr__(self, name: str) -> Any:
        return getattr(self._services, name)
