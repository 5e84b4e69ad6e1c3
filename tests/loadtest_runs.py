"""Runs the real `rtvc loadtest` against a server of the tests, each in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtvc.config import child_environment
from rtvc.record import Run, load_run

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Serving:
    """A server of the tests that is running."""

    process: subprocess.Popen[str]
    port: int

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serving(module: str, *arguments: str) -> Iterator[Serving]:
    """A module of the tests that prints its port."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Serving(process, int(process.stdout.readline()))
        finally:
            process.kill()


@dataclass(frozen=True, slots=True)
class Done:
    """A load test that has ended."""

    code: int
    said: str
    errors: str
    folder: Path

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.said)
        return found

    @property
    def run(self) -> Run:
        return load_run(self.folder)

    @property
    def page(self) -> str:
        return (self.folder / "report.html").read_text("utf-8")


def start_loadtest(
    url: str, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    command = [
        *(sys.executable, "-m", "rtvc", "loadtest", url, "--protocol", "openai-realtime"),
        *("--out", str(folder), "--warm-up", "0", "--json", *arguments),
    ]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=child_environment(**(environment or {})),
    )


def finish(process: subprocess.Popen[str], folder: Path, within_s: float = 180) -> Done:
    with process:
        said, errors = process.communicate(timeout=within_s)
    return Done(process.returncode, said, errors, folder)


def loadtest(
    url: str, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> Done:
    process = start_loadtest(url, folder, *arguments, environment=environment)
    return finish(process, folder)
