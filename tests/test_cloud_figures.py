"""What a group is told of a server, and why it is not told more."""

from dataclasses import replace
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtvc.server.cloud.figures import STANDBY, Figure, Standing, figures, metric_data
from tests.servers import ROOT

READY = Standing("ready", sessions=3, max_sessions=16, capacity=8)


def told(standing: Standing) -> dict[str, float]:
    return {figure.name: figure.value for figure in figures(standing)}


def average(*standings: Standing) -> float:
    """Of how full they are, as CloudWatch has it of the group."""
    published = [told(each) for each in standings]
    return fmean(each["SessionsPerCapacity"] for each in published if "SessionsPerCapacity" in each)


def test_a_server_that_is_ready_tells_all() -> None:
    assert figures(READY) == [
        Figure("Sessions", 3, "Count"),
        Figure("Ready", 1.0, "None"),
        Figure("Aside", 0.0, "Count"),
        Figure("Capacity", 8, "Count"),
        Figure("Headroom", 5, "Count"),
        Figure("SessionsPerCapacity", 37.5, "Percent"),
        Figure("DemandPerCapacity", 100 * (3 + 3**0.5) / 8, "Percent"),
    ]


def test_the_pages_say_how_many_metrics_are_paid() -> None:
    number = len(figures(READY))
    said = (ROOT / "docs" / "ec2_server.md").read_text("utf-8")
    assert f"with {2 * number} values" in said
    assert f"for {number} metrics of the group and {number} of each instance" in said
    paid = (ROOT / "infra" / "terraform" / "README.md").read_text("utf-8")
    assert f"{number} for the group, {number} for each server" in paid


def test_together_they_ask_for_their_sessions_and_the_root_of_these() -> None:
    servers = [replace(READY, sessions=4, servers=4) for _ in range(4)]
    asked = fmean(told(each)["DemandPerCapacity"] for each in servers)
    assert asked == pytest.approx(100 * (16 + 4) / (4 * 8))


def test_a_group_in_which_nobody_is_asks_for_nothing() -> None:
    assert told(replace(READY, sessions=0, servers=4))["DemandPerCapacity"] == 0.0


@pytest.mark.parametrize("state", ["starting", "loading", "warming", "draining", "failed", STANDBY])
def test_who_takes_nobody_is_counted_and_not_averaged(state: str) -> None:
    assert told(replace(READY, state=state)) == {"Sessions": 3, "Ready": 0.0, "Aside": 0.0}


def test_a_server_that_loads_does_not_hide_that_the_others_are_full() -> None:
    full = replace(READY, sessions=8)
    loading = Standing("loading", sessions=0, max_sessions=16, capacity=8)
    assert average(full, full, loading) == 100.0


def test_a_server_that_drains_neither_hides_nor_adds_anything() -> None:
    others = (replace(READY, sessions=6), replace(READY, sessions=4))
    for left in (8, 1, 0):
        draining = replace(READY, state="draining", sessions=left)
        assert average(*others, draining) == average(*others) == 62.5


def test_a_server_that_stands_aside_is_averaged_as_it_is_in_service() -> None:
    found = told(replace(READY, state="aside"))
    assert (found["Ready"], found["Aside"], found["Headroom"]) == (1.0, 1.0, 0)
    assert (found["Sessions"], found["Capacity"], found["SessionsPerCapacity"]) == (3, 8, 37.5)
    # EC2 Auto Scaling multiplies with three of them: that has to come to the sessions there are.
    others = (replace(READY, sessions=6), replace(READY, sessions=6))
    aside = replace(READY, state="aside", sessions=0)
    assert 3 * average(*others, aside) == 2 * average(*others) == 150.0


def test_while_the_engine_is_replaced_its_people_count() -> None:
    found = told(replace(READY, state="restarting"))
    assert (found["Ready"], found["SessionsPerCapacity"]) == (0.0, 37.5)


def test_a_server_that_refuses_callers_is_full_whatever_its_capacity_says() -> None:
    found = told(replace(READY, closed=True, headroom=0.4))
    assert (found["SessionsPerCapacity"], found["Headroom"]) == (100.0, 0)
    assert found["DemandPerCapacity"] == 100.0


def test_it_can_be_more_than_full() -> None:
    found = told(replace(READY, sessions=12))
    assert (found["SessionsPerCapacity"], found["Headroom"]) == (150.0, 0)


@pytest.mark.parametrize(
    ("capacity", "slots", "holds"), [(None, 16, 16), (8, 16, 8), (8, 4, 4), (16, 16, 16)]
)
def test_a_server_holds_no_more_than_it_has_slots(
    capacity: int | None, slots: int, holds: int
) -> None:
    standing = Standing("ready", sessions=1, max_sessions=slots, capacity=capacity)
    assert told(standing)["Capacity"] == holds
    assert told(standing)["SessionsPerCapacity"] == 100 / holds


@pytest.mark.parametrize(
    ("sessions", "headroom", "expected"),
    [(3, None, 5), (3, 2.9, 2), (3, 40.0, 5), (3, 0.4, 0), (3, -2.0, 0), (0, 0.4, 1), (0, None, 8)],
)
def test_headroom_is_the_callers_who_would_find_a_place(
    sessions: int, headroom: float | None, expected: int
) -> None:
    assert told(replace(READY, sessions=sessions, headroom=headroom))["Headroom"] == expected


def test_the_boot_is_told_where_it_is_known() -> None:
    assert "BootToReady" not in told(READY)
    assert figures(replace(READY, boot_to_ready_s=95.0))[-1] == Figure(
        "BootToReady", 95.0, "Seconds"
    )


standings = st.builds(
    Standing,
    state=st.sampled_from(["ready", "restarting", "aside", "loading", "draining"]),
    sessions=st.integers(0, 500),
    max_sessions=st.integers(1, 500),
    capacity=st.none() | st.integers(1, 500),
    headroom=st.none() | st.floats(-10, 500),
    closed=st.booleans(),
    servers=st.integers(1, 100),
)


@given(standings)
def test_figures_keep_to_each_other(standing: Standing) -> None:
    found = told(standing)
    assert all(value >= 0 for value in found.values())
    if "Capacity" in found:
        assert 1 <= found["Capacity"] <= standing.max_sessions
        assert (found["SessionsPerCapacity"] >= 100) == (
            standing.closed or standing.sessions >= found["Capacity"]
        )
        assert not (standing.closed and found["Headroom"])
        assert found["DemandPerCapacity"] >= found["SessionsPerCapacity"]
        alone = told(replace(standing, servers=1))
        assert found["DemandPerCapacity"] <= alone["DemandPerCapacity"]


def test_the_groups_figures_have_no_other_dimension() -> None:
    data = metric_data(figures(READY), instance_id="i-1", group="voice")
    names = [figure.name for figure in figures(READY)]
    group = [{"Name": "AutoScalingGroupName", "Value": "voice"}]
    own = [{"Name": "InstanceId", "Value": "i-1"}]
    assert [(one["MetricName"], one["Dimensions"]) for one in data] == [
        *((name, group) for name in names),
        *((name, own) for name in names),
    ]
    assert {one["StorageResolution"] for one in data} == {1}


def test_an_instance_without_a_group_tells_its_own() -> None:
    data = metric_data(figures(READY), instance_id="i-1", group=None)
    assert {one["Dimensions"][0]["Name"] for one in data} == {"InstanceId"}
    assert len(data) == len(figures(READY))
