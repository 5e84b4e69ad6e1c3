"""`rtvc fleet simulate` as a user meets it: days, what would be otherwise, a file, a page."""

import json
import math
import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from rtvc.cli import main
from rtvc.clock import FakeClock
from rtvc.errors import RecordError, UsageError
from rtvc.plan.autoscaling import AS_SET_UP, EVERY_S, Scene, live, moments, otherwise, unsaid
from rtvc.plan.clairvoyant import Paid
from rtvc.plan.day import DAY_S, Day
from rtvc.plan.fleet_run import Order, assumptions, day_of, make_fleet_run
from rtvc.plan.policy import Policy, policy_file, read_policy
from rtvc.plan.scaling_fleet import Fleet
from rtvc.plan.simulate_command import spikes
from rtvc.record import load_manifest, new_manifest
from rtvc.report.autoscaling_figures import autoscaling_figures
from rtvc.report.autoscaling_page import write_fleet_report
from rtvc.report.autoscaling_wording import COLUMNS, cells, enclosed, sentence
from rtvc.results.autoscaling import (
    FLEET_FILE,
    DayRow,
    FleetRun,
    Moment,
    load_fleet,
    to_json,
    worst,
    write_fleet,
)
from tests.acceptance.autoscaling import compared, figures, promises, rows_table, scene, table
from tests.plan_worlds import CPU

GOOD = DayRow(
    name=AS_SET_UP,
    seed=0,
    calls=10_000,
    refused=4,
    cut=0,
    instance_s=360_000.0,
    bound_s=300_000.0,
    packed_s=303_000.0,
    most=61,
    least=2,
    wait_p50_s=3.0,
    wait_max_s=20.0,
)

MOMENTS = tuple(
    Moment(
        at_s=3600.0 * hour,
        arrivals=100 * hour,
        refused=hour % 3,
        calls=20 * hour,
        instances=3 + hour,
        wanted=2 + hour,
        aside=hour % 2,
        optimum=1 + hour,
    )
    for hour in range(24)
)


def a_run(*days: DayRow, others: tuple[DayRow, ...] = ()) -> FleetRun:
    run = FleetRun(
        sentence="",
        capacity=40,
        capacity_from="a search",
        policy={"target_percent": 82.0},
        days=days or (GOOD,),
        moments=MOMENTS,
        every_s=3600.0,
        others=others,
        assumptions=("calls come", "<b>bold</b> ones"),
        seconds=1.5,
    )
    return replace(run, sentence=sentence(run))


def a_scene(**more: Any) -> Scene:
    """Some thirty calls at once at most: a day of it takes a fifth of a second."""
    policy = read_policy(policy_file())
    known: dict[str, Any] = {"capacity": 5, "boot_s": policy.boot_s_assumed, "most": 20}
    fleet = Fleet(**{**known, **more})
    return Scene(Day(30.0), fleet, policy)


def called(*arguments: str) -> int:
    """Exit code of `rtvc fleet simulate`."""
    with pytest.raises(SystemExit) as ended:
        main(["fleet", "simulate", *arguments])
    code = ended.value.code
    return code if isinstance(code, int) else 1


# Days


def test_a_day_in_stretches_adds_up() -> None:
    lived = live(a_scene(), "a day", 1, pack=True)
    row, found = lived.row, moments(lived)
    assert len(found) == DAY_S / EVERY_S
    assert sum(each.arrivals for each in found) == row.calls
    assert sum(each.refused for each in found) == row.refused
    assert max(each.wanted for each in found) <= row.most
    paid_s = EVERY_S * sum(each.instances for each in found)
    assert paid_s == pytest.approx(row.instance_s, rel=0.03)
    assert all(each.calls <= 5 * each.instances for each in found)
    assert row.packed_s is not None
    assert row.bound_s <= row.packed_s <= row.instance_s
    assert lived.bound.instance_s == row.bound_s
    assert Paid(tuple(lived.tally.spans)).instance_s == row.instance_s


def test_a_fleet_begins_with_what_its_policy_would_keep() -> None:
    made = a_scene()
    at_first = round(made.day.share_at(-7200.0) * 30.0)
    held = 5 * made.policy.target_percent / 100
    assert made.wanted_at_first == math.ceil((at_first + math.sqrt(at_first)) / held)
    assert a_scene(room=False).wanted_at_first == math.ceil(at_first / held)
    assert a_scene(least=9).wanted_at_first == 9
    assert a_scene(most=2).wanted_at_first == 2


