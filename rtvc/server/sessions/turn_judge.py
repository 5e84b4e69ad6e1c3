"""Carries a session's pauses to the turn model and its judgements back."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from rtvc.errors import ModelError
from rtvc.server.services import Services
from rtvc.voice.session import JudgeTurn, VoiceEvent, VoiceSession

_log = logging.getLogger(__name__)


class TurnJudge:
    """One session's questions to the turn model: one at a time, and the latest pause wins."""

    def __init__(
        self,
        services: Services,
        voice: VoiceSession,
        *,
        handle: Callable[[Sequence[VoiceEvent]], None],
        on_end: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self._services = services
        self._voice = voice
        self._handle = handle
        self._on_end = on_end
        self._next: JudgeTurn | None = None
        self._asking: asyncio.Task[None] | None = None

    def ask(self, request: JudgeTurn) -> None:
        """Bring the model's answer to the voice session; replaces a request that still waits."""
        self._next = request
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all(), name="judge-turn")
            self._asking.add_done_callback(self._on_end)

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    async def _ask_all(self) -> None:
        try:
            while self._next is not None:
                request, self._next = self._next, None
                probability = await self._probability(request)
                now_s = self._services.clock.now()
                key = (request.item_id, request.revision)
                self._handle(self._voice.turn_judged(*key, probability, now_s))
        finally:
            self._asking = None

    async def _probability(self, request: JudgeTurn) -> float | None:
        """None: there is no judgement to be had, and the session falls back to a silence."""
        model = self._services.turn_model
        if model is None:
            return None
        try:
            return await self._services.hearing.run(partial(model.completeness, request.audio))
        except ModelError as error:
            _log.warning("a turn was not judged: %s", error)
            return None
