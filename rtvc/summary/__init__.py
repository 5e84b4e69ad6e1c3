"""What one run says: a pure function from its rows to figures, each with its n.

Seconds and shares are stored; units are converted only where they are drawn. Warm-up turns are
left out. A final or a reply that never came counts as infinite, so that losing answers cannot
improve a quantile.
"""

from rtvc.summary.figures import (
    METRICS,
    Accuracy,
    Connections,
    Errors,
    Generator,
    Goodput,
    Metric,
    Reason,
    Segment,
    Stack,
    Summary,
    Utterances,
)
from rtvc.summary.goodput import Target, is_good
from rtvc.summary.health import CPU_LIMIT, FRAME_S
from rtvc.summary.making import during, summarize
from rtvc.summary.observable import INFERRED, with_inferred_ready
from rtvc.summary.outcomes import REASONS, word_errors
from rtvc.summary.server_turns import WAITS
from rtvc.summary.storage import (
    SCHEMA_VERSION,
    SUMMARY_FILE,
    load_summary,
    to_json,
    write_summary,
)
from rtvc.summary.timed import (
    QUANTILES,
    TALKING_S,
    UTTERANCE_METRICS,
    metric_of,
    partial_interval,
    transcription_delay,
)
from rtvc.summary.words import word_latencies_s

__all__ = [
    "CPU_LIMIT",
    "FRAME_S",
    "INFERRED",
    "METRICS",
    "QUANTILES",
    "REASONS",
    "SCHEMA_VERSION",
    "SUMMARY_FILE",
    "TALKING_S",
    "UTTERANCE_METRICS",
    "WAITS",
    "Accuracy",
    "Connections",
    "Errors",
    "Generator",
    "Goodput",
    "Metric",
    "Reason",
    "Segment",
    "Stack",
    "Summary",
    "Target",
    "Utterances",
    "during",
    "is_good",
    "load_summary",
    "metric_of",
    "partial_interval",
    "summarize",
    "to_json",
    "transcription_delay",
    "with_inferred_ready",
    "word_errors",
    "word_latencies_s",
    "write_summary",
]
