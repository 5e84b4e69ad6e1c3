"""How many instances an EC2 Auto Scaling group wants, by target tracking. Pure.

What AWS says in the guide of EC2 Auto Scaling (docs.aws.amazon.com/autoscaling/ec2/userguide/):

- Out in proportion to the metric as soon as that is above the target, in more gradually; instances
  are rounded so that never too few are added nor too many taken away; without figures nothing is
  taken away (as-scaling-target-tracking.html). So wanted = ⌈instances × metric ÷ target⌉.
- Periods of 10, 30 or 60 s (policy-creating-high-resolution-metrics.html).
- Instances that warm up are not among those that the metric is multiplied with, but they are among
  those wanted already, so that one breach is answered once. While some warm up, none are taken away
  (ec2-auto-scaling-default-instance-warmup.html).
- Instances that are terminating count when the group shrinks, so that not too many go (the same
  pages, as of 2022, github.com/awsdocs/amazon-ec2-auto-scaling-user-guide; later ones are silent).
- "usually more than 10 % lower" than the target is where it shrinks (Application Auto Scaling's
  target-tracking-scaling-policy-overview.html).

What AWS does not say:

- For how long. Out after 3 periods in a row and in after 15 minutes is what the alarms have that
  people find in their accounts; the guide says no more than that a policy adapts itself to how an
  application is used.
- Below what the group shrinks. Services of Amazon ECS are found with 90 % of the target, small
  groups of EC2 Auto Scaling with 70 % (28 of 40, 35 of 50, 52.5 of 75). 90 % is taken unless
  somebody says otherwise.
- Which figure is computed with (here the latest), and whether the low alarm looks at whole minutes
  where the metric has a higher resolution (here it does, unless somebody says otherwise).

For EC2 Auto Scaling target tracking has no cooldown.
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
"""Of the target: the lower threshold, where nothing else is known."""


@dataclass(frozen=True, slots=True)
class Group:
    """Instances, as the policy sees them."""

    settled: int
    """In service for longer than the warm-up."""
    warming: int
    """Started, and not settled yet."""
    leaving: int = 0
    """Being taken away."""


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
        low: float = LOWER,
        low_period_s: float = MINUTE_S,
    ) -> None:
        """`sample_s`: a figure comes so often; periods are whole multiples of it. `low`: part of
        the target, below which the group shrinks; `low_period_s`: what is averaged to see that.
        """
        self.wanted = wanted
        """Desired capacity."""
        self._target = target_percent
        self._low = low * target_percent
        self._least, self._most = least, most
        self._high_alarm = _Averages(int(period_s // sample_s), BREACHES_OUT)
        lows = int(MINUTES_IN * MINUTE_S // low_period_s)
        self._low_alarm = _Averages(int(low_period_s // sample_s), lows)

    def sample(self, percent: float | None, group: Group) -> int:
        """A figure of all instances, on average; None: none has said anything, and what was said
        before stands. Returns `wanted`.
        """
        if percent is None:
            return self.wanted
        if self._high_alarm.add(percent) and self._high_alarm.all_above(self._target):
            asked = self._needed(self._high_alarm.latest, group.settled)
            self.wanted = min(max(self.wanted, asked), self._most)
        if self._low_alarm.add(percent) and self._low_alarm.all_below(self._low):
            self._scale_in(group)
        return self.wanted

    def _scale_in(self, group: Group) -> None:
        if group.warming:
            return
        asked = self._needed(self._low_alarm.latest, group.settled + group.leaving)
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
