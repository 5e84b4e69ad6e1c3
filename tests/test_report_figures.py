"""Figures of a report: distributions with n, lanes that stay legible, and PNG of the same."""

import math
import re
import struct
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.cli import main
from rtvc.clock import FakeClock
from rtvc.record import Row, Run, RunWriter, SampleRow, load_run
from rtvc.report.distributions import POINTS, Curve, Panel, distributions, grid, steps
from rtvc.report.figures import figures, gauges
from rtvc.report.page import build_report, css, delay_targets
from rtvc.report.png import Sheet
from rtvc.report.said import conversations, left_out
from rtvc.report.timeline import MOST_LANES, excerpt, timeline
from rtvc.slo import parse_objectives
from rtvc.summary import summarize
from tests.synthetic_run import a_connection, a_manifest, a_second, a_turn, write_run
from tests.test_report import Page


def run_of(folder: Path, rows: list[Row]) -> Run:
    with RunWriter(folder, a_manifest(), FakeClock()) as writer:
        writer.append(*rows)
    return load_run(folder)


# Distributions.

some_delays = st.lists(st.floats(-0.2, 30) | st.just(math.inf), min_size=1, max_size=900)


@given(some_delays, st.floats(0.01, 40))
@settings(deadline=None, max_examples=60)
def test_a_curve_rises_to_the_share_that_came_by_the_edge(
    delays: list[float], edge_s: float
) -> None:
    points = steps(Curve("", "series", delays), edge_s)
    shares = [share for _, share in points]
    assert shares == sorted(shares)
    assert [at for at, _ in points] == sorted(at for at, _ in points)
    assert len(points) <= 2 * POINTS + 1
    by_then = sum(delay <= edge_s for delay in delays) / len(delays)
    assert points[-1][0] == edge_s
    assert points[-1][1] == pytest.approx(by_then)


