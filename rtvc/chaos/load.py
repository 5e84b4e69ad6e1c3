"""Speakers who talk all the while: `rtvc loadtest` as a subprocess, and its clock."""

import subprocess
import sys
from pathlib import Path

import psutil

from rtvc.chaos.judge import Rows
from rtvc.clock import Clock
from rtvc.config import environment_without_settings
from rtvc.errors import RecordError, RtvcError
from rtvc.record import GeneratorRow, RowTail, load_run
from rtvc.summary import load_summary

CROWD = Path(__file__).with_name("crowd.toml")
"""What the speakers do."""

GRACE_S = 30.0
"""A final that comes later than this is lost: a hanging engine is noticed after 10 s."""

STARTING_S = 60.0
"""Longer than the generator takes to start and the report to be written."""


class Load:
    """One load test."""

    def __init__(
        self,
        url: str,
        folder: Path,
        speakers: int,
        duration_s: float,
        seed: int,
        clock: Clock,
        scenario: Path = CROWD,
    ) -> None:
        command = [
            *(sys.executable, "-m", "rtvc", "loadtest", url, "--out", str(folder)),
            *("--speakers", str(speakers), "--duration", f"{duration_s:g}"),
            *("--scenario", str(scenario), "--ramp", "0.5", "--warm-up", "0"),
            *("--grace", f"{GRACE_S:g}", "--seed", str(seed), "--protocol", "openai-realtime"),
        ]
        self.folder = folder
        self._clock = clock
        self._longest_s = duration_s + GRACE_S + STARTING_S
        self._started_s = clock.now()
        self._log = folder.with_name(f"{folder.name}.log")
        self._tail = RowTail(folder, GeneratorRow)
        self._zero_s: float | None = None
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment_without_settings(),
            )

    @property
    def running(self) -> bool:
        """Until it has ended, or has taken longer than any does."""
        late = self._clock.now() > self._started_s + self._longest_s
        return self._child.poll() is None and not late

    @property
    def zero_s(self) -> float:
        """By our clock: when its own began.

        Raises:
            RtvcError: it never told.
        """
        if self._zero_s is None:
            lines = self._log.read_text("utf-8", errors="replace").strip().splitlines()
            said = lines[-1] if lines else "it said nothing"
            raise RtvcError(f"the load test did not begin: {said} (all of it: {self._log})")
        return self._zero_s

    def follow(self) -> None:
        """Call often: each row tells when its clock began at the latest."""
        try:
            rows = self._tail.read()
        except RecordError:
            return
        now_s = self._clock.now()
        for row in rows:
            zero_s = now_s - row.at_s
            self._zero_s = zero_s if self._zero_s is None else min(self._zero_s, zero_s)

    def generators(self) -> list[psutil.Process]:
        """The processes that write what is measured."""
        try:
            children = psutil.Process(self._child.pid).children(recursive=True)
            return [child for child in children if "locust" in child.cmdline()]
        except psutil.Error:
            return []

    def rows(self) -> Rows:
        """What was recorded."""
        run = load_run(self.folder)
        return Rows(tuple(run.turns), tuple(run.attempts))

    def trouble(self) -> str | None:
        """Why the generator's figures prove nothing; None: they do."""
        try:
            generator = load_summary(self.folder).generator
        except RecordError as error:
            return f"{error} (exit code {self._child.poll()}; see {self._log})"
        return None if generator.valid else generator.reason

    def stop(self) -> None:
        """End it, if it has not ended."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(20)
            except subprocess.TimeoutExpired:
                self._child.kill()
        self._child.wait()
