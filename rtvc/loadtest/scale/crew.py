"""The master's account of its workers: who came, who is ready, who spoke, who was lost.

Nothing here knows Locust, gevent or a socket: messages come in by `receive`, `tick` is called ten
times a second, and what is to be said goes out by `send`. How things are is a small file, for the
command that shows it and puts the rows together.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rtvc import __version__
from rtvc.clock import Clock
from rtvc.loadtest.scale.mirror import CHUNK_BYTES, Mirror
from rtvc.loadtest.scale.spread import part_folder, share, who
from rtvc.loadtest.scale.words import LANGUAGE, Data, digest
from rtvc.loadtest.spec import LoadSpec, Order, load_order

TICK_S = 0.1

LOST_AFTER_S = 10.0
"""A worker that says nothing for so long while it should be speaking is lost."""

PREPARE_S = 120.0
"""For a worker to receive and load its clips."""

CHUNKS_A_TICK = 16
"""Of clips, to one worker: 40 MB a second at most, so that messages get through between them."""

Send = Callable[[str, Data, str], None]
"""(what, data, to whom)."""


@dataclass(slots=True)
class Worker:
    """One worker as the master knows it."""

    client: str
    """Its name on Locust's connection."""
    name: str
    """Host name as it said, for people."""
    part: int
    """Its share of the speakers."""
    machine: Data
    """What it runs on."""
    heard_at_s: float
    """When it last said anything."""
    state: str = "preparing"
    """"preparing", "ready", "speaking", "done" or "lost"."""
    start_within_s: float | None = None
    """From the start message to its answer: it began somewhere in between. None before that."""
    lost: str | None = None
    """What happened; None: nothing did."""


@dataclass(frozen=True, slots=True)
class CrewNote:
    """How things are, for another process to read."""

    started: bool
    """Whether the speakers were let go."""
    line: str
    """What is being waited for."""
    failed: str | None
    """Why nothing will run; None so far."""
    workers: list[dict[str, Any]]
    """As `Worker` has them."""


def note_file(work_dir: Path) -> Path:
    return work_dir / "crew.json"


