"""The table of other people's servers beside ours, from the folders of their runs."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from rtvc.record import load_run
from rtvc.summary import summarize, write_summary
from tests.acceptance.third_party import (
    CASE_FILE,
    HEAD,
    SELF_TEST,
    SERVERS,
    Case,
    intro,
    table,
    version_of,
)
from tests.synthetic_run import a_manifest, write_run


def finished(folder: Path, server: str, **manifest: object) -> Path:
    write_run(folder, manifest=a_manifest(**manifest))
    write_summary(folder, summarize(load_run(folder)))
    case = Case(server, "1.2", 4, "selftest", 1.5, 0.75, 0)
    (folder / CASE_FILE).write_text(json.dumps(asdict(case)), "utf-8")
    return folder


def test_a_row_a_case_and_a_line_for_who_was_skipped(tmp_path: Path) -> None:
    ours = finished(tmp_path / "a", "rtvc")
    theirs = finished(tmp_path / "b", "whisperlive", not_observable=("premature_finals",))
    told = table([ours, theirs], ["realtimestt"])
    rows = [line.split(" | ") for line in told.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows] == ["| server", "| rtvc 1.2", "| whisperlive 1.2"]
    assert {len(row) for row in rows} == {len(HEAD)}
    premature = HEAD.index("premature")
    assert rows[1][premature] != "not observable"
    assert rows[2][premature] == "not observable"
    assert "realtimestt: skipped" in told


def test_the_model_is_named_for_what_it_is() -> None:
    assert "the self-test model" in intro(SELF_TEST, 60)
    assert "base.en" in intro(Path("models/base.en"), 60)


def test_every_server_is_started_on_the_same_folder() -> None:
    for server in SERVERS:
        command = server.command("python", 8123, SELF_TEST)
        assert str(SELF_TEST) in command
        assert "8123" in command
        assert server.flags[0] == "--protocol"


def test_a_version_that_is_not_known_is_not_made_up() -> None:
    assert version_of(sys.executable, "no-such-package-here") == "unknown"
