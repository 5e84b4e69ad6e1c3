"""The worlds that a diagnosis is tested on: sound ones are, figures add up, faults hurt."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest

from rtvc.record import RowTail, SampleRow, load_run
from rtvc.server.measuring.metrics import METRICS
from rtvc.summary import load_summary, summarize
from tests.diagnosis_worlds.cases import (
    FELT,
    MORE_S,
    PAIRS,
    TIMES,
    healthy,
    hurts,
    ill,
    is_sound,
    lag_s,
)
from tests.diagnosis_worlds.faults import DRAWS, NONE, Faults, together
from tests.diagnosis_worlds.kernel import Kernel, Signal
from tests.diagnosis_worlds.machine import Lane, Processor
from tests.diagnosis_worlds.recording import PHASES, Phase, Story, simulate, write
from tests.diagnosis_worlds.world import World, draw

USUAL = replace(
    draw(1),
    cpus=4,
    memory_bytes=16_000_000_000,
    gpu=False,
    fixed_s=0.05,
    per_audio_s=0.01,
    marginal=0.7,
    workers=4,
    threads=1,
    max_batch=2,
    silence_s=0.25,
    hesitation_s=0.1,
    turn_model_s=None,
    network_s=0.0001,
    llm_s=(0.2, 0.1),
    tts_s=0.05,
    speakers=4,
    duration_s=7.0,
)
"""A world of short phases, so that tests are quick."""


@cache
def told(world: World = USUAL, faults: Faults = NONE) -> Story:
    return simulate(world, faults)


def values(rows: list[SampleRow], name: str) -> list[float]:
    return [row.value for row in rows if row.name == name]


def segments(phase: Phase, name: str, stage: str = "transcript") -> list[float]:
    return [
        row.duration_s
        for row in phase.server_turns
        if (row.segment, row.stage, row.hidden) == (name, stage, False)
    ]


def restarts(story: Story) -> float:
    return values(story.many.samples, "rtvc_engine_restarts_total")[-1]


# The parts.


def _note(ended: dict[str, float], name: str, kernel: Kernel, _: object) -> None:
    ended[name] = kernel.now


def test_what_is_due_first_happens_first() -> None:
    kernel, seen, over = Kernel(), list[int](), Signal()
    for number, instant_s in enumerate((2.0, 1.0, 1.0)):
        kernel.at(instant_s, seen.append, number)
    kernel.at(3.0, over.fire)
    kernel.run(over, 10.0)
    assert seen == [1, 2, 0]


def test_cores_are_shared_evenly() -> None:
    kernel, ended = Kernel(), dict[str, float]()
    cores = Processor(kernel, 2.0)
    for name, seconds in (("short", 1.0), ("long", 2.0), ("middle", 1.5)):
        cores.work(name, seconds).then(partial(_note, ended, name, kernel))
    kernel.run(Signal(), 10.0)
    # Three on two cores until the first is done: each gets two thirds.
    assert ended == pytest.approx({"short": 1.5, "middle": 2.0, "long": 2.5})
    assert cores.used_s("long") == pytest.approx(2.0)


def test_a_way_keeps_the_order() -> None:
    kernel, delays = Kernel(), iter((0.5, 0.1))
    lane = Lane(kernel, lambda: next(delays))
    assert lane.arrival_s() == 0.5
    assert lane.arrival_s() == 0.5


# The record.


def test_the_same_seed_tells_the_same_story() -> None:
    assert simulate(USUAL) == simulate(USUAL)
    assert simulate(USUAL) != simulate(replace(USUAL, seed=2))


def test_a_record_reads_like_a_run(tmp_path: Path) -> None:
    write(told(), tmp_path)
    for phase in told().phases:
        run = load_run(tmp_path / phase.name)
        assert run.turns == phase.turns
        assert run.manifest.duration_s == pytest.approx(phase.length_s)
        assert load_summary(tmp_path / phase.name) == summarize(run)
        assert summarize(run).generator.valid
        assert summarize(run).errors.count == 0


def test_the_machine_is_recorded_beside_it(tmp_path: Path) -> None:
    write(told(), tmp_path)
    for name in PHASES:
        folder = tmp_path / name
        (folder / "host").mkdir()
        (folder / "host.csv").rename(folder / "host" / "samples.csv")
        rows = RowTail(folder / "host", SampleRow).read()
        instants_s = sorted({row.at_s for row in rows})
        assert {row.source for row in rows} == {"host"}
        assert all(0.5 < b - a < 1.6 for a, b in pairwise(instants_s))


def test_metrics_are_those_of_the_server() -> None:
    named = {row.name for row in told().many.samples}
    plain = {re.sub(r"_(sum|count)$", "", name.partition("{")[0]) for name in named}
    unknown = {name for name in plain if name not in METRICS}
    assert not unknown
    absent = set(METRICS) - plain
    assert absent <= {
        "rtvc_aside",
        "rtvc_websocket_refusals_total",
        "rtvc_denied_requests_total",
        "rtvc_headroom_sessions",
        "rtvc_degradation_step",
        "rtvc_degradation_changes_total",
        "rtvc_traces_total",
        "rtvc_boot_to_ready_seconds",
        "rtvc_cloud_failures_total",
    }


def test_labels_are_those_of_the_server() -> None:
    for row in told().many.samples:
        name, _, labels = row.name.partition("{")
        metric = METRICS[re.sub(r"_(sum|count)$", "", name)]
        assert set(re.findall(r'(\w+)="', labels)) == set(metric.labels)


def test_counts_only_rise() -> None:
    for names in _by_name(told()).values():
        assert names == sorted(names)


def _by_name(story: Story) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for phase in story.phases:
        for row in phase.samples:
            if re.search(r"_(sum|count|total)($|\{)", row.name):
                found[row.name].append(row.value)
    return found


# It adds up.


def test_every_turn_is_timed_and_counted() -> None:
    story = told()
    finals = [turn for phase in story.phases for turn in phase.turns if turn.final_at_s]
    counted = values(story.many.samples, "rtvc_transcription_delay_seconds_count")[-1]
    assert counted == len(finals)
    for phase in story.phases:
        timed = {row.item_id for row in phase.server_turns if row.stage == "transcript"}
        assert timed == {turn.item_id for turn in phase.turns if turn.final_at_s}


def faulty() -> Iterator[Faults]:
    yield NONE
    yield Faults(blocked_s=0.2)
    yield Faults(slower=5.0, judging_s=0.4)
    yield Faults(held_s=0.5, silence_s=0.3, way_s=0.1)


@pytest.mark.parametrize("faults", list(faulty()), ids=str)
def test_segments_add_up_to_what_is_felt(faults: Faults) -> None:
    unexplained = []
    for phase in told(USUAL, faults).phases:
        sums: dict[tuple[str, str], float] = defaultdict(float)
        for row in phase.server_turns:
            sums[row.item_id, row.stage] += 0.0 if row.hidden else row.duration_s
        for turn in phase.turns:
            delay_s = turn.transcription_delay_s
            if delay_s is not None and turn.item_id is not None:
                unexplained.append(abs(delay_s - sums[turn.item_id, "transcript"]) / delay_s)
    assert unexplained
    assert fmean(unexplained) < (0.25 if faults.blocked_s else 0.05)


def test_jobs_are_not_lost() -> None:
    """What is asked for is answered, given up, or still under way when the last look is taken."""
    story = told(USUAL, Faults(crash_s=3.0))
    last = {row.name: row.value for row in story.many.samples}
    ended = sum(
        last[f'rtvc_engine_jobs_total{{outcome="{outcome}"}}']
        for outcome in ("done", "superseded", "cancelled", "failed")
    )
    asked = last["rtvc_engine_submitted_jobs_total"]
    assert asked - 2 * USUAL.speakers <= ended <= asked


def test_no_more_is_computed_than_there_are_cores() -> None:
    for faults in (NONE, Faults(neighbour=12.0), Faults(slower=8.0)):
        for phase in told(USUAL, faults).phases:
            parts = ("server_cpu_cores", "generator_cpu_cores", "other_cpu_cores")
            sums = zip(*(values(phase.host, name) for name in parts), strict=True)
            # In the first second the generator is only just being started, from elsewhere.
            assert max(map(sum, list(sums)[1:])) < 1.15 * USUAL.cpus


# Sound ones.


def test_the_usual_world_is_sound() -> None:
    assert is_sound(told())


def test_a_drawn_one_is_sound_and_not_the_same_twice() -> None:
    first, second = healthy(0), healthy(1)
    assert is_sound(first.story)
    assert first.story.many.turns
    assert first.world != second.world


# Each mechanism does what it is for.

Shows = Callable[[Story], bool]

MECHANISMS: dict[str, tuple[Faults, Shows]] = {
    "each session brings a process": (
        Faults(own_model_s=2.0),
        lambda s: (
            max(values(s.many.samples, "rtvc_engine_processes")) == USUAL.speakers
            and min(row.connection_s or 0 for row in s.many.connections) > 2.0
        ),
    ),
    "a neighbour takes cores": (
        Faults(neighbour=8.0),
        lambda s: fmean(values(s.many.host, "other_cpu_cores")) > 2.5,
    ),
    "a child's cores are the server's": (
        Faults(neighbour=8.0, neighbour_is_child=True),
        lambda s: fmean(values(s.many.host, "server_cpu_cores")) > 2.5,
    ),
    "inferences take longer": (
        Faults(slower=5.0),
        lambda s: _inference_s(s.phases[0]) > 3.5 * _inference_s(told().phases[0]),
    ),
    "one inference at a time": (
        Faults(serialised=True, slower=3.0),
        lambda s: max(values(s.many.samples, "rtvc_engine_queued_jobs")) > 0,
    ),
    "hearing lags behind": (
        Faults(hearing_s=0.4),
        lambda s: (
            max(values(s.many.samples, "rtvc_inbox_backlog_seconds")) > 0.5
            and max(segments(s.many, "vad_delay")) > 0.5
        ),
    ),
    "what is held back counts as transport": (
        Faults(held_s=0.6),
        lambda s: (
            min(segments(s.many, "transport")) > 0.6 and max(segments(s.many, "vad_delay")) < 0.3
        ),
    ),
    "partials flood": (
        Faults(flood=1.0),
        lambda s: _count(s, "partial") > 2 * _count(told(), "partial"),
    ),
    "a turn model keeps turns waiting": (
        Faults(judging_s=0.6),
        lambda s: sum(segments(s.many, "turn_model")) > 0.4 * len(s.many.turns),
    ),
    "silence is waited for": (
        Faults(silence_s=0.5),
        lambda s: fmean(segments(s.many, "endpoint_wait")) > 0.6,
    ),
    "the loop stands still": (
        Faults(blocked_s=0.37),
        lambda s: (
            values(s.many.samples, "rtvc_event_loop_lag_max_seconds")[-1] > 0.25
            and max(values(s.many.host, "http_round_trip_s")) > 0.1
            and max(values(s.many.host, "tcp_connect_s")) < 0.01
        ),
    ),
    "the first word comes late": (
        Faults(llm_s=1.0),
        lambda s: min(segments(s.many, "llm_ttft", "reply")) > 1.0,
    ),
    "the voice comes late": (
        Faults(tts_s=1.0),
        lambda s: min(segments(s.many, "tts_ttfb", "reply")) > 1.0,
    ),
    "a session is cold at first": (
        Faults(cold_s=3.0),
        lambda s: FELT["cold-start"](s) > FELT["cold-start"](told()) + 0.5,
    ),
    "it slows down by and by": (
        Faults(throttled=6.0, throttling_s=30.0),
        lambda s: _inference_s(s.many) > 2.0 * _inference_s(s.phases[0]),
    ),
    "memory runs out": (
        Faults(memory_fill_s=6.0, memory_room_bytes=3e9),
        lambda s: restarts(s) > 0 and max(values(s.many.host, "server_memory_bytes")) > 2e9,
    ),
    "the way is long": (
        Faults(way_s=0.2),
        lambda s: (
            min(values(s.many.host, "http_round_trip_s")) > 0.25
            and max(values(s.many.host, "tcp_connect_s")) < 0.01
            and min(segments(s.many, "transport")) > 0.25
        ),
    ),
    "connecting goes the long way, too": (
        Faults(way_s=0.2, way_of_all=True),
        lambda s: min(values(s.many.host, "tcp_connect_s")) > 0.25,
    ),
    "a process ends and another begins": (
        Faults(crash_s=4.0),
        lambda s: restarts(s) >= 3,
    ),
    "a process hangs and is replaced": (
        Faults(hang_s=4.0),
        lambda s: restarts(s) >= 1 and FELT["engine-failing"](s) > 1.0,
    ),
    "the generator cannot keep up": (
        Faults(generator_s=0.008),
        lambda s: lag_s(s) > 0.1 and max(r.cpu_ratio or 0 for r in s.many.generator) > 0.9,
    ),
}


def _inference_s(phase: Phase) -> float:
    """Mean of the phase."""
    first, last = phase.samples[0].at_s, phase.samples[-1].at_s
    rise = {"sum": 0.0, "count": 0.0}
    for row in phase.samples:
        found = re.match(r"rtvc_engine_inference_seconds_(sum|count)\{", row.name)
        if found and row.at_s in (first, last):
            rise[found[1]] += row.value if row.at_s == last else -row.value
    return rise["sum"] / rise["count"]


def _count(story: Story, kind: str) -> float:
    name = f'rtvc_engine_inference_seconds_count{{kind="{kind}"}}'
    return values(story.many.samples, name)[-1]


@pytest.mark.parametrize("name", MECHANISMS)
def test_a_fault_works_the_way_it_is_said_to(name: str) -> None:
    faults, shows = MECHANISMS[name]
    assert shows(told(USUAL, faults))
    assert not shows(told())


def test_what_begins_later_is_not_there_before() -> None:
    late = told(USUAL, Faults(llm_s=1.0, onset_s=20.0))
    assert max(segments(late.phases[0], "llm_ttft", "reply")) < 1.0
    assert max(segments(late.many, "llm_ttft", "reply")) > 1.0


def test_a_card_tells_of_its_clock_and_of_others() -> None:
    world = replace(USUAL, gpu=True, workers=1)
    slow = told(world, Faults(throttled=5.0, throttling_s=20.0)).many.host
    assert min(values(slow, "gpu0_sm_clock_hz")) < 0.5 * values(slow, "gpu0_max_sm_clock_hz")[0]
    shared = told(world, Faults(neighbour=2.0)).many.host
    assert fmean(values(shared, "gpu0_other_memory_bytes")) > 1e9
    assert max(values(told(world).many.host, "gpu0_other_memory_bytes")) == 0


# Cases.


def test_faults_add_up() -> None:
    assert together(Faults(llm_s=1.0), Faults(tts_s=2.0)) == Faults(llm_s=1.0, tts_s=2.0)


def test_every_cause_can_be_brought_about() -> None:
    assert set(FELT) == set(DRAWS)
    assert len(PAIRS) >= 15
    assert {cause for pair in PAIRS for cause in pair} <= set(DRAWS)


@pytest.mark.parametrize("cause", ["endpoint-wait", "network", "slow-llm"])
def test_an_ill_case_hurts_and_its_twin_does_not(cause: str) -> None:
    case = ill([cause], 0)
    felt, twin = FELT[cause](case.story), FELT[cause](case.twin)
    assert is_sound(case.twin)
    assert felt >= TIMES * twin
    assert felt >= twin + MORE_S


def test_of_two_each_hurts_beside_the_other() -> None:
    case = ill(["endpoint-wait", "slow-llm"], 0)
    alone = simulate(case.world, replace(case.faults, llm_s=0.0))
    assert FELT["slow-llm"](case.story) - FELT["slow-llm"](alone) >= MORE_S
    assert hurts(FELT["endpoint-wait"](case.story), FELT["endpoint-wait"](case.twin))
