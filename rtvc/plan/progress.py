"""What is being simulated, on one line, for whoever waits."""

from types import TracebackType

from rich.console import Console
from rich.status import Status
from rich.text import Text


class Progress:
    """Nothing where nobody watches."""

    def __init__(self, console: Console, *, shown: bool) -> None:
        self._status: Status | None = console.status(Text("simulating")) if shown else None

    def told(self, name: str, sessions: int) -> None:
        """A number of sessions is about to be simulated."""
        if self._status is not None:
            many = "session" if sessions == 1 else "sessions"
            self._status.update(Text(f"{name}: {sessions:,} {many}"))

    def __enter__(self) -> "Progress":
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.stop()
