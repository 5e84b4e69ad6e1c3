"""How sessions are heard: one thread for all, in rounds."""

from collections.abc import Callable

from tests.diagnosis_worlds.faults import Faults
from tests.diagnosis_worlds.kernel import Kernel
from tests.diagnosis_worlds.machine import Processor, Thread
from tests.diagnosis_worlds.world import World

ROUND_S = 0.01
FRAME_S = 0.032

Heard = Callable[[], None]


class Hearing:
    """Takes what waits, together; who asked is told on the event loop when the round is over."""

    def __init__(
        self,
        kernel: Kernel,
        world: World,
        faults: Faults,
        cores: Processor,
        thread: Thread,
        loop: Thread,
    ) -> None:
        self._kernel, self._world, self._faults = kernel, world, faults
        self._cores, self._thread, self._loop = cores, thread, loop
        self._waiting: list[tuple[float, Heard]] = []
        self._busy = False
        self._due = False
        self._began_s = -1.0

    def hear(self, audio_s: float, heard: Heard) -> None:
        """Judge so much audio."""
        self._waiting.append((audio_s, heard))
        if not self._busy and not self._due:
            self._due = True
            self._kernel.at(self._began_s + ROUND_S, self._begin)

    def _begin(self) -> None:
        self._due, self._busy, self._began_s = False, True, self._kernel.now
        requests, self._waiting = self._waiting, []
        audio_s = sum(seconds for seconds, _ in requests)
        done_s = self._thread.finish_s(audio_s * self._world.vad_s + 0.00005)
        if self._faults.hearing_s:
            held_s = audio_s * self._faults.hearing_s
            done_s = self._thread.finish_s(held_s, computing=self._faults.hearing_computes)
        self._kernel.at(done_s, self._end, requests)

    def _end(self, requests: list[tuple[float, Heard]]) -> None:
        self._busy = False
        for _, heard in requests:
            self._loop.call(0.00003, heard)
        if self._waiting and not self._due:
            self._due = True
            self._kernel.at(self._began_s + ROUND_S, self._begin)
