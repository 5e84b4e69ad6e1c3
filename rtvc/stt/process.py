"""The engine's process as its parent sees it: a pipe, a reader and a sender thread."""

import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing import Pipe

import psutil

from rtvc.config import child_environment
from rtvc.stt.environment import engine_environment
from rtvc.stt.messages import FromProcess, ToProcess


class EngineProcess:
    """A fresh interpreter running `rtvc.stt.child`.

    Not `multiprocessing.Process`: that imports the parent's main module again and leaves its
    resource tracker behind. `start` and `stop` block: call them in a thread.
    """

    def __init__(
        self, on_message: Callable[[FromProcess], None], on_exit: Callable[[int | None], None]
    ) -> None:
        """Both are called on the reader thread; the exit code is None where it is not known yet."""
        self._on_message = on_message
        self._on_exit = on_exit
        # Bounded by the engine, which hands out one batch more than there are workers at most.
        self._outbox: queue.SimpleQueue[ToProcess | None] = queue.SimpleQueue()
        self._starting_or_stopping = threading.Lock()
        self._stopped = False
        self._process: subprocess.Popen[bytes] | None = None
        self._reader = threading.Thread(target=self._read, name="engine reader", daemon=True)
        self._sender = threading.Thread(target=self._write, name="engine sender", daemon=True)

    @property
    def pid(self) -> int | None:
        """Process id; None before `start` and after `stop`."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Spawn the process; does nothing after `stop`."""
        with self._starting_or_stopping:
            if not self._stopped:
                self._spawn()

    def send(self, message: ToProcess) -> None:
        """Returns at once; the sender thread does the copying."""
        self._outbox.put(message)

    def stop(self) -> int | None:
        """End the process, by force if need be. Returns its exit code; safe to call twice."""
        with self._starting_or_stopping:
            self._stopped = True
            if self._process is None:
                return None
            exit_code = _ended(self._process)
            self._outbox.put(None)
            self._reader.join()
            self._sender.join()
            self._connection.close()
            self._process = None
            return exit_code

    def _spawn(self) -> None:
        # Only the process's end of the pipe is inherited: no socket, no file.
        self._connection, childs_end = Pipe()
        with childs_end:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-X",
                    "faulthandler",
                    "-m",
                    "rtvc.stt.child",
                    str(childs_end.fileno()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[childs_end.fileno()],
                process_group=0,
                env=child_environment(**engine_environment()),
            )
        self._reader.start()
        self._sender.start()

    def _read(self) -> None:
        try:
            while True:
                self._on_message(self._connection.recv())
        except (EOFError, OSError):
            self._on_exit(self._exit_code())

    def _exit_code(self) -> int | None:
        """Of a process that has just closed its pipe, most likely by ending."""
        if self._process is None:
            return None
        try:
            return self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            return None

    def _write(self) -> None:
        while (message := self._outbox.get()) is not None:
            try:
                self._connection.send(message)
            except OSError:  # the process is gone; the reader says so
                return


def resident_bytes(pid: int | None) -> int | None:
    """Memory of a process; None where there is none."""
    try:
        return None if pid is None else int(psutil.Process(pid).memory_info().rss)
    except (psutil.Error, OSError):  # no more files may be opened: not worth a session
        return None


def _ended(process: subprocess.Popen[bytes]) -> int:
    """Its own exit code where it had ended by itself."""
    try:
        return process.wait(0.05)
    except subprocess.TimeoutExpired:
        # It takes no notice of SIGTERM, and has nothing to put away.
        process.kill()
        return process.wait()
