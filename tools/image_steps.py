"""The steps of the Dockerfile, run without a container engine: in a folder of their own.

    python -m tools.image_steps [--target cpu] [--python python3.12] [--serve] [--out FILE]

Proves what can be proven where no image can be built: that each file that is copied is in the
build's context (.dockerignore and all), that each command ends well, and with --serve that what
the image starts gets ready, says so to its health check and stops on its signal. Paths of the
image become folders below one that is made for it; the commands run as whoever runs this, with
this machine's Python. What changes the image's system (apt-get, users) is left out and said so,
and so is what only an engine can show: the base images, the user, the read-only root.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from rtvc.clock import Clock, SystemClock
from rtvc.config import environment_without_settings
from rtvc.errors import RtvcError, UsageError
from tools.dockerfile import Stage, Step, ignored, stages
from tools.image_stage import MOUNT, Image, Outcome, copied
from tools.image_start import start

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "infra" / "docker" / "Dockerfile"


def context(checkout: Path, folder: Path) -> int:
    """What .dockerignore lets through of a checkout; how many files."""
    lines = (checkout / ".dockerignore").read_text("utf-8").splitlines()
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.split("\0") if name and not ignored(name, lines)]
    for name in filter(lambda each: (checkout / each).is_file(), names):
        copied(checkout / name, folder / name)
    return len(names)


def needed(found: list[Stage], target: str) -> list[Stage]:
    """The stages that one needs, itself last.

    Raises:
        UsageError: there is no such stage, or it is built upon another.
    """
    named = {stage.name: stage for stage in found}
    if target not in named:
        known = ", ".join(name for name in named if name)
        raise UsageError(f"expected one of {known} as --target, got {target!r}")
    stage = named[target]
    if stage.base in named:
        raise UsageError(f"expected {target} to be built upon an image, got FROM {stage.base}")
    origins = [name for step in stage.steps for name in _origins(step)]
    before = [each for name in dict.fromkeys(origins) for each in needed(found, name)]
    return [*before, stage]


def _origins(step: Step) -> Iterator[str]:
    yield from step.flag("from")
    for mount in step.flag("mount"):
        bound = MOUNT.fullmatch(mount)
        if bound is not None:
            yield bound["from"]


def built(
    dockerfile: Path, target: str, root: Path, given: Mapping[str, str], python: Path, clock: Clock
) -> tuple[Image, list[Outcome]]:
    """The target's image, and what became of each step; each is told as it is done.

    Raises:
        RtvcError: a step fails.
    """
    known, found = stages(dockerfile.read_text("utf-8"), given)
    path = f"{_called_python3(python, root)}:{environment_without_settings().get('PATH', '')}"
    done: list[Outcome] = []
    image = None
    for stage in needed(found, target):
        image = Image(stage, root, clock, path)
        for outcome in image.build(known, given):
            done.append(outcome)
            _say(str(outcome))
    assert image is not None
    return image, done


def _called_python3(python: Path, root: Path) -> Path:
    """A folder whose python3 is that one: the one that lies beside it may be another."""
    folder = root / ".python"
    folder.mkdir(parents=True)
    program = folder / "python3"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(str(python))} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return folder


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _given(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    return name, value


def _python(text: str) -> Path:
    """Not a virtual environment's: what it leads to."""
    found = shutil.which(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"expected a Python such as python3.12, got {text!r}")
    asked = subprocess.run(
        [found, "-c", "import sys; print(sys._base_executable)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(asked.stdout.strip()).resolve()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--build-arg", type=_given, action="append", default=[])
    parser.add_argument("--python", type=_python, default=Path(sys.executable).resolve())
    parser.add_argument("--serve", action="store_true", help="start what the image starts, too")
    parser.add_argument("--out", type=Path, help="write what was done there, as Markdown")
    chosen = parser.parse_args()
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="rtvc-image-") as folder:
        root = Path(folder)
        files = context(ROOT, root / "context")
        lines = [f"context: {files} files"]
        _say(lines[0])
        try:
            given = dict(chosen.build_arg)
            image, done = built(DOCKERFILE, chosen.target, root, given, chosen.python, clock)
            lines += map(str, done)
            if chosen.serve:
                lines += start(image, clock, _say)
        except RtvcError as error:
            _say(str(error))
            return error.exit_code
    if chosen.out is not None:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text("".join(f"- {line}\n" for line in lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
