"""Run directories: what is written is what is read, also after a crash."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.clock import FakeClock
from rtvc.errors import RecordError
from rtvc.record import (
    FILES,
    ConnectionRow,
    GeneratorRow,
    Machine,
    Manifest,
    Row,
    Run,
    RunWriter,
    SampleRow,
    ServerTurnRow,
    load_run,
    new_manifest,
    without_secrets,
    write_parquet,
)

MACHINE = Machine("A processor", 2, 4_000_000_000, "An OS", "3.11.0")


def a_manifest(**more: Any) -> Manifest:
    return new_manifest(["rtvc", "loadtest"], FakeClock(), machine=MACHINE, **more)


def a_sample(at_s: float = 1.0, name: str = "queue_wait_s") -> SampleRow:
    return SampleRow(at_s, "server", name, 0.25)


def rows_of(run: Run) -> list[Row]:
    return [
        *run.connections,
        *run.turns,
        *run.server_turns,
        *run.samples,
        *run.generator,
        *run.steps,
    ]


quotes_and_breaks = ['say "hi"', "a,b", "line\nbreak", "line\r\nbreak", '"', '""', "", "inf"]
texts = st.text(max_size=30) | st.sampled_from([*quotes_and_breaks, "naïve – 東京 🎙", "\x00"])
numbers = st.floats(allow_nan=False)
cells: dict[Any, st.SearchStrategy[Any]] = {
    str: texts,
    float: numbers,
    int: st.integers(),
    bool: st.booleans(),
    str | None: st.none() | texts,
    float | None: st.none() | numbers,
    int | None: st.none() | st.integers(),
    bool | None: st.none() | st.booleans(),
}


def any_of_kind(kind: type[Row]) -> st.SearchStrategy[Row]:
    return st.builds(kind, **{name: cells[hint] for name, hint in get_type_hints(kind).items()})


any_row = st.one_of([any_of_kind(kind) for kind in FILES])


@given(st.lists(any_row, max_size=8))
@settings(deadline=None, max_examples=60)
def test_every_row_survives_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row]
) -> None:
    folder = tmp_path_factory.mktemp("run")
    with RunWriter(folder, a_manifest(), FakeClock()) as writer:
        writer.append(*rows)
    read = load_run(folder)
    order = list(FILES)
    assert rows_of(read) == sorted(rows, key=lambda row: order.index(type(row)))


@given(st.lists(any_row, min_size=1, max_size=3), st.data())
@settings(deadline=None, max_examples=60)
def test_a_run_cut_off_anywhere_keeps_its_complete_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], data: st.DataObject
) -> None:
    rows = [row for row in rows if type(row) is type(rows[0])]
    folder = tmp_path_factory.mktemp("run")
    with RunWriter(folder, a_manifest(), FakeClock()) as writer:
        writer.append(*rows)
    path = folder / FILES[type(rows[0])]
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    read = rows_of(load_run(folder))
    assert read == rows[: len(read)]
    assert len(read) < len(rows)


def test_rows_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    with RunWriter(tmp_path, a_manifest(), FakeClock()) as writer:
        writer.append(a_sample())
        running = load_run(tmp_path)
    assert running.samples == [a_sample()]
    assert running.cut_off
    assert not load_run(tmp_path).cut_off


def test_threads_share_one_writer(tmp_path: Path) -> None:
    def write(writer: RunWriter, name: str) -> None:
        for at in range(50):
            writer.append(a_sample(float(at), name))

    with RunWriter(tmp_path, a_manifest(), FakeClock()) as writer:
        threads = [threading.Thread(target=write, args=(writer, f"name,{i}")) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    samples = load_run(tmp_path).samples
    assert len(samples) == 200
    for i in range(4):
        assert [s.at_s for s in samples if s.name == f"name,{i}"] == list(range(50))


def test_empty_text_is_not_absent_text(tmp_path: Path) -> None:
    row = ConnectionRow(0, "", 0.0, None, None, None, "failed", None, None, None)
    with RunWriter(tmp_path, a_manifest(), FakeClock()) as writer:
        writer.append(row)
    (read,) = load_run(tmp_path).connections
    assert (read.session_id, read.reason) == ("", None)


def test_the_manifest_is_read_as_written(tmp_path: Path) -> None:
    clock = FakeClock()
    manifest = a_manifest(model="selftest", targets=["errors<1%"], settings={"speakers": 3})
    with RunWriter(tmp_path, manifest, clock) as writer:
        writer.update(model_kind="self-test model", server={"version": "1", "api_key": "k"})
        clock.advance(12.5)
    read = load_run(tmp_path).manifest
    assert read == replace(
        manifest,
        model_kind="self-test model",
        server={"version": "1", "api_key": "(hidden)"},
        duration_s=12.5,
    )
    assert read.is_self_test
    assert read.started_at == "1970-01-01T00:00:00+00:00"
    assert read.packages["numpy"]


def test_this_machine_is_described(tmp_path: Path) -> None:
    machine = new_manifest([], FakeClock()).machine
    assert machine.cpu
    assert machine.cores >= 1
    assert machine.memory_bytes > 1_000_000


def test_secrets_stay_out(tmp_path: Path) -> None:
    command = [
        "rtvc",
        "loadtest",
        "ws://me:hunter2@box/?api_key=hunter2&x=1",
        "--api-key",
        "hunter2",
    ]
    hidden = {"llm": {"api_key": "hunter2"}, "max_tokens": 64, "urls": ["ws://u:hunter2@h"]}
    manifest = new_manifest(command, FakeClock(), machine=MACHINE, settings=hidden)
    with RunWriter(tmp_path, manifest, FakeClock()):
        written = (tmp_path / "run.json").read_text()
    assert "hunter2" not in written
    assert manifest.settings["max_tokens"] == 64
    assert "x=1" in manifest.command


def test_an_unset_secret_shows_as_unset() -> None:
    assert without_secrets({"api_key": None}) == {"api_key": None}


def test_missing_files_are_empty_lists(tmp_path: Path) -> None:
    with RunWriter(tmp_path, a_manifest(), FakeClock()):
        pass
    assert rows_of(load_run(tmp_path)) == []


def write_run(folder: Path, samples_csv: str) -> None:
    with RunWriter(folder, a_manifest(), FakeClock()):
        pass
    (folder / "samples.csv").write_text(samples_csv)


HEADER = "at_s,source,name,value\n"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (HEADER + '1.0,"a","b"\n', "samples.csv:2: expected 4 cells, got 3"),
        (HEADER + '1.0,"a\nb","b",2.0\nx,"a","b",1.0\n', "samples.csv:4: could not convert"),
        (HEADER + ',"a","b",2.0\n', "samples.csv:2: column at_s expects a value"),
        (HEADER + '1.0,"a"b,"b",2.0\n', "samples.csv:2: expected a cell"),
        ("at_s,source,name\n", "expected a column value"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, content: str, complaint: str) -> None:
    write_run(tmp_path, content)
    with pytest.raises(RecordError, match=complaint):
        load_run(tmp_path)


def test_a_column_of_a_later_version_is_left_out(tmp_path: Path) -> None:
    write_run(tmp_path, 'at_s,source,name,value,extra\n1.0,"server","queue_wait_s",0.25,7\n')
    assert load_run(tmp_path).samples == [a_sample()]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="this is no run folder"):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "expected JSON"),
        ("[]", "expected a JSON object, got list"),
        ("{}", "expected schema version 1, got None"),
        ('{"schema_version": 99}', "expected schema version 1, got 99"),
        ('{"schema_version": 1}', "rtvc_version: Field required"),
    ],
)
def test_a_strange_manifest_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RecordError, match=complaint):
        load_run(tmp_path)


def test_two_runs_never_share_a_folder(tmp_path: Path) -> None:
    with RunWriter(tmp_path, a_manifest(), FakeClock()):
        pass
    with pytest.raises(RecordError, match="already holds a run"):
        RunWriter(tmp_path, a_manifest(), FakeClock())


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="cannot write"):
        RunWriter(tmp_path / "file" / "run", a_manifest(), FakeClock())


def test_a_closed_run_takes_no_rows(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, a_manifest(), FakeClock())
    writer.close()
    writer.close()
    with pytest.raises(RecordError, match="is closed"):
        writer.append(a_sample())


def test_parquet_copies_keep_types_and_absence(tmp_path: Path) -> None:
    rows: list[Row] = [
        ConnectionRow(0, None, 0.5, None, None, None, "failed", "no route", None, None),
        ServerTurnRow("s", "i", "reply", "decode", 0.0, 0.1, True),
        GeneratorRow(1.0, 9, 2, 100, 0, 0.001, "1:100", None, None),
    ]
    with RunWriter(tmp_path, a_manifest(), FakeClock()) as writer:
        writer.append(*rows)
    written = write_parquet(tmp_path)
    assert [path.name for path in written] == [
        "connections.parquet",
        "server_turns.parquet",
        "generator.parquet",
    ]
    table = pyarrow.parquet.read_table(written[0])
    assert str(table.schema.field("close_code").type) == "int64"
    assert ConnectionRow(**table.to_pylist()[0]) == rows[0]
    assert pyarrow.parquet.read_table(written[1]).to_pylist()[0]["hidden"] is True


def test_the_manifest_is_plain_json(tmp_path: Path) -> None:
    with RunWriter(tmp_path, a_manifest(), FakeClock()):
        pass
    assert json.loads((tmp_path / "run.json").read_text())["schema_version"] == 1
