"""What was run, where and when: run.json."""

import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from rtvc import __version__
from rtvc.clock import Clock
from rtvc.hiding import command_line, without_secrets

SCHEMA_VERSION = 1
"""Raised when a reader of older files would misread newer ones."""

MANIFEST_FILE = "run.json"

PACKAGES = (
    "ctranslate2",
    "espeakng-loader",
    "fastapi",
    "faster-whisper",
    "gevent",
    "jiwer",
    "locust",
    "numpy",
    "onnxruntime",
    "pocketsphinx",
    "torch",
    "uvicorn",
    "websocket-client",
    "websockets",
)
"""Packages whose version can change a figure."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine a run was made on."""

    cpu: str
    """Model name of the processor."""
    cores: int
    """Logical cores this process may use."""
    memory_bytes: int
    """Physical memory."""
    platform: str
    """Operating system and kernel."""
    python: str
    """Version of Python."""
    gpus: tuple[str, ...] = ()
    """Names of GPUs; empty if there are none or none were looked for."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What was run, where and when; written at the start, completed at the end."""

    schema_version: int
    """Version of the files in this directory."""
    rtvc_version: str
    """Version of rtvc that wrote it."""
    command: str
    """As typed, secrets hidden."""
    started_at: str
    """UTC, ISO 8601: the only wall time of a run."""
    machine: Machine
    """Where the load generator ran."""
    commit: str | None = None
    """Git commit of rtvc's source tree, with "-dirty" if changed; None if not run from one."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Every setting of the run, secrets hidden."""
    packages: dict[str, str] = field(default_factory=dict)
    """Versions of the installed packages that can change a figure."""
    url: str | None = None
    """The server under test; None if there was none."""
    protocol: str | None = None
    """Wire protocol spoken."""
    model: str | None = None
    """Speech-to-text model as the server named it; None if it did not say."""
    model_kind: str | None = None
    """"self-test model", "whisper", …; None if the server did not say."""
    server: dict[str, Any] = field(default_factory=dict)
    """What the server said of itself."""
    corpus: str | None = None
    """"synthetic" (texts are ours and may be shown) or "recordings" (they may not)."""
    corpus_hash: str | None = None
    """Identifies the clips spoken."""
    targets: tuple[str, ...] = ()
    """Objectives the run is judged by; empty means the default ones."""
    colocated: bool | None = None
    """Whether server and generator shared a machine; None if unknown."""
    duration_s: float | None = None
    """Length of the run; None if it was cut off before it could say."""
    planned_duration_s: float | None = None
    """Seconds that were to be measured after the warm-up; None if that was left open."""
    interrupted: bool = False
    """Whether somebody stopped it before its time."""
    ready: str | None = None
    """How sessions are known to be usable: "message" or "inferred"; None if not recorded."""
    not_observable: tuple[str, ...] = ()
    """What the protocol cannot show, named as objectives name it."""
    lost_generators: tuple[str, ...] = ()
    """Generators of the run that ended before their time, each with what happened."""
    aborted: str | None = None
    """The objective that ended it before its time; None: none did."""

    @property
    def is_self_test(self) -> bool:
        return self.model_kind == "self-test model" or self.model == "selftest"

    @property
    def text_observable(self) -> bool:
        """Synthetic weights cost what a model costs, but what they write means nothing."""
        return self.model_kind != "synthetic weights"


def new_manifest(command: Sequence[str], clock: Clock, **more: Any) -> Manifest:
    """A manifest of this machine and moment; `more` are further fields of Manifest."""
    return Manifest(
        schema_version=SCHEMA_VERSION,
        rtvc_version=__version__,
        command=command_line(command),
        started_at=clock.utc().isoformat(timespec="seconds"),
        machine=more.pop("machine", None) or this_machine(),
        commit=_git_commit(),
        settings=without_secrets(more.pop("settings", {})),
        server=without_secrets(more.pop("server", {})),
        packages=_package_versions(),
        targets=tuple(more.pop("targets", ())),
        **more,
    )


def this_machine(gpus: Iterable[str] = ()) -> Machine:
    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _all_cores(),
        memory_bytes=psutil.virtual_memory().total,
        platform=platform.platform(),
        python=platform.python_version(),
        gpus=tuple(gpus),
    )


def _all_cores() -> int:
    return psutil.cpu_count() or 1


def _cpu_model() -> str:
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        cpuinfo = ""
    named = re.search(r"^model name\s*: (.+)$", cpuinfo, re.MULTILINE)
    return named[1] if named else platform.processor() or platform.machine()


def _package_versions() -> dict[str, str]:
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def _git_commit() -> str | None:
    """Of the tree this file belongs to: an installed copy inside another's tree has none."""
    tree = Path(__file__).resolve().parents[2]
    if not (tree / ".git").exists():
        return None
    command = ["git", "-C", str(tree), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(
            [*command, "--abbrev=40"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
