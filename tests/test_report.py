"""The report: well formed, self-contained, honest about what it was drawn from."""

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from rtvc.clock import FakeClock
from rtvc.errors import RecordError
from rtvc.record import Row, RunWriter, SampleRow, load_run
from rtvc.report.definitions import DEFINITIONS
from rtvc.report.figures import figures
from rtvc.report.page import build_report
from rtvc.report.said import word_changes
from rtvc.report.svg import Scale, bottom_axis, round_ticks
from rtvc.report.terminal import verdict_panel, verdict_table
from rtvc.slo import DEFAULT, judge, parse_objective, shown, utterance_targets
from rtvc.summary import load_summary, summarize
from tests.synthetic_run import SENTENCES, a_connection, a_manifest, a_second, a_turn, write_run

REPOSITORY = Path(__file__).parents[1]
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Checks that every element is closed in order, and keeps what was seen."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def report_on(folder: Path, rows: Iterable[Row], **manifest: Any) -> Page:
    with RunWriter(folder, a_manifest(**manifest), FakeClock()) as writer:
        writer.append(*rows)
    return Page(build_report(folder).read_text("utf-8"))


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lively")
    write_run(folder)
    build_report(folder)
    return folder


@pytest.fixture(scope="module")
def markup(lively: Path) -> str:
    return (lively / "report.html").read_text("utf-8")


def test_the_page_is_well_formed(markup: str) -> None:
    page = Page(markup)
    assert page.open == []
    assert markup.lstrip().startswith("<!doctype html>")
    assert page.tags.count("h1") == 1
    assert page.tags.count("svg") == 7


def test_the_page_asks_nothing_of_any_network(markup: str) -> None:
    page = Page(markup)
    assert re.findall(r"https?://", markup) == []
    assert page.addresses == []
    assert not {"script", "link", "iframe", "img", "object"} & set(page.tags)
    assert "url(" not in markup
    assert "@import" not in markup
    assert "default-src 'none'" in markup


def test_the_verdict_comes_first(markup: str, lively: Path) -> None:
    sentence = judge(summarize(load_run(lively))).sentence
    page = Page(markup)
    assert sentence in page.text
    assert page.text.index(sentence) < page.text.index("Targets missed") + 200
    assert page.tags.index("h1") < page.tags.index("table")


def test_numbers_agree_with_the_summary(markup: str, lively: Path) -> None:
    page, summary = Page(markup), load_summary(lively)
    assert summary == summarize(load_run(lively), targets=utterance_targets(DEFAULT))
    delay = summary.metrics["transcription_delay"]
    assert delay.p50 is not None
    assert delay.max_observed is not None
    assert summary.accuracy.wer is not None
    assert f"transcription delay {delay.n} {delay.missing} {shown(delay.p50, 's')}" in page.text
    assert f"missing ({shown(delay.max_observed, 's')} of those that came)" in page.text
    assert shown(summary.accuracy.wer, "%") in page.text
    assert f"errors ({summary.errors.count} of {summary.errors.attempts})" in page.text


def test_marks_and_n_stand_beside_every_target(markup: str) -> None:
    page = Page(markup)
    assert "✓ connection p95 < 3 s max" in page.text
    assert "? transcription delay p95 < 500 ms missing 41" in page.text
    assert "✗ errors < 1 % 1.16 % 86" in page.text


def test_every_figure_is_also_a_file_of_its_own(lively: Path) -> None:
    drawn = sorted(path.name for path in (lively / "figures").iterdir())
    assert drawn == [
        "delay-over-time.svg",
        "distributions.svg",
        "gauges.svg",
        "generator.svg",
        "server-stages.svg",
        "timeline.svg",
        "transcription-delay.svg",
    ]
    for name in drawn:
        root = ET.parse(lively / "figures" / name).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.get("aria-label")


def test_coordinates_are_numbers(markup: str) -> None:
    assert not re.search(r'="(nan|inf|-inf|None)"', markup)
    assert not re.search(r'points="[^"]*(nan|inf)', markup)


