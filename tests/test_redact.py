"""A run for strangers: the figures are the same, and nothing is left of words, names and places."""

import json
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtvc.cli import main
from rtvc.errors import RecordError
from rtvc.loadtest.plan import Wish, make_spec
from rtvc.loadtest.runner import hide_texts
from rtvc.record import append_rows, load_run, write_parquet
from rtvc.record.redaction import EVERYBODY, Known, command, learned, strings, verify
from rtvc.report.page import build_report
from rtvc.summary import load_summary
from tests.synthetic_run import a_connection, a_manifest, a_turn, write_run

URL = "wss://annabelle:pw12345@voice.acmecorp.example:9443/v1/realtime?token=Tk9xVt3Lm"
COMMAND = f"rtvc loadtest {URL} --speakers 4 --speech /home/annabelle/acmecorp"
GONE = (
    "acmecorp",
    "annabelle",
    "/home",
    "Tk9xVt3Lm",
    "green light",
    "coffees",
    "weather like",
    "10.20.30.40",
    "boxname7",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    manifest = replace(
        a_manifest(model="/srv/models/acmecorp"),
        # As somebody else's tool might have written it.
        command=COMMAND,
        url=URL,
        settings={"speakers": 3, "scenario": "/home/annabelle/acmecorp.toml", "host": "boxname7"},
        server={"version": "1", "notice": "the model at /srv/acmecorp/model on boxname7"},
        lost_generators=("2 on boxname7: no heartbeat",),
    )
    write_run(folder, speakers=3, duration_s=30.0, manifest=manifest)
    reason = "no route to 10.20.30.40:9443"
    append_rows(folder, a_connection(3, outcome="failed", reason=reason, connection_s=None))
    append_rows(folder, a_turn(2, 9, start=25.0, shown='[[0.5,0,"turn on the green light"]]'))
    build_report(folder)
    write_parquet(folder)
    (folder / "generator.log").write_text("annabelle@boxname7 said turn on the green light\n")
    (folder / "others.json").write_text(
        json.dumps({"all": [{"text": "order two coffees and a tea", "cwd": "/home/annabelle/x"}]})
    )
    (folder / "more.jsonl").write_text(
        '{"heard": "weather like", "n": 3}\n{"path": "/home/annabelle/y"}'
    )
    return folder


def redacted(folder: Path, *flags: str) -> Path:
    with pytest.raises(SystemExit) as ended:
        main(["redact", str(folder), *flags])
    assert ended.value.code == 0
    return folder.with_name("run-redacted")


def contents(folder: Path) -> str:
    """All that can be read in it."""
    read = []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".parquet":
            read += [value for _, value in strings(path)]
        elif path.is_file() and path.suffix != ".png":
            read.append(path.read_text("utf-8"))
    return "\n".join(read)


def test_nothing_is_left_of_words_names_and_places(folder: Path) -> None:
    before = contents(folder)
    for gone in GONE:
        assert gone in before, "or the test tests nothing"
    after = contents(redacted(folder))
    for gone in GONE:
        assert gone.lower() not in after.lower(), gone


def test_the_figures_are_the_same(folder: Path) -> None:
    found, told = load_summary(redacted(folder)), load_summary(folder)
    assert found.metrics == told.metrics
    assert found.utterances == told.utterances
    assert found.connections.attempts == told.connections.attempts


def test_equal_words_stay_equal_within_a_run(folder: Path) -> None:
    out = redacted(folder)
    before, after = load_run(folder).turns, load_run(out).turns
    assert [a.text == before[0].text for a in before] == [a.text == after[0].text for a in after]
    assert all(turn.text.startswith("(hidden)") and turn.shown is None for turn in after)


def test_the_report_is_built_again_and_logs_are_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = redacted(folder)
    assert (out / "report.html").exists()
    assert not (out / "generator.log").exists()
    said = capsys.readouterr()
    assert "left out: generator.log" in said.err
    assert "report.html" not in said.err
    assert "figures" not in said.err


def test_the_command_keeps_what_was_measured(folder: Path) -> None:
    manifest = load_run(redacted(folder)).manifest
    assert "--speakers 4" in manifest.command
    assert manifest.url is None
    assert manifest.settings["speakers"] == 3


def test_nothing_is_overwritten(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    for flags in (["--out", str(taken)], ["--out", str(folder / "inside")]):
        with pytest.raises(SystemExit) as ended:
            main(["redact", str(folder), *flags])
        assert ended.value.code == 2
    assert "expected a folder" in capsys.readouterr().err
    assert list(taken.iterdir()) == []
    assert not (folder / "inside").exists()


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["redact", str(tmp_path)])
    assert ended.value.code == 2


def test_a_link_out_of_the_run_is_not_followed(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"n": 42424242}')
    (folder / "link.json").symlink_to(secret)
    assert "42424242" not in contents(redacted(folder))


def test_a_copy_that_holds_anything_is_not_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtvc.record.redaction.TEXTS", frozenset({"text"}))
    # As if a rewriting had been forgotten.
    monkeypatch.setattr(
        "rtvc.record.redaction._Redactor._scrubbed", lambda self, value: value, raising=True
    )
    with pytest.raises(SystemExit) as ended:
        main(["redact", str(folder)])
    assert ended.value.code == 2
    assert not folder.with_name("run-redacted").exists()
    assert not list(folder.parent.glob(".redacting-*"))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"note": "see /etc/rtvc/keys.toml"}, "an address or a path"),
        ({"note": "they said turn ON the  green light"}, "words"),
        ({"note": "on BOXNAME7."}, "a name"),
        ({"note": "http://x"}, "an address or a path"),
    ],
)
def test_the_search_finds_what_is_left(content: dict[str, str], what: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(content))
    known = Known({"boxname7"}, {"turn on the green light"})
    with pytest.raises(RecordError, match=what) as found:
        verify(tmp_path, known)
    assert content["note"] not in str(found.value)


@given(st.text(max_size=100))
def test_no_command_line_tells_names(text: str) -> None:
    shown = command(f"rtvc loadtest {text}")
    for word in text.split():
        assert not word.isalpha() or len(word) < 4 or word in "hidden" or word not in shown


def test_this_machine_is_known(tmp_path: Path) -> None:
    name = platform.node().lower()
    assert len(name) < 3 or name in EVERYBODY or name in learned(tmp_path, []).names


def test_the_words_of_recordings_leave_the_record_and_their_counts_stay(folder: Path) -> None:
    part = folder / "parts" / "0"
    part.mkdir(parents=True)
    append_rows(part, a_turn(0, 1))
    before = load_run(folder).turns
    hide_texts(folder)
    after = load_run(folder).turns
    for path in folder.rglob("turns.csv"):
        assert not any(words in path.read_text() for words in ("light", "coffees", "weather"))
    kept = [replace(turn, text="", heard=None, shown=None) for turn in after]
    assert kept == [replace(turn, text="", heard=None, shown=None) for turn in before]
    assert [turn.heard is None for turn in after] == [turn.heard is None for turn in before]


def test_only_recordings_are_somebodys_words(tmp_path: Path) -> None:
    def keeps(**more: Any) -> bool:
        return make_spec(Wish("ws://127.0.0.1:1", **more), tmp_path, tmp_path).keep_text

    assert keeps()
    assert not keeps(speech=tmp_path)
    assert keeps(speech=tmp_path, keep_text=True)