def load_note(path: Path) -> CrewNote | None:
    """None while there is none."""
    try:
        return CrewNote(**json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return None


class Crew:
    """All workers of a run."""

    def __init__(
        self, spec: LoadSpec, manifest: Data, send: Send, clock: Clock, patience_s: float
    ) -> None:
        self._spec = spec
        self._manifest = manifest
        self._send = send
        self._clock = clock
        self._give_up_s = clock.now() + patience_s
        self._patience_s = patience_s
        self._workers: dict[str, Worker] = {}
        self._mirrors: dict[str, Mirror] = {}
        self._parcels: dict[str, Iterator[tuple[str, Data]]] = {}
        self._refused: list[str] = []
        self._started_at_s: float | None = None
        self._order: Order | None = None
        self._stopping = False
        self._noted: CrewNote | None = None
        self.failed: str | None = None
        """Why nothing will run; None so far."""

    @property
    def over(self) -> bool:
        """Everybody has come to an end, or nothing will run."""
        ends = [worker.state in ("done", "lost") for worker in self._workers.values()]
        return self.failed is not None or (self._started_at_s is not None and all(ends))

    # What workers say.

    def receive(self, kind: str, data: Data, client: str) -> None:
        """One message; those of strangers are answered or left alone."""
        if kind == "hello":
            self._hello(data, client)
        worker = self._workers.get(client)
        if worker is None:
            return
        if worker.state == "lost":
            self._send("refused", {"reason": f"counted as lost: {worker.lost}"}, client)
            return
        worker.heard_at_s = self._clock.now()
        answer = {
            "ready": self._ready,
            "started": self._has_started,
            "rows": self._rows,
            "done": self._done,
            "failed": self._has_failed,
        }.get(kind)
        if answer is not None:
            answer(worker, data)

    def _hello(self, data: Data, client: str) -> None:
        name = str(data.get("name", client))
        objection = self._objection(data, client)
        if objection is not None:
            self._refused.append(f"{name}: {objection}")
            self._send("refused", {"reason": objection}, client)
            return
        worker = Worker(
            client, name, len(self._workers), dict(data.get("machine", {})), self._clock.now()
        )
        self._workers[client] = worker
        folder = part_folder(Path(self._spec.run_dir), worker.part)
        self._mirrors[client] = Mirror(folder)
        self._parcels[client] = self._parcel(worker)

    def _objection(self, data: Data, client: str) -> str | None:
        theirs = (data.get("version"), data.get("language"))
        if theirs != (__version__, LANGUAGE):
            return f"the worker runs rtvc {theirs[0]}, the master {__version__}"
        if client in self._workers or len(self._workers) >= self._spec.parts:
            return f"all {self._spec.parts} workers of this load test are there already"
        return None

    def _ready(self, worker: Worker, data: Data) -> None:
        mine = share(self._spec, worker.part)
        if data.get("digest") != digest(mine, mine.clips_file):
            self.failed = f"worker {worker.name} prepared something else than it was told to"
        elif worker.state == "preparing":
            worker.state = "ready"

    def _has_started(self, worker: Worker, _: Data) -> None:
        worker.start_within_s = self._clock.now() - (self._started_at_s or self._clock.now())

    def _rows(self, worker: Worker, data: Data) -> None:
        for chunk in data.get("chunks", []):
            wanted = self._mirrors[worker.client].write(chunk)
            if wanted is not None:
                self._send("resend", {"file": chunk["file"], "offset": wanted}, worker.client)

    def _done(self, worker: Worker, data: Data) -> None:
        missing = self._mirrors[worker.client].missing(data.get("sizes", {}))
        for name, offset in missing.items():
            self._send("resend", {"file": name, "offset": offset}, worker.client)
        if not missing:
            left = data.get("left")
            worker.state = "lost" if left else "done"
            worker.lost = f"{self._called(worker)} {left}" if left else None
            self._send("bye", {}, worker.client)

    def _has_failed(self, worker: Worker, data: Data) -> None:
        self._lose(worker, str(data.get("reason", "gave no reason"))[:200])

    # What time brings.

    def tick(self) -> None:
        """To be called every `TICK_S`."""
        self._hand_out()
        if self._started_at_s is None:
            self._start_or_give_up()
        else:
            self._miss()
            self._relay()
        self._write_note()

    def _hand_out(self) -> None:
        for client, parcel in list(self._parcels.items()):
            for _ in range(CHUNKS_A_TICK):
                piece = next(parcel, None)
                if piece is None:
                    del self._parcels[client]
                    break
                self._send(*piece, client)

    def _parcel(self, worker: Worker) -> Iterator[tuple[str, Data]]:
        """The worker's clips, then what to do with them."""
        mine = share(self._spec, worker.part)
        with mine.clips_file.open("rb") as file:
            while data := file.read(CHUNK_BYTES):
                offset = file.tell() - len(data)
                yield "file", {"name": mine.clips_file.name, "offset": offset, "data": data}
        fields = {**asdict(mine), "run_dir": "", "work_dir": "", "web_port": None}
        draft: Data = {"spec": fields, "manifest": self._manifest}
        if mine.key_file.exists():
            draft["key"] = mine.key_file.read_text("utf-8")
        yield "draft", draft

    def _start_or_give_up(self) -> None:
        states = [worker.state for worker in self._workers.values()]
        now_s = self._clock.now()
        lost = [worker.lost for worker in self._workers.values() if worker.lost]
        if self._spec.stop_file.exists():
            self.failed = "it was stopped before it began"
        elif lost:
            self.failed = lost[0]
        elif states.count("ready") == self._spec.parts:
            self._started_at_s = now_s
            for worker in self._workers.values():
                worker.state = "speaking"
                self._send("start", {}, worker.client)
        elif len(states) < self._spec.parts and now_s > self._give_up_s:
            self.failed = self._who_is_missing()
        elif now_s > self._give_up_s + PREPARE_S:
            self.failed = f"{states.count('preparing')} workers did not get ready in time"

    def _who_is_missing(self) -> str:
        came, wanted = len(self._workers), self._spec.parts
        said = f"{came} of {wanted} workers came within {self._patience_s:g} s"
        return f"{said}; refused: {'; '.join(self._refused[:3])}" if self._refused else said

    def _miss(self) -> None:
        now_s = self._clock.now()
        for worker in self._workers.values():
            if worker.state == "speaking" and now_s - worker.heard_at_s > LOST_AFTER_S:
                self._lose(worker, f"was not heard of for {LOST_AFTER_S:g} s")

    def _lose(self, worker: Worker, what: str) -> None:
        since_s = self._started_at_s
        when = "" if since_s is None else f" {self._clock.now() - since_s:.0f} s into the run"
        worker.state, worker.lost = "lost", f"{self._called(worker)} {what}{when}"

    def _called(self, worker: Worker) -> str:
        mine = who(share(self._spec, worker.part))
        return f"worker {worker.part + 1} of {self._spec.parts} ({worker.name}, {mine})"

    def _relay(self) -> None:
        """Orders of a search and the request to stop, to everybody."""
        order = load_order(self._spec.order_file)
        if order is not None and order != self._order:
            self._order = order
            self._tell_speaking("order", asdict(order))
        if not self._stopping and self._spec.stop_file.exists():
            self._stopping = True
            self._tell_speaking("stop", {})

    def _tell_speaking(self, kind: str, data: Data) -> None:
        for worker in self._workers.values():
            if worker.state == "speaking":
                self._send(kind, data, worker.client)

    def stop_waiting(self, reason: str) -> None:
        """Nothing will run."""
        self.failed = self.failed or reason
        self._write_note()

    def _write_note(self) -> None:
        note = self._note()
        if note != self._noted:
            self._noted = note
            path = note_file(Path(self._spec.work_dir))
            draft = path.with_suffix(".part")
            draft.write_text(json.dumps(asdict(note)), encoding="utf-8")
            draft.replace(path)

    def _note(self) -> CrewNote:
        workers = [
            {**asdict(worker), "heard_at_s": None, "client": None}
            for worker in self._workers.values()
        ]
        return CrewNote(self._started_at_s is not None, self._line(), self.failed, workers)

    def _line(self) -> str:
        came, wanted = len(self._workers), self._spec.parts
        if came < wanted:
            refused = f" (refused: {self._refused[-1]})" if self._refused else ""
            return f"waiting for workers: {came} of {wanted} are here{refused}"
        return f"{wanted} workers are getting ready"
