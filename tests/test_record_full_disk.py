"""A full disk: rows wait in memory, nothing measured is lost, and it is said once."""

import errno
import io
import logging
import resource
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtvc.errors import RecordError
from rtvc.record import RunWriter, load_run
from rtvc.record.writing import GrowingFile, OpenFile, open_new
from tests.test_record import a_manifest, a_sample


class Disk:
    """Room for so many bytes, as the kernel tells: a write takes what fits, the next one fails."""

    def __init__(self, room_bytes: int) -> None:
        self.room_bytes = room_bytes
        self.errno = errno.ENOSPC

    @property
    def open(self) -> OpenFile:
        def opened(path: Path) -> IO[bytes]:
            real = open_new(path)
            assert isinstance(real, io.FileIO)
            return _File(self, real)  # type: ignore[return-value]

        return opened


class _File:
    def __init__(self, disk: Disk, real: io.FileIO) -> None:
        self._disk = disk
        self._real = real

    def write(self, data: Any) -> int:
        fits = min(len(data), self._disk.room_bytes)
        if not fits:
            raise OSError(self._disk.errno, "no room")
        self._disk.room_bytes -= fits
        return self._real.write(bytes(data[:fits]))

    def close(self) -> None:
        self._real.close()


@given(rooms=st.lists(st.integers(0, 40), max_size=30))
def test_whatever_fits_when_the_file_is_whole_in_the_end(
    rooms: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("disk") / "rows.csv"
    disk = Disk(0)
    file = GrowingFile(path, "name\n", disk.open)
    for number, room in enumerate(rooms):
        disk.room_bytes = room
        file.add(f"row {number}\n")
        file.write()
    disk.room_bytes = 10_000
    file.write()
    file.close()
    assert file.waiting_bytes == 0
    expected = "name\n" + "".join(f"row {number}\n" for number in range(len(rooms)))
    assert path.read_text("utf-8") == expected


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_rows_wait_and_it_is_said_once(
    number: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(100)
    disk.errno = number
    caplog.set_level(logging.WARNING)
    with RunWriter(tmp_path, a_manifest(), open_file=disk.open) as writer:
        for at_s in range(20):
            writer.append(a_sample(float(at_s)))
        assert len(load_run(tmp_path).samples) < 20
        assert len(caplog.records) == 1
        disk.room_bytes = 100_000
        writer.append(a_sample(20.0))
    assert [row.at_s for row in load_run(tmp_path).samples] == [float(n) for n in range(21)]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "no room" in said[0]
    assert "again" in said[1]


def test_what_never_finds_room_is_told_at_the_end(tmp_path: Path) -> None:
    disk = Disk(100)
    writer = RunWriter(tmp_path, a_manifest(), open_file=disk.open)
    for at_s in range(20):
        writer.append(a_sample(float(at_s)))
    with pytest.raises(RecordError, match=r"no room in .*: \d+ bytes of rows"):
        writer.close()
    # What did fit can be read: no half row is in the way.
    assert 0 < len(load_run(tmp_path).samples) < 20


def test_another_error_is_no_full_disk(tmp_path: Path) -> None:
    disk = Disk(0)
    disk.errno = errno.EIO
    writer = RunWriter(tmp_path, a_manifest(), open_file=disk.open)
    with pytest.raises(OSError, match="no room"):
        writer.append(a_sample())
    with pytest.raises(OSError, match="no room"):
        writer.close()


WRITING = """
import sys
from pathlib import Path
from rtvc.record import RunWriter
from tests.test_record import a_manifest, a_sample
writer = RunWriter(Path(sys.argv[1]), a_manifest())
for line in sys.stdin:
    writer.append(*(a_sample(float(line) + n / 1000) for n in range(200)))
    print("done", flush=True)
writer.close()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux")
def test_a_real_limit_that_comes_and_goes(tmp_path: Path) -> None:
    """The kernel refuses to let files grow for a while, as a full disk does."""
    command = [sys.executable, "-c", WRITING, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as child:  # type: ignore[call-overload]
        assert child.stdin is not None
        assert child.stdout is not None
        process = psutil.Process(child.pid)
        _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
        for number, room in enumerate([None, 5000, 0, None]):
            limit = hard if room is None else (tmp_path / "samples.csv").stat().st_size + room
            process.rlimit(psutil.RLIMIT_FSIZE, (limit, hard))
            child.stdin.write(f"{number}\n")
            child.stdin.flush()
            assert child.stdout.readline() == "done\n"
            rows = len(load_run(tmp_path).samples)
            assert (rows == 200 * (number + 1)) == (room is None)
        child.stdin.close()
        assert child.wait(20) == 0
    assert len(load_run(tmp_path).samples) == 800
