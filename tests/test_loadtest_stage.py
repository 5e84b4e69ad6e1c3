"""Who is on: orders as the generator obeys them, and rows as the search reads them."""

from pathlib import Path

import gevent
import pytest

from rtvc.clock import FakeClock
from rtvc.errors import UsageError
from rtvc.loadtest.plan import Wish, make_spec
from rtvc.loadtest.search.driver import Search, step_line
from rtvc.loadtest.search.rules import StepRules
from rtvc.loadtest.speakers.stage import Stage
from rtvc.loadtest.spec import LoadSpec, Order, load_order
from rtvc.record import (
    Manifest,
    Row,
    RowTail,
    RunWriter,
    StepRow,
    TurnRow,
    append_rows,
    load_run,
    new_manifest,
)
from rtvc.slo import parse_objectives
from tests.synthetic_run import a_connection, a_second, a_turn

URL = "ws://127.0.0.1:8000"


def test_an_order_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "order.json"
    assert load_order(path) is None
    order = Order(3, 8, 1.6)
    order.save(path)
    assert load_order(path) == order


def test_speakers_come_when_they_are_wanted_one_after_another() -> None:
    stage = Stage()
    stage.obey(Order(0, 4, 2.0), 10.0)
    assert [stage.enter(number, -1) for number in range(4)] == [
        (0, 10.0),
        (0, 10.5),
        (0, 11.0),
        (0, 11.5),
    ]
    waiting = gevent.spawn(stage.enter, 5, -1)
    gevent.sleep(0)
    assert not waiting.ready()
    assert not stage.obey(Order(0, 8, 2.0), 11.0), "an order is obeyed once"
    assert stage.obey(Order(1, 8, 2.0), 20.0)
    assert waiting.get(timeout=5) == (1, 20.5)
    assert stage.speakers == 8


def test_a_speaker_whose_call_broke_waits_for_the_next_order() -> None:
    stage = Stage()
    stage.obey(Order(0, 4, 2.0), 10.0)
    again = gevent.spawn(stage.enter, 2, 0)
    gevent.sleep(0)
    assert not again.ready()
    stage.obey(Order(1, 4, 2.0), 30.0)
    assert again.get(timeout=5) == (1, 30.0), "at once: it was here before"


def test_when_it_is_over_everyone_goes_home() -> None:
    stage = Stage()
    waiting = gevent.spawn(stage.enter, 0, -1)
    gevent.sleep(0)
    assert stage.obey(Order(-1, 0, 0.0, over=True), 5.0)
    assert waiting.get(timeout=5) is None
    assert stage.enter(0, -1) is None