def test_every_utterance_is_drawn(lively: Path, markup: str) -> None:
    turns = load_run(lively).turns
    finals = [turn for turn in turns if turn.final_at_s is not None]
    assert markup.count(": final after") == len(finals)
    assert markup.count(": no final<") == len(turns) - len(finals) == 1


def test_text_from_anywhere_is_escaped(tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>"
    rows: list[Row] = [
        a_turn(0, 0, text=attack, heard=f"other {attack}", substitutions=1),
        a_connection(outcome="failed", reason=attack),
        a_second(),
        SampleRow(1.0, "server", attack, 1.0),
    ]
    page = report_on(tmp_path, rows, settings={attack: attack}, model=attack, url=attack)
    assert "script" not in page.tags
    assert page.text.count("alert(1)") >= 5


def test_recordings_keep_their_texts_to_themselves(tmp_path: Path) -> None:
    turn = a_turn(0, 0, text="my private words", heard="my privet words", substitutions=1)
    page = report_on(tmp_path, [turn, a_second()], corpus="recordings")
    assert "private" not in page.text
    assert "Texts are left out" in page.text
    shown_page = Page(build_report(tmp_path, with_text=True).read_text("utf-8"))
    assert "private" in shown_page.text


def test_synthetic_texts_can_be_left_out(lively: Path) -> None:
    hidden = Page(build_report(lively, with_text=False).read_text("utf-8"))
    assert not any(sentence in hidden.text for sentence in SENTENCES)
    assert "Utterances with the most word errors" in Page(build_report(lively).read_text()).text


def test_an_empty_run_has_a_report_that_says_so(tmp_path: Path) -> None:
    page = report_on(tmp_path, [])
    assert page.open == []
    assert "Void: the load generator left no record of its own lag" in page.text
    assert "svg" not in page.tags


def test_a_void_run_ticks_nothing(tmp_path: Path) -> None:
    rows: list[Row] = [a_turn(0, i) for i in range(120)]
    page = report_on(tmp_path, [*rows, a_connection(), a_second(lag_histogram="900:100")])
    assert "✓" not in page.text
    assert "– transcription delay p95 < 500 ms 300 ms 120" in page.text


def test_one_lonely_turn_is_drawn(tmp_path: Path) -> None:
    page = report_on(tmp_path, [a_turn(transcription_delay_s=0.0), a_second(lag_max_s=0.0)])
    assert page.tags.count("svg") == 5


def test_only_missing_finals_are_no_distribution(tmp_path: Path) -> None:
    page = report_on(tmp_path, [a_turn(transcription_delay_s=None), a_second()])
    assert "Utterances by delay" not in page.text
    assert "Who spoke when" in page.text


def test_early_finals_are_drawn_left_of_zero(tmp_path: Path) -> None:
    report_on(tmp_path, [a_turn(0, i, transcription_delay_s=-0.1 * i) for i in range(4)])
    markup = (tmp_path / "report.html").read_text("utf-8")
    assert "-300 to" in markup
    assert not re.search(r'(width|height)="-', markup)


def test_a_long_run_shows_the_stretch_around_its_slowest_turn(tmp_path: Path) -> None:
    turns = [a_turn(0, i) for i in range(100)]
    turns[60] = a_turn(0, 60, transcription_delay_s=3.0)
    page = report_on(tmp_path, [*turns, a_second()])
    assert "256 to 346 s" in page.text


def test_of_many_speakers_the_slowest_are_shown(tmp_path: Path) -> None:
    turns = [a_turn(i, 0, transcription_delay_s=0.1 + 0.01 * i) for i in range(60)]
    page = report_on(tmp_path, turns)
    assert "50 of 60 speakers are drawn" in page.text
    assert "speaker 59" in page.text
    assert "speaker 9 " not in page.text


def test_the_self_test_model_is_named(tmp_path: Path) -> None:
    kind = {"model": "selftest", "model_kind": "self-test model"}
    page = report_on(tmp_path, [a_turn(), a_connection(), a_second()], **kind)
    assert "1 speaker held with the self-test model" in page.text
    assert "understands the built-in synthetic speakers only" in page.text


def test_the_run_is_judged_by_its_own_targets(tmp_path: Path) -> None:
    rows: list[Row] = [a_turn(0, i) for i in range(120)]
    page = report_on(tmp_path, [*rows, a_second()], targets=["transcription_delay_p95<200ms"])
    assert "Missed with 0 speakers: transcription delay p95 300 ms, target < 200 ms." in page.text
    assert "target 200 ms" in page.text


def test_targets_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with RunWriter(tmp_path, a_manifest(targets=["fast"]), FakeClock()):
        pass
    with pytest.raises(RecordError, match="targets: expected an objective"):
        build_report(tmp_path)


def test_why_connections_failed_is_counted(tmp_path: Path) -> None:
    refused: dict[str, Any] = {"outcome": "refused", "reason": "server full", "connection_s": None}
    page = report_on(tmp_path, [a_connection(i, **refused) for i in range(3)])
    assert "refused server full 3" in page.text


def test_definitions_are_those_of_the_documentation() -> None:
    page = (REPOSITORY / "docs" / "measurements.md").read_text("utf-8")
    for definition in DEFINITIONS:
        assert f"| {definition.name} | {definition.text} |" in page


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4), st.integers(2, 12))
@settings(deadline=None)
def test_ticks_are_round_and_inside(low: float, span: float, count: int) -> None:
    ticks = round_ticks(low, low + span, count)
    assert len(ticks) <= count + 1
    assert all(low - span * 1e-6 - 1e-8 <= tick <= low + span * (1 + 1e-6) + 1e-8 for tick in ticks)


