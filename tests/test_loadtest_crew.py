"""Master and workers, message by message, without Locust: who is let in, who is lost, what is
kept."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc import __version__
from rtvc.clock import FakeClock
from rtvc.loadtest.scale.crew import LOST_AFTER_S, Crew, load_note, note_file
from rtvc.loadtest.scale.mirror import CHUNK_BYTES, Mirror, Shipper
from rtvc.loadtest.scale.recruit import COMPLAINT_FILE, Recruit
from rtvc.loadtest.scale.spread import part_folder
from rtvc.loadtest.scale.words import FROM_MASTER, FROM_WORKER, Data, digest
from rtvc.loadtest.spec import LoadSpec, Order, load_order
from rtvc.record import RunWriter, load_run, new_manifest
from tests.synthetic_run import a_second, a_turn
from tests.test_loadtest_spread import a_spec

PATIENCE_S = 60.0


class Telephone:
    """Carries messages between one crew and its recruits, at once or not at all."""

    def __init__(self, folder: Path, parts: int = 2, speakers: int = 5) -> None:
        work = folder / "master"
        work.mkdir()
        self.clock = FakeClock()
        self.spec = replace(a_spec(speakers, parts, folder=work), run_dir=str(folder / "run"))
        for part in range(parts):
            (work / (f"clips-{part}.npz" if parts > 1 else "clips.npz")).write_bytes(
                bytes([part]) * (CHUNK_BYTES + 7)
            )
        manifest = json.loads(json.dumps(asdict(new_manifest(["rtvc"], self.clock))))
        self.crew = Crew(self.spec, manifest, self._to_worker, self.clock, PATIENCE_S)
        self.recruits: dict[str, Recruit] = {}
        self.cut: set[str] = set()
        self.said: list[tuple[str, str]] = []
        self._folder = folder

    def _to_worker(self, kind: str, data: Data, client: str) -> None:
        assert kind in FROM_MASTER
        self.said.append((client, kind))
        if client in self.recruits and client not in self.cut:
            self.recruits[client].receive(kind, data)

    def join(self, name: str, alter: Callable[[str, Data], Data] | None = None) -> Recruit:
        folder = self._folder / name
        folder.mkdir()

        def send(kind: str, data: Data) -> None:
            assert kind in FROM_WORKER
            if name in self.cut:
                raise ConnectionError("no line")
            self.crew.receive(kind, alter(kind, data) if alter else data, name)

        self.recruits[name] = Recruit(folder, send)
        self.recruits[name].hello()
        return self.recruits[name]

    def tick(self, seconds: float = 0.1) -> None:
        self.clock.advance(seconds)
        self.crew.tick()

    @property
    def note(self) -> Any:
        return load_note(note_file(Path(self.spec.work_dir)))

    def started(self, *names: str) -> list[Recruit]:
        recruits = [self.join(name) for name in names]
        self.tick()
        for recruit in recruits:
            recruit.ready()
        self.tick()
        for recruit in recruits:
            assert recruit.called
            recruit.has_started()
        return recruits


def record(recruit: Recruit, *rows: Any) -> RunWriter:
    """What the generator of a worker would do."""
    assert recruit.spec is not None
    writer = RunWriter(Path(recruit.spec.run_dir), new_manifest(["rtvc"], FakeClock()), FakeClock())
    writer.append(*rows)
    return writer


def mirrored(phone: Telephone, part: int) -> Path:
    return part_folder(Path(phone.spec.run_dir), part)


def test_from_the_first_word_to_the_last_row(tmp_path: Path) -> None:
    phone = Telephone(tmp_path)
    one, two = phone.started("one", "two")
    assert one.spec is not None
    assert two.spec is not None
    assert [list(r.spec.numbers) for r in (one, two) if r.spec] == [[0, 2, 4], [1, 3]]
    assert two.spec.clips_file.read_bytes() == bytes([1]) * (CHUNK_BYTES + 7)
    assert not two.spec.key_file.exists(), "no key was given"
    for number, recruit in enumerate((one, two)):
        writer = record(recruit, a_turn(number, 0), a_second(1.0))
        recruit.report()
        writer.append(a_turn(number, 1), a_second(2.0))
        writer.close()
        recruit.done()
        assert recruit.dismissed
    phone.tick()
    assert phone.crew.over
    assert phone.crew.failed is None
    for part, recruit in enumerate((one, two)):
        run, there = load_run(mirrored(phone, part)), recruit.spec
        assert there is not None
        assert run.turns == load_run(Path(there.run_dir)).turns
        assert len(run.turns) == 2
        assert not run.cut_off
    assert [worker["state"] for worker in phone.note.workers] == ["done", "done"]


def test_the_key_travels_only_if_there_is_one(tmp_path: Path) -> None:
    phone = Telephone(tmp_path, parts=1)
    phone.spec.key_file.write_text("sk-1", "utf-8")
    (worker,) = phone.started("one")
    assert worker.spec is not None
    assert worker.spec.key_file.read_text("utf-8") == "sk-1"
    assert worker.spec.key_file.stat().st_mode & 0o077 == 0
    assert "sk-1" not in (tmp_path / "one" / "run.json").read_text("utf-8")


def test_another_version_is_refused_and_a_right_one_still_let_in(tmp_path: Path) -> None:
    phone = Telephone(tmp_path, parts=1)

    def older(kind: str, data: Data) -> Data:
        return {**data, "version": "0.0.1"} if kind == "hello" else data

    old = phone.join("old", older)
    assert old.refused == f"the worker runs rtvc 0.0.1, the master {__version__}"
    assert (tmp_path / "old" / COMPLAINT_FILE).read_text("utf-8").endswith(old.refused)
    phone.tick()
    assert "refused: " in phone.note.line
    phone.started("new")
    late = phone.join("late")
    assert late.refused == "all 1 workers of this load test are there already"


def test_a_worker_that_would_do_something_else_stops_the_test(tmp_path: Path) -> None:
    phone = Telephone(tmp_path, parts=1)
    worker = phone.join("one")
    phone.tick()
    assert worker.spec is not None
    with worker.spec.clips_file.open("ab") as file:
        file.write(b"x")
    worker.ready()
    phone.tick()
    assert phone.crew.over
    assert "prepared something else" in (phone.crew.failed or "")


def test_what_a_worker_does_not_understand_is_said(tmp_path: Path) -> None:
    phone = Telephone(tmp_path, parts=1)
    worker = phone.join("one")
    fields = {**asdict(phone.spec), "newer": 1}
    worker.receive("draft", {"spec": fields, "manifest": {}})
    phone.tick()
    assert "cannot read what the master wants" in (phone.crew.failed or "")


def test_waiting_for_workers_ends(tmp_path: Path) -> None:
    phone = Telephone(tmp_path)
    phone.join("one")
    phone.tick()
    assert phone.note.line == "waiting for workers: 1 of 2 are here"
    phone.tick(PATIENCE_S)
    assert phone.crew.failed == "1 of 2 workers came within 60 s"
    assert phone.note.failed == phone.crew.failed


def test_one_that_falls_silent_is_lost_and_the_other_goes_on(tmp_path: Path) -> None:
    phone = Telephone(tmp_path)
    one, two = phone.started("one", "two")
    writers = [record(one, a_turn(0, 0)), record(two, a_turn(1, 0))]
    one.report()
    two.report()
    phone.cut.add("two")
    writers[1].append(a_turn(1, 1))
    two.report()
    for _ in range(int(LOST_AFTER_S) + 1):
        one.report()
        phone.tick(1.0)
    worker = phone.note.workers[1]
    assert worker["state"] == "lost"
    assert worker["lost"].startswith("worker 2 of 2 (")
    assert "speakers 1 and 3) was not heard of for 10 s" in worker["lost"]
    assert not phone.crew.over
    assert [turn.utterance for turn in load_run_of(mirrored(phone, 1))] == [0], "the last report"
    phone.cut.clear()
    two.report()
    assert two.refused is not None, "who comes back is told, and counts no more"
    assert len(load_run_of(mirrored(phone, 1))) == 1
    writers[0].close()
    one.done()
    phone.tick()
    assert [each["state"] for each in phone.note.workers] == ["done", "lost"]
    writers[1].close()


def load_run_of(folder: Path) -> list[Any]:
    manifest = folder / "run.json"
    if not manifest.exists():
        manifest.write_text(json.dumps(asdict(new_manifest(["rtvc"], FakeClock()))), "utf-8")
    return load_run(folder).turns


def test_one_that_is_stopped_where_it_is_counts_as_lost_with_all_its_rows(tmp_path: Path) -> None:
    phone = Telephone(tmp_path, parts=1)
    (worker,) = phone.started("one")
    record(worker, a_turn(0, 0)).close()
    worker.leave_file.touch()
    worker.done()
    assert worker.dismissed
    phone.tick()
    assert phone.note.workers[0]["lost"].endswith("was stopped there")
    assert len(load_run(mirrored(phone, 0)).turns) == 1


def test_orders_and_the_request_to_stop_reach_everybody_once(tmp_path: Path) -> None:
    phone = Telephone(tmp_path)
    workers = phone.started("one", "two")
    order = Order(0, 4, 0.8)
    order.save(phone.spec.order_file)
    phone.tick()
    phone.tick()
    for worker in workers:
        assert worker.spec is not None
        assert load_order(worker.spec.order_file) == order
        assert not worker.spec.stop_file.exists()
    phone.spec.stop_file.touch()
    phone.tick()
    phone.tick()
    assert all(worker.spec and worker.spec.stop_file.exists() for worker in workers)
    sent = [kind for _, kind in phone.said if kind in ("order", "stop")]
    assert sent == ["order", "order", "stop", "stop"]


def test_stopped_before_it_began(tmp_path: Path) -> None:
    phone = Telephone(tmp_path)
    phone.join("one")
    phone.spec.stop_file.touch()
    phone.tick()
    assert phone.crew.over
    assert phone.crew.failed == "it was stopped before it began"


def _complete(shipper: Shipper, mirror: Mirror, ship: Callable[[str], None]) -> None:
    """As master and worker do it before they part."""
    while missing := mirror.missing(shipper.sizes()):
        for name, offset in missing.items():
            shipper.rewind(name, offset)
        ship("comes")


@settings(max_examples=25, deadline=None)
@given(fate=st.lists(st.sampled_from(["comes", "lost", "twice"]), max_size=12), size=st.data())
def test_whatever_the_line_does_the_copy_is_complete(
    fate: list[str], size: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("copy")
    here, there = folder / "here", folder / "there"
    here.mkdir()
    shipper, mirror = Shipper(here), Mirror(there)

    def ship(happens: str) -> None:
        for chunk in shipper.fresh():
            for _ in range({"comes": 1, "lost": 0, "twice": 2}[happens]):
                wanted = mirror.write(chunk)
                if wanted is not None:
                    shipper.rewind(str(chunk["file"]), wanted)

    for number, happens in enumerate(fate):
        with (here / "turns.csv").open("ab") as file:
            file.write(bytes([number]) * size.draw(st.integers(1, 2 * CHUNK_BYTES)))
        ship(happens)
    _complete(shipper, mirror, ship)
    for path in here.iterdir():
        assert (there / path.name).read_bytes() == path.read_bytes()


def test_nothing_is_written_that_is_no_run_file(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "part")
    for name in ("../evil", "/tmp/evil", "evil.csv", "report.html"):
        assert mirror.write({"file": name, "offset": 0, "data": b"x"}) is None
    assert list((tmp_path / "part").iterdir()) == []
    worker = Recruit(tmp_path / "part", lambda kind, data: None)
    worker.receive("file", {"name": "../../clips.npz", "offset": 0, "data": b"x"})
    assert (tmp_path / "part" / "clips.npz").exists()


def test_folders_do_not_change_what_is_to_be_done(tmp_path: Path) -> None:
    clips = tmp_path / "clips.npz"
    clips.write_bytes(b"clips")
    spec: LoadSpec = a_spec(4, 2)
    elsewhere = replace(spec, run_dir="/a", work_dir="/b", web_port=8089)
    assert digest(spec, clips) == digest(elsewhere, clips)
    assert digest(spec, clips) != digest(replace(spec, part=1), clips)
    before = digest(spec, clips)
    clips.write_bytes(b"other clips")
    assert digest(spec, clips) != before
