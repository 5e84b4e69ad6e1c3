"""What a plan rests on, a line each: whoever reads the figures must be able to doubt them. Pure."""

from collections.abc import Iterator, Sequence

from rtvc.plan.fleet_rows import SERVER_CORES, VCPU_SHARE, Market
from rtvc.plan.instances import MOST_FASTER
from rtvc.plan.processor import DISTURBANCE
from rtvc.plan.service import ServiceTimes
from rtvc.plan.talk import Listening, Talk
from rtvc.plan.variants import Question, World, setup_of, times_of
from rtvc.slo import shown
from rtvc.stats import quantile


def assumptions(
    asked: Sequence[Question], world: World, market: Market | None, left_out: Sequence[str]
) -> tuple[str, ...]:
    """All of them, the most telling first; each once."""
    lines = [
        *_services(asked, world),
        *_people(asked, world),
        *_sessions(asked[0].listening),
        *_machine(asked, world),
        *(() if market is None else _fleet(market)),
        *(f"left out: {line}" for line in left_out),
    ]
    return tuple(dict.fromkeys(lines))


def _services(asked: Sequence[Question], world: World) -> Iterator[str]:
    for question in asked:
        source = question.source
        arrangement = setup_of(question, world).arrangement
        times = times_of(source, arrangement)
        measured = source.model.measured_threads(arrangement.threads)
        name = f"{source.name}, {measured} thread{'' if measured == 1 else 's'}"
        yield f"inferences of {name}: {_line(times)}"
        if measured != arrangement.threads and not source.model.on_gpu:
            yield (
                f"{source.name} would be served with {arrangement.threads} threads an inference; "
                f"measured were {measured}, whose times are used"
            )
        for note in source.notes:
            yield f"{source.name}: {note}"


def _line(times: ServiceTimes) -> str:
    cost = times.cost
    grown = f", {100 * times.grows_per_s:.0f} % longer a second of audio" * bool(times.grows_per_s)
    busy = "" if times.busy_cores is None else f", {times.busy_cores:.1f} cores busy meanwhile"
    return (
        f"{shown(cost.base_s, 's')} + {shown(cost.each_s, 's')} an utterance of "
        f"{times.audio_s:.1f} s{grown}, ± {100 * times.variation:.0f} %{busy}; "
        f"{times.n:,} measured, batches up to {times.most_jobs}"
    )


def _people(asked: Sequence[Question], world: World) -> Iterator[str]:
    talks: dict[Talk, None] = {}
    for question in asked:
        talks[setup_of(question, world).talk] = None
    for talk in talks:
        low, middle, high = (quantile(talk.speech_s, q) or 0.0 for q in (0.05, 0.5, 0.95))
        yield (
            f"people speak for {middle:.1f} s ({low:.1f} to {high:.1f}), then pause for "
            f"{_between(talk.pause_s)}{_reply(talk)}; {100 * talk.inner_pauses:.0f} % of the "
            "utterances have a pause inside, and it ends none of them"
        )


def _reply(talk: Talk) -> str:
    if talk.reply_s is None:
        return "; nobody replies"
    return f" after a reply that is over {_between(talk.reply_s)} after the transcript"


def _between(range_s: tuple[float, float]) -> str:
    low, high = range_s
    return f"{low:g} s" if low == high else f"{low:g} to {high:g} s"


def _sessions(listening: Listening) -> Iterator[str]:
    low, high = (1000 * each for each in listening.heard_late_s)
    yield (
        f"the last speech is heard {low:.0f} to {high:.0f} ms after it was spoken, a transcript "
        f"takes {shown(listening.sent_s, 's')} to the client"
    )
    yield "texts at the true end of an utterance bear a final mark, and no turn is cut in two"
    yield "sessions are let in as long as there are slots; the server's own estimate is shown apart"


def _machine(asked: Sequence[Question], world: World) -> Iterator[str]:
    cores = sorted({world.cores or question.source.cores for question in asked})
    on_cpu = any(not question.source.model.on_gpu for question in asked)
    if on_cpu:
        named = " or ".join(str(each) for each in cores)
        yield (
            f"{named} cores, of which each of a hundred sessions takes {world.session_cores:g} "
            f"beside its inferences (--session-cpu), and whatever else runs there "
            f"{world.beside_cores:g} for each (--beside-cpu); fewer take more each"
        )
        yield (
            "where more want to run than there are cores, an inference loses "
            f"{DISTURBANCE:g} times what even shares would take from it"
        )
    yield "the server's own process runs on one core, and keeps up until it is busy all the time"
    if any(question.wanted.sharing == "per-session" for question in asked):
        yield "loading a session's own model slows nobody else down"
    if any(question.wanted.gpus > 1 for question in asked):
        yield "one server runs on each GPU, and sessions are spread evenly over them"


def _fleet(market: Market) -> Iterator[str]:
    demand = market.demand
    calls = "call" if demand.calls_per_day == 1 else "calls"
    yield (
        f"{demand.users:,} users make {demand.calls_per_day:g} {calls} of "
        f"{demand.call_s / 60:g} min a day, "
        f"{100 * demand.busy_hour_share:g} % of them in the busiest hour"
    )
    placed = (
        "a call goes to any instance with room (Erlang B over all slots)"
        if market.routing == "pooled"
        else "calls are spread at random, room or not (Erlang B for each instance)"
    )
    yield f"{placed}; who is refused does not call again at once"
    yield (
        "speed of a GPU that was not measured: the smaller of the ratios of memory bandwidth and "
        f"of half-precision arithmetic, {MOST_FASTER:g} at most (extrapolated)"
    )
    yield (
        f"one server process on each GPU, whose sessions take {SERVER_CORES:g} core at most; all "
        f"of them take at most {100 * VCPU_SHARE:.0f} % of the vCPUs"
    )
