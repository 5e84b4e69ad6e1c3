"""`rtvc plan` as a user meets it: from a bench on disk to a table, a file and a page."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rtvc.cli import main
from rtvc.clock import FakeClock
from rtvc.errors import RecordError, UsageError
from rtvc.plan.assumptions import assumptions
from rtvc.plan.fleet_rows import Market
from rtvc.plan.instances import load_instances
from rtvc.plan.making import Order, make_plan, measured_by
from rtvc.plan.variants import Choices, World, questions
from rtvc.record import (
    RunWriter,
    StepRow,
    TurnRow,
    complete_manifest,
    load_manifest,
    load_run,
    new_manifest,
)
from rtvc.report.plan_figures import plan_figures
from rtvc.report.plan_page import build_plan_report, outcome
from rtvc.report.plan_wording import dollars, verdict_text
from rtvc.results.cells import Cell
from rtvc.results.plan import (
    PLAN_FILE,
    Demand,
    FleetRow,
    Measured,
    Plan,
    Point,
    Service,
    Variant,
    load_plan,
    to_json,
    write_plan,
)
from tests.plan_worlds import CPU, TALK, source, write_bench
from tests.synthetic_run import a_turn

CELLS = [Cell("faster-whisper", "tiny.en", threads=threads) for threads in (1, 2)]

VARIANT = Variant(
    name="shared",
    model="tiny.en",
    model_kind="whisper",
    device="cpu",
    sharing="shared",
    gpus=1,
    workers=2,
    threads=1,
    max_batch=4,
    partials="adaptive",
    partial_interval_s=0.4,
    silence_s=None,
    service=Service(0.02, 0.08, 3.5, 0.1, 0.05, 12, 4, ((1, 1.0), (2, 1.3))),
    holds=8,
    fails_at=9,
    binding="transcription delay",
    points=(
        Point(8, 400, 0.3, 0.45, 0.6, 1.2, 0, 0, 1.4, 0.7, 0.2, 2.0),
        Point(9, 400, 0.3, float("inf"), None, float("inf"), 30, 0, None, 0.9, 0.2, None),
    ),
)

ROW = FleetRow(
    instance="g6.xlarge",
    gpu="L4",
    gpus=1,
    speed=0.5,
    basis="extrapolated",
    sessions_each=40,
    limited_by="inference",
    instances=4,
    refused=0.004,
    waiting=0.02,
    simulated_refused=0.005,
    usd_per_hour=0.8,
)


def a_plan(*variants: Variant, fleet: tuple[FleetRow, ...] = ()) -> Plan:
    return Plan(
        sentence="It would.",
        sources=("bench",),
        delay_target_s=0.5,
        partial_target_s=1.5,
        scenario="dictation",
        variants=variants or (VARIANT,),
        assumptions=("people speak", "<b>machines</b> listen"),
        demand=Demand(10_000, 1.0, 300.0, 0.15) if fleet else None,
        refused_target=0.01 if fleet else None,
        fleet=fleet,
        prices="a list" if fleet else None,
        seconds=1.5,
    )


def called(*arguments: str) -> int:
    """Exit code of `rtvc plan`."""
    with pytest.raises(SystemExit) as ended:
        main(["plan", *arguments])
    code = ended.value.code
    return code if isinstance(code, int) else 1


def search(folder: Path, holds: int, turns: Sequence[TurnRow] = ()) -> Path:
    """A run of `loadtest --find-capacity`."""
    manifest = new_manifest(
        ["rtvc", "loadtest"], FakeClock(), machine=CPU, targets=("transcription_delay_p95<500ms",)
    )
    with RunWriter(folder, manifest) as run:
        for number, (speakers, outcome_) in enumerate(
            ((holds, "passed"), (holds + 1, "failed")) * 2
        ):
            run.append(step(number, speakers, outcome_))
        for turn in turns:
            run.append(turn)
    return folder


def step(number: int, speakers: int, outcome_: str) -> StepRow:
    return StepRow(
        step=number,
        speakers=speakers,
        purpose="climb",
        ordered_at_s=10.0 * number,
        measured_from_s=10.0 * number + 1,
        measured_until_s=10.0 * number + 9,
        outcome=outcome_,
        reason=None,
        binding=None,
        stopped_early=False,
        utterances=100,
        errors=0,
        cut_utterances=0,
        delay_p50_s=0.3,
        delay_p95_s=0.4,
        delay_max_s=0.5,
        partial_interval_p50_s=1.0,
        trend=None,
        lag_p99_s=0.001,
    )


# The file


def test_a_plan_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    made = a_plan(replace(VARIANT, measured=Measured("run", 7, None, 0.5)), fleet=(ROW,))
    write_plan(tmp_path, made)
    assert load_plan(tmp_path) == made
    assert '"inf"' in (tmp_path / PLAN_FILE).read_text("utf-8")
    json.dumps(to_json(made), allow_nan=False)


def test_a_plan_of_another_version_is_refused(tmp_path: Path) -> None:
    write_plan(tmp_path, replace(a_plan(), schema=99))
    with pytest.raises(RecordError, match="schema version"):
        load_plan(tmp_path)


def test_a_broken_plan_is_named(tmp_path: Path) -> None:
    content = to_json(a_plan())
    del content["scenario"]
    (tmp_path / PLAN_FILE).write_text(json.dumps(content), "utf-8")
    with pytest.raises(RecordError, match="scenario") as caught:
        load_plan(tmp_path)
    assert PLAN_FILE in str(caught.value)


@pytest.mark.parametrize(
    ("holds", "measured", "close"),
    [(8, 8, True), (8, 7, True), (8, 6, False), (100, 90, True), (100, 80, False), (1, 0, True)],
)
def test_a_prediction_is_near_within_15_percent_or_one_speaker(
    holds: int, measured: int, close: bool
) -> None:
    found = Measured("run", measured, measured + 1, None)
    variant = replace(VARIANT, holds=holds, measured=found)
    assert variant.close is close
    assert a_plan(variant).agrees is close
    assert ("not within" in verdict_text(variant)) is not close
    assert replace(VARIANT, measured=None).close is None


@pytest.mark.parametrize(("holds", "close"), [(41, None), (60, None), (30, False)])
def test_a_search_that_found_no_end_refutes_only_what_is_less(
    holds: int, close: bool | None
) -> None:
    variant = replace(VARIANT, holds=holds, measured=Measured("run", 47, None, None))
    assert variant.close is close
    assert verdict_text(variant)


# Making


def order(**more: Any) -> Order:
    made = Order(
        sources=(source(),),
        choices=Choices(sharings=(("shared", 1), ("per-session", 1))),
        world=World(TALK, limit=12),
        scenario="dictation",
        catalogue=load_instances(),
    )
    return replace(made, **more)


def test_a_plan_says_what_holds_most_and_what_it_rests_on() -> None:
    found = make_plan(order(), FakeClock())
    assert [variant.name for variant in found.variants] == ["shared", "per-session"]
    best = max(found.variants, key=lambda variant: variant.holds)
    assert found.sentence.startswith(f"{best.name} would hold {best.holds}")
    assert found.fleet == ()
    assert found.agrees is None
    said = "\n".join(found.assumptions)
    for fact in ("inferences of tiny.en beam 1", "people speak", "cores", "own model"):
        assert fact in said


def test_a_fleet_is_priced_with_the_variant_that_holds_most() -> None:
    market = Market(Demand(500, 1.0, 300.0, 0.15), load_instances(), count=False, here_usd=0.1)
    found = make_plan(order(market=market), FakeClock())
    here = next(row for row in found.fleet if row.instance == "this machine")
    assert here.sessions_each == max(variant.holds for variant in found.variants)
    assert here.instances is not None
    assert "500 users" in found.sentence
    assert found.prices is not None
    assert "us-east-1" in found.prices
    assert any("extrapolated" in line for line in found.assumptions)


def test_predicted_stands_beside_measured(tmp_path: Path) -> None:
    plain = make_plan(order(), FakeClock())
    holds = plain.variants[0].holds
    beside = {"shared": search(tmp_path / "same", holds)}
    found = make_plan(order(beside=beside), FakeClock())
    assert found.variants[0].measured == Measured("same", holds, holds + 1, 0.5)
    assert found.variants[1].measured is None
    assert found.agrees is True
    far = {"shared": search(tmp_path / "far", 3 * holds + 4)}
    assert make_plan(order(beside=far), FakeClock()).agrees is False


def test_people_of_a_search_speak_beside_it_as_long_as_they_did_there(tmp_path: Path) -> None:
    turns = [
        a_turn(0, number, speech_start_at_s=20.0 * number, speech_end_at_s=20.0 * number + 12.0)
        for number in range(20)
    ]
    folder = search(tmp_path / "searched", 4, turns)
    plain = make_plan(order(), FakeClock())
    found = make_plan(order(beside={"shared": folder}), FakeClock())
    assert "shared: utterances as long as those in searched, 12.00 s on average" in (
        found.assumptions
    )
    # Longer utterances leave more time between finals, and are partials for longer.
    assert found.variants[0].points != plain.variants[0].points
    assert found.variants[1].points == plain.variants[1].points


def test_only_what_was_asked_about_can_stand_beside(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--beside to name a combination"):
        make_plan(order(beside={"pool:2": tmp_path}), FakeClock())


def test_only_a_search_can_stand_beside(tmp_path: Path) -> None:
    manifest = new_manifest(["rtvc", "loadtest"], FakeClock(), machine=CPU)
    with RunWriter(tmp_path / "run", manifest):
        pass
    with pytest.raises(
        UsageError, match="--find-capacity`, got a run without steps: `rtvc loadtest`"
    ):
        measured_by(load_run(tmp_path / "run"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"targets": ("transcription_delay_p95<1s",)}, "target p95"),
        ({"model": "large-v3"}, "model"),
        ({"settings": {"scenario": "conversation"}}, "scenario"),
    ],
)
def test_only_a_search_for_the_same_can_stand_beside(
    tmp_path: Path, change: dict[str, Any], expected: str
) -> None:
    folder = search(tmp_path / "run", 8)
    complete_manifest(folder, **change)
    with pytest.raises(UsageError, match=f"the plan.s {expected}"):
        make_plan(order(beside={"shared": folder}), FakeClock())


def test_what_was_left_out_is_an_assumption() -> None:
    asked = questions([source()], Choices())
    said = assumptions(asked, World(TALK), None, ["base.en: no"])
    assert said[-1] == "left out: base.en: no"
    assert len(said) == len(set(said))


# The page and the words


def test_the_page_shows_all_of_it_and_nothing_unescaped(tmp_path: Path) -> None:
    measured = replace(VARIANT, measured=Measured("run", 7, 8, 0.5), serve_flags=("--beam", "1"))
    write_plan(tmp_path, a_plan(measured, fleet=(ROW,)))
    with RunWriter(tmp_path, new_manifest(["rtvc", "plan", "b"], FakeClock(), machine=CPU)):
        pass
    page = build_plan_report(tmp_path).read_text("utf-8")
    for said in ("What if", "Predicted beside measured", "g6.xlarge", "extrapolated", "0.4 %"):
        assert said in page.replace("\N{NO-BREAK SPACE}", " ")
    assert "rtvc serve --beam 1" in page
    assert "&lt;b&gt;machines" in page
    assert "<b>machines" not in page
    assert "<script" not in page
    assert (tmp_path / "figures" / "fleet.svg").exists()


def test_a_figure_is_drawn_only_where_there_is_something_to_draw() -> None:
    assert [figure.name for figure in plan_figures(a_plan())] == ["delay-against-sessions"]
    bare = replace(VARIANT, points=(), holds=0)
    assert plan_figures(a_plan(bare)) == []
    unpriced = replace(ROW, usd_per_hour=None)
    assert len(plan_figures(a_plan(fleet=(unpriced,)))) == 1
    free = replace(ROW, usd_per_hour=0.0)
    assert len(plan_figures(a_plan(fleet=(free,)))) == 2


def test_what_stands_above_the_page() -> None:
    assert outcome(a_plan())[0] == "unjudged"
    near = replace(VARIANT, measured=Measured("run", 8, 9, None))
    assert outcome(a_plan(near))[0] == "met"
    assert outcome(a_plan(replace(near, holds=80)))[0] == "missed"
    assert dollars(None) == "–"


# The command


def test_the_command_leaves_a_folder_that_report_renders_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench, out = write_bench(tmp_path / "bench", CELLS), tmp_path / "plan"
    wanted = ("--sharing", "shared,pool:2", "--users", "200", "--price", "this machine=0.05")
    assert called(str(bench), "--out", str(out), *wanted) == 0
    said = capsys.readouterr().out
    for fact in ("shared", "pool:2", "assumed:", "200 users", "report:"):
        assert fact in said
    made = load_plan(out)
    asked = ["rtvc", "plan", str(bench), "--out", str(out), *wanted]
    assert load_manifest(out).command == shlex.join(asked)
    (out / "report.html").unlink()
    with pytest.raises(SystemExit) as ended:
        main(["report", str(out)])
    assert ended.value.code == 0
    assert (out / "report.html").exists()
    assert load_plan(out) == made
    with pytest.raises(SystemExit):
        main(["report", str(out), "--slo", "errors<1%"])
    assert "leave --slo out" in capsys.readouterr().err


def test_json_is_all_that_is_printed_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = write_bench(tmp_path / "bench", CELLS)
    assert called(str(bench), "--out", str(tmp_path / "plan"), "--json") == 0
    assert json.loads(capsys.readouterr().out)["variants"][0]["sharing"] == "shared"


def test_a_prediction_that_is_off_is_told_by_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = write_bench(tmp_path / "bench", CELLS)
    far = search(tmp_path / "far", 900)
    beside = ("--beside", f"shared={far}", "--out", str(tmp_path / "plan"))
    assert called(str(bench), *beside) == 99
    assert "not within 15 %" in capsys.readouterr().out.replace("\N{NO-BREAK SPACE}", " ")


def test_what_was_measured_is_never_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = write_bench(tmp_path / "bench", CELLS)
    before = (bench / "run.json").read_bytes()
    assert called(str(bench), "--out", str(bench)) == 2
    assert "holds a run" in capsys.readouterr().err
    assert (bench / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--sharing", "solo"), "--sharing shared, pool, pool:K or per-session"),
        (("--model", "large-v3"), "a model that was measured"),
        (("--scenario", "silence"), "speakers who stay"),
        (("--users", "10", "--refused", "200%"), "--refused"),
        (("--users", "10", "--instance", "g7.xlarge"), "expected an instance"),
        (("--users", "10", "--routing", "magic"), "--routing"),
        (("--users", "10", "--price", "g6.xlarge=free"), "--price"),
        (("--beside", "shared"), "--beside NAME=FOLDER"),
    ],
)
def test_a_wrong_flag_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    expected: str,
) -> None:
    bench = write_bench(tmp_path / "bench", CELLS[:1], rounds=1)
    assert called(str(bench), *flags, "--out", str(tmp_path / "plan")) == 2
    told = capsys.readouterr().err
    assert expected in told
    assert told.count("\n") == 1
    assert not (tmp_path / "plan").exists()


def test_a_folder_that_is_no_run_is_said_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(str(tmp_path / "nothing")) == 2
    assert "no run folder" in capsys.readouterr().err
