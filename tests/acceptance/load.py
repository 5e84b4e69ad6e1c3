"""Ten speakers for 100 s (so that n supports a p95); ten connections at once, until n ≥ 100.

    python -m tests.acceptance.load [--out FOLDER]

Server and load generator share this machine's cores. Writes two run directories' summaries.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.servers import running_server

_TALK = ("--speakers", "10", "--duration", "100")
_STORM = ("--speakers", "10", "--connect-storm", "12")
_ALONE = ("--speakers", "1", "--connect-storm", "110")


def run(url: str, flags: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """One load test; its summary. An exit code other than 0 and 99 ends everything."""
    command = [
        sys.executable,
        "-m",
        "rtvc",
        "loadtest",
        url,
        *flags,
        "--json",
        "--out",
        str(folder),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode not in (0, 3, 99):
        raise SystemExit(f"{' '.join(flags)} ended with {done.returncode}")
    summary: dict[str, Any] = json.loads(done.stdout)
    summary.pop("folder", None)
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_server() as url:
        runs = {
            name: run(url, flags, Path(folder) / name)
            for name, flags in (("talk", _TALK), ("storm", _STORM), ("alone", _ALONE))
        }
    text = json.dumps(runs, indent=1) + "\n"
    if chosen.out:
        chosen.out.write_text(text, encoding="utf-8")
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
