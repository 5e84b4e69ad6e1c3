"""Goodput: which objectives a single utterance can meet, and what came of them in words."""

from collections.abc import Iterable

from rtvc.slo.objectives import Objective
from rtvc.slo.wording import shown
from rtvc.summary import UTTERANCE_METRICS, Goodput


def utterance_targets(objectives: Iterable[Objective]) -> tuple[Objective, ...]:
    """Upper bounds on times that each utterance, or each connection, can be held to.

    >>> from rtvc.slo.grammar import DEFAULT
    >>> [str(objective) for objective in utterance_targets(DEFAULT)]
    ['connection_p95<3s', 'transcription_delay_p95<0.5s']
    """
    single = {"connection", *UTTERANCE_METRICS}
    return tuple(o for o in objectives if o.metric in single and o.is_upper_bound)


def goodput_text(found: Goodput) -> str | None:
    """One line; None if nothing was said.

    >>> goodput_text(Goodput(100, 97, 0.97, 1.7, 1.65, 8, 6, 0.75))
    'goodput 97 %: 97 of 100 utterances in time, 1.65 of 1.7 a second; 6 of 8 speakers throughout'
    """
    if found.share is None:
        return None
    rate = ""
    if found.goodput_per_s is not None and found.throughput_per_s is not None:
        rate = f", {found.goodput_per_s:.3g} of {found.throughput_per_s:.3g} a second"
    return (
        f"goodput {shown(found.share, '%')}: {found.good} of {found.utterances} utterances in time"
        f"{rate}; {found.good_speakers} of {found.speakers} speakers throughout"
    )