def test_the_busiest_moment_takes_the_instances_asked_for() -> None:
    made = Scene(day_of(6, 10), a_scene().fleet, a_scene().policy)
    lived = live(replace(made, fleet=replace(made.fleet, capacity=10)), "a day", 0)
    fewest = max(each.optimum for each in moments(lived))
    assert 6 <= fewest <= 8


def test_each_other_way_differs_from_the_one_that_is_set_up() -> None:
    made = a_scene()
    others = otherwise(made)
    assert len({str(each) for each in others.values()}) == len(others)
    assert made not in others.values()
    assert all(each.day == made.day for each in others.values())
    # What is AWS's to decide is neither in the policy nor ours.
    assert unsaid(made).keys() < others.keys()
    assert all(each.policy == made.policy for each in unsaid(made).values())


@pytest.mark.slow
def test_the_policy_that_ships_keeps_its_promises_and_protection_alone_does_not() -> None:
    """One of the days of `make bench-scaling`, which has five of two capacities."""
    as_set_up = scene(10)
    row = live(as_set_up, AS_SET_UP, 0, pack=True).row
    assert row.met, cells(row)
    assert all(promises(a_run(row)).values()), promises(a_run(row))
    ways = otherwise(as_set_up)
    alone = live(ways["protected while there are calls, nothing else"], "alone", 0).row
    assert alone.times > 1.5
    taken = live(ways["any instance goes"], "taken", 0).row
    assert taken.cut > 0
    turns = live(ways["round robin"], "in turn", 0).row
    assert turns.refused_share > 0.01
    hasty = live(ways["who stands aside refuses at once"], "hasty", 0).row
    assert hasty.refused_share > 2 * row.refused_share


# Words and verdicts


@pytest.mark.parametrize(
    ("change", "met", "said"),
    [
        ({}, True, "0.04 % of the callers are refused, and no call is cut."),
        ({"refused": 11}, False, "expected at most 0.1 % refused"),
        ({"cut": 1}, False, "and 1 call is cut: expected no call cut."),
        ({"cut": 2}, False, "and 2 calls are cut: expected no call cut."),
        ({"bound_s": 200_000.0}, False, "expected at most 1.35 times the least"),
        ({"cut": 1, "refused": 99}, False, "expected at most 0.1 % refused and no call cut"),
    ],
)
def test_a_day_is_good_or_it_is_said_why_not(change: dict[str, Any], met: bool, said: str) -> None:
    run = a_run(replace(GOOD, **change))
    assert run.met is met
    assert said in run.sentence
    assert run.sentence.startswith("100 instance-hours a day, ")


def test_of_several_days_the_worst_is_told() -> None:
    run = a_run(GOOD, replace(GOOD, seed=1, refused=9), replace(GOOD, seed=2, bound_s=290_000.0))
    *share_and_cut, times = worst(run.days)
    assert share_and_cut == [0.0009, 0]
    assert times == pytest.approx(360 / 290)
    assert "0.09 % of the callers" in run.sentence
    assert "1.24 times" in run.sentence
    assert "the worst of 3 days" in run.sentence


def test_every_column_has_a_cell() -> None:
    assert len(cells(GOOD)) == len(COLUMNS)
    nobody = replace(GOOD, refused=0, wait_p50_s=None, wait_max_s=None)
    assert cells(nobody)[2] == "–"
    assert "for ever" in cells(replace(GOOD, wait_max_s=math.inf))[2]
    assert "83" in enclosed(GOOD)
    assert enclosed(replace(GOOD, packed_s=None)) == ""


def test_a_day_without_calls_is_no_division_by_nothing() -> None:
    empty = replace(GOOD, calls=0, refused=0, bound_s=0.0)
    assert empty.refused_share == 0
    assert empty.times == math.inf


