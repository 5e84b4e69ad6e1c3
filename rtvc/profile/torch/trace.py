"""torch.profiler around a block or a program: a Chrome trace and the operators that took longest.

    from rtvc.profile.torch.trace import trace

    with trace(Path("trace.json")) as traced:
        model(batch)
    traced.operators[0]

CTranslate2, which faster-whisper runs on, is no part of PyTorch: none of its operators show.
"""

import contextlib
import importlib
import importlib.util
import json
import runpy
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from rtvc.errors import RtvcError, UsageError, why

HOW_TO_GET_IT = 'pip install "rtvc[torch]"'

NOT_SHOWN = (
    "CTranslate2, which faster-whisper runs on, is no part of PyTorch: none of its operators show "
    "here. For Whisper use `rtvc profile cpu`, `rtvc profile gpu` and the server's stage timings."
)
"""What must not be read out of a trace."""

TRACE_FILE = "trace.json"
OPERATORS_FILE = "operators.csv"
OUTCOME_FILE = "outcome.json"


@dataclass(frozen=True, slots=True)
class Operator:
    """All calls of one operator."""

    name: str
    """As PyTorch names it."""
    calls: int
    """How often."""
    cpu_s: float
    """On the CPU, without what it called."""
    cpu_total_s: float
    """On the CPU, with what it called."""
    device_s: float | None
    """On the device, without what it called; None: this PyTorch does not tell."""


@dataclass(slots=True)
class Traced:
    """Filled in when the block is over."""

    path: Path
    """The Chrome trace; open it in Perfetto."""
    operators: list[Operator] = field(default_factory=list)
    """Those that took longest first."""
    on_device: bool = False
    """Whether a CUDA device was recorded too."""


def has_torch() -> bool:
    """Whether PyTorch is installed; without importing it."""
    return importlib.util.find_spec("torch") is not None


def _torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise RtvcError(f"PyTorch is installed, but does not start: {why(error)}") from None
        raise RtvcError(f"PyTorch is not installed here: {HOW_TO_GET_IT}") from None
    except (ImportError, OSError) as error:
        raise RtvcError(f"PyTorch is installed, but does not start: {why(error)}") from None


@contextlib.contextmanager
def trace(path: Path) -> Iterator[Traced]:
    """Record what PyTorch does in the block; the trace is also written if the block raises.

    CPU operators of other threads show only where PyTorch has `profile_all_threads`.

    Raises:
        RtvcError: PyTorch is not installed, or the trace cannot be written.
    """
    torch = _torch()
    traced = Traced(Path(path), on_device=bool(torch.cuda.is_available()))
    profiler = _profiler(traced.on_device)
    profiler.start()
    try:
        yield traced
    finally:
        profiler.stop()
        try:
            traced.path.parent.mkdir(parents=True, exist_ok=True)
            profiler.export_chrome_trace(str(traced.path))
        except (OSError, RuntimeError) as error:
            raise RtvcError(f"cannot write the trace to {path}: {why(error)}") from error
        traced.operators = operators(profiler.key_averages())


def _profiler(on_device: bool) -> Any:
    kit = importlib.import_module("torch.profiler")
    activities = [kit.ProfilerActivity.CPU]
    if on_device:
        activities.append(kit.ProfilerActivity.CUDA)
    try:
        every_thread = kit._ExperimentalConfig(profile_all_threads=True)
    except (AttributeError, TypeError):
        return kit.profile(activities=activities)
    return kit.profile(activities=activities, experimental_config=every_thread)


def operators(averages: Sequence[Any]) -> list[Operator]:
    """PyTorch's averages by operator; the device's time decides the order where there is any."""
    found = [
        Operator(
            name=str(one.key),
            calls=int(one.count),
            cpu_s=one.self_cpu_time_total / 1e6,
            cpu_total_s=one.cpu_time_total / 1e6,
            device_s=_device_s(one),
        )
        for one in averages
    ]
    return sorted(found, key=lambda one: (-(one.device_s or 0.0), -one.cpu_s, one.name))


def _device_s(one: Any) -> float | None:
    """Its name changed with PyTorch 2.4."""
    for name in ("self_device_time_total", "self_cuda_time_total"):
        found = getattr(one, name, None)
        if found is not None:
            return float(found) / 1e6
    return None


