"""Programs under torch.profiler. PyTorch itself is not needed: a fake package stands in for it,
written by the tests; it keeps to what rtvc uses of torch.profiler, and its times are invented."""

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rtvc.clock import SystemClock
from rtvc.config import child_environment
from rtvc.errors import RtvcError, UsageError
from rtvc.profile.torch.trace import operators, program_arguments, trace

FAKE_TORCH = '''
"""A fake of PyTorch for tests: operators are recorded, nothing is computed."""
FAKE = True
recorder = None

class cuda:
    @staticmethod
    def is_available():
        return %(cuda)s

def mm(n=1):
    if recorder is not None:
        recorder.calls["aten::mm"] = recorder.calls.get("aten::mm", 0) + n
'''

FAKE_PROFILER = '''
"""The fake's profiler: 1 ms on the CPU and 2 ms on the device for each call."""
import enum
import json
import torch

class ProfilerActivity(enum.Enum):
    CPU = 0
    CUDA = 1

class Average:
    def __init__(self, key, count, cuda):
        self.key, self.count = key, count
        self.self_cpu_time_total, self.cpu_time_total = 1000.0 * count, 1500.0 * count
        self.self_device_time_total = 2000.0 * count if cuda else 0.0

class profile:
    def __init__(self, *, activities):
        self.calls, self.activities = {}, activities

    def start(self):
        torch.recorder = self

    def stop(self):
        torch.recorder = None

    def export_chrome_trace(self, path):
        events = [{"name": name, "ph": "X"} for name in self.calls]
        with open(path, "w") as file:
            json.dump({"traceEvents": events}, file)

    def key_averages(self):
        cuda = ProfilerActivity.CUDA in self.activities
        return [Average(key, count, cuda) for key, count in self.calls.items()]
'''


def write_fake_torch(folder: Path, *, cuda: bool = False) -> Path:
    package = folder / "fake_torch"
    (package / "torch").mkdir(parents=True)
    (package / "torch" / "__init__.py").write_text(FAKE_TORCH % {"cuda": cuda}, "utf-8")
    (package / "torch" / "profiler.py").write_text(FAKE_PROFILER, "utf-8")
    return package


@pytest.fixture
def fake_torch(tmp_path: Path) -> Path:
    return write_fake_torch(tmp_path)


