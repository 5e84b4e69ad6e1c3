"""One stage of a Dockerfile, built in a folder: the image's own folders become folders below it."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rtvc.clock import Clock
from rtvc.config import environment_without_settings
from rtvc.errors import RtvcError, why
from tools.dockerfile import Stage, Step, argument, expanded

OWN = ("src", "wheels", "models", "etc/rtvc", "opt/build", "opt/rtvc")
"""Folders of the image that its commands name and that become folders of ours."""
SYSTEM = ("apt-get", "groupadd", "useradd")
"""What would change this machine."""
STEP_S = 1800.0
_OWN = re.compile(rf"(?<![\w./-])/(?=(?:{'|'.join(OWN)})(?![\w.-]))")
MOUNT = re.compile(r"type=bind,from=(?P<from>\w+),source=(?P<source>\S+),target=(?P<target>\S+)")
_KEPT = ("HEALTHCHECK", "ENTRYPOINT", "CMD", "STOPSIGNAL")
"""What matters once the image is started."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a step."""

    stage: str
    """Its name."""
    line: int
    """In the Dockerfile."""
    what: str
    """The instruction, shortened."""
    seconds: float | None
    """How long it took; None: it was left out."""
    why: str = ""
    """Why it was left out."""

    def __str__(self) -> str:
        """
        >>> str(Outcome("cpu", 7, "RUN true", 0.04))
        'cpu:7 RUN true: done in 0.0 s'
        """
        end = f"left out: {self.why}" if self.seconds is None else f"done in {self.seconds:.1f} s"
        return f"{self.stage}:{self.line} {self.what}: {end}"


class Image:
    """One stage as it is built."""

    def __init__(self, stage: Stage, root: Path, clock: Clock, path: str) -> None:
        """`path`: where programs are looked for, before the stage says something of it."""
        self.stage = stage
        self.root = root / stage.name
        self.variables = {"PATH": path}
        self.kept: dict[str, Step] = {}
        self._top = root
        self._clock = clock
        self._folder = PurePosixPath("/")
        self._shell = ["/bin/sh", "-c"]
        self.root.mkdir(parents=True)

    def place(self, path: str) -> Path:
        """Where a path of the image is; a relative one begins at its WORKDIR."""
        return self.root / str(self._folder / path).lstrip("/")

    def here(self, text: str) -> str:
        """The same text with the image's own folders as they are here."""
        return _OWN.sub(f"{self.root.as_posix()}/", text)

    @property
    def environment(self) -> dict[str, str]:
        """What its commands see."""
        own = {name: self.here(value) for name, value in self.variables.items()}
        return {**environment_without_settings(), **own}

    def build(self, known: Mapping[str, str], given: Mapping[str, str]) -> Iterator[Outcome]:
        """Step by step; of those that only set something nothing is told.

        Raises:
            RtvcError: one of them fails; says how.
        """
        for step in self.stage.steps:
            begun_s = self._clock.now()
            left_out = self._do(step, known, given)
            seconds = None if left_out else self._clock.now() - begun_s
            if left_out or step.word in ("RUN", "COPY"):
                what = f"{step.word} {step.text}"
                shown = what if len(what) <= 72 else f"{what[:71]}…"
                yield Outcome(self.stage.name, step.line, shown, seconds, left_out)

    def _do(self, step: Step, known: Mapping[str, str], given: Mapping[str, str]) -> str:
        """Why it was left out; empty: it was not."""
        if step.word == "RUN":
            return self._run(step)
        if step.word == "COPY":
            self._copy(step)
        elif step.word == "ARG":
            self.variables |= argument(step, known, given)
        elif step.word == "ENV":
            self.variables |= self._assigned(step.text)
        elif step.word == "WORKDIR":
            self._folder = self._folder / expanded(step.text, self.variables)
            self.place("").mkdir(parents=True, exist_ok=True)
        elif step.word == "SHELL":
            self._shell = json.loads(step.text)
        elif step.word in _KEPT:
            self.kept[step.word] = step
        else:
            return "nothing to do without an engine"
        return ""

    def _assigned(self, text: str) -> dict[str, str]:
        """All of one ENV see what was there before it."""
        pairs = (word.partition("=") for word in shlex.split(text))
        return {name: expanded(value, self.variables) for name, _, value in pairs}

    def _run(self, step: Step) -> str:
        firsts = {part.split()[0] for part in step.text.split("&&") if part.split()}
        if firsts & set(SYSTEM):
            return "changes the system of an image"
        for mount in step.flag("mount"):
            self._mount(mount)
        self.command([*self._shell, self.here(step.text)], f"line {step.line}")
        return ""

    def _mount(self, mount: str) -> None:
        """A folder of another stage; caches are those of this machine."""
        bound = MOUNT.fullmatch(mount)
        if bound is not None:
            target = self.place(bound["target"])
            if not target.is_symlink():
                target.symlink_to(self._top / bound["from"] / bound["source"].lstrip("/"))

    def command(self, command: list[str], what: str) -> None:
        """
        Raises:
            RtvcError: it fails; says what it said last.
        """
        try:
            done = subprocess.run(
                command,
                cwd=self.place(""),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=STEP_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RtvcError(f"{self.stage.name}: {what} took more than {STEP_S:g} s") from None
        if done.returncode:
            last = "\n".join(done.stdout.splitlines()[-20:])
            raise RtvcError(f"{self.stage.name}: {what} ended with {done.returncode}:\n{last}")

    def _copy(self, step: Step) -> None:
        *sources, target = shlex.split(expanded(step.text, self.variables))
        place = self.place(target)
        into = target.endswith("/") or len(sources) > 1 or place.is_dir()
        origin = step.flag("from")
        top = self._top / (origin[0] if origin else "context")
        for source in sources:
            found = top / source.lstrip("/")
            try:
                copied(found, place / found.name if into and found.is_file() else place)
            except OSError as error:
                raise RtvcError(
                    f"{self.stage.name}: line {step.line}: {source} is not in the context of the "
                    f"build: {why(error)}"
                ) from None


def copied(found: Path, place: Path) -> None:
    """Of a folder its content, as a builder does it."""
    if found.is_dir():
        shutil.copytree(found, place, dirs_exist_ok=True)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(found, place)
