"""Pictures for the docs: the live view, and the waterfall of a run, of a real server under load.

    python -m tests.acceptance.screenshots [--speakers 4] [--seconds 75] [--out docs]

Starts a server on the self-test model, lets simulated speakers talk to it, and draws what
`rtvc profile live` and `rtvc profile stages RUN` draw, as SVG. The fonts are the reader's own.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path

from rich.console import Console, RenderableType

from rtvc.clock import SystemClock
from rtvc.profile.live.screen import screen
from rtvc.profile.live.source import Source, gpus_of
from rtvc.profile.live.watch import Status, Watch
from rtvc.profile.stages.breakdown import breakdown
from rtvc.profile.stages.waterfall import drawn
from rtvc.record import load_run
from tests.servers import running_server

WIDTH, HEIGHT = 120, 34

FRAME = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" \
xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width;
}}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""Rich's own names fonts on the network."""


def picture(drawing: RenderableType, title: str, path: Path, width: int) -> None:
    """The terminal's lines as one SVG."""
    console = Console(
        record=True, width=width, file=StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(drawing)
    svg = console.export_svg(title=title, code_format=FRAME, unique_id=path.stem)
    if "http" in svg.replace('xmlns="http://www.w3.org/2000/svg"', "").replace("http://127", ""):
        raise SystemExit(f"{path} would ask the network for something")
    path.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")


def watched(url: str, going_on: Callable[[], bool]) -> Status:
    """The last status of a watch of a server under load, a reading a second."""
    clock = SystemClock()
    gpus, no_gpu, end_gpus = gpus_of(url, clock)
    source = Source(url, clock, gpus=gpus)
    seen: list[Status] = []

    def wait(until_s: float) -> bool:
        time.sleep(max(0.0, until_s - clock.now()))
        return going_on()

    try:
        Watch(source.url, clock, 1.0, no_gpu=no_gpu).run(source.read, seen.append, wait, None)
    finally:
        source.close()
        end_gpus()
    return max(seen[-15:], key=_alive)


def _alive(status: Status) -> int:
    """Sessions in which something goes on."""
    sessions = (status.view and status.view.sessions) or ()
    return len(sessions) + sum(one.state != "listening" for one in sessions)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--speakers", default="4")
    parser.add_argument("--seconds", default="75")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_server() as url:
        run = Path(folder) / "run"
        load = [sys.executable, "-m", "rtvc", "loadtest", url, "--out", str(run)]
        load += ["--speakers", asked.speakers, "--duration", asked.seconds]
        with subprocess.Popen(load, stdout=subprocess.DEVNULL) as child:
            status = watched(url, lambda: child.poll() is None)
        live = asked.out / "profile-live.svg"
        picture(screen(status, WIDTH, HEIGHT), "rtvc profile live", live, WIDTH)
        stages = drawn(breakdown(load_run(run), 2), WIDTH)
        picture(stages, "rtvc profile stages RUN", asked.out / "profile-waterfall.svg", WIDTH)


if __name__ == "__main__":
    main()