def test_rows_are_read_once_as_they_come(tmp_path: Path) -> None:
    tail = RowTail(tmp_path, TurnRow)
    assert tail.read() == []
    first, second = a_turn(0, 0, heard='a "quoted"\nline'), a_turn(0, 1, heard="")
    with RunWriter(tmp_path, a_manifest(), FakeClock()) as writer:
        writer.append(first)
        assert tail.read() == [first]
        assert tail.read() == []
        writer.append(second)
    path = tmp_path / "turns.csv"
    whole = path.read_bytes()
    cut = whole.index(b"\n", len(whole) // 2) - 30
    path.write_bytes(whole[:cut])
    fresh = RowTail(tmp_path, TurnRow)
    before = fresh.read()
    path.write_bytes(whole)
    assert before + fresh.read() == [first, second]
    assert tail.read() == [second]


def a_manifest() -> Manifest:
    return new_manifest(["rtvc", "loadtest", URL], FakeClock())


# A search over a run that a fake generator writes.


class FakeGenerator:
    """Obeys orders second by second; a server that is too slow beyond `knee` speakers answers."""

    def __init__(self, spec: LoadSpec, knee: int) -> None:
        self.spec = spec
        self.knee = knee
        self.writer = RunWriter(Path(spec.run_dir), a_manifest(), FakeClock())
        self.at_s = 0.0
        self.here = 0
        self.utterance = 0

    def second(self) -> None:
        self.at_s += 1.0
        order = load_order(self.spec.order_file)
        wanted = order.speakers if order else 0
        rows: list[Row] = [
            a_connection(number, opened_at_s=self.at_s, closed_at_s=None)
            for number in range(self.here, wanted)
        ]
        self.here = wanted
        delay_s = 0.3 if wanted <= self.knee else 0.9
        for number in range(wanted):
            self.utterance += 1
            start = self.at_s - 4.0
            shown = {"transcription_delay_s": delay_s, "response_latency_s": None}
            rows.append(a_turn(number, self.utterance, start=start, **shown, reply_expected=False))
        self.writer.append(*rows, a_second(self.at_s, speakers=self.here))


def test_a_search_orders_steps_and_records_them(tmp_path: Path) -> None:
    run_dir, work_dir = tmp_path / "run", tmp_path / "work"
    work_dir.mkdir()
    spec = make_spec(Wish(URL, speakers=16, find_capacity=True, step_s=10), run_dir, work_dir)
    told: list[str] = []
    rules = StepRules(parse_objectives(["transcription_delay_p95<500ms"]), measure_s=10)
    search = Search(spec, rules, 1, on_step=told.append, on_progress=lambda _: None)
    search.poll()
    assert not spec.order_file.exists(), "there is no run yet"
    generator = FakeGenerator(spec, knee=3)
    for _ in range(2000):
        generator.second()
        search.poll()
        if search.over:
            break
    generator.writer.close()
    order = load_order(spec.order_file)
    assert order is not None
    assert order.over
    steps = load_run(run_dir).steps
    assert [step.speakers for step in steps] == [1, 2, 4, 3, 3, 4]
    assert [step.outcome for step in steps] == [
        *("passed", "passed", "failed"),
        *("passed", "passed", "failed"),
    ]
    confirmed = [step for step in steps if (step.purpose, step.outcome) == ("confirm", "passed")]
    assert confirmed
    assert all(step.utterances >= 100 for step in confirmed)
    assert told[0] == "✓ 1 speaker: transcription delay max 300 ms, n=" + str(steps[0].utterances)
    assert told == [step_line(step) for step in steps]


def test_steps_are_appended_beside_the_writer_of_the_run(tmp_path: Path) -> None:
    step = StepRow(
        *(0, 8, "climb", 1.0, None, 2.0, "failed", 'said "no", twice', None, True, 0, 0, 0),
        *(None, None, None, None, None, None),
    )
    with RunWriter(tmp_path, a_manifest(), FakeClock()) as writer:
        append_rows(tmp_path, step)
        writer.append(a_second(1.0))
        append_rows(tmp_path, step)
    assert load_run(tmp_path).steps == [step, step]
    assert step_line(step) == '✗ 8 speakers: said "no", twice'


def test_a_search_has_no_ramp_or_warm_up_of_its_own(tmp_path: Path) -> None:
    spec = make_spec(Wish(URL, speakers=64, find_capacity=True), tmp_path, tmp_path)
    assert (spec.kind, spec.warm_up_s, spec.ramp_s, spec.speakers) == ("search", 0.0, 0.0, 64)
    assert spec.duration_s > 3600


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (Wish(URL, find_capacity=True, speakers=8, start_speakers=9), "--start-speakers of 1 to 8"),
        (Wish(URL, find_capacity=True, step_s=1), "--step-duration of 5"),
        (Wish(URL, find_capacity=True, storm_rounds=3), "a search or a connect storm"),
        (Wish(URL, frame_ms=30, protocol="openai-realtime"), "--frame-ms of 20, 40, 60, 100"),
    ],
)
def test_what_cannot_be_searched_is_said(wish: Wish, expected: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=expected):
        make_spec(wish, tmp_path, tmp_path)
