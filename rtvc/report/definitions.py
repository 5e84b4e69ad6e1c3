"""What every figure means, in the words of docs/measurements.md."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Definition:
    """One name and the instants or counts it stands for."""

    name: str
    """As printed in reports."""
    text: str
    """One sentence or two."""


DEFINITIONS = (
    Definition(
        "connection time",
        "Just before TCP connect → the session is usable. Attempts that failed are counted as "
        "errors, not as delays.",
    ),
    Definition(
        "transcription delay",
        "The annotated true end of speech → the utterance's last final transcript. A final that "
        "never came counts as infinite.",
    ),
    Definition(
        "time to first partial",
        "End of the first word spoken → first partial (or final) holding text.",
    ),
    Definition(
        "partial interval",
        "Median, over one utterance, of the waits for new text while talking: the first "
        "word's end → the first text, then text → text; messages within 50 ms are one text. "
        "An utterance of which nothing became visible counts as infinite.",
    ),
    Definition(
        "word latency",
        "End of each word spoken → first text that showed it, over the words that the final "
        "transcript has right.",
    ),
    Definition(
        "response latency",
        "The annotated true end of speech → first reply sample received. A reply that never came "
        "counts as infinite.",
    ),
    Definition(
        "barge-in latency",
        "Start of the interruption's first word → last reply sample received.",
    ),
    Definition("generator lag", "A frame's actual send − its due time, in bins of 0.1 ms."),
    Definition(
        "quantile",
        "Linear interpolation on raw samples. Printed only where at least 5 samples are expected "
        "beyond it (n·(1 − q) ≥ 5); otherwise the maximum stands in, with its n.",
    ),
    Definition(
        "95 % interval",
        "Two order statistics that enclose the true quantile in 95 of 100 such runs, if utterances "
        "were independent.",
    ),
    Definition(
        "errors",
        "Connections refused, failed or lost, finals missing and replies missing ÷ connection "
        "attempts, utterances and replies expected.",
    ),
    Definition(
        "premature finals",
        "Utterances cut by at least one final while they went on ÷ utterances.",
    ),
    Definition(
        "word error rate",
        "(substitutions + deletions + insertions) ÷ reference words, from counts pooled over all "
        "utterances after normalisation. A missing final loses all its words.",
    ),
    Definition(
        "cross-talk",
        "Words of one speaker's utterance found in another speaker's transcript. Concurrent "
        "speakers never share a text.",
    ),
    Definition(
        "segments",
        "Contiguous stretches of one turn: the load generator's up to the last speech sample, as "
        "the server heard it, the server's from there, and the way between them; "
        "waits, queue and work are never mixed. What is left over is unaccounted.",
    ),
    Definition(
        "typical turn",
        "Quantiles of segments do not add up, so a stack averages the turns whose length is "
        "nearest in rank to the quantile: its parts sum to its length.",
    ),
    Definition(
        "hidden work",
        "Work done during a wait (speculation). Shown, and not counted twice.",
    ),
    Definition(
        "warm-up",
        "A speaker's first utterances: recorded, pale in the timeline, left out of every number.",
    ),
    Definition(
        "undecided",
        "The samples do not support the quantile, the maximum is above the target, and so few of "
        "them are that chance explains it.",
    ),
    Definition(
        "void",
        "The load generator was saturated: its lag at p99 above one frame (20 ms), or more than "
        "90 % of a core at p95 of the busiest process's seconds. Nothing follows about the server.",
    ),
    Definition(
        "step",
        "Speakers come or go, settle, then are measured until the samples support what is "
        "judged. It passes if every target holds, nothing went wrong, premature finals are no "
        "more than 2 % beyond chance, delay did not rise and the generator kept up; it is cut "
        "short once it is hopeless.",
    ),
    Definition(
        "capacity",
        "The most speakers that met every target, and the fewest that did not: found by "
        "doubling, then bisection, both sides of the boundary run twice. Where runs "
        "contradict each other the interval is wider.",
    ),
    Definition(
        "binding",
        "The part of a turn as slow as the 95th of 100 that grew most since the targets were "
        "met, by the server's own account.",
    ),
)