@pytest.fixture
def importable(fake_torch: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The fake, in this process; forgotten afterwards."""
    monkeypatch.syspath_prepend(str(fake_torch))
    for name in ("torch", "torch.profiler"):
        # Set first, so that what stood there before comes back.
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in ("torch", "torch.profiler"):
        sys.modules.pop(name, None)


def rtvc(folder: Path, *arguments: str, torch: Path | None = None) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `rtvc profile torch`."""
    extra = {} if torch is None else {"PYTHONPATH": str(torch)}
    done = subprocess.run(
        [sys.executable, "-m", "rtvc", "profile", "torch", *arguments],
        cwd=folder,
        env=child_environment(**extra),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def script(folder: Path, text: str) -> str:
    path = folder / "program.py"
    path.write_text(text, "utf-8")
    return str(path)


# As a library


def test_a_block_is_traced(importable: Any, tmp_path: Path) -> None:
    with trace(tmp_path / "new" / "trace.json") as traced:
        import_module_and_multiply(3)
    (found,) = traced.operators
    assert (found.name, found.calls, found.cpu_s, found.device_s) == ("aten::mm", 3, 0.003, 0.0)
    written = json.loads((tmp_path / "new" / "trace.json").read_bytes())
    assert [event["name"] for event in written["traceEvents"]] == ["aten::mm"]


def import_module_and_multiply(times: int) -> None:
    importlib.import_module("torch").mm(times)


def test_a_block_that_fails_leaves_its_trace(importable: Any, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        multiply_and_fail(tmp_path / "trace.json")
    written = json.loads((tmp_path / "trace.json").read_bytes())
    assert len(written["traceEvents"]) == 1


def multiply_and_fail(path: Path) -> None:
    with trace(path):
        import_module_and_multiply(1)
        raise ZeroDivisionError


def test_a_trace_that_cannot_be_written_is_an_error_of_ours(
    importable: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RtvcError, match="cannot write the trace"), trace(tmp_path / "file" / "t"):
        pass


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is installed")
def test_without_pytorch_a_block_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(RtvcError, match=r'pip install "rtvc\[torch\]"'), trace(tmp_path / "t"):
        pass


def test_older_names_of_the_devices_time_are_read() -> None:
    class Old:
        key, count = "a", 1
        self_cpu_time_total = cpu_time_total = 5e6
        self_cuda_time_total: float | None = 1e6

    class Silent(Old):
        key = "b"
        self_cuda_time_total = None

    assert [(one.name, one.device_s) for one in operators([Silent(), Old()])] == [
        ("a", 1.0),
        ("b", None),
    ]


# Which programs


def test_a_leading_python_is_left_out(tmp_path: Path) -> None:
    path = script(tmp_path, "")
    assert program_arguments([sys.executable, "-u", path, "-x"]) == [path, "-x"]
    assert program_arguments(["python3", "-m", "server"]) == ["-m", "server"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["python"], "expected a Python program"),
        (["-m"], "a module after -m"),
        (["nowhere.py"], "no file nowhere.py"),
        (["/other/bin/python3", "-m", "server"], "which runs rtvc, got one for /other/bin/python3"),
    ],
)
def test_what_is_no_program_for_this_python_is_refused(command: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        program_arguments(command)


# The command


@pytest.mark.slow
def test_a_script_is_run_as_python_would(tmp_path: Path, fake_torch: Path) -> None:
    (tmp_path / "beside.py").write_text("WORD = 'beside'\n", "utf-8")
    path = script(
        tmp_path,
        "import sys, torch, beside\n"
        "assert torch.FAKE and __name__ == '__main__'\n"
        "torch.mm(4)\n"
        "print(beside.WORD, sys.argv[1:])\n"
        "sys.exit(3)\n",
    )
    code, out, err = rtvc(
        tmp_path, "--out", "traced", "--", path, "--port", "1", "--json", torch=fake_torch
    )
    assert (code, err) == (3, "")
    assert "beside ['--port', '1', '--json']" in out
    assert "aten::mm" in out
    assert "CTranslate2" in out
    assert sorted(file.name for file in (tmp_path / "traced").iterdir()) == [
        "operators.csv",
        "trace.json",
    ]
    rows = (tmp_path / "traced" / "operators.csv").read_text("utf-8").splitlines()
    assert rows[1] == '"aten::mm",4,0.004000,0.006000,0.000000'


@pytest.mark.slow
def test_a_module_is_run_and_a_device_decides_the_order(tmp_path: Path) -> None:
    fake = write_fake_torch(tmp_path, cuda=True)
    (tmp_path / "program.py").write_text("import torch\ntorch.mm()\nimport ctranslate2\n", "utf-8")
    (tmp_path / "ctranslate2.py").write_text("", "utf-8")
    code, out, err = rtvc(tmp_path, "--json", "--out", "traced", "--", "-m", "program", torch=fake)
    assert code == 0
    (found,) = json.loads(out)["operators"]
    assert (found["name"], found["device_s"]) == ("aten::mm", 0.002)
    assert "The program loaded CTranslate2." in err


@pytest.mark.slow
def test_a_program_is_ended_when_its_time_is_up(tmp_path: Path, fake_torch: Path) -> None:
    path = script(
        tmp_path,
        "import time, torch\ntorch.mm()\ntry:\n    time.sleep(60)\nfinally:\n    print('left')\n",
    )
    begun_s = SystemClock().now()
    code, out, _ = rtvc(tmp_path, "--duration", "0.3s", "--out", "t", "--", path, torch=fake_torch)
    assert SystemClock().now() - begun_s < 50
    assert code == 0
    for said in ("left", "aten::mm", "ended when its time was up"):
        assert said in out
    assert (tmp_path / "t" / "trace.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_program_and_keeps_its_trace(
    tmp_path: Path, fake_torch: Path, number: int
) -> None:
    path = script(
        tmp_path, "import time, torch\ntorch.mm()\nprint('here', flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "rtvc", "profile", "torch", "--out", "t", "--", path],
        cwd=tmp_path,
        env=child_environment(PYTHONPATH=str(fake_torch)),
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "here\n"
        child.send_signal(number)
        rest = child.stdout.read()
        assert child.wait(30) == 130
    assert "aten::mm" in rest
    assert (tmp_path / "t" / "trace.json").is_file()


@pytest.mark.slow
def test_a_program_that_fails_or_vanishes_is_told_apart(tmp_path: Path, fake_torch: Path) -> None:
    path = script(tmp_path, "import torch\ntorch.mm()\n1 / 0\n")
    code, out, err = rtvc(tmp_path, "--out", "a", "--", path, torch=fake_torch)
    assert code == 1
    assert "ZeroDivisionError" in err
    assert "aten::mm" in out
    path = script(tmp_path, "import os\nos._exit(7)\n")
    code, out, err = rtvc(tmp_path, "--out", "b", "--", path, torch=fake_torch)
    assert code == 1
    assert err == "rtvc: the program's process ended with 7 before the trace could be written\n"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is installed")
def test_without_pytorch_the_command_says_how_to_get_it(tmp_path: Path) -> None:
    code, out, err = rtvc(tmp_path, "--", script(tmp_path, "print('ran')\n"))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert 'pip install "rtvc[torch]"' in err
    assert "CTranslate2" in err
    assert [file.name for file in tmp_path.iterdir()] == ["program.py"]
