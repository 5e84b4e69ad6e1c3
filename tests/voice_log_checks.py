"""Reading a log that tests/voice_log_writer.py wrote, and holding what was read to the truth."""

import io
from collections.abc import Sequence

from rtvc.profile.logs.command import stream_lines
from rtvc.profile.logs.lines import Server
from rtvc.profile.logs.reader import LogReader
from rtvc.profile.logs.summary import LogSummary
from rtvc.stats import Quantile


def log_of(*lines: str) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def read(log: bytes, server: Server | None = None) -> LogSummary:
    reader = LogReader(server)
    for raw in stream_lines(io.BytesIO(log)):
        reader.feed(raw)
    reader.finish()
    return reader.summary()


def near(value: float | None, truth: float, within: float) -> bool:
    return value is not None and abs(value - truth) <= within + 2e-4


def same_quantiles(
    found: tuple[Quantile, Quantile] | None, truth_s: Sequence[float], within_s: float
) -> None:
    assert found is not None
    for quantile in found:
        expected = Quantile.of(truth_s, quantile.q)
        assert quantile.n == expected.n
        assert expected.maximum is not None
        assert near(quantile.maximum, expected.maximum, within_s)
        if expected.value is None:
            assert quantile.value is None
        else:
            assert near(quantile.value, expected.value, within_s)
