"""The engine's process: loads one transcriber and answers batches with a few threads.

Run as `python -m rtvc.stt.child FD`, where FD is the inherited end of the pipe. The main thread
does nothing but read the pipe, so that the process ends with its parent whatever the model does.
"""

import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import cast

from rtvc.clock import Clock, SystemClock
from rtvc.errors import ModelError, TranscriberError
from rtvc.stt.arranging import Arranger
from rtvc.stt.calibration import Tunable
from rtvc.stt.messages import Answered, Failed, FromProcess, Load, LoadFailed, Progress, Ready, Work
from rtvc.stt.transcriber import Transcriber

LENGTHS_SHARE = 0.9
"""Of the progress of warming up, where all lengths of audio are brought."""


class Child:
    """One transcriber, its worker threads, and the pipe to the parent."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._sending = threading.Lock()
        # Bounded by the parent, which hands out one batch more than there are workers at most.
        self._work: queue.SimpleQueue[tuple[Work, float]] = queue.SimpleQueue()

    def run(self) -> None:
        """Read the pipe until the parent is gone, then end at once."""
        try:
            while True:
                self._on_message(self._connection.recv())
        except (EOFError, OSError):
            os._exit(0)

    def _on_message(self, message: Load | Work) -> None:
        if isinstance(message, Work):
            self._work.put((message, self._clock.now()))
            return
        threading.Thread(target=self._load, args=[message], name="load", daemon=True).start()

    def _load(self, load: Load) -> None:
        try:
            transcriber, ready = self._loaded(load)
        except Exception as error:  # noqa: BLE001  native libraries raise anything; the parent decides
            self._send(LoadFailed(_one_line(error)))
            return
        workers = load.workers if ready.calibration is None else ready.calibration.workers
        for number in range(workers):
            worker = threading.Thread(
                target=self._take_work,
                args=[transcriber],
                name=f"worker {number}",
                daemon=True,
            )
            worker.start()
        self._send(ready)

    def _loaded(self, load: Load) -> tuple[Transcriber, Ready]:
        transcriber, calibration = load.transcriber, None
        started_s = self._clock.now()
        self._send(Progress("loading", 0.0, "loading the model"))
        if load.wish is not None:
            arranger = Arranger(cast(Tunable, transcriber), self._clock, self._report)
            calibration = arranger.arrange(load.wish)
            transcriber = arranger.loaded
            started_s = self._clock.now() - arranger.load_s
        else:
            transcriber.load()
        loaded_s = self._clock.now()
        self._send(Progress("warming", 0.0, "warming up"))
        left_out = self._lengths_left_out(transcriber, load.warm_up_audio_s)
        lengths_at_s = self._clock.now()
        done = LENGTHS_SHARE if load.warm_up_audio_s else 0.0
        transcriber.warm_up(lambda part, detail: self._report(done + (1 - done) * part, detail))
        return transcriber, Ready(
            transcriber.device,
            transcriber.compute_type,
            load_s=loaded_s - started_s,
            warm_up_s=self._clock.now() - lengths_at_s,
            calibration=calibration,
            lengths_s=lengths_at_s - loaded_s,
            lengths_left_out=left_out,
        )

    def _lengths_left_out(self, transcriber: Transcriber, audio_s: float) -> int:
        """Warm up all lengths of audio up to that, if any are wished.

        Raises:
            ModelError: that took more than there is.
        """
        if not audio_s:
            return 0
        try:
            return cast(Tunable, transcriber).warm_up_lengths(
                audio_s, lambda part, detail: self._report(LENGTHS_SHARE * part, detail)
            )
        except Exception as error:  # native libraries raise anything
            raise ModelError(
                f"expected to warm up audio of up to {audio_s:g} s, got: {_one_line(error)}; a "
                "smaller warm_up_audio_s or max_batch needs less"
            ) from error

    def _report(self, progress: float, detail: str) -> None:
        self._send(Progress("warming", progress, detail))

    def _take_work(self, transcriber: Transcriber) -> None:
        while True:
            work, received_at_s = self._work.get()
            waited_s = self._clock.now() - received_at_s
            self._send(_answer(transcriber, work, waited_s))

    def _send(self, message: FromProcess) -> None:
        with self._sending:
            self._connection.send(message)


def _answer(transcriber: Transcriber, work: Work, waited_s: float) -> FromProcess:
    try:
        hypotheses = tuple(transcriber.transcribe(work.jobs))
    except Exception as error:  # noqa: BLE001  native libraries raise anything; the parent decides
        return Failed(work.batch_id, _one_line(error), out_of_memory=_is_out_of_memory(error))
    if len(hypotheses) != len(work.jobs):
        wanted = len(work.jobs)
        return Failed(work.batch_id, f"expected {wanted} hypotheses, got {len(hypotheses)}")
    return Answered(work.batch_id, hypotheses, waited_s)


def _is_out_of_memory(error: Exception) -> bool:
    """Python says so with a type of its own, CUDA in words."""
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower()


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"out of memory: {text}" if text else "out of memory"
    return text if isinstance(error, TranscriberError) else f"{type(error).__name__}: {text}"


def main() -> None:
    """Serve the pipe whose descriptor is the only argument."""
    # Ctrl-C reaches the whole terminal, a service manager's SIGTERM its whole control group, while
    # the last finals are still to come: the parent says when this process ends.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.setswitchinterval(0.0005)
    Child(Connection(int(sys.argv[1])), SystemClock()).run()


if __name__ == "__main__":
    main()