def test_n_and_what_never_came_stand_beside_every_distribution(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    figure = distributions(run, {"transcription_delay": 0.5, "connection": 0.03})
    assert figure is not None
    assert "n=41, 1 never came" in figure.svg
    assert "n=4<" in figure.svg
    for name in ("connection", "transcription delay", "response latency"):
        assert f">{name}<" in figure.svg
    assert "target 500 ms" in figure.svg
    assert "target 30 ms" in figure.svg
    assert "p50 " in figure.svg
    # 41 utterances do not support it.
    assert "<title>p95" not in figure.svg


def test_a_long_tail_leaves_the_panel_and_is_counted() -> None:
    delays = [0.3] * 99 + [60.0]
    svg = grid([Panel("delay", [Curve("", "series", delays)], None)], "x")
    assert "1 slower, up to 60 s" in svg


@given(st.lists(st.floats(0, 9) | st.just(math.inf), min_size=1, max_size=30))
@settings(deadline=None, max_examples=40)
def test_any_distribution_can_be_drawn(delays: list[float]) -> None:
    svg = grid([Panel("delay", [Curve("A", "series-a", delays)], 0.5)], "x")
    root = ET.fromstring(svg)
    for each in root.iter():
        for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy"):
            assert math.isfinite(float(each.get(name, 0)))
    assert "nan" not in svg


def test_each_metric_has_its_own_tightest_target() -> None:
    wanted = parse_objectives(
        ["connection_p95<3s", "connection_p50<=1s", "response_latency_p95>1s", "errors<1%"]
    )
    assert delay_targets(wanted) == {"connection": 1.0}


# Gauges.


def test_gauges_that_moved_are_drawn_and_what_waits_comes_first(tmp_path: Path) -> None:
    names = ["ready", "jobs_total", "open_files", "queued_jobs", 'moves_count{kind="a"}']
    rows: list[Row] = [
        SampleRow(float(at), "server", f"rtvc_{name}", 1.0 if name == "ready" else float(at))
        for at in range(1, 4)
        for name in names
    ]
    run = run_of(tmp_path, rows)
    figure = gauges(run)
    assert figure is not None
    drawn = re.findall(r'class="label"[^>]*>([^<]+)<', figure.svg)
    assert drawn == ["server queued jobs", "server open files"]
    assert "3 more are in samples.csv" in figure.caption


# Who spoke when.


def crowd(folder: Path, speakers: int) -> Run:
    rows: list[Row] = [
        a_turn(who, number, transcription_delay_s=0.2 + who / 1000)
        for who in range(speakers)
        for number in range(4)
    ]
    return run_of(folder, rows)


@pytest.mark.parametrize("speakers", [1, 16, 17, 50])
def test_up_to_fifty_speakers_have_a_lane_each(tmp_path: Path, speakers: int) -> None:
    figure = timeline(crowd(tmp_path, speakers))
    assert figure is not None
    assert len(re.findall(r">speaker \d+<", figure.svg)) == speakers
    assert "are drawn" not in figure.caption
    lanes = [float(y) for y in re.findall(r'<line [^>]*y1="([\d.]+)"[^>]*class="lane"', figure.svg)]
    apart = [after - before for before, after in pairwise(lanes)]
    # Labels are 11 units high.
    assert all(gap >= 11 for gap in apart)


def test_more_speakers_are_thinned_and_it_is_said(tmp_path: Path) -> None:
    run = crowd(tmp_path, 200)
    figure = timeline(run)
    assert figure is not None
    assert len(re.findall(r">speaker \d+<", figure.svg)) == MOST_LANES
    assert "50 of 200 speakers are drawn, those with lost or the slowest" in figure.caption
    assert ">speaker 199<" in figure.svg
    assert ">speaker 3<" not in figure.svg


def test_sessions_that_went_wrong_stand_in_their_lane(tmp_path: Path) -> None:
    wrong = a_connection(7, outcome="lost", reason="closed with 1011", closed_at_s=4.0)
    run = run_of(tmp_path, [a_turn(0, 0), a_connection(), wrong])
    figure = timeline(run)
    assert figure is not None
    assert "speaker 7: lost, closed with 1011" in figure.svg
    assert ">speaker 7<" in figure.svg


def test_text_partials_and_missing_replies_are_in_the_lane(tmp_path: Path) -> None:
    silent = a_turn(0, 1, response_latency_s=None, reply_expected=True, text="hello out there")
    run = run_of(tmp_path, [a_turn(0, 0), silent])
    shown, hidden = (timeline(run, texts=texts) for texts in (True, False))
    assert shown is not None
    assert hidden is not None
    assert "speaker 0, utterance 1: hello out there" in shown.svg
    assert "hello" not in hidden.svg
    assert shown.svg.count('class="first-text"') == 2
    assert "speaker 0, utterance 1: no reply" in shown.svg


def test_what_each_speaker_said_is_listed_in_order(tmp_path: Path) -> None:
    turns: list[Row] = [
        a_turn(1, 0, start=9.0, text="second here", heard="second hear", premature_finals=1),
        a_turn(0, 1, start=8.0, transcription_delay_s=None, heard=None, text="lost words"),
        a_turn(0, 0, start=2.0),
    ]
    run = run_of(tmp_path, turns)
    part = excerpt(run)
    assert part is not None
    listed = conversations(run, part)
    assert [each["speaker"] for each in listed] == [0, 1]
    first, second = listed[0]["rows"]
    assert (first["at"], second["at"]) == ("2.0 s", "8.0 s")
    assert (second["final"], second["words"]) == ("missing", [("same", "lost words")])
    (other,) = listed[1]["rows"]
    assert other["words"] == [("same", "second"), ("lost", "here"), ("new", "hear")]
    assert other["notes"] == "cut by a premature final"
    assert left_out(part) == ""


def test_a_long_list_of_what_was_said_is_cut_and_it_is_said(tmp_path: Path) -> None:
    run = crowd(tmp_path, 200)
    part = excerpt(run)
    assert part is not None
    listed = conversations(run, part)
    assert sum(len(each["rows"]) for each in listed) <= 400
    assert left_out(part) == " (50 of 200 speakers, 0 to 20 s)"


# PNG.


def test_variables_of_dark_screens_are_left_out() -> None:
    sheet = Sheet(css("figures.css"))
    assert sheet.colour("--paper") == "#fbfbfa"
    assert sheet.style(ET.fromstring('<text class="tick"/>')) == {
        "fill": "#5f6873",
        "font-size": "11px",
    }
    both = sheet.style(ET.fromstring('<rect class="dot over"/>'))
    assert (both["fill"], both["opacity"]) == ("#c2364a", "0.75")


def test_every_class_that_is_drawn_has_a_look(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    sheet = Sheet(css("figures.css"))
    known_bare = {"label", ""}
    for figure in figures(run, summarize(run), 0.5).values():
        for element in ET.fromstring(figure.svg):
            if element.get("class", "") not in known_bare:
                assert sheet.style(element), element.get("class")


@pytest.mark.slow
def test_figures_are_written_as_png_as_large_as_their_drawing(tmp_path: Path) -> None:
    write_run(tmp_path)
    build_report(tmp_path, png=True)
    folder = tmp_path / "figures"
    names = {path.stem for path in folder.glob("*.svg")}
    assert {path.stem for path in folder.glob("*.png")} == names
    for name in names:
        root = ET.parse(folder / f"{name}.svg").getroot()
        *_, width, height = (float(number) for number in (root.get("viewBox") or "").split())
        head = (folder / f"{name}.png").read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", head[16:24]) == (
            pytest.approx(2 * width, abs=1),
            pytest.approx(2 * height, abs=1),
        )


@pytest.mark.slow
def test_a_png_holds_the_colours_of_its_drawing(tmp_path: Path) -> None:
    from matplotlib.image import imread

    write_run(tmp_path)
    build_report(tmp_path, png=True)
    pixels = (imread(tmp_path / "figures" / "timeline.png")[:, :, :3] * 255).round().astype(int)
    seen = {tuple(colour) for colour in pixels.reshape(-1, 3)[::7].tolist()}
    for wanted in ("#fbfbfa", "#3f6fb5", "#5ba58c"):
        assert tuple(int(wanted[at : at + 2], 16) for at in (1, 3, 5)) in seen


@pytest.mark.slow
def test_a_rebuilt_report_keeps_its_figures(tmp_path: Path) -> None:
    write_run(tmp_path)
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path)])
    kept = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"timeline.svg", "timeline.png", "distributions.png"} <= kept


# The page.


def test_the_page_has_distributions_conversations_and_goodput(tmp_path: Path) -> None:
    write_run(tmp_path)
    page = Page(build_report(tmp_path).read_text("utf-8"))
    assert "Distributions" in page.text
    assert "What each speaker said" in page.text
    assert "goodput: " in page.text
    assert page.text.index("Transcription delay") < page.text.index("Distributions")


def test_the_page_prints(tmp_path: Path) -> None:
    run_of(tmp_path, [a_turn(), a_connection(), a_second()])
    markup = build_report(tmp_path).read_text("utf-8")
    printed = markup[markup.index("@media print") :]
    assert "@page" in markup
    assert "color-scheme: light" in printed
    assert "overflow: visible" in printed
    assert "prefers-color-scheme: dark" in markup
