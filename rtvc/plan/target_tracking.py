"""How many instances an EC2 Auto Scaling group wants, as AWS documents target tracking. Pure.

- Two alarms: above the target for 3 periods in a row, out; below 90 % of it for 15 minutes in a
  row, in. The second looks at whole minutes also where the metric has a higher resolution.
- While an alarm is on it acts again with each new figure.
- Wanted = ⌈instances × metric ÷ target⌉: rounded up, so never to less than keeps to the target.
- Instances that warm up are not among those that the metric is multiplied with, but they are among
  those wanted already: one breach is answered once. While some warm up, none are taken away.

AWS says "usually more than 10 % lower" of the second threshold, and not which figure it computes
with: the latest is taken here. For EC2 Auto Scaling target tracking has no cooldown.
"""

import math
from collections import deque
from dataclasses import dataclass
from statistics import fmean

MINUTE_S = 60

BREACHES_OUT = 3
"""Periods above the target."""

MINUTES_IN = 15
"""Minutes below the lower threshold."""

LOWER = 0.9
"""Of the target."""


@dataclass(frozen=True, slots=True)
class Group:
    """Instances, as the policy sees them."""

    settled: int
    """In service for longer than the warm-up."""
    warming: int
    """Started, and not settled yet."""


class TargetTracking:
    """One policy of one group.

    >>> policy = TargetTracking(80, period_s=60, sample_s=60, least=2, most=9, wanted=4)
    >>> [policy.sample(100.0, Group(settled=4, warming=0)) for _ in range(3)]
    [4, 4, 5]
    """

    def __init__(
        self,
        target_percent: float,
        *,
        period_s: float,
        sample_s: int,
        least: int,
        most: int,
        wanted: int,
    ) -> None:
        """`sample_s`: a figure comes so often; both others are whole multiples of it."""
        self.wanted = wanted
        """Desired capacity."""
        self._target = target_percent
        self._least, self._most = least, most
        self._periods = _Averages(int(period_s // sample_s), BREACHES_OUT)
        self._minutes = _Averages(MINUTE_S // sample_s, MINUTES_IN)

    def sample(self, percent: float | None, group: Group) -> int:
        """A figure of all instances, on average; None: none has said anything. Returns `wanted`."""
        if percent is None:
            return self.wanted
        if self._periods.add(percent) and self._periods.all_above(self._target):
            asked = self._needed(self._periods.latest, group.settled)
            self.wanted = min(max(self.wanted, asked), self._most)
        if self._minutes.add(percent) and self._minutes.all_below(LOWER * self._target):
            self._scale_in(group)
        return self.wanted

    def _scale_in(self, group: Group) -> None:
        if group.warming:
            return
        asked = self._needed(self._minutes.latest, group.settled)
        self.wanted = max(min(self.wanted, asked), self._least)

    def _needed(self, percent: float, instances: int) -> int:
        # The epsilon keeps rounding from buying an instance.
        return math.ceil(instances * percent / self._target - 1e-9)


class _Averages:
    """The last few averages, each over a number of samples."""

    def __init__(self, samples: int, kept: int) -> None:
        self._samples = samples
        self._under_way: list[float] = []
        self._done: deque[float] = deque(maxlen=kept)

    def add(self, value: float) -> bool:
        """Whether an average more is done."""
        self._under_way.append(value)
        if len(self._under_way) < self._samples:
            return False
        self._done.append(fmean(self._under_way))
        self._under_way.clear()
        return True

    @property
    def latest(self) -> float:
        return self._done[-1]

    def all_above(self, limit: float) -> bool:
        """Of as many as are kept."""
        return len(self._done) == self._done.maxlen and min(self._done) > limit

    def all_below(self, limit: float) -> bool:
        """Of as many as are kept."""
        return len(self._done) == self._done.maxlen and max(self._done) < limit
