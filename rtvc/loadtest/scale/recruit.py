"""A worker of a distributed load test, message by message.

Nothing here knows Locust or gevent: messages come in by `receive` and go out by `send`; what is to
be done next is read from the fields.
"""

import contextlib
import json
import socket
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rtvc import __version__
from rtvc.errors import RtvcError
from rtvc.loadtest.scale.mirror import Shipper
from rtvc.loadtest.scale.words import LANGUAGE, Data, digest
from rtvc.loadtest.spec import LoadSpec, Order
from rtvc.record import this_machine

RUN_FOLDER = "run"
"""Of a worker's private folder: what it records."""

LEAVE_FILE = "leave"
"""Its existence asks a worker to leave."""

GREETED_FILE = "greeted"
"""Written once the master has said anything."""

COMPLAINT_FILE = "complaint"
"""Why the worker did not do its part, for the command to show."""

CHUNKS_A_MESSAGE = 8

Send = Callable[[str, Data], None]
"""(what, data), to the master; raises OSError or RtvcError where it cannot."""


class Recruit:
    """One worker, as it is told what to do."""

    def __init__(self, folder: Path, send: Send) -> None:
        """`folder` is private to this worker."""
        self._folder = folder
        self._send = send
        self._shipper = Shipper(folder / RUN_FOLDER)
        self.spec: LoadSpec | None = None
        """What to do; None until it is known."""
        self.called = False
        """Whether it has begun."""
        self.dismissed = False
        """Whether the master has all that was recorded."""
        self.refused: str | None = None
        """Why the master does not want this worker; None: it does."""

    def hello(self) -> None:
        machine = asdict(this_machine())
        name = socket.gethostname()
        told: Data = {"version": __version__, "language": LANGUAGE, "name": name}
        self._send("hello", {**told, "machine": machine})

    def receive(self, kind: str, data: Data) -> None:
        (self._folder / GREETED_FILE).touch()
        handlers: dict[str, Callable[[Data], None]] = {
            "refused": self._refuse,
            "file": self._take_file,
            "draft": self._take_draft,
            "start": self._start,
            "order": lambda order: Order(**order).save(self._known_spec().order_file),
            "stop": lambda _: self._known_spec().stop_file.touch(),
            "resend": lambda wanted: self._shipper.rewind(wanted["file"], wanted["offset"]),
            "bye": self._go,
        }
        handler = handlers.get(kind)
        if handler is not None:
            handler(data)

    def _known_spec(self) -> LoadSpec:
        if self.spec is None:
            raise RtvcError("expected to be told what to do first")
        return self.spec

    def _refuse(self, data: Data) -> None:
        self.refused = str(data["reason"])
        self.complain(f"the master refused this worker: {self.refused}")
        if self.spec is not None:
            self.spec.stop_file.touch()

    def _take_file(self, data: Data) -> None:
        path = self._folder / Path(str(data["name"])).name
        with path.open("r+b" if path.exists() else "wb") as file:
            file.seek(int(data["offset"]))
            file.write(data["data"])

    def _take_draft(self, data: Data) -> None:
        run = self._folder / RUN_FOLDER
        here = {"run_dir": str(run), "work_dir": str(self._folder)}
        try:
            spec = LoadSpec(**{**data["spec"], **here})
        except TypeError as error:
            self.give_up(f"cannot read what the master wants done: {error}")
            return
        manifest = {**data["manifest"], "machine": asdict(this_machine())}
        (self._folder / "run.json").write_text(json.dumps(manifest), encoding="utf-8")
        if "key" in data:
            spec.key_file.touch(mode=0o600)
            spec.key_file.write_text(data["key"], encoding="utf-8")
        self.spec = spec

    def _start(self, _: Data) -> None:
        self.called = True

    def _go(self, _: Data) -> None:
        self.dismissed = True

    def ready(self) -> None:
        """Everything is loaded."""
        spec = self._known_spec()
        self._send("ready", {"digest": digest(spec, spec.clips_file)})

    def has_started(self) -> None:
        """The clock of this worker's part has just begun."""
        self._send("started", {})

    def report(self) -> None:
        """What was recorded since, also if it is nothing: the master counts on hearing of us."""
        chunks = []
        # What cannot be sent now is sent with the next report.
        with contextlib.suppress(OSError, RtvcError):
            for chunk in self._shipper.fresh():
                chunks.append(chunk)
                if len(chunks) == CHUNKS_A_MESSAGE:
                    self._send("rows", {"chunks": chunks})
                    chunks = []
            self._send("rows", {"chunks": chunks})

    def done(self) -> None:
        """All of it is recorded."""
        spec = self._known_spec()
        self.report()
        self._send("rows", {"chunks": [self._shipper.manifest()]})
        left = "was stopped there" if self._stopped_here(spec) else None
        self._send("done", {"sizes": self._shipper.sizes(), "left": left})

    def _stopped_here(self, spec: LoadSpec) -> bool:
        """By somebody at this machine, and not by the master."""
        return self.refused is None and self.leave_file.exists()

    @property
    def leave_file(self) -> Path:
        """Its existence asks this worker to leave."""
        return self._folder / LEAVE_FILE

    def give_up(self, reason: str) -> None:
        """Tell the master and whoever started this worker."""
        self.complain(reason)
        with contextlib.suppress(OSError, RtvcError):
            self._send("failed", {"reason": reason})

    def complain(self, reason: str) -> None:
        path = self._folder / COMPLAINT_FILE
        if not path.exists():
            path.write_text(reason, encoding="utf-8")