def write_operators(path: Path, found: Sequence[Operator]) -> None:
    """As CSV: text quoted, an empty cell is unknown."""
    lines = ["name,calls,cpu_s,cpu_total_s,device_s"]
    for one in found:
        name = one.name.replace('"', '""')
        device = "" if one.device_s is None else f"{one.device_s:.6f}"
        lines.append(f'"{name}",{one.calls},{one.cpu_s:.6f},{one.cpu_total_s:.6f},{device}')
    path.write_text("\n".join(lines) + "\n", "utf-8")


# A program


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a traced program ended, as its process tells the one that started it."""

    exit_code: int
    """The program's."""
    time_was_up: bool
    """Whether it was ended after --duration."""
    ctranslate2: bool
    """Whether the program loaded CTranslate2, which does not show."""
    on_device: bool
    """Whether a CUDA device was recorded too."""
    operators: list[Operator]
    """Those that took longest first."""


def program_arguments(command: Sequence[str]) -> list[str]:
    """What Python is to run: "-m MODULE …" or "SCRIPT …"; a leading python is left out.

    >>> program_arguments(["-m", "server", "--port", "1"])
    ['-m', 'server', '--port', '1']

    Raises:
        UsageError: it is no Python program, or for another Python than this one.
    """
    rest = list(command)
    if rest and Path(rest[0]).name.startswith("python"):
        _same_python(rest.pop(0))
        while rest and rest[0] in ("-u", "-I", "-B", "-s", "-E"):
            rest.pop(0)
    if not rest:
        raise UsageError("expected a Python program after --, such as -- server.py or -- -m server")
    if rest[0] == "-m":
        if len(rest) < 2:
            raise UsageError("expected a module after -m, got nothing")
    elif not Path(rest[0]).is_file():
        raise UsageError(f"expected a Python script, but there is no file {rest[0]}")
    return rest


def _same_python(named: str) -> None:
    """A bare name is taken for this one; a path must be."""
    path = Path(named)
    if path.parent != Path() and path.absolute().parent != Path(sys.executable).parent:
        raise UsageError(
            f"expected a program for {sys.executable}, which runs rtvc, got one for {named}: "
            "install rtvc[torch] there and run that rtvc"
        )


class _TimeIsUp(BaseException):
    """Ends the program from a signal handler; no program catches it by mistake."""


def run_traced(arguments: Sequence[str], out: Path, seconds: float | None) -> Outcome:
    """Run a program in this process, as Python would, and trace it until it ends or time is up."""
    with trace(out / TRACE_FILE) as traced:
        exit_code, time_was_up = _run_until(seconds, lambda: _run(arguments))
    write_operators(out / OPERATORS_FILE, traced.operators)
    return Outcome(
        exit_code, time_was_up, "ctranslate2" in sys.modules, traced.on_device, traced.operators
    )


def _run_until(seconds: float | None, program: Callable[[], int]) -> tuple[int, bool]:
    # The profiler must be stopped by the thread that started it: hence a signal, not a timer.
    before = signal.signal(signal.SIGALRM, _raise_time_is_up)
    try:
        if seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, seconds)
        return program(), False
    except _TimeIsUp:
        return 0, True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _raise_time_is_up(number: int, frame: FrameType | None) -> None:
    raise _TimeIsUp


def _run(arguments: Sequence[str]) -> int:
    """The program's exit code."""
    try:
        if arguments[0] == "-m":
            sys.argv = list(arguments[1:])
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(arguments)
            # In place of the working directory, which only -m searches.
            sys.path[0] = str(Path(arguments[0]).absolute().parent)
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as ending:
        return _exit_code(ending.code)
    except KeyboardInterrupt:
        return 130
    except Exception:  # noqa: BLE001 (the program's own, told as Python tells it)
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def _exit_code(code: object) -> int:
    if code is None or isinstance(code, int):
        return code or 0
    sys.stderr.write(f"{code}\n")
    return 1


def main() -> None:
    """The traced process: folder, seconds or "-", and the program."""
    out, seconds, *arguments = sys.argv[1:]
    try:
        outcome = run_traced(arguments, Path(out), None if seconds == "-" else float(seconds))
    except RtvcError as error:
        told: dict[str, Any] = {"error": str(error)}
    else:
        told = asdict(outcome)
    (Path(out) / OUTCOME_FILE).write_text(json.dumps(told), "utf-8")


if __name__ == "__main__":
    main()
