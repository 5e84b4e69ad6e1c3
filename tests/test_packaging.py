"""What is in the wheel, and what is not."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Of the wheel built from what is tracked (or, out of a checkout, from the package folder)."""
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in tracked():
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    command = [sys.executable, "-m", "build", "--wheel"]
    built = subprocess.run(
        [*command, "--outdir", str(dist), str(source)], capture_output=True, text=True, check=False
    )
    if "No matching distribution found for setuptools" in built.stdout + built.stderr:
        pytest.skip("the build backend cannot be fetched without a network")
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = dist.glob("rtvc-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_everything_in_the_package_is_in_the_wheel(wheel_names: set[str]) -> None:
    ours = {name for name in tracked() if name.startswith("rtvc/")}
    assert ours - wheel_names == set()


@pytest.mark.parametrize(
    "name",
    [
        "rtvc/py.typed",
        "rtvc/stt/selftest/model.bin",
        "rtvc/stt/selftest/config.json",
        "rtvc/stt/selftest/tokenizer.json",
        "rtvc/stt/selftest/vocabulary.json",
        "rtvc/stt/selftest/MODEL_CARD.md",
        "rtvc/server/static/index.html",
        "rtvc/server/static/app.js",
        "rtvc/server/static/style.css",
        "rtvc/server/static/favicon.svg",
        "rtvc/report/templates/report.html.j2",
        "rtvc/report/templates/report.css",
    ],
)
def test_what_running_needs_is_in_the_wheel(wheel_names: set[str], name: str) -> None:
    assert name in wheel_names


def test_nothing_else_is_in_the_wheel(wheel_names: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"rtvc"}
    assert not [name for name in wheel_names if "__pycache__" in name or "/tests/" in name]
