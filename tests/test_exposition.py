"""A scrape as we write it is a scrape as prometheus_client writes it, to the byte."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import Metric as Family
from prometheus_client import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

from rtvc.server.measuring.exposition import Sheet
from rtvc.server.measuring.metrics import METRICS, Metric

FAMILIES: dict[str, Any] = {
    "gauge": GaugeMetricFamily,
    "counter": CounterMetricFamily,
    "histogram": HistogramMetricFamily,
}
NUMBERS = st.one_of(
    st.floats(allow_nan=False),
    st.integers(0, 2**60),
    st.booleans(),
    st.just(float("inf")),
    st.just(float("nan")),
)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
Sample = tuple[Any, ...]


class Library:
    """The same figures for `generate_latest`."""

    def __init__(self, samples: dict[str, list[Sample]]) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Family]:
        for name, row in METRICS.items():
            family = FAMILIES[row.kind](name, row.help, labels=row.labels)
            for sample in self._samples.get(name, []):
                family.add_metric(*sample)
            yield family


@st.composite
def a_sample(draw: st.DrawFn, row: Metric) -> Sample:
    labels = tuple(draw(WORDS) for _ in row.labels)
    if row.kind != "histogram":
        return labels, draw(NUMBERS)
    edges = [*(repr(edge) for edge in row.buckets), "+Inf"]
    steps = draw(st.lists(st.integers(0, 10**7), min_size=len(edges), max_size=len(edges)))
    counts = [float(sum(steps[: n + 1])) for n in range(len(edges))]
    return labels, list(zip(edges, counts, strict=True)), draw(st.floats(0, 1e9))


@st.composite
def scrapes(draw: st.DrawFn) -> dict[str, list[Sample]]:
    names = draw(st.lists(st.sampled_from(sorted(METRICS)), unique=True, max_size=6))
    return {
        name: draw(st.lists(a_sample(METRICS[name]), max_size=3, unique_by=lambda one: one[0]))
        for name in names
    }


def sheet_of(samples: dict[str, list[Sample]]) -> Sheet:
    sheet = Sheet()
    for name, rows in samples.items():
        for row in rows:
            if METRICS[name].kind == "histogram":
                labels, cumulative, total = row
                sheet.put_histogram(name, cumulative, total, *labels)
            else:
                sheet.put(name, row[1], *row[0])
    return sheet


@settings(deadline=None, max_examples=150)
@given(samples=scrapes())
def test_a_scrape_is_the_librarys_to_the_byte(samples: dict[str, list[Sample]]) -> None:
    ours = sheet_of(samples).text().decode().splitlines()
    theirs = generate_latest(Library(samples)).decode().splitlines()
    assert ours == theirs


def test_unknown_is_left_out_and_a_stranger_refused() -> None:
    sheet = Sheet()
    sheet.put("rtvc_headroom_sessions", None)
    assert b"\nrtvc_headroom_sessions " not in sheet.text()
    with pytest.raises(KeyError):
        sheet.put("rtvc_no_such_metric", 1)
    with pytest.raises(KeyError):
        sheet.put_histogram("rtvc_no_such_metric", [("+Inf", 1)], 1.0)