def test_promises_are_judged_each_by_itself() -> None:
    assert all(promises(a_run()).values())
    changes: tuple[dict[str, Any], ...] = (
        {"refused": 11},
        {"cut": 1},
        {"instance_s": 500_000.0},
        {"most": 59},
        {"least": 3},
        {"packed_s": 310_000.0},
        {"packed_s": None},
    )
    for change in changes:
        kept = promises(a_run(replace(GOOD, **change)))
        assert sum(not each for each in kept.values()) == 1, change


def test_the_table_has_a_row_for_each_day_and_each_other_way() -> None:
    other = replace(GOOD, name="otherwise", cut=3)
    swept = [{"target_percent": 82, "period_s": 10, "refused_share": 0.0004, "times": 1.3}]
    text = table({10: a_run(others=(other,))}, swept, [replace(GOOD, name="a spike")])
    for said in ("| as set up, day 0 |", "| otherwise, day 0 |", "| a spike, day 0 |", "| 82 % |"):
        assert said in text
    widths = {row.count("|") for row in rows_table("Day", [GOOD, other])}
    assert widths == {len(COLUMNS) + 2}


def test_where_aws_promises_nothing_it_is_said_what_would_be_bad() -> None:
    fine, bad = (name for name in list(unsaid(a_scene()))[:2])
    ours = replace(GOOD, name="an hour's delay", refused=99)
    rows = [ours, replace(GOOD, name=fine), replace(GOOD, name=bad, instance_s=999_999.0)]
    otherwise_table, silent_table = "\n".join(compared(rows)).split("| Where AWS promises nothing")
    assert "Not as it should be: an hour's delay." in otherwise_table
    assert f"Not as it should be: {bad}." in silent_table
    assert fine in silent_table
    assert "none of these" in "\n".join(compared([replace(GOOD, name=fine)]))
    assert compared([]) == []


def test_figures_are_json() -> None:
    told = figures(replace(GOOD, wait_max_s=math.inf))
    assert told["wait_max_s"] == "inf"
    json.dumps(told, allow_nan=False)


def test_assumptions_say_what_was_asked_for() -> None:
    made = a_scene(balancing="round-robin", retries=3, scale_in="drain", low=0.7)
    said = "\n".join(
        assumptions(replace(made, day=replace(made.day, spikes=spikes(["17:30=20%"]))))
    )
    facts = ("30 calls at once", "3 others", "deregistration delay are cut", "17:30", "20 %")
    for fact in (*facts, "below 70 % of it", "60 s after it is ready", "room for chance"):
        assert fact in said
    assert "room for chance" not in "\n".join(assumptions(a_scene(room=False)))
    assert len(set(assumptions(made))) == len(assumptions(made))


# The file, the page


def test_a_fleet_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    run = a_run(replace(GOOD, wait_max_s=math.inf), others=(GOOD,))
    write_fleet(tmp_path, run)
    assert load_fleet(tmp_path) == run
    assert '"inf"' in (tmp_path / FLEET_FILE).read_text("utf-8")
    json.dumps(to_json(run), allow_nan=False)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    write_fleet(tmp_path, replace(a_run(), schema=99))
    with pytest.raises(RecordError, match="schema version"):
        load_fleet(tmp_path)
    content = to_json(a_run())
    del content["days"]
    (tmp_path / FLEET_FILE).write_text(json.dumps(content), "utf-8")
    with pytest.raises(RecordError, match="days"):
        load_fleet(tmp_path)


def test_the_page_shows_all_of_it_and_nothing_unescaped(tmp_path: Path) -> None:
    run = a_run(others=(replace(GOOD, name="round robin", refused=900),))
    manifest = new_manifest(["rtvc", "fleet", "simulate"], FakeClock(), machine=CPU)
    page = write_fleet_report(tmp_path, run, manifest).read_text("utf-8")
    for said in ("As set up", "A day", "round robin", "target_percent", "a search", "1.20"):
        assert said in page.replace("\N{NO-BREAK SPACE}", " ")
    assert "&lt;b&gt;bold" in page
    assert "<b>bold" not in page
    assert "<script" not in page
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "day.svg",
        "otherwise.svg",
    }


def test_figures_are_drawn_only_of_what_there_is() -> None:
    assert [figure.name for figure in autoscaling_figures(a_run())] == ["day"]
    assert autoscaling_figures(replace(a_run(), moments=())) == []
    far = a_run(others=(replace(GOOD, name="far", instance_s=9e6), replace(GOOD, name="near")))
    drawn = autoscaling_figures(far)[1].svg
    assert "far" in drawn
    assert "30.00, 0.04 % refused" in drawn


