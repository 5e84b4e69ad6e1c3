"""Locust in a process of its own: importing it patches the process.

In a session of its own too: Ctrl-C reaches us, and we ask it to stop in order.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rtvc.config import child_environment
from rtvc.loadtest.spec import LoadSpec
from rtvc.record import without_secrets

LOCUSTFILE = Path(__file__).with_name("locustfile.py")

LOOPBACK = "127.0.0.1"


class LocustProcess:
    """One of them, from start to end."""

    def __init__(self, arguments: Sequence[str], folder: Path, log: Path) -> None:
        """It runs in `folder`; what it says goes to `log`."""
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=_environment(),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def status(self) -> int | None:
        """Exit status; None while it runs."""
        return self._process.poll()

    def insist(self) -> int:
        """End it now, if it has not ended; its exit status."""
        if self._process.poll() is None:
            self._process.kill()
        return self._process.wait()


def _environment() -> dict[str, str]:
    """Without the user's own LOCUST_* settings, which would change the run unseen."""
    ours = child_environment(PYTHONUNBUFFERED="1")
    return {name: value for name, value in ours.items() if not name.startswith("LOCUST_")}


def users_flags(spec: LoadSpec, speakers: int) -> list[str]:
    """Locust's users only stand for the speakers in its figures: who comes when is the spec's.
    Its page is on this machine alone, or there is none."""
    users = ["--users", str(speakers), "--spawn-rate", str(speakers), "--stop-timeout", "5"]
    if spec.web_port is None:
        return ["--headless", *users]
    page = ["--autostart", "--web-host", LOOPBACK, "--web-port", str(spec.web_port)]
    return [*page, "--host", str(without_secrets(spec.url)), *users]
