"""The search for what an instance holds, how a model is arranged, and what is asked about."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.errors import UsageError
from rtvc.plan import flags
from rtvc.plan.arrangement import Model, Wanted, arrange
from rtvc.plan.capacity import LIMIT, LONGEST_S, Aim, find, measure_s, missed, point_of
from rtvc.plan.processor import Box
from rtvc.plan.simulation import Outcome, Setup
from rtvc.plan.talk import Listening, talk_of
from rtvc.plan.variants import (
    MEMORY,
    TEXTLESS_SILENCE_S,
    Choices,
    World,
    answer,
    questions,
    setup_of,
)
from rtvc.speech.scenario import load_scenario
from rtvc.stt.limits import PER_SESSION_THREADS
from rtvc.stt.synthetic import KIND
from tests.plan_worlds import TALK, source, times

AIM = Aim(0.5, 1.5)


def outcome(
    delay_s: float, interval_s: float = 0.5, n: int = 200, own_work: float = 0.5
) -> Outcome:
    return Outcome((delay_s,) * n, (interval_s,) * n, 1, 0, 1.0, 0.5, own_work, None)


def setup() -> Setup:
    service = times(0.01, 0.1)
    model = Model({1: service}, "cpu", full_window=True)
    arrangement = arrange(model, Wanted(), cores=1)
    return Setup(1, arrangement, service, Box("cpu", 1, 1), TALK)


# The search


@given(knee=st.integers(0, 60), limit=st.integers(1, 100))
@settings(deadline=None, max_examples=100)
def test_the_edge_is_found_exactly(knee: int, limit: int) -> None:
    asked: list[int] = []

    def of(tried: Setup) -> Outcome:
        asked.append(tried.sessions)
        return outcome(0.1 if tried.sessions <= knee else 2.0)

    found = find(setup(), AIM, limit=limit, of=of)
    assert found.holds == min(knee, limit)
    assert found.fails_at == (knee + 1 if knee < limit else None)
    assert (found.binding is None) == (found.fails_at is None)
    assert [point.sessions for point in found.points] == sorted(set(asked))
    assert max(asked) <= limit


def test_above_fifty_sessions_the_edge_is_found_to_a_fiftieth() -> None:
    def of(tried: Setup) -> Outcome:
        return outcome(0.1 if tried.sessions <= 1003 else 2.0)

    found = find(setup(), AIM, of=of)
    assert found.fails_at is not None
    assert found.holds <= 1003 < found.fails_at
    assert found.fails_at - found.holds <= found.holds // 50
    assert found.fails_at <= LIMIT


def test_what_is_near_the_edge_is_simulated_with_other_draws() -> None:
    seeds: list[tuple[int, int]] = []

    def of(tried: Setup) -> Outcome:
        seeds.append((tried.sessions, tried.seed))
        return outcome(0.05 if tried.sessions == 1 else 0.55)

    find(setup(), AIM, of=of)
    assert [seed for sessions, seed in seeds if sessions == 1] == [0]
    assert [seed for sessions, seed in seeds if sessions == 2] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([outcome(0.4)], None),
        ([outcome(0.6)], "transcription delay"),
        ([outcome(math.inf)], "transcription delay"),
        ([outcome(0.4, interval_s=2.0)], "time between partials"),
        ([outcome(0.4, interval_s=math.inf)], "time between partials"),
        ([outcome(0.4, n=5)], "transcription delay"),
        ([replace(outcome(0.4), refused=1)], "sessions refused"),
        ([outcome(0.4, own_work=0.99)], None),
        ([outcome(0.4, own_work=1.0)], "the server's own process"),
        ([replace(outcome(0.4), intervals_s=())], None),
    ],
)
def test_what_a_point_misses(outcomes: list[Outcome], expected: str | None) -> None:
    assert missed(point_of(outcomes, 4), AIM) == expected


def test_simulations_of_the_same_are_pooled() -> None:
    point = point_of([outcome(0.2), outcome(0.4)], 4)
    assert point.n == 400
    assert point.delay_p50_s == pytest.approx(0.3)
    assert point.missing == 0


def test_few_sessions_are_simulated_for_longer() -> None:
    assert measure_s(replace(setup(), sessions=1)) == LONGEST_S
    assert measure_s(replace(setup(), sessions=8)) > measure_s(replace(setup(), sessions=16))


# How a model is arranged


@pytest.mark.parametrize("cores", [1, 2, 8])
def test_one_model_a_session_gets_whispers_own_threads(cores: int) -> None:
    found = arrange(source().model, Wanted("per-session"), cores)
    assert found.threads == min(cores, PER_SESSION_THREADS)
    assert (found.workers, found.limits.max_batch, found.engines) == (1, 1, 1)


def test_engines_of_a_pool_share_the_cores() -> None:
    found = arrange(source().model, Wanted("pool", 4), 8)
    assert (found.engines, found.workers, found.threads) == (4, 2, 1)


def test_what_the_user_settled_stays() -> None:
    found = arrange(source().model, Wanted("shared", 1, 3, 2, 5), 8)
    assert (found.workers, found.threads, found.limits.max_batch) == (3, 2, 5)


def test_the_calibration_is_the_engines_own() -> None:
    """Batches that cost nothing more are taken; those that only make others wait are not."""
    free = replace(source(0.1, 0.001).model, full_window=False)
    dear = replace(source(0.0, 0.1).model, full_window=False)
    assert arrange(free, Wanted(workers=1, threads=1), 1).limits.max_batch >= 8
    assert arrange(dear, Wanted(workers=1, threads=1), 1).limits.max_batch == 1


def test_only_threads_that_were_measured_are_tried() -> None:
    known = replace(source().model, times={2: times(0.01, 0.05)})
    assert arrange(known, Wanted(), 8).threads == 2


def test_one_gpu_more_is_one_engine_more() -> None:
    model = source(device="cuda").model
    assert arrange(model, Wanted(gpus=4), 8).engines == 4
    assert arrange(model, Wanted("pool", 2, gpus=4), 8).engines == 8
    assert arrange(model, Wanted(), 8).workers == 2


# What is asked about


def test_every_combination_is_asked_about_under_a_name_of_its_own() -> None:
    choices = Choices(
        sharings=(("shared", 1), ("pool", 2), ("per-session", 1)),
        partials=("adaptive", "off"),
        silences_s=(None, 0.5),
    )
    asked = questions([source()], choices)
    assert len(asked) == 12
    assert len({each.name for each in asked}) == 12
    assert {"shared, partials adaptive", "pool:2, partials off, silence 500 ms"} <= {
        each.name for each in asked
    }
    assert [each.name for each in questions([source()], Choices())] == ["shared"]


def test_too_many_combinations_are_refused_before_anything_is_simulated() -> None:
    many = Choices(batches=tuple(range(1, 10)), workers=tuple(range(1, 10)))
    with pytest.raises(UsageError, match="at most 64 combinations"):
        questions([source()], many)


def test_synthetic_weights_end_their_turns_as_the_server_lets_them() -> None:
    (textless,) = questions([source(kind=KIND)], Choices())
    (usual,) = questions([source()], Choices())
    assert textless.listening.endpointing.silence_s == TEXTLESS_SILENCE_S
    assert usual.listening.endpointing.silence_s is None


def test_cores_are_those_of_the_machine_measured_unless_said_otherwise() -> None:
    (question,) = questions([source()], Choices())
    assert setup_of(question, World(TALK)).box.cores == 2
    assert setup_of(question, World(TALK, cores=16)).box.cores == 16


def test_lengths_that_were_measured_go_before_those_of_the_scenario() -> None:
    (question,) = questions([replace(source(), speech_s=(9.0,))], Choices())
    assert setup_of(question, World(TALK)).talk.speech_s == (9.0,)


def test_more_service_time_never_holds_more() -> None:
    """The whole search, with the same draws."""
    held = []
    for each_s in (0.05, 0.1, 0.2, 0.4, 0.8):
        (question,) = questions([source(0.0, each_s)], Choices())
        held.append(answer(question, World(TALK, limit=64)).holds)
    assert held == sorted(held, reverse=True)
    assert held[0] > held[-1]


def test_models_that_do_not_fit_are_not_loaded() -> None:
    """Nine tenths of 1 GiB, 200 MiB each: four."""
    wide = source(0.0, 0.001, memory_bytes=200 * 2**20)
    choices = Choices(sharings=(("per-session", 1), ("shared", 1)))
    own, shared = (answer(each, World(TALK, limit=8)) for each in questions([wide], choices))
    assert (own.holds, own.fails_at, own.binding) == (4, 5, MEMORY)
    assert own.memory_bytes == 4 * 200 * 2**20
    assert (shared.holds, shared.fails_at, shared.binding) == (8, None, None)
    assert own.load_s == 0.5
    assert shared.load_s is None


def test_what_to_give_the_server_is_said() -> None:
    choices = Choices(sharings=(("pool", 2),), partials=("off",), silences_s=(0.4,))
    (question,) = questions([source()], choices)
    found = answer(question, World(TALK, limit=4))
    said = " ".join(found.serve_flags)
    assert said.startswith("--model tiny.en --sharing pool --pool-size 2")
    assert "--partials off --silence-ms 400" in said
    assert f"--max-sessions {found.holds}" in said


# People


def test_a_scenario_without_replies_pauses_and_one_with_them_thinks() -> None:
    dictation, conversation = (talk_of(load_scenario(n)) for n in ("dictation", "conversation"))
    assert dictation.reply_s is None
    assert dictation.pause_s == (3.0, 3.0)
    assert conversation.reply_s is not None
    assert conversation.pause_s == (0.5, 1.5)
    assert 1.0 < sum(dictation.speech_s) / len(dictation.speech_s) < 5.0
    assert talk_of(load_scenario("dictation")) == dictation


@pytest.mark.parametrize(
    "name", ["connect-storm", "silence", "mixed", "interruptions", "synchronised-turn-ends"]
)
def test_what_a_plan_does_not_simulate_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="speakers who stay and take turns"):
        talk_of(load_scenario(name))


def test_no_silence_is_shorter_than_a_frame() -> None:
    assert Listening().frames(0.0) == 1


# Flags


@pytest.mark.parametrize("text", ["shared:2", "pool:0", "pool:65", "pool:x", "solo", ""])
def test_a_way_of_sharing_that_there_is_not_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--sharing"):
        flags.parse_each(text, "--sharing", flags.sharing)


@pytest.mark.parametrize("text", ["0", "1.5", "-1", "many", "99999999"])
def test_counts_are_whole_numbers_from_one_on(text: str) -> None:
    with pytest.raises(UsageError, match="--workers"):
        flags.parse_each(text, "--workers", flags.whole_or_auto)


@pytest.mark.parametrize("text", ["0%", "100%", "1.0", "-1%", "none", ""])
def test_a_share_lies_between_nothing_and_all(text: str) -> None:
    with pytest.raises(UsageError, match="--refused"):
        flags.share(text, "--refused")


@pytest.mark.parametrize("texts", [["x"], ["=1"], ["g5.xlarge="], ["a=1", "a=2"]])
def test_pairs_have_a_name_and_a_value_and_come_once(texts: list[str]) -> None:
    with pytest.raises(UsageError, match="--price"):
        flags.pairs(texts, "--price", "USD")


def test_prices_are_numbers_of_instances_that_are_known() -> None:
    assert flags.numbers(["a=0.5"], "--price", "USD", ["a"]) == {"a": 0.5}
    for text in ("b=1", "a=0", "a=nan", "a=much"):
        with pytest.raises(UsageError, match="--price"):
            flags.numbers([text], "--price", "USD", ["a"])


def test_silences_and_cadences_are_milliseconds() -> None:
    assert flags.parse_each("auto,250", "--silence-ms", flags.silence_s) == (None, 0.25)
    with pytest.raises(UsageError, match="50 ms or more"):
        flags.parse_each("20", "--partial-interval-ms", flags.interval_s)
