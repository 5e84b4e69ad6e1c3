"""Folders for the doctor: written from texts, examined, and what was found in them."""

from collections.abc import Mapping
from pathlib import Path

from rtvc.profile.doctor.command import check_folder
from rtvc.profile.doctor.findings import Finding

Files = Mapping[str, str]


def examined(folder: Path, files: Files) -> list[Finding]:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return check_folder(folder)


def kinds(findings: list[Finding]) -> set[tuple[str, str]]:
    return {(finding.id, finding.severity) for finding in findings}


def only(findings: list[Finding], kind: str) -> Finding:
    (found,) = [finding for finding in findings if finding.id == kind]
    return found


SickAndWell = tuple[str, Files, Files]
"""A severity, a folder that has the trouble, and one that has not."""

PER_CONNECTION = {
    "server.py": """
from fastapi import FastAPI, WebSocket
from ears import Ears

app = FastAPI()

@app.websocket("/talk")
async def talk(socket: WebSocket) -> None:
    ears = Ears("base")
    await ears.listen(socket)
""",
    "ears.py": """
from faster_whisper import WhisperModel

class Ears:
    def __init__(self, size):
        self.prepare(size)

    def prepare(self, size):
        self.model = WhisperModel(size)

    async def listen(self, socket):
        await socket.receive_bytes()
""",
}
SHARED = {
    "server.py": """
from contextlib import asynccontextmanager
from fastapi import FastAPI, WebSocket
from ears import Ears, load

@asynccontextmanager
async def lifespan(app):
    app.state.model = load("base")
    yield

app = FastAPI(lifespan=lifespan)

@app.websocket("/talk")
async def talk(socket: WebSocket) -> None:
    ears = Ears(app.state.model)
    await ears.listen(socket)
""",
    "ears.py": """
from faster_whisper import WhisperModel

def load(size):
    return WhisperModel(size)

class Ears:
    def __init__(self, model):
        self.model = model

    async def listen(self, socket):
        await socket.receive_bytes()
""",
}


def handled(body: str, before: str = "", *, imports: str = "") -> Files:
    """A server whose handler does `body`."""
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    head = f"import asyncio\n{imports}\nfrom fastapi import FastAPI, WebSocket\napp = FastAPI()\n"
    return {
        "app.py": f"{head}{before}\n@app.websocket('/ws')\n"
        f"async def door(socket: WebSocket):\n{lines}\n"
    }


def told_apart(folder: Path, name: str, pair: SickAndWell) -> None:
    """The trouble that `name` begins with is found in the sick folder and not in the well one."""
    severity, sick, well = pair
    kind = name.split()[0].rstrip(",")
    (folder / "sick").mkdir()
    (folder / "well").mkdir()
    assert (kind, severity) in kinds(examined(folder / "sick", sick))
    found = [finding for finding in examined(folder / "well", well) if finding.id == kind]
    assert [finding for finding in found if finding.severity != "good"] == []
