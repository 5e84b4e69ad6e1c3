"""Whether the load generator kept up."""

from collections import defaultdict
from collections.abc import Sequence

from rtvc.errors import RecordError
from rtvc.record import GeneratorRow, Run
from rtvc.stats import Histogram, quantile
from rtvc.summary.figures import Connections, Generator

FRAME_S = 0.02
"""Seconds: one frame; a generator later than this at p99 proves nothing."""

CPU_LIMIT = 0.9
"""CPU seconds per second of one generator process, at p95 of its seconds."""


def merged_lag(run: Run) -> Histogram:
    merged = Histogram()
    for row in run.generator:
        try:
            merged.merge(Histogram.parse(row.lag_histogram))
        except ValueError as error:
            raise RecordError(f"{run.folder}: generator.csv at {row.at_s} s: {error}") from error
    return merged


def nobody_came(connections: Connections) -> bool:
    return connections.attempts > 0 and not connections.usable


def generator_health(
    rows: Sequence[GeneratorRow], lag: Histogram, *, refused: bool, lost: Sequence[str] = ()
) -> Generator:
    """Where nobody was let in there was nothing to be late with; where some of the speakers were
    lost on the way, the load was not the one that was asked for."""
    frames = sum(row.frames for row in rows)
    late = sum(row.late_frames for row in rows)
    lag_p99, cpu = lag.quantile(0.99), _busiest_cpu(rows)
    reason = None if refused else _lost_reason(lost) or _void_reason(lag_p99, cpu)
    oversleeps = [row.loop_lag_max_s for row in rows if row.loop_lag_max_s is not None]
    return Generator(
        valid=reason is None,
        reason=reason,
        frames=frames,
        late_frames=late,
        late_share=late / frames if frames else None,
        lag_p99=lag_p99,
        cpu_p95=cpu,
        loop_lag_max=max(oversleeps, default=None),
    )


def _busiest_cpu(rows: Sequence[GeneratorRow]) -> float | None:
    """p95 of a process's seconds, so that one busy second at the start does not void a run."""
    by_process: defaultdict[int, list[float]] = defaultdict(list)
    for row in rows:
        if row.cpu_ratio is not None:
            by_process[row.process].append(row.cpu_ratio)
    busy = [quantile(ratios, 0.95) or 0.0 for ratios in by_process.values()]
    return max(busy, default=None)


def _void_reason(lag_p99: float | None, cpu: float | None) -> str | None:
    if lag_p99 is None:
        return "the load generator left no record of its own lag"
    if lag_p99 > FRAME_S + 1e-9:
        late, frame = f"{1000 * lag_p99:.1f}", f"{1000 * FRAME_S:.0f}"
        return f"the load generator sent its frames {late} ms late at p99 (limit {frame} ms)"
    if cpu is not None and cpu > CPU_LIMIT:
        used, limit = f"{100 * cpu:.0f}", f"{100 * CPU_LIMIT:.0f}"
        return f"the load generator used {used} % of a core (limit {limit} %)"
    return None


def _lost_reason(lost: Sequence[str]) -> str | None:
    """
    >>> _lost_reason(["worker 2 of 3 was lost", "worker 3 of 3 was lost"])
    'worker 2 of 3 was lost, and 1 more'
    """
    if not lost:
        return None
    more = f", and {len(lost) - 1} more" if len(lost) > 1 else ""
    return f"{lost[0]}{more}"
