"""The starting gun: the generator processes of one machine begin at one instant of its clock.

Each says when it is ready; whoever started them then names an instant a moment ahead. The
monotonic clock of a machine is the same in all of its processes, so instants that they record
stand on one axis.
"""

import json
from pathlib import Path

AHEAD_S = 0.3
"""From the shot to the start: for everyone to hear of it."""

LISTEN_S = 0.02
"""How often a process that is ready looks for the shot."""


class StartGun:
    """A few files in the private folder of a run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shot = folder / "start.json"

    def ready(self, part: int) -> None:
        """This generator has everything it needs."""
        self._ready_file(part).touch()

    def not_ready(self, parts: int) -> list[int]:
        """Those that are still waited for."""
        return [part for part in range(parts) if not self._ready_file(part).exists()]

    def fire(self, at_s: float) -> None:
        """Name the instant, on the machine's clock."""
        draft = self._shot.with_suffix(".part")
        draft.write_text(json.dumps({"at_s": at_s}), encoding="utf-8")
        draft.replace(self._shot)

    def fired_at_s(self) -> float | None:
        """None before the shot."""
        try:
            return float(json.loads(self._shot.read_text("utf-8"))["at_s"])
        except FileNotFoundError:
            return None

    def _ready_file(self, part: int) -> Path:
        return self._folder / f"ready-{part}"
