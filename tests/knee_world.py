"""A load generator and the server of `knee_server` on a virtual clock: orders in, rows out.

The search sees what it sees of a real run, second by second, and nothing takes any time.
"""

import heapq
import random
from collections.abc import Callable
from pathlib import Path

from rtvc.loadtest.search.course import Course
from rtvc.loadtest.search.rules import StepRules
from rtvc.record import Run, StepRow, TurnRow
from rtvc.slo import Capacity
from tests.knee_server import Queue, Rhythm, Service
from tests.synthetic_run import a_connection, a_manifest, a_second, a_turn

TOLD_AFTER_S = 1.0
"""A turn is told so long after its final, in case that more comes."""


class World:
    """Speakers who come and go as ordered, and what became of what they said."""

    def __init__(
        self,
        rhythm: Rhythm,
        service: Service,
        seed: int,
        lag: Callable[[int], str] = lambda speakers: "2:100",
    ) -> None:
        """`lag` is the generator's own histogram of a second, by the number of speakers."""
        self.run = Run(Path("nowhere"), a_manifest(settings={}), [], [], [], [], [])
        self.at_s = 0.0
        self._rhythm = rhythm
        self._service = service
        self._queue = Queue(service)
        self._rng = random.Random(f"world/{seed}")
        self._lag = lag
        self._wanted = 0
        self._utterance = 0
        self._talking: set[int] = set()
        self._pauses: dict[int, float] = {}
        self._ends: list[tuple[float, int, float]] = []
        self._known: list[tuple[float, int, TurnRow]] = []
        self.second()

    def order(self, speakers: int) -> None:
        """New ones come within the next seconds; the others finish what they are saying."""
        self._wanted = speakers
        for number in set(range(speakers)) - self._talking:
            self._talking.add(number)
            self.run.connections.append(
                a_connection(number, opened_at_s=self.at_s + 0.1, closed_at_s=None)
            )
            self._speak(number, self.at_s + self._rng.uniform(0.2, 3.0))

    def _speak(self, speaker: int, start_s: float) -> None:
        speech_s, pause_s = self._rng.choice(self._rhythm.utterances)
        heapq.heappush(self._ends, (start_s + speech_s, speaker, start_s))
        self._pauses[speaker] = pause_s

    def second(self) -> None:
        """What is told at the end of the next second."""
        self.at_s += 1.0
        while self._ends and self._ends[0][0] + self._service.hangover_s <= self.at_s:
            end_s, speaker, start_s = heapq.heappop(self._ends)
            self._hear(speaker, start_s, end_s)
            if speaker < self._wanted:
                self._speak(speaker, end_s + self._pauses[speaker])
            else:
                self._talking.discard(speaker)
        while self._known and self._known[0][0] <= self.at_s:
            self.run.turns.append(heapq.heappop(self._known)[2])
        here = len(self._talking)
        self.run.generator.append(a_second(self.at_s, speakers=here, lag_histogram=self._lag(here)))

    def _hear(self, speaker: int, start_s: float, end_s: float) -> None:
        final_s = self._queue.done_at_s(end_s + self._service.hangover_s)
        self._utterance += 1
        turn = a_turn(
            speaker,
            self._utterance,
            start=start_s,
            first_word_end_at_s=start_s + 0.3,
            first_partial_at_s=start_s + 0.5,
            partial_interval_s=0.3,
            speech_end_at_s=end_s,
            final_at_s=final_s,
            transcription_delay_s=final_s - end_s,
            response_latency_s=None,
            reply_expected=False,
        )
        heapq.heappush(self._known, (final_s + TOLD_AFTER_S, self._utterance, turn))

    def forget(self) -> None:
        """As the search does after each step."""
        self.run.turns.clear()
        del self.run.generator[:-1]


def search(
    world: World, rules: StepRules, *, start: int = 1, limit: int = 64
) -> tuple[Capacity, list[StepRow]]:
    """A whole search, and its steps."""
    course, steps = Course(rules, start, limit), list[StepRow]()
    while not course.over:
        world.second()
        for each in course.look(world.run):
            if isinstance(each, StepRow):
                steps.append(each)
                world.forget()
            else:
                world.order(each.speakers)
    return course.answer(), steps
