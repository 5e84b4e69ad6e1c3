"""Fleets: Erlang's formulas against their definitions and against calls that are counted."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.errors import UsageError
from rtvc.plan.erlang import refused, slots_for, waiting, waiting_s
from rtvc.plan.fleet import Routing, check, count_calls, instances_for, refused_by
from rtvc.plan.fleet_rows import HERE, Market, fleet_rows
from rtvc.plan.instances import MOST_FASTER, SHIPPED, Gpu, load_instances
from rtvc.plan.variants import Choices, World, answer, questions
from rtvc.results.plan import Demand
from tests.plan_worlds import TALK, source

BUSY = Demand(users=10_000, calls_per_day=1.0, call_s=300.0, busy_hour_share=0.15)

loads = st.floats(0.1, 60.0)


# Erlang


def by_definition(slots: int, erlangs: float) -> float:
    """B = (Aⁿ ÷ n!) ÷ Σ (Aᵏ ÷ k!), as Erlang wrote it."""
    terms = [erlangs**k / math.factorial(k) for k in range(slots + 1)]
    return terms[-1] / math.fsum(terms)


@given(slots=st.integers(0, 80), erlangs=loads)
@settings(deadline=None, max_examples=150)
def test_the_recursion_is_the_formula(slots: int, erlangs: float) -> None:
    assert refused(slots, erlangs) == pytest.approx(by_definition(slots, erlangs), rel=1e-9)


@given(slots=st.integers(1, 80), erlangs=loads, more=st.floats(0.0, 10.0))
@settings(deadline=None, max_examples=100)
def test_more_calls_and_fewer_slots_are_refused_more(
    slots: int, erlangs: float, more: float
) -> None:
    here = refused(slots, erlangs)
    assert 0 <= here <= 1
    assert refused(slots + 1, erlangs) <= here
    assert refused(slots, erlangs + more) >= here - 1e-12
    # Whoever waits keeps a place that a refused call would have left free.
    assert waiting(slots, erlangs) >= here - 1e-12


@given(erlangs=loads, at_most=st.floats(0.0001, 0.5))
@settings(deadline=None, max_examples=100)
def test_the_fewest_slots_are_enough_and_one_less_is_not(erlangs: float, at_most: float) -> None:
    slots = slots_for(erlangs, at_most)
    assert refused(slots, erlangs) <= at_most
    assert refused(slots - 1, erlangs) > at_most


def test_where_calls_pile_up_all_of_them_wait_for_ever() -> None:
    assert waiting(3, 3.0) == 1.0
    assert waiting_s(3, 4.0, 60.0) == math.inf
    assert waiting_s(2, 1.0, 60.0) == pytest.approx(20.0)
    assert slots_for(0.0, 0.01) == 0


def test_a_million_users_need_no_factorials() -> None:
    million = Demand(1_000_000, 1.0, 300.0, 0.15)
    assert million.erlangs == pytest.approx(12_500)
    needed = instances_for(million, 60, 0.01)
    assert needed is not None
    # Many slots together are nearly all in use.
    assert 12_500 / 60 * 0.95 < needed < 12_500 / 60 * 1.05
    assert refused_by(million, needed, 60) <= 0.01 < refused_by(million, needed - 1, 60)


# Counting


@pytest.mark.parametrize("routing", ["pooled", "random"])
def test_counted_calls_are_refused_as_the_formula_says(routing: Routing) -> None:
    """Lengths that are not exponential: Erlang B does not mind."""
    demand = replace(BUSY, users=2000)
    counted = count_calls(demand, 5, 5, routing, hours=24.0)
    expected = refused_by(demand, 5, 5, routing)
    assert counted.calls > 5000
    assert counted.refused_share == pytest.approx(expected, rel=0.25)
    assert counted.most_at_once <= 25


def test_random_routing_needs_more_than_a_balancer_that_knows() -> None:
    pooled = instances_for(BUSY, 10, 0.01)
    random = instances_for(BUSY, 10, 0.01, "random")
    assert pooled is not None
    assert random is not None
    assert random > pooled
    assert refused_by(BUSY, random, 10, "random") <= 0.01
    assert refused_by(BUSY, random - 1, 10, "random") > 0.01
    assert instances_for(BUSY, 0, 0.01) is None


def test_the_same_seed_counts_the_same_calls() -> None:
    assert count_calls(BUSY, 13, 10, seed=3) == count_calls(BUSY, 13, 10, seed=3)
    assert count_calls(BUSY, 13, 10, seed=3) != count_calls(BUSY, 13, 10, seed=4)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"users": 0}, "users"),
        ({"calls_per_day": 0.0}, "calls a day"),
        ({"call_s": 0.0}, "calls of 1 s"),
        ({"busy_hour_share": 0.01}, "busiest hour"),
    ],
)
def test_demand_that_nobody_has_is_refused(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        check(replace(BUSY, **change))


# Instances


def test_the_instances_that_ship_are_whole() -> None:
    catalogue = load_instances()
    families = {instance.name.partition(".")[0] for instance in catalogue.instances}
    assert {"g4dn", "g5", "g6", "g6e", "p4d", "p5"} <= families
    assert catalogue.prices.date
    assert catalogue.prices.source
    assert catalogue.prices.region == "us-east-1"
    assert all(each.usd_per_hour for each in catalogue.instances)
    names = [each.name for each in catalogue.instances]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("said", "gpu"),
    [
        ("NVIDIA A10G", "A10G"),
        ("Tesla T4", "T4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA GeForce RTX 3090", None),
        (None, None),
    ],
)
def test_a_gpu_is_known_by_what_its_driver_calls_it(said: str | None, gpu: str | None) -> None:
    found = load_instances().gpu_called(said)
    assert (found and found.name) == gpu


@given(bandwidth=st.floats(1, 5000), tflops=st.floats(1, 5000), other=st.floats(1, 5000))
@settings(deadline=None, max_examples=60)
def test_no_gpu_is_flattered(bandwidth: float, tflops: float, other: float) -> None:
    one, two = Gpu("one", 24, bandwidth, tflops), Gpu("two", 24, other, other)
    speed = one.speed_against(two)
    assert speed <= MOST_FASTER
    assert speed <= bandwidth / other
    assert speed <= tflops / other
    assert one.speed_against(one) == 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[instance]\n", "expected TOML"),
        ("[[machine]]\nname = 'x'\n", "machine"),
        ("[prices]\nregion = 'x'\n", "prices: kind"),
    ],
)
def test_a_broken_file_of_instances_is_named(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(UsageError, match=expected) as caught:
        load_instances(path)
    assert "mine.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('gpu = "T4"', 'gpu = "T5"'), "expected a GPU of the file"),
        (("vcpus = 4", "vcpus = 0"), "above 0"),
        (("usd_per_hour = 0.526", "usd_per_hour = -1"), "price of 0 or more"),
        (("usd_per_hour = 0.526", "usd_per_hours = 1"), "unknown key"),
        (("bandwidth_gb_s = 320", "bandwidth_gb_s = 0"), "figures above 0"),
        (("vcpus = 4", "vcpus = 'many'"), r"instance\[0\]: vcpus"),
    ],
)
def test_a_slip_in_a_file_of_instances_is_named(
    tmp_path: Path, change: tuple[str, str], expected: str
) -> None:
    text = SHIPPED.read_text("utf-8")
    assert change[0] in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(*change, 1), "utf-8")
    with pytest.raises(UsageError, match=expected):
        load_instances(path)


def test_prices_can_be_ones_own() -> None:
    catalogue = load_instances().only(["g6.xlarge"]).priced({"g6.xlarge": 0.4})
    assert [each.usd_per_hour for each in catalogue.instances] == [0.4]
    with pytest.raises(UsageError, match="expected an instance"):
        load_instances().only(["g7.xlarge"])


# Rows


def on_l4(**more: Any) -> tuple[World, Market]:
    market = Market(BUSY, load_instances().only(["g6.xlarge", "g5.xlarge"]), count=False)
    return World(TALK, limit=32), replace(market, **more)


def test_a_gpu_that_was_measured_is_not_called_extrapolated() -> None:
    world, market = on_l4()
    (question,) = questions([source(device="cuda", gpu="NVIDIA L4")], Choices())
    rows = {
        row.instance: row for row in fleet_rows(answer(question, world), question, world, market)
    }
    assert (rows["g6.xlarge"].basis, rows["g6.xlarge"].speed) == ("measured", 1.0)
    assert rows["g5.xlarge"].basis == "extrapolated"
    assert rows["g5.xlarge"].speed == pytest.approx(70 / 121)
    slow, fast = rows["g5.xlarge"].sessions_each, rows["g6.xlarge"].sessions_each
    assert slow is not None
    assert fast is not None
    assert slow <= fast
    assert all(row.refused is not None and row.refused <= 0.01 for row in rows.values())


def test_the_cheapest_fleet_comes_first_and_what_has_no_price_last() -> None:
    world, market = on_l4()
    (question,) = questions([source(device="cuda", gpu="NVIDIA L4")], Choices())
    rows = fleet_rows(answer(question, world), question, world, market)
    prices = [row.fleet_usd_per_hour for row in rows]
    known = [price for price in prices if price is not None]
    assert known == sorted(known)
    assert prices[-1] is None
    assert rows[-1].instance == HERE


def test_from_a_cpu_nothing_is_said_of_a_gpu_unless_the_user_knows() -> None:
    world, market = on_l4(speeds={"g6.xlarge": 8.0}, here_usd=0.1)
    (question,) = questions([source()], Choices())
    variant = answer(question, world)
    rows = {row.instance: row for row in fleet_rows(variant, question, world, market)}
    assert rows["g5.xlarge"].sessions_each is None
    assert "measured on a CPU" in rows["g5.xlarge"].basis
    assert rows["g6.xlarge"].basis == "given"
    assert rows["g6.xlarge"].instances is not None
    here = rows[HERE]
    assert here.sessions_each == variant.holds
    assert here.instances is not None
    assert here.fleet_usd_per_hour == pytest.approx(0.1 * here.instances)


def test_what_holds_nobody_is_never_bought() -> None:
    world, market = on_l4()
    huge = source(device="cuda", gpu="NVIDIA L4", memory_bytes=2**40)
    (question,) = questions([huge], Choices())
    found = answer(question, replace(world, gpu_bytes=24 * 2**30))
    assert (found.holds, found.binding) == (0, "memory")
    rows = fleet_rows(found, question, world, market)
    assert all(row.instances is None for row in rows)
