"""How long to wait after a failure: longer each time, and never all instances at once."""

import random


class Backoff:
    """Doubles from `first_s` to `most_s`; of that, somewhere in the upper half.

    >>> backoff = Backoff(1.0, 4.0, random.Random(0))
    >>> [0.5 <= backoff.failed() <= 1, 1 <= backoff.failed() <= 2, 2 <= backoff.failed() <= 4]
    [True, True, True]
    """

    def __init__(self, first_s: float, most_s: float, rng: random.Random | None = None) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._rng = rng or random.Random()
        self._next_s = first_s

    def failed(self) -> float:
        """Seconds until the next attempt."""
        wait_s, self._next_s = self._next_s, min(2 * self._next_s, self._most_s)
        return wait_s * self._rng.uniform(0.5, 1.0)

    def worked(self) -> None:
        """From the beginning again."""
        self._next_s = self._first_s