def test_a_scale_maps_its_ends() -> None:
    scale = Scale(2.0, 4.0, 100.0, 0.0)
    assert (scale(2.0), scale(3.0), scale(4.0)) == (100.0, 50.0, 0.0)


@given(st.lists(st.sampled_from(["a", "b", "c"])), st.lists(st.sampled_from(["a", "b", "d"])))
@settings(deadline=None)
def test_word_changes_contain_both_texts(said: list[str], heard: list[str]) -> None:
    changes = word_changes(" ".join(said), " ".join(heard))
    old = " ".join(words for kind, words in changes if kind != "new")
    new = " ".join(words for kind, words in changes if kind != "lost")
    assert (old.split(), new.split()) == (said, heard)


def terminal_text(renderable: Any) -> str:
    console = Console(width=110, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get()


def test_the_terminal_shows_marks_and_n(lively: Path) -> None:
    summary = summarize(load_run(lively))
    objectives = [parse_objective("transcription_delay_p50<500ms"), parse_objective("errors<1%")]
    judgement = judge(summary, objectives)
    written = terminal_text(verdict_table(summary, judgement))
    median = summary.metrics["transcription_delay"].p50
    assert median is not None
    assert re.search(
        rf"✓\s+transcription delay p50\s+{shown(median, 's')}\s+< 500 ms\s+n=41", written
    )
    assert re.search(r"✗\s+errors\s+1\.16 %\s+< 1 %\s+n=86 attempts", written)
    heard = " ".join(written.partition("heard: ")[2].split())
    assert heard.startswith("WER ")
    assert "1 of 41 finals lost, 1 cut by a premature final, 0 words of cross-talk" in heard
    assert "measured with base.en (whisper)" in written
    assert judgement.sentence in terminal_text(verdict_panel(summary, judgement))


def test_the_terminal_names_the_self_test_model_and_a_void_run(tmp_path: Path) -> None:
    manifest = a_manifest(model="selftest", model_kind="self-test model")
    with RunWriter(tmp_path, manifest, FakeClock()) as writer:
        writer.append(a_turn(), a_second(cpu_ratio=0.97))
    summary = summarize(load_run(tmp_path))
    written = terminal_text(verdict_table(summary, judge(summary)))
    assert "measured with the self-test model" in written
    assert "void: the load generator used 97 % of a core" in written
    assert "✓" not in written


def test_turns_are_named_by_their_rank_where_they_are_few(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    stages = figures(run, summarize(run), 0.5)["server-stages"].svg
    assert "median turn, n=" in stages
    assert "longest turn, n=" in stages
    assert "queue wait: " in stages
    assert "queue_wait: " not in stages
    assert "LLM first token" in stages
    hidden = [r for r in ET.fromstring(stages).iter("rect") if r.get("class") == "hidden-work"]
    assert hidden
    assert all(float(r.get("width", 0)) >= 4 for r in hidden)


def test_every_tick_is_inside_its_figure() -> None:
    for last in (1.0, 33.3, 99.9):
        axis = bottom_axis(Scale(0, last, 84, 944), 200, 20, "ms", 100_000)
        texts = [ET.fromstring(part) for part in axis if part.startswith("<text")]
        for tick in texts:
            assert float(tick.get("x", 0)) + 3.2 * len(tick.text or "") <= 960


def test_delay_over_time_names_its_target(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    assert "target 500 ms" in figures(run, summarize(run), 0.5)["delay-over-time"].svg


def test_what_was_never_asked_for_has_no_row(tmp_path: Path) -> None:
    page = report_on(tmp_path, [a_turn(), a_connection(), a_second()])
    assert "barge-in latency –" not in page.text
    assert "barge-in latency 0" not in page.text


def test_an_interrupted_run_is_ticked_nowhere(tmp_path: Path) -> None:
    rows: list[Row] = [a_turn(0, i) for i in range(7)]
    told = {"interrupted": True, "planned_duration_s": 90.0, "duration_s": 60.0}
    page = report_on(tmp_path, [*rows, a_connection(), a_second()], **told)
    summary = load_summary(tmp_path)
    written = terminal_text(verdict_panel(summary, judge(summary)))
    for text in (page.text, written):
        assert "Interrupted after 60 of 90 s: not judged." in text
        assert "✓" not in text
    assert summary.interrupted


def test_few_samples_and_a_model_that_understands_nothing_are_said_aloud(tmp_path: Path) -> None:
    turns = [a_turn(0, i, deletions=5) for i in range(3)]
    with RunWriter(tmp_path, a_manifest(), FakeClock()) as writer:
        writer.append(*turns, a_connection(), a_second())
    summary = summarize(load_run(tmp_path))
    written = terminal_text(verdict_panel(summary, judge(summary)))
    assert "few samples: n=3" in written
    assert "few samples: n=1 connections" in written
    assert "WER 62.5 % (0 S, 15 D, 0 I of 24 words)" in written
    assert "almost nothing was understood" in written
    good = replace(summary, accuracy=replace(summary.accuracy, wer=0.5))
    assert "almost nothing" not in terminal_text(verdict_panel(good, judge(good)))


def test_a_number_and_its_unit_stay_on_one_line(tmp_path: Path) -> None:
    rows: list[Row] = [a_turn(0, i) for i in range(7)]
    report_on(tmp_path, [*rows, a_connection(), a_second()])
    assert "300\N{NO-BREAK SPACE}ms" in (tmp_path / "report.html").read_text("utf-8")
    summary = load_summary(tmp_path)
    for width in range(20, 70):
        lines = terminal_text(verdict_panel(summary, judge(summary), width)).splitlines()
        assert not any(line.rstrip().endswith(("300", "500", "<")) for line in lines)


@given(
    st.lists(st.none() | st.floats(-0.5, 5), min_size=1, max_size=40),
    st.none() | st.floats(0.05, 3),
)
@settings(deadline=None, max_examples=40)
def test_any_run_can_be_drawn(
    tmp_path_factory: pytest.TempPathFactory, delays: list[float | None], target_s: float | None
) -> None:
    folder = tmp_path_factory.mktemp("any")
    with RunWriter(folder, a_manifest(), FakeClock()) as writer:
        writer.append(*(a_turn(i % 5, i, transcription_delay_s=d) for i, d in enumerate(delays)))
    run = load_run(folder)
    for figure in figures(run, summarize(run), target_s).values():
        root = ET.fromstring(figure.svg)
        assert root.get("viewBox")
        lengths = [each.get(side) for each in root.iter() for side in ("width", "height")]
        assert all(math.isfinite(float(n)) and float(n) >= 0 for n in lengths if n is not None)
