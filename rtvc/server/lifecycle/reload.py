"""SIGHUP: the settings, the certificate and the keys are read again, and nobody is cut off.

All of it is read and checked before any of it is used, so a mistake in a file changes nothing.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from rtvc.config import Settings
from rtvc.errors import RtvcError
from rtvc.server.lifecycle.changes import Change, changes, in_effect, told
from rtvc.server.lifecycle.tls import Certificates
from rtvc.server.replies.llm import LanguageModel
from rtvc.server.replies.tts import SpeechSynthesizer
from rtvc.server.services import Services
from rtvc.stt.sharing import aim

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a reload finds what it puts in place."""

    settings: Callable[[], Settings]
    """Reads them again: file, environment, flags. Raises UsageError."""
    llm: Callable[[Settings], LanguageModel]
    """Builds what writes replies."""
    tts: Callable[[Settings], SpeechSynthesizer]
    """Builds what speaks them. Raises UsageError."""
    spare: Callable[[Settings], SpeechSynthesizer | None]
    """Builds what speaks in its place; None: it needs nobody."""


@dataclass(slots=True)
class _New:
    """What was read and built, and is not in use yet."""

    settings: Settings
    """As they will be in effect."""
    found: list[Change]
    """What differs, settings that need a restart among them."""
    certificate: ssl.SSLContext | None = None
    """None: the server speaks plain http."""
    llm: LanguageModel | None = None
    """None: stays."""
    tts: SpeechSynthesizer | None = None
    """None: stays."""


class Reload:
    """Reads again what can change while the server runs."""

    def __init__(
        self, services: Services, sources: Sources, certificates: Certificates | None
    ) -> None:
        self._services = services
        self._sources = sources
        self._certificates = certificates
        self._one_at_a_time = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self._retired: list[LanguageModel | SpeechSynthesizer] = []

    async def again(self) -> bool:
        """Whether what was read is in use now; if not, all is as it was. One line is logged."""
        async with self._one_at_a_time:
            new: _New | None = None
            try:
                new = await asyncio.to_thread(self._read)
                await asyncio.to_thread(self._build, new)
                # Last, as it is in use at once.
                revoked = list(self._services.access.reload())
            except (RtvcError, OSError) as error:
                if new is not None:
                    await _close(new.llm, new.tts)
                self._services.metrics.reloads["refused"] += 1
                _log.error("reload refused, nothing has changed: %s", error)
                return False
            self._use(new)
        self._services.metrics.reloads["applied"] += 1
        _log.warning("reloaded: %s%s", told(new.found), _gone(revoked))
        self._services.readiness.changed()
        return True

    async def close(self) -> None:
        """Let go of what still speaks for replies that began before a reload."""
        for task in self._retiring:
            task.cancel()
        if self._retiring:
            await asyncio.wait(list(self._retiring))
        await _close(*self._retired)

    def _read(self) -> _New:
        """In a thread, as files are read."""
        services = self._services
        wanted = services.faults.settings(self._sources.settings())
        found = changes(services.settings, wanted)
        new = _New(in_effect(services.settings, wanted), found)
        if self._certificates is not None:
            new.certificate = self._certificates.read()
        return new

    def _build(self, new: _New) -> None:
        """In a thread, as a synthesizer looks for its voice."""
        touched = {change.section for change in new.found}
        if "llm" in touched:
            new.llm = self._sources.llm(new.settings)
        if "tts" in touched:
            new.tts = self._sources.tts(new.settings)

    def _use(self, new: _New) -> None:
        """Nothing here can fail: all of it or, before, none."""
        services = self._services
        if self._certificates is not None and new.certificate is not None:
            self._certificates.use(new.certificate)
        services.settings = new.settings
        services.admission.max_sessions = new.settings.serve.max_sessions
        services.access.use(new.settings.access)
        aim(services.engine, new.settings.stt.delay_target_ms / 1000)
        if new.llm is not None:
            services.llm, old = new.llm, services.llm
            services.breakers.llm.replaced()
            self._retire(old)
        if new.tts is not None:
            services.tts, spoke = new.tts, services.tts
            services.breakers.tts.replaced()
            services.spare_voice = services.spare_voice or self._sources.spare(new.settings)
            self._retire(spoke)

    def _retire(self, old: LanguageModel | SpeechSynthesizer) -> None:
        """Close what is not used for new replies once those that use it are over."""
        users = [task for one in self._services.sessions.values() for task in one.replies]
        self._retired.append(old)
        task = asyncio.create_task(self._close_after(users, old), name="retire")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _close_after(
        self, users: list[asyncio.Task[None]], old: LanguageModel | SpeechSynthesizer
    ) -> None:
        if users:
            await asyncio.wait(users)
        self._retired.remove(old)
        await _close(old)


async def _close(*backends: LanguageModel | SpeechSynthesizer | None) -> None:
    for backend in backends:
        if backend is not None:
            with suppress(RtvcError):
                await backend.close()


def _gone(revoked: Iterable[str]) -> str:
    names = ", ".join(sorted(revoked))
    return f"; keys that are no more, with their sessions: {names}" if names else ""
