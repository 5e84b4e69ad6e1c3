"""A transcriber that says what it was told to: for tests, demonstrations and faults."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

from rtvc.errors import ModelError, TranscriberError
from rtvc.stt.guards import is_silent
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, Hypothesis, Job, ReportProgress

HANG_S = 3600.0


class Fault(StrEnum):
    """What can go wrong in the engine's process; given as a job's prompt."""

    CRASH = "!crash"
    HANG = "!hang"
    RAISE = "!raise"
    EXHAUST = "!exhaust"
    """Use up the memory that the process may have."""


class ScriptedTranscriber:
    """Answers with its script after a fixed delay; silence gets no text.

    A callable script must be importable (a function of a module), as it travels to the engine's
    process. Jobs whose prompt is a `Fault` bring that fault about.
    """

    def __init__(
        self,
        text: str | Callable[[Job], str] = "hello there",
        *,
        delay_s: float = 0.0,
        load_s: float = 0.0,
        load_error: str | None = None,
        faults: Mapping[str, Fault] | None = None,
    ) -> None:
        self.device = "cpu"
        self.compute_type: str | None = None
        self._text = text
        self._delay_s = delay_s
        self._load_s = load_s
        self._load_error = load_error
        self._faults = {fault.value: fault for fault in Fault} if faults is None else dict(faults)

    def load(self) -> None:
        _sleep(self._load_s)
        if self._load_error is not None:
            raise ModelError(self._load_error)

    def warm_up(self, report: ReportProgress) -> None:
        report(0.5, "warming up")

    def transcribe(self, jobs: Sequence[Job]) -> list[Hypothesis]:
        for job in jobs:
            self._suffer(job)
        _sleep(self._delay_s)
        return [self._answer(job, len(jobs)) for job in jobs]

    def _suffer(self, job: Job) -> None:
        fault = self._faults.get(job.prompt or "")
        if fault is Fault.CRASH:
            os._exit(70)
        if fault is Fault.HANG:
            _sleep(HANG_S)
        if fault is Fault.EXHAUST:
            _use_up_memory()
        if fault is Fault.RAISE:
            raise TranscriberError("the script says: raise")

    def _answer(self, job: Job, batch_size: int) -> Hypothesis:
        silent = is_silent(job.audio)
        text = "" if silent else self._script(job)
        return Hypothesis(
            text=text,
            audio_s=len(job.audio) / SAMPLE_RATE_HZ,
            queue_wait_s=0.0,
            features_s=0.0,
            encode_s=0.0,
            decode_s=self._delay_s,
            batch_size=batch_size,
            tokens=len(text.split()),
            guards=("silence",) if silent else (),
        )

    def _script(self, job: Job) -> str:
        return self._text if isinstance(self._text, str) else self._text(job)


def _use_up_memory() -> None:
    """Against a limit of its own, as a container would set one."""
    import resource  # not on every system

    more = 1 << 28
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123
        now = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more, now + more))
    bytearray(4 * more)


def _sleep(seconds: float) -> None:
    if seconds > 0:
        threading.Event().wait(seconds)
