"""The live view fits whatever terminal, and its lines are stable."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from rtvc.profile.live import screen as drawing
from rtvc.profile.live.figures import View
from rtvc.profile.live.plain import COLUMNS, heading, line, to_json
from rtvc.profile.live.table import Column, beside, table, wrapped
from rtvc.profile.live.view import view_of
from rtvc.profile.live.watch import Missing
from tests.live_scrapes import (
    busy_view,
    gpus,
    metrics,
    scrape,
    seen,
    status_of,
    text_at,
    window_of,
)

# Drawn.

sizes = st.tuples(st.integers(20, 220), st.integers(6, 70))


@pytest.fixture(scope="module")
def views() -> list[View]:
    empty = view_of(window_of(scrape(0.0, metrics(headroom=None))))
    bare = view_of(window_of(scrape(0.0, "# TYPE rtvc_ready gauge\nrtvc_ready 1\n")))
    return [busy_view(), busy_view(sessions=300), seen([7.0] * 12), empty, bare]


@settings(deadline=None, max_examples=80)
@given(size=sizes, number=st.integers(0, 4), gone=st.booleans())
def test_it_fits_any_terminal(
    views: list[View], size: tuple[int, int], number: int, gone: bool
) -> None:
    width, height = size
    missing = Missing("no server answers at http://box:8000: Connection refused")
    status = status_of(views[number], missing=missing if gone else None, missing_s=3.0)
    drawn = drawing.lines(status, width, height)
    assert len(drawn) <= height
    assert all(line.cell_len <= width for line in drawn)
    assert all("\n" not in line.plain for line in drawn)


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
def test_everything_is_there_at_the_usual_sizes(size: tuple[int, int]) -> None:
    drawn = text_at(*size, status_of(busy_view()))
    words = ["4 of 16 sessions", "engine ready", "endpoint_wait", "inbox", "inference", "outbox"]
    words += ["loop lag", "server", "final", "session", "speaking", "00000005", "no GPU", "q ends"]
    words += ["200 300"]
    assert [word for word in words if word not in drawn] == []
    assert "…" not in drawn


def test_a_gpu_is_drawn() -> None:
    drawn = text_at(160, 50, status_of(busy_view(gpus=gpus()), no_gpu=None))
    assert "GPU 0 busy 40 %" in drawn
    assert "1000 MB of 16.0 GB" in drawn
    assert "no GPU" not in drawn


def test_sessions_that_do_not_fit_are_counted() -> None:
    drawn = text_at(80, 24, status_of(busy_view(sessions=300)))
    shown = drawn.count("openai-realtime") or drawn.count("listening")
    left = next(int(line.split()[1]) for line in drawn.splitlines() if line.startswith("and "))
    assert left > 250
    assert shown >= 2


def test_a_server_that_is_gone_is_said_to_be() -> None:
    missing = Missing("no server answers at http://box:8000: Connection refused")
    drawn = text_at(100, 30, status_of(busy_view(), missing=missing, missing_s=12.0))
    assert drawn.startswith("gone for 12 s, no server answers at http://box:8000")
    assert "below is what it said last" in drawn
    never = text_at(100, 30, status_of(None, missing=missing))
    assert never.startswith("no server answers")
    assert "q ends" in never


def test_a_restart_is_said_for_a_minute() -> None:
    view = replace(busy_view(), restarted_s=7.0)
    assert text_at(80, 24, status_of(view)).startswith("the server was restarted 7 s ago")
    assert "restarted" not in text_at(80, 24, status_of(replace(view, restarted_s=61.0)))


def test_no_colour_is_needed_or_used_when_unwanted() -> None:
    console = Console(
        width=80, height=24, force_terminal=True, no_color=True, color_system="truecolor"
    )
    with console.capture() as captured:
        console.print(drawing.screen(status_of(busy_view()), 80, 24))
    colours = [f"\x1b[{number}m" for number in (31, 32, 33, 34, 35, 36)]
    assert not any(colour in captured.get() for colour in colours)
    assert "within the 500 ms target" in " ".join(captured.get().split())


def test_a_table_loses_its_least_columns_first() -> None:
    columns = [
        Column("name", ["inbox", "outbox"], right=False),
        Column("items", ["1", "200"], drop=1),
        Column("least", ["a", "b"], drop=2),
    ]
    assert [line.plain for line in table(columns, 80)] == [
        "name   items least",
        "inbox      1     a",
        "outbox   200     b",
    ]
    assert table(columns, 14)[0].plain == "name   items"
    assert table(columns, 8)[1].plain.rstrip() == "inbox"


def test_what_stands_beside_a_heading_keeps_its_own_style() -> None:
    (line,) = beside([Text("heading", "bold")], [Text("beside", "dim")], 40)
    bold = next(span for span in line.spans if span.style == "bold")
    assert (line.style, bold.end <= 20) == ("", True)


def test_a_number_stays_with_its_unit() -> None:
    lines = wrapped("the delay is 250 ms of 4 sessions", 16, "", 9)
    assert [line.plain for line in lines] == ["the delay is", "250 ms of 4", "sessions"]


# Lines and objects.


def test_columns_are_stable() -> None:
    there, gone = line(status_of(busy_view())), line(status_of(None, missing=Missing("x")))
    assert len(heading().split()) == len(there.split()) == len(gone.split()) == len(COLUMNS) + 1
    assert len(heading()) == len(there) == len(gone)
    figures = dict(zip(heading().split(), there.split(), strict=True))
    assert figures["at_s"] == "12.0"
    assert (figures["engine"], figures["sess"], figures["room"]) == ("ready", "4", "8.6")
    assert (figures["turns"], figures["over_500"]) == ("120", "0")
    assert (figures["jobs_s"], figures["cpus"], figures["mem_mb"]) == ("3.00", "0.50", "123")
    assert gone.split()[:3] == ["12.0", "gone", "-"]


def test_too_few_for_p95_is_marked() -> None:
    figures = dict(zip(heading().split(), line(status_of(seen([0.25] * 12))).split(), strict=True))
    assert (figures["p50_ms"], figures["p95_ms"]) == ("250", "<=300")


def test_an_object_has_what_is_known() -> None:
    said = json.loads(to_json(status_of(busy_view(gpus=gpus()))))
    assert said["there"] is True
    assert said["delay"]["times"]["n"] == 120
    assert said["queues"][1]["backlog_s"] == 3.0
    assert "history" not in said["queues"][1]
    assert said["gpus"][0]["now"]["busy_ratio"] == 0.4
    gone = json.loads(to_json(status_of(busy_view(), missing=Missing("away"))))
    assert (gone["there"], gone["reason"]) == (False, "away")
    assert "delay" not in gone
