"""What processes use, by role; absent where nobody can know."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtvc.instruments.process import ProcessSampler, sample_process, total, usable_cpus

WORK = "sum(i * i for i in range(3_000_000))"


@contextmanager
def child(word: str, before: str = "") -> Iterator["subprocess.Popen[str]"]:
    """A Python that does `before`, says so, and waits, with a word in its command line."""
    script = f"{before}\nprint('done', flush=True)\ninput()"
    command = [sys.executable, "-c", script, word]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "done\n"
            yield process
        finally:
            process.kill()


def a_sampler() -> ProcessSampler:
    return ProcessSampler("server", {"the-engine": "engine"})


def test_this_process_is_sampled() -> None:
    sample = sample_process(psutil.Process().pid)
    assert sample is not None
    assert sample.cpu_s is not None
    assert sample.cpu_s > 0
    assert sample.resident_bytes is not None
    assert sample.resident_bytes > 1e6
    assert sample.threads is not None
    assert sample.threads >= 1
    assert sample.open_files is not None
    assert sample.open_files >= 1


def test_a_process_that_is_gone_has_no_sample() -> None:
    with child("x") as process:
        pid = process.pid
        assert sample_process(pid) is not None
    assert sample_process(pid) is None


def test_open_files_are_counted() -> None:
    sampler = a_sampler()
    before = sampler.sample()["server"].open_files
    with child("somebody-else") as process:
        during = sampler.sample()["server"].open_files
        assert process.stdout is not None
    assert before is not None
    assert during == before + 2
    assert sampler.sample()["server"].open_files == before


def test_children_are_found_by_a_word_and_others_left_out() -> None:
    sampler = a_sampler()
    with child("the-engine", WORK), child("the-engine"), child("somebody-else"):
        use = sampler.sample()["engine"]
        assert use.processes == 2
        assert use.cpu_s is not None
        assert use.cpu_s > 0
        assert use.resident_bytes is not None
        assert use.resident_bytes > 2e6
        assert use.threads is not None
        assert use.threads >= 2
    ended = sampler.sample()
    assert ended["engine"].processes == 0
    assert ended["server"].processes == 1


def test_the_cpu_time_of_a_process_outlives_it() -> None:
    sampler = a_sampler()
    with child("the-engine", WORK):
        first_s = sampler.sample()["engine"].cpu_s
    assert first_s is not None
    ended = sampler.sample()["engine"]
    assert ended.cpu_s == pytest.approx(first_s)
    assert (ended.resident_bytes, ended.threads, ended.open_files) == (None, None, None)
    with child("the-engine", WORK) as process:
        own = sample_process(process.pid)
        both_s = sampler.sample()["engine"].cpu_s
    assert own is not None
    assert own.cpu_s is not None
    assert both_s is not None
    assert both_s >= first_s + own.cpu_s - 1e-6


def test_what_never_was_has_no_cpu_time() -> None:
    use = a_sampler().sample()["engine"]
    assert (use.processes, use.cpu_s) == (0, None)


def test_another_process_can_be_sampled_and_may_end() -> None:
    with child("x", WORK) as process:
        sampler = ProcessSampler("it", {}, pid=process.pid)
        use = sampler.sample()["it"]
        assert use.processes == 1
    ended = sampler.sample()["it"]
    assert ended.processes == 0
    assert ended.cpu_s == use.cpu_s


def test_what_may_not_be_read_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: psutil.Process) -> int:
        raise psutil.AccessDenied(self.pid)

    monkeypatch.setattr(psutil.Process, "num_fds", refused)
    use = a_sampler().sample()["server"]
    assert use.open_files is None
    assert use.threads is not None


@given(st.lists(st.one_of(st.none(), st.integers(0, 9))))
def test_a_sum_with_an_unknown_part_is_unknown(values: list[int | None]) -> None:
    known = [value for value in values if value is not None]
    complete = len(known) == len(values) > 0
    assert total(values) == (sum(known) if complete else None)


def test_there_is_a_cpu_to_run_on() -> None:
    assert 1 <= usable_cpus() <= (psutil.cpu_count() or 1)
