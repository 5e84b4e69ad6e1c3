"""How fast is a server's log read?

    python -m tests.acceptance.log_speed [--megabytes 100] [--folder DIR]

Writes a log of RealtimeVoiceChat with colour codes, quoted messages and noise, as long as asked,
reads it as `rtvc profile logs` does, and prints what came of it as JSON.
"""

import argparse
import json
import tempfile
import tracemalloc
from pathlib import Path

from rtvc.clock import SystemClock
from rtvc.profile.logs.command import stream_lines
from rtvc.profile.logs.reader import LogReader
from tests.voice_log_writer import one_speaker

MEGABYTE = 1_000_000
TURNS = 200


def write_log(path: Path, megabytes: float) -> int:
    """The same hours again and again, each behind the last; how many turns in all."""
    whole = one_speaker(seed=1, turns=TURNS).realtimevoicechat()
    turns = 0
    with path.open("wb") as file:
        while file.tell() < megabytes * MEGABYTE:
            file.write(whole)
            turns += TURNS
    return turns


def read(path: Path) -> LogReader:
    reader = LogReader()
    with path.open("rb") as stream:
        for raw in stream_lines(stream):
            reader.feed(raw)
    reader.finish()
    return reader


def measure(megabytes: float, folder: Path) -> dict[str, float]:
    path = folder / "voice.log"
    written = write_log(path, megabytes)
    clock = SystemClock()
    begin_s = clock.now()
    summary = read(path).summary()
    took_s = clock.now() - begin_s
    size_bytes = path.stat().st_size
    return {
        "megabytes": size_bytes / MEGABYTE,
        "lines": summary.lines,
        "known_lines": summary.known_lines,
        "turns": summary.turns or 0,
        "turns_written": written,
        "seconds": round(took_s, 3),
        "megabytes_per_s": round(size_bytes / MEGABYTE / took_s, 2),
    }


def peak_megabytes(path: Path) -> float:
    """Memory that reading takes at most; a run of its own, because it is slow."""
    tracemalloc.start()
    try:
        read(path)
        return round(tracemalloc.get_traced_memory()[1] / MEGABYTE, 2)
    finally:
        tracemalloc.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--folder", type=Path, help="for the temporary log")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        measured = measure(options.megabytes, folder)
        write_log(folder / "voice.log", min(10, options.megabytes))
        measured["peak_megabytes_of_memory"] = peak_megabytes(folder / "voice.log")
    print(json.dumps(measured, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
