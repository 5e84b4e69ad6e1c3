"""How late the event loop wakes: the sign of something blocking it."""

import asyncio
from collections import deque
from collections.abc import Callable

from rtvc.clock import Clock


class LoopLag:
    """Sleeps `interval_s` again and again and keeps by how much it overslept."""

    def __init__(
        self,
        clock: Clock,
        *,
        interval_s: float = 0.05,
        keep: int = 1200,
        on_lag: Callable[[float], None] | None = None,
    ) -> None:
        """`on_lag` is told every oversleep; None: nobody is."""
        self._clock = clock
        self._interval_s = interval_s
        self._on_lag = on_lag
        self.lags_s: deque[float] = deque(maxlen=keep)
        """Oversleeps, newest last; the last minute by default."""

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            before = self._clock.now()
            await asyncio.sleep(self._interval_s)
            lag_s = max(0.0, self._clock.now() - before - self._interval_s)
            self.lags_s.append(lag_s)
            if self._on_lag is not None:
                self._on_lag(lag_s)

    @property
    def max_s(self) -> float | None:
        """Largest lag kept; None before the first."""
        return max(self.lags_s, default=None)
