"""What every step of a search is judged by, and what its utterances alone decide. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rtvc.loadtest.search.sequential import Side, decide
from rtvc.loadtest.search.trend import FEW
from rtvc.record import TurnRow
from rtvc.slo import Objective, StepStatus
from rtvc.stats import SAMPLES_BEYOND
from rtvc.summary import UTTERANCE_METRICS

PENDING_S = 2.0
"""Seconds beyond the targets in which an utterance becomes known; those that are still awaited
then are so few that they don't make the ones that came look quicker than all are."""


Weight = Literal["sure", "complete", "doubtful"]
"""Of what was found, again and again looking for it: at any time; once the step has all its
samples; or once it has twice as many, unless a sequential test agrees sooner. Near its edge a
server is sometimes late by chance."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a step did not pass."""

    status: StepStatus
    """failed, void or undecided."""
    reason: str
    """One line."""
    weight: Weight = "sure"
    """When it may end a step."""


@dataclass(frozen=True, slots=True)
class StepRules:
    """What every step of a search is judged by."""

    objectives: tuple[Objective, ...]
    """Targets."""
    measure_s: float = 30.0
    """Least seconds of measuring, unless a sequential test decides the step sooner."""
    settle_s: float = 5.0
    """Seconds from all speakers being there to the first that counts."""
    explicit: bool = False
    """Whether the user named the objectives, so that errors and cuts named there are theirs."""

    @property
    def delay_target_s(self) -> float | None:
        """The tightest upper bound on transcription delay; None if there is none."""
        return min((o.target for o in self._delays), default=None)

    @property
    def _delays(self) -> list[Objective]:
        return [
            o for o in self.objectives if o.metric == "transcription_delay" and o.is_upper_bound
        ]

    @property
    def samples(self) -> int:
        """Utterances that the quantiles asked for need."""
        asked = [o.quantile for o in self.objectives if o.metric != "connection"]
        tails = [min(q, 1 - q) for q in asked if q is not None]
        return max([FEW, *(math.ceil(SAMPLES_BEYOND / tail - 1e-9) for tail in tails)])

    @property
    def share_beyond(self) -> float:
        """Share of delays that may be beyond the target."""
        shares = [o.tolerated_share for o in self._delays]
        return min((share for share in shares if share is not None), default=0.05)

    def leaves_to_us(self, metric: str) -> bool:
        """Whether the user said nothing of it."""
        return not self.explicit or all(o.metric != metric for o in self.objectives)

    def may_abort(self, elapsed_s: float) -> bool:
        """Whether an objective may end a step now that it has been measured for so long."""
        return any(o.abort_on_fail and elapsed_s >= o.abort_after_s for o in self.objectives)

    def decided(self, turns: Sequence[TurnRow], now_s: float) -> Side | None:
        """What a sequential test of each objective on utterances says of them all; None: nothing.

        Beyond if one is; within if all are, and if there is none of another kind.
        """
        # One without any sample is the verdict's concern: no data, or not observable.
        asked = [o for o in self.objectives if _samples(o, turns)]
        sides = {_side(objective, turns, now_s) for objective in asked}
        if "beyond" in sides:
            return "beyond"
        return "within" if sides == {"within"} else None


def _side(objective: Objective, turns: Sequence[TurnRow], now_s: float) -> Side | None:
    limit = objective.tolerated_share
    if limit is None:
        return None
    if _tested(objective, turns, limit) == "beyond":
        return "beyond"
    # Quick answers are known first, which must not make a slow server look quick.
    known_s = now_s - objective.target - PENDING_S
    settled = [turn for turn in turns if turn.speech_end_at_s <= known_s]
    return "within" if _tested(objective, settled, limit) == "within" else None


def _tested(objective: Objective, turns: Sequence[TurnRow], limit: float) -> Side | None:
    values = _samples(objective, turns)
    beyond = sum(not objective.holds(value) for value in values)
    return decide(beyond, len(values), limit) if values else None


def _samples(objective: Objective, turns: Sequence[TurnRow]) -> list[float]:
    """One a turn at most; none for what is no metric of single utterances."""
    sample = UTTERANCE_METRICS.get(objective.metric)
    values = map(sample, turns) if sample else ()
    return [value for value in values if value is not None]