# The command


def test_made_from_an_order_it_says_where_everything_comes_from() -> None:
    told: list[tuple[str, int]] = []
    order = Order(a_scene(), seeds=(4, 5), capacity_from="my-search")
    run = make_fleet_run(order, FakeClock(), lambda name, seed: told.append((name, seed)))
    assert [day.seed for day in run.days] == [4, 5]
    assert told == [(AS_SET_UP, 4), (AS_SET_UP, 5)]
    assert run.days[0].packed_s is not None
    assert run.others == ()
    assert (run.capacity, run.capacity_from) == (5, "my-search")
    assert run.policy["target_percent"] == a_scene().policy.target_percent
    assert run.sentence


@pytest.mark.slow
def test_the_command_leaves_a_folder_that_report_renders_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fleet"
    asked = ("--capacity", "4", "--instances", "5", "--spike", "12:00=30%", "--out", str(out))
    code = called(*asked)
    said = capsys.readouterr().out
    for fact in ("as set up, day 0", "assumed:", "instance-hours a day", "report:", "12:00"):
        assert fact in said
    made = load_fleet(out)
    assert code == (0 if made.met else 99)
    assert load_manifest(out).command == shlex.join(["rtvc", "fleet", "simulate", *asked])
    (out / "report.html").unlink()
    with pytest.raises(SystemExit) as ended:
        main(["report", str(out)])
    assert ended.value.code == code
    assert (out / "report.html").exists()
    assert load_fleet(out) == made
    with pytest.raises(SystemExit):
        main(["report", str(out), "--slo", "errors<1%"])
    assert "no --slo" in capsys.readouterr().err


@pytest.mark.slow
def test_the_same_day_otherwise_is_printed_as_json_where_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--capacity", "4", "--instances", "2", "--compare", "--json", "--out", str(tmp_path))
    called(*asked)
    told = json.loads(capsys.readouterr().out)
    assert len(told["others"]) == len(otherwise(a_scene()))
    assert {each["seed"] for each in told["others"]} == {0}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--capacity", "many"), "expected --capacity as a whole number from 1 on"),
        (("--capacity", "-5"), "expected --capacity as a whole number from 1 on"),
        (("--capacity", "2.5"), "expected --capacity as a whole number from 1 on"),
        (("--capacity", "0"), "from 1 to 100,000"),
        (("--capacity", "4", "--balancing", "magic"), "--balancing least, round-robin, fullest"),
        (("--capacity", "4", "--scale-in", "now"), "--scale-in aside, idle, drain"),
        (("--capacity", "4", "--low", "0%"), "--low of more than 0"),
        (("--capacity", "4", "--low", "low"), "--low of more than 0"),
        (("--capacity", "4", "--spike", "noon=20%"), "a time such as 17:30, got 'noon'"),
        (("--capacity", "4", "--spike", "17:30"), "--spike NAME=PART"),
        (("--capacity", "4", "--spike", "17:30=300%"), "--spike of more than 0"),
        (("--capacity", "4", "--least", "9", "--most", "3"), "--most of 9 (--least) or more"),
        (("--capacity", "4", "--policy", "none.json"), "cannot read the policy none.json"),
    ],
)
def test_a_wrong_flag_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    expected: str,
) -> None:
    assert called(*flags, "--out", str(tmp_path / "fleet")) == 2
    told = capsys.readouterr().err
    assert expected in told
    assert told.count("\n") == 1
    assert not (tmp_path / "fleet").exists()


def test_what_was_measured_is_never_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").write_text("{}", "utf-8")
    assert called("--capacity", "4", "--out", str(tmp_path)) == 2
    assert "holds a run" in capsys.readouterr().err
    assert (tmp_path / "run.json").read_text("utf-8") == "{}"


def test_a_policy_of_ones_own_is_taken(tmp_path: Path) -> None:
    mine = {**{each.name: 60.0 for each in fields(Policy)}, "target_percent": 40}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(mine), "utf-8")
    assert read_policy(path).target_percent == 40
    with pytest.raises(UsageError):
        read_policy(tmp_path)
