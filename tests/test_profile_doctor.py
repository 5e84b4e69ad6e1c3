"""The doctor as a whole: what it is given to read, what it says, and its command."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rtvc
from rtvc.cli import main
from rtvc.profile.doctor.checkout import MAX_FILE_BYTES
from rtvc.profile.doctor.command import check_folder
from rtvc.profile.doctor.findings import (
    CHECKS,
    MOST_OF_A_KIND,
    SICK,
    Finding,
    ordered,
    spared,
)
from tests.doctor_folders import PER_CONNECTION, SHARED, examined, handled, kinds
from tests.servers import free_port
from tests.test_profile_doctor_deployment import PAIRS as DEPLOYMENT_PAIRS
from tests.test_profile_doctor_live import ILL_PROCESSES, ILL_SERVERS
from tests.test_profile_doctor_source import PAIRS as SOURCE_PAIRS

# What it is given to read


def test_odd_files_become_notes_and_nothing_breaks(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def f(:\n", encoding="utf-8")
    (tmp_path / "latin.py").write_bytes(b"x = '\xe9\xff'\n")
    (tmp_path / "nul.py").write_bytes(b"x = 1\0\n")
    (tmp_path / "deep.py").write_text("x = " + "+".join(["1"] * 20_000), encoding="utf-8")
    (tmp_path / "nested.py").write_text("(" * 400 + ")" * 400, encoding="utf-8")
    (tmp_path / "huge.py").write_text("#" * (MAX_FILE_BYTES + 1), encoding="utf-8")
    (tmp_path / "python2.py").write_text("print 'x'\n", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text("[project\n", encoding="utf-8")
    (tmp_path / "Dockerfile").write_bytes(b"FROM \xff\nRUN \\\n")
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "good.py").write_text("x = '\\d'\n", encoding="utf-8")
    findings = [one for one in check_folder(tmp_path) if one.id == "not-read"]
    assert {finding.severity for finding in findings} == {"note"}
    named = {finding.evidence.split(":")[0] for finding in findings}
    unread = {"broken.py", "latin.py", "nul.py", "nested.py", "huge.py", "python2.py"}
    assert named - {"deep.py"} == {*unread, "pyproject.toml"}


def test_a_source_that_says_its_encoding_is_read(tmp_path: Path) -> None:
    source = b"# coding: latin-1\n# \xe9\nasync def f():\n    import time\n    time.sleep(1)\n"
    (tmp_path / "latin.py").write_bytes(source)
    assert ("blocking-call", "warning") in kinds(check_folder(tmp_path))


@settings(deadline=None, max_examples=30)
@given(st.text(alphabet="ab(): \n=*,.[]@'#\\${}-<>~^19FROMRUN", max_size=200))
def test_no_text_breaks_a_reader(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("odd")
    names = ("a.py", "Dockerfile", "compose.yml", "requirements.txt", "pyproject.toml", "p.js")
    for finding in examined(folder, dict.fromkeys(names, text)):
        assert finding.id in CHECKS


def test_names_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    circle = {
        "a.py": "from b import f, C\nfrom c import *\nclass D(C): pass\n"
        "async def talk(websocket):\n    f()\n    D().go().x.y.z()\n",
        "b.py": "from a import f, D\nclass C(D):\n    def __init__(self):\n"
        "        self.x = self.y\n        self.y = self.x\n",
        "c.py": "from .c import c\nfrom ...d import e\nx = y\ny = x\n"
        "import queue\nqueue.Queue(x)\n",
    }
    assert kinds(examined(tmp_path, circle)) <= {("queue-unbounded", "note")}


def test_tests_and_environments_are_not_read(tmp_path: Path) -> None:
    bad = PER_CONNECTION["server.py"] + PER_CONNECTION["ears.py"]
    elsewhere = {
        f"{name}/app.py": bad for name in ("tests", ".venv", "node_modules/x", "mine/site-packages")
    }
    (tmp_path / "env3").mkdir()
    elsewhere["env3/pyvenv.cfg"] = ""
    assert examined(tmp_path, {**elsewhere, "env3/app.py": bad, "test_it.py": bad}) == []


def test_one_file_is_enough(tmp_path: Path) -> None:
    examined(tmp_path, handled("time.sleep(1)", imports="import time"))
    assert ("blocking-call", "bad") in kinds(check_folder(tmp_path / "app.py"))


def test_rtvc_itself_is_well() -> None:
    findings = check_folder(Path(rtvc.__file__).parent.parent)
    assert [finding for finding in findings if finding.severity == "bad"] == []
    assert {finding.id for finding in findings} <= set(CHECKS)
    # It was really read: its handlers are known.
    assert "no-handlers" not in {finding.id for finding in findings}


def test_every_check_says_what_it_costs_and_troubles_say_what_to_do() -> None:
    nothing_to_do = {"model-shared", "queue-bounded", "ctranslate2-match", "not-read"}
    nothing_to_do |= {"no-handlers", "no-gpu", "health", "models-shared", "notice"}
    assert {kind for kind, check in CHECKS.items() if not check.fix} == nothing_to_do
    assert all(check.why and "\n" not in check.why + check.fix for check in CHECKS.values())


def test_every_check_is_tried() -> None:
    """A new check needs a case that has the trouble and one that has not."""
    cases = {name.split()[0].rstrip(",") for name in (*SOURCE_PAIRS, *DEPLOYMENT_PAIRS)}
    cases |= {kind for _, kind, _ in (*ILL_PROCESSES, *ILL_SERVERS)}
    cases |= {"model-per-connection", "model-loaded-lazily", "model-shared", "queue-bounded"}
    cases |= {"ctranslate2-match", "gpu-driver", "no-gpu", "health", "models-shared", "not-read"}
    assert cases == set(CHECKS)


def test_few_places_of_a_kind_are_shown_and_the_rest_counted() -> None:
    many = [Finding("polling", "note", "x", f"a.py:{line}") for line in range(9)]
    shown = spared([*many, Finding("polling", "bad", "x", "b.py:1")])
    assert len(shown) == MOST_OF_A_KIND + 1
    assert shown[MOST_OF_A_KIND - 1].evidence == "a.py:4 (and 4 more)"
    assert shown[-1].evidence == "b.py:1"
    assert ordered(shown)[0].severity == "bad"


# The command


def ran(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["profile", "doctor", *arguments])
    shown = capsys.readouterr()
    return int(str(ended.value.code)), shown.out or shown.err


def test_the_command_says_what_why_and_the_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    examined(tmp_path, PER_CONNECTION)
    code, out = ran(str(tmp_path), capsys=capsys)
    assert code == SICK
    assert "✗ WhisperModel is built for each connection" in out
    assert "costs: every caller waits" in out
    assert "(WhisperLive#223, #109)" in out
    assert "fix:   build it once" in out
    assert out.rstrip().endswith("1 bad, 0 warnings, 0 notes, 0 good")


def test_json_holds_every_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examined(tmp_path, SHARED)
    code, out = ran(str(tmp_path), "--json", capsys=capsys)
    said = json.loads(out)
    assert (code, said["exit_code"], said["counts"]["good"]) == (0, 0, 1)
    (found,) = said["targets"][0]["findings"]
    assert found["id"] == "model-shared"
    assert set(found) == {"id", "severity", "what", "evidence", "why", "source", "fix"}


def test_several_targets_of_several_kinds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    examined(tmp_path, SHARED)
    url = f"127.0.0.1:{free_port()}"
    code, out = ran(str(tmp_path), str(os.getpid()), url, "--json", capsys=capsys)
    said = json.loads(out)
    assert code == said["exit_code"] == 1
    assert [one["kind"] for one in said["targets"]] == ["folder", "process", "server"]
    assert [one["id"] for one in said["targets"][2]["findings"]] == ["no-answer"]


def test_what_is_looked_at_is_told_on_stderr_and_what_is_there_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    examined(tmp_path, SHARED)
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(SystemExit) as ended:
        main(["profile", "doctor", str(tmp_path), url])
    shown = capsys.readouterr()
    begun, later, failed = shown.err.splitlines()
    assert begun == f"looking at folder {tmp_path} …"
    assert later == f"looking at server {url} …"
    assert failed.startswith(f"rtvc: no server answers at {url}: ")
    assert ended.value.code == 1
    assert "built once" in shown.out
    assert url not in shown.out


def test_our_own_faults_on_demand_are_not_counted(tmp_path: Path) -> None:
    ours = Path(rtvc.__file__).parent.parent
    assert not [one for one in check_folder(ours) if one.severity in ("bad", "warning")]
    named = "rtvc/server/faults/neighbour.py"
    written = (ours / named).read_text(encoding="utf-8")
    assert examined(tmp_path / "ours", {named: written}) == []
    elsewhere = examined(tmp_path / "theirs", {"mine/neighbour.py": written})
    assert {one.id for one in elsewhere} >= {"final-discarded"}


def test_a_target_that_is_nothing_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = ran("no-such-folder", capsys=capsys)
    assert (code, out.count("\n")) == (2, 1)
    assert "expected a folder, a process id or a URL" in out
