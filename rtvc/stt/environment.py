"""What a process that runs inferences is told by its environment."""

from rtvc.config import child_environment

KEEP_MEMORY = "GLIBC_TUNABLES"
"""How the C library is told what to do with memory that is freed."""
KEPT_MEMORY = ":".join(
    f"glibc.malloc.{setting}"
    for setting in (
        "mmap_threshold=4000000000",
        "trim_threshold=4000000000",
        "arena_max=1",
        "hugetlb=1",
    )
)
"""Keep it: an encoder's buffers are freed and wanted again by every layer, and fresh pages from the
kernel cost a quarter of the time of an inference (`docs/measurements.md`)."""

WAITING = "OMP_WAIT_POLICY"
"""How OpenMP is told what its threads do until all of them are done."""
WAIT = "passive"
"""Sleep. Otherwise they spin, and where engines together have more threads than there are cores,
those that spin keep away the ones they wait for: a model a session then shows bursts of transcripts
that are seconds late (`docs/measurements.md`)."""

USUAL = {KEEP_MEMORY: KEPT_MEMORY, WAITING: WAIT}


ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""BLAS and OpenMP must not start threads beside the engine's own workers, which are told theirs."""


def engine_environment() -> dict[str, str]:
    """What it is told: how many threads in any case, the rest where the user has not set it."""
    known = child_environment()
    return {**{name: value for name, value in USUAL.items() if name not in known}, **ONE_THREAD}
