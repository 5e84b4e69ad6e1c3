"""The unit that ships: systemd takes it, and it agrees with what the server does itself."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from rtvc.config import ServeSettings
from tests.servers import ROOT
from tests.test_container import services
from tools.image_start import STOP_S

FOLDER = ROOT / "infra" / "systemd"
UNIT = FOLDER / "rtvc.service"


def unit(path: Path = UNIT) -> dict[str, list[str]]:
    """Key → its values, in order."""
    found: dict[str, list[str]] = {}
    for line in path.read_text("utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def test_everybody_waits_until_the_sessions_have_finished() -> None:
    serve = ServeSettings()
    least_s = serve.shutdown_s + serve.last_final_s
    patience = [unit()["TimeoutStopSec"][0], services()["rtvc"]["stop_grace_period"], f"{STOP_S}"]
    assert {seconds(text) for text in patience} == {40.0}
    assert least_s < 40.0


def test_a_stop_is_told_to_the_server_alone() -> None:
    """It ends its engine by itself, once the last finals are out."""
    assert unit()["KillMode"] == ["mixed"]
    assert services()["rtvc"]["init"] is True


def test_the_manager_leaves_to_the_server_what_the_server_does() -> None:
    found = unit()
    assert found["OOMPolicy"] == ["continue"]
    assert found["Type"] == ["notify"]
    assert found["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert "MemoryDenyWriteExecute" not in found
    newer = unit(FOLDER / "rtvc.service.d" / "notify-reload.conf")
    assert newer == {"Type": ["notify-reload"], "ExecReload": [""]}


def test_the_gpu_is_within_reach() -> None:
    """What limits devices does it by what the kernel knows when the unit starts."""
    found = unit()
    assert not {"PrivateDevices", "DevicePolicy", "DeviceAllow", "ProtectClock"} & set(found)
    (before,) = found["ExecStartPre"]
    flags, _, command = before.partition("/")
    assert set(flags) == {"-", "+"}, "as root, and not where there is no such program"
    assert command.startswith("usr/bin/nvidia-modprobe -u")
    # The clock, and what else is for root, needs neither.
    assert found["CapabilityBoundingSet"] == [""]
    assert found["SystemCallFilter"] == ["@system-service"]


def test_the_documents_quote_the_unit_that_ships() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    quoted = re.findall(r"^    ([A-Z]\w+)=(.*)$", text, re.MULTILINE)
    assert {"Type", "OOMPolicy", "KillMode", "TimeoutStopSec"} <= {key for key, _ in quoted}
    found = unit()
    for key, value in quoted:
        assert found[key] == [value]


def test_models_are_kept_where_the_unit_may_write() -> None:
    found = unit()
    (variables,) = found["Environment"]
    environment = dict(part.split("=") for part in variables.split())
    cache = f"{environment['XDG_CACHE_HOME']}/rtvc"
    assert cache == f"/var/cache/{found['CacheDirectory'][0]}"
    assert environment["HF_HOME"].startswith(cache)
    assert (FOLDER / "rtvc.sysusers").read_text("utf-8").rstrip().endswith(cache)


def verified(text: str, folder: Path) -> str:
    """What systemd complains of."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    path = folder / "rtvc.service"
    path.write_text(text.replace("/opt/rtvc/bin/rtvc ", "/bin/true "), encoding="utf-8")
    command = [analyze, "verify", "--man=no", "--recursive-errors=no", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "Failed to initialize manager" in done.stderr:
        pytest.skip("systemd-analyze does not run here")
    return done.stderr.strip() or ("" if done.returncode == 0 else f"ended with {done.returncode}")


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text("utf-8")
    assert verified(text, tmp_path) == ""
    assert "KillMod" in verified(text.replace("KillMode=", "KillMod="), tmp_path)
