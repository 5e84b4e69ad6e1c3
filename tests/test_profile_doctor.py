"""The doctor: each thing that it looks for is found where it is, and not where it isn't."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rtvc
from rtvc.cli import main
from rtvc.clock import FakeClock, SystemClock
from rtvc.errors import UsageError
from rtvc.profile.doctor.command import check_folder
from rtvc.profile.doctor.deployment import Pin, instructions, services
from rtvc.profile.doctor.findings import (
    CHECKS,
    MOST_OF_A_KIND,
    SICK,
    Finding,
    exit_code,
    ordered,
    spared,
)
from rtvc.profile.doctor.live import (
    Answer,
    GpuFacts,
    ProcessFacts,
    ServerFacts,
    check_process,
    judge_gpu,
    judge_process,
    judge_server,
    read_gpu,
    read_process,
    read_server,
)
from rtvc.profile.doctor.project import MAX_FILE_BYTES
from tests.servers import free_port

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


# Models

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


def test_a_model_of_each_connection_is_found_across_files(tmp_path: Path) -> None:
    findings = examined(tmp_path, PER_CONNECTION)
    found = only(findings, "model-per-connection")
    assert found.severity == "bad"
    steps = ["server.py:8 talk", "ears.py:5 Ears.__init__", "ears.py:8 Ears.prepare"]
    assert found.evidence == " → ".join([*steps, "ears.py:9 WhisperModel(...)"])
    assert exit_code(findings) == SICK


def test_a_model_of_the_lifespan_is_praised(tmp_path: Path) -> None:
    findings = examined(tmp_path, SHARED)
    assert kinds(findings) == {("model-shared", "good")}
    assert exit_code(findings) == 0


def test_a_model_of_another_program_in_the_folder_is_not_praised(tmp_path: Path) -> None:
    script = "from faster_whisper import WhisperModel\nprint(WhisperModel('base'))\n"
    findings = examined(tmp_path, {**SHARED, "evaluate.py": script})
    assert only(findings, "model-shared").evidence == "ears.py:5 WhisperModel(...)"


def handled(body: str, before: str = "", *, imports: str = "") -> Files:
    """A server whose handler does `body`."""
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    head = f"import asyncio\n{imports}\nfrom fastapi import FastAPI, WebSocket\napp = FastAPI()\n"
    return {
        "app.py": f"{head}{before}\n@app.websocket('/ws')\n"
        f"async def door(socket: WebSocket):\n{lines}\n"
    }


@pytest.mark.parametrize(
    ("imports", "made"),
    [
        ("from RealtimeSTT import AudioToTextRecorder", "AudioToTextRecorder(model='tiny')"),
        ("import whisper", "whisper.load_model('base')"),
        ("from transformers import pipeline", "pipeline('automatic-speech-recognition')"),
        ("import transformers as t", "t.AutoModelForCTC.from_pretrained('x')"),
        ("import faster_whisper", "faster_whisper.WhisperModel('base')"),
        ("import ctranslate2", "ctranslate2.models.Whisper('x')"),
    ],
)
def test_all_ways_to_load_a_model_are_known(tmp_path: Path, imports: str, made: str) -> None:
    findings = examined(tmp_path, handled(f"model = {made}", imports=imports))
    assert ("model-per-connection", "bad") in kinds(findings)


@pytest.mark.parametrize(
    ("imports", "made"),
    [
        ("from transformers import AutoTokenizer", "AutoTokenizer.from_pretrained('x')"),
        ("from etl import pipeline", "pipeline('daily')"),
        ("import shelf", "shelf.load_model('chair')"),
    ],
)
def test_what_only_sounds_like_a_model_is_none(tmp_path: Path, imports: str, made: str) -> None:
    assert kinds(examined(tmp_path, handled(f"thing = {made}", imports=imports))) == set()


@pytest.mark.parametrize(
    "server",
    [
        "import websockets\nasync def talk(link):\n    build()\n"
        "async def run():\n    await websockets.serve(talk, 'localhost', 1)\n",
        "from functools import partial\nfrom websockets.sync.server import serve\n"
        "def talk(link, size):\n    build()\n"
        "def run():\n    serve(partial(talk, size=1), 'localhost', 1)\n",
        "from starlette.endpoints import WebSocketEndpoint\n"
        "class Talk(WebSocketEndpoint):\n    async def on_connect(self, link):\n        build()\n",
        "from starlette.routing import WebSocketRoute\nasync def talk(link):\n    build()\n"
        "routes = [WebSocketRoute('/', talk)]\n",
        "from aiohttp import web\nasync def talk(request):\n    link = web.WebSocketResponse()\n"
        "    build()\n",
        "import threading\nasync def talk(websocket):\n"
        "    threading.Thread(target=build).start()\n",
        "import asyncio\nasync def talk(websocket):\n    await asyncio.to_thread(build)\n",
        "from fastapi import Depends, WebSocket\n"
        "async def talk(link: WebSocket, model=Depends(build)):\n    await link.accept()\n",
    ],
)
def test_handlers_of_other_libraries_are_known(tmp_path: Path, server: str) -> None:
    source = "from faster_whisper import WhisperModel\ndef build():\n    return WhisperModel('b')\n"
    findings = examined(tmp_path, {"app.py": source + server})
    assert ("model-per-connection", "bad") in kinds(findings)


CACHED = [
    "@lru_cache\ndef model():\n    return WhisperModel('base')\n",
    "_model = None\ndef model():\n    global _model\n    if _model is None:\n"
    "        _model = WhisperModel('base')\n    return _model\n",
    "_models = {}\ndef model(size='base'):\n    if size not in _models:\n"
    "        _models[size] = WhisperModel(size)\n    return _models[size]\n",
    "class Ear:\n    shared = None\n    @classmethod\n    def get(cls):\n"
    "        if cls.shared is None:\n            cls.shared = WhisperModel('base')\n"
    "        return cls.shared\ndef model():\n    return Ear.get()\n",
]


@pytest.mark.parametrize("made", CACHED)
def test_a_model_kept_by_the_first_caller_is_late_and_not_a_copy(tmp_path: Path, made: str) -> None:
    imports = "from functools import lru_cache\nfrom faster_whisper import WhisperModel"
    findings = examined(tmp_path, handled("use = model()", made, imports=imports))
    assert kinds(findings) == {("model-loaded-lazily", "warning")}


def test_a_guard_that_sees_one_connection_only_guards_nothing(tmp_path: Path) -> None:
    made = (
        "class Ear:\n    def __init__(self):\n        self.model = None\n    def load(self):\n"
        "        if self.model is None:\n            self.model = WhisperModel('base')\n"
    )
    body = "ear = Ear()\near.load()"
    findings = examined(
        tmp_path, handled(body, made, imports="from faster_whisper import WhisperModel")
    )
    assert kinds(findings) == {("model-per-connection", "bad")}


def test_a_model_for_want_of_one_is_a_warning(tmp_path: Path) -> None:
    made = (
        "class Ear:\n    def __init__(self, model=None):\n"
        "        self.model = model or WhisperModel('base')\n"
    )
    findings = examined(
        tmp_path, handled("ear = Ear()", made, imports="from faster_whisper import WhisperModel")
    )
    assert kinds(findings) == {("model-per-connection", "warning")}


# One sick and one well version of everything else

_LEAK = """
import threading
class Janitor:
    def __init__(self):
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
    def run(self):
        while {test}:
            self.sweep()
    def sweep(self):
        pass
    def close(self):
        self.stop.set()
        self.thread.join()
"""
_PAGE = """
const stream = await navigator.mediaDevices.getUserMedia({audio: {sampleRate: 24000}});
const context = new AudioContext();
"""

_ORT = "import onnxruntime as ort"
_TIME = "import time"
_SCIPY = "from scipy.signal import resample_poly"
_WORK = "import threading\nfrom x import work"
_THINK = "def hear(a):\n    return think(a)\ndef think(a):\n    os.system('x')\n"
_IMAGE = "FROM x\nRUN pip install faster-whisper==1.2.1\nCMD serve\n"
_TURN = "class Turn:\n    def on_final(self, text):\n        self.final_transcription = text\n"
_WEB = "services:\n  web:\n    build: .\n    environment:\n      - WEB_CONCURRENCY={}\n"

PAIRS: dict[str, tuple[str, Files, Files]] = {
    "small-model-per-connection": (
        "warning",
        handled("vad = ort.InferenceSession('vad.onnx')", imports=_ORT),
        handled("await VAD.run()", "VAD = ort.InferenceSession('x')", imports=_ORT),
    ),
    "batching-for-nothing": (
        "note",
        {
            "a.py": "from faster_whisper import BatchedInferencePipeline as B\n"
            "import faster_whisper\nx = faster_whisper.BatchedInferencePipeline(model=1)\n"
        },
        {"a.py": "import faster_whisper\nx = faster_whisper.decode(1)\n"},
    ),
    "queue-unbounded": (
        "warning",
        handled("audio_queue = asyncio.Queue()"),
        handled("audio_queue = asyncio.Queue(maxsize=50)"),
    ),
    "queue-unbounded of threads": (
        "warning",
        {
            "a.py": "import queue\nclass Ear:\n    def __init__(self):\n"
            "        self.chunks: queue.Queue[bytes] = queue.Queue[bytes](0)\n"
        },
        {
            "a.py": "import queue\nLIMIT = 20\nclass Ear:\n    def __init__(self):\n"
            "        self.chunks: queue.Queue[bytes] = queue.Queue(LIMIT)\n"
        },
    ),
    "queue-unbounded but looked at": (
        "warning",
        handled("audio = asyncio.Queue()\nprint(audio.qsize())"),
        handled("audio = asyncio.Queue()\nif audio.qsize() < 50:\n    audio.put_nowait(1)"),
    ),
    "queue-long": (
        "warning",
        {
            "a.py": "import queue, os\nFRAME_MS = 40\nLIMIT = int(os.getenv('LIMIT', '500'))\n"
            "audio = queue.Queue(maxsize=LIMIT)\n"
        },
        {"a.py": "import queue\nFRAME_MS = 40\naudio = queue.Queue(maxsize=25)\n"},
    ),
    "queue-long in a recorder": (
        "warning",
        {"a.py": "SETTINGS = {'model': 'base', 'allowed_latency_limit': 500}\n"},
        {"a.py": "SETTINGS = {'model': 'base', 'allowed_latency_limit': 30}\n"},
    ),
    "blocking-call": (
        "bad",
        handled("time.sleep(1)", imports=_TIME),
        handled("await asyncio.sleep(1)\nawait asyncio.to_thread(time.sleep, 1)", imports=_TIME),
    ),
    "blocking-call over http": (
        "bad",
        handled("answer = requests.post('http://llm', json={})", imports="import requests"),
        handled("answer = await client.post('http://llm', json={})", imports="import requests"),
    ),
    "blocking-call of a program": (
        "bad",
        handled("run(['espeak'])", imports="from subprocess import run"),
        handled("await asyncio.create_subprocess_exec('espeak')"),
    ),
    "blocking-call of a model": (
        "bad",
        handled("segments, told = MODEL.transcribe(b'')\nreturn segments"),
        handled(
            "segments, told = await asyncio.to_thread(MODEL.transcribe, b'')\n"
            "more = await asyncio.to_thread(lambda: MODEL.transcribe(b''))\nreturn segments, more"
        ),
    ),
    "blocking-call some calls away": (
        "bad",
        handled("hear(b'')", _THINK, imports="import os"),
        handled("await asyncio.to_thread(hear, b'')", _THINK, imports="import os"),
    ),
    "blocking-call on threads' things": (
        "bad",
        handled("done.wait(5)", "done = threading.Event()", imports="import threading"),
        handled("await asyncio.wait_for(done.wait(), 5)", "done = asyncio.Event()"),
    ),
    "blocking-call elsewhere": (
        "warning",
        {"a.py": "import time\nasync def wait():\n    time.sleep(1)\n"},
        {"a.py": "import time\ndef wait():\n    time.sleep(1)\n"},
    ),
    "resampling-on-loop": (
        "warning",
        handled("sound = resample_poly(sound, up, down)", imports=_SCIPY),
        handled("sound = await asyncio.to_thread(resample_poly, sound, up, down)", imports=_SCIPY),
    ),
    "polling": (
        "note",
        handled("while True:\n    await asyncio.sleep(0.001)"),
        handled("while True:\n    await asyncio.sleep(0.5)"),
    ),
    "thread-leak": (
        "bad",
        handled("Janitor()", _LEAK.format(test="True")),
        handled(
            "janitor = Janitor()\njanitor.close()", _LEAK.format(test="not self.stop.is_set()")
        ),
    ),
    "thread-leak for want of a stop": (
        "warning",
        handled("Janitor()", _LEAK.format(test="not self.stop.is_set()")),
        handled("Janitor()", _LEAK.format(test="self.sweep()")),
    ),
    "thread-leak for want of a join": (
        "warning",
        handled("threading.Thread(target=work).start()", imports=_WORK),
        handled(
            "worker = threading.Thread(target=work)\nworker.start()\nworker.join()", imports=_WORK
        ),
    ),
    "final-discarded": (
        "warning",
        {
            "a.py": "import logging\nlog = logging.getLogger()\ndef end(model, audio):\n"
            "    text = model.transcribe(audio)\n    log.info('heard %s', text)\n"
        },
        {
            "a.py": "import logging\nlog = logging.getLogger()\ndef end(model, audio):\n"
            "    text = model.transcribe(audio)\n    log.info('heard %s', text)\n    return text\n"
        },
    ),
    "final-discarded, thrown away": (
        "warning",
        {"a.py": "def end(recorder):\n    recorder.text()\n"},
        {"a.py": "def end(recorder, say):\n    recorder.text(say)\n    say(recorder.text())\n"},
    ),
    "final-discarded in a field": (
        "warning",
        {"a.py": _TURN},
        {"a.py": _TURN + "    def say(self):\n        return self.final_transcription\n"},
    ),
    "final-discarded by partials": (
        "warning",
        {
            "a.py": f"{_TURN}        print(self.final_transcription + '')\n"
            "    def on_partial(self, text):\n        self.final_transcription = ''\n"
            "    def say(self):\n        return self.final_transcription\n"
        },
        {
            "a.py": f"{_TURN}    def on_partial(self, text):\n        self.partial_text = ''\n"
            "    def begin(self):\n        self.final_transcription = ''\n"
            "    def say(self):\n        return self.final_transcription\n"
        },
    ),
    "rate-assumed": (
        "warning",
        {
            "a.py": "from scipy.signal import resample_poly\ndef to_model(x):\n"
            "    return resample_poly(x, 1, 3)\n"
        },
        {
            "a.py": "from scipy.signal import resample_poly\ndef to_model(x, rate):\n"
            "    return resample_poly(x, 16000, rate)\n"
        },
    ),
    "rate-assumed by name": (
        "warning",
        {
            "a.py": "import librosa\nPAGE = 48000\ndef to_model(x):\n"
            "    return librosa.resample(x, orig_sr=PAGE, target_sr=16000)\n"
        },
        {
            "a.py": "import librosa\ndef to_model(x, rate):\n"
            "    return librosa.resample(x, orig_sr=rate, target_sr=16000)\n"
        },
    ),
    "rate-assumed by steps": (
        "warning",
        {"a.py": "def to_model(samples):\n    return samples[::3]\n"},
        {"a.py": "def to_model(samples, step):\n    return samples[::step]\n"},
    ),
    "page-rate-unread": (
        "warning",
        {"page.js": _PAGE},
        {"page.js": f"{_PAGE}socket.send(context.sampleRate);"},
    ),
    "page-rate-unread, but set": (
        "warning",
        {"page.html": f"<script>{_PAGE}</script>"},
        {"page.html": f"<script>{_PAGE.replace('()', '({sampleRate: 24000})')}</script>"},
    ),
    "several-workers": (
        "warning",
        {"a.py": "import uvicorn\nuvicorn.run('a:app', workers=4)\n"},
        {"a.py": "import uvicorn\nuvicorn.run('a:app', workers=1)\n"},
    ),
    "several-workers of an image": (
        "warning",
        {"Dockerfile": 'FROM x\nCMD ["uvicorn", "a:app", "--workers", "4"]\n'},
        {"Dockerfile": 'FROM x\nCMD ["uvicorn", "a:app"]\n'},
    ),
    "several-workers of a service": (
        "warning",
        {"docker-compose.yml": _WEB.format(3)},
        {"docker-compose.yml": _WEB.format(1)},
    ),
    "reload": (
        "warning",
        {"start.sh": "uvicorn a:app --reload\n"},
        {
            "start.sh": "uvicorn a:app\n# uvicorn a:app --reload\n",
            "dev.sh": "uvicorn a:app --reload",
        },
    ),
    "ctranslate2-old": (
        "warning",
        {"requirements.txt": "ctranslate2<4.5.0\n"},
        {"requirements.txt": "ctranslate2==4.6.0\n"},
    ),
    "faster-whisper-old": (
        "warning",
        {"requirements.txt": "faster-whisper==0.10.1\n"},
        {"requirements.txt": "faster_whisper==1.2.1\n"},
    ),
    "ctranslate2-unpinned": (
        "note",
        {"pyproject.toml": '[project]\ndependencies = ["faster-whisper>=1.2"]\n'},
        {"pyproject.toml": '[project]\ndependencies = ["faster-whisper>=1.2"]\n', "uv.lock": ""},
    ),
    "torch-unpinned": (
        "warning",
        {"requirements.txt": "ctranslate2==4.6.0\ntorch\n"},
        {"requirements.txt": "ctranslate2==4.6.0\ntorch==2.8.0\n"},
    ),
    "ctranslate2-cudnn": (
        "bad",
        {
            "Dockerfile": "ARG CUDA=12.1.1\nFROM nvidia/cuda:${CUDA}-cudnn8-runtime-ubuntu22.04\n",
            "requirements.txt": "ctranslate2==4.6.0\n",
        },
        {
            "Dockerfile": "FROM nvidia/cuda:12.4.1-cudnn-runtime-ubuntu22.04\n",
            "requirements.txt": "ctranslate2==4.6.0\n",
        },
    ),
    "ctranslate2-cudnn the other way": (
        "bad",
        {
            "Dockerfile": "FROM nvidia/cuda:12.3.2-cudnn9-runtime-ubuntu22.04\n"
            "RUN pip install torch==2.3 \\\n    'ctranslate2<4.5.0'\n"
        },
        {
            "Dockerfile": "FROM nvidia/cuda:12.1.1-cudnn8-runtime-ubuntu22.04\n"
            "RUN pip install torch==2.3 \\\n    'ctranslate2<4.5.0'\n"
        },
    ),
    "ctranslate2-cudnn of CUDA 11": (
        "bad",
        {
            "Dockerfile": "FROM nvidia/cuda:11.8.0-cudnn8-runtime-ubuntu22.04\n"
            "RUN pip install faster-whisper\n"
        },
        {
            "Dockerfile": "FROM nvidia/cuda:11.8.0-cudnn8-runtime-ubuntu22.04\n"
            "RUN pip install faster-whisper ctranslate2==3.24.0\n"
        },
    ),
    "ctranslate2-cudnn missing": (
        "warning",
        {
            "Dockerfile": "FROM nvidia/cuda:12.4.1-base-ubuntu22.04\n"
            "RUN pip install ctranslate2==4.6.0\n"
        },
        {
            "Dockerfile": "FROM nvidia/cuda:12.4.1-base-ubuntu22.04\n"
            "RUN pip install ctranslate2==4.6.0 nvidia-cudnn-cu12==9.1.0.70\n"
        },
    ),
    "no-healthcheck": (
        "warning",
        {"Dockerfile": "FROM x\nCMD serve\n"},
        {"Dockerfile": "FROM x\nHEALTHCHECK CMD curl -f localhost/readyz\nCMD serve\n"},
    ),
    "no-healthcheck but in compose": (
        "warning",
        {"Dockerfile": "FROM x\nHEALTHCHECK NONE\nCMD serve\n"},
        {
            "Dockerfile": "FROM x\nCMD serve\n",
            "compose.yaml": "services:\n  a:\n    build: .\n    healthcheck:\n      test: x\n",
        },
    ),
    "runs-as-root": (
        "warning",
        {"Dockerfile": "FROM x AS build\nUSER app\nFROM y\nCMD serve\n"},
        {"Dockerfile": "FROM x AS build\nFROM y\nUSER app\nCMD serve\n"},
    ),
    "no-model-cache": (
        "warning",
        {"Dockerfile": _IMAGE},
        {"Dockerfile": _IMAGE.replace("CMD", "VOLUME /models\nCMD")},
    ),
    "no-model-cache but in compose": (
        "warning",
        {"Dockerfile": _IMAGE, "compose.yml": "services:\n  a:\n    build: .\n"},
        {
            "Dockerfile": _IMAGE,
            "compose.yml": "services:\n  a:\n    build: .\n"
            "    volumes:\n      - hf-cache:/home/a/.cache\n",
        },
    ),
    "compose-no-gpu": (
        "warning",
        {
            "Dockerfile": "FROM nvidia/cuda:12.4.1-cudnn-runtime\n",
            "compose.yml": "services:\n  web:\n    build: .\n",
        },
        {
            "Dockerfile": "FROM nvidia/cuda:12.4.1-cudnn-runtime\n",
            "compose.yml": "services:\n  web:\n    build: .\n    gpus: all\n",
        },
    ),
    "compose-shm": (
        "note",
        {"compose.yml": "services:\n  web:\n    build: .\n"},
        {"compose.yml": "services:\n  web:\n    build: .\n    shm_size: 1gb\n"},
    ),
    "compose-nofile": (
        "note",
        {"compose.yml": "services:\n  stt:\n    image: whisper\n  db:\n    image: postgres\n"},
        {
            "compose.yml": "services:\n  stt:\n    image: whisper\n"
            "    ulimits:\n      nofile: 65536\n"
            "  db:\n    image: postgres\n"
        },
    ),
    "no-handlers": ("note", {"a.py": "x = 1\n"}, handled("pass")),
}


@pytest.mark.parametrize("name", PAIRS)
def test_found_where_it_is_and_not_where_it_is_not(tmp_path: Path, name: str) -> None:
    severity, sick, well = PAIRS[name]
    kind = name.split()[0].rstrip(",")
    (tmp_path / "sick").mkdir()
    (tmp_path / "well").mkdir()
    assert (kind, severity) in kinds(examined(tmp_path / "sick", sick))
    found = [finding for finding in examined(tmp_path / "well", well) if finding.id == kind]
    assert [finding for finding in found if finding.severity != "good"] == []


def test_bounds_are_told_in_seconds(tmp_path: Path) -> None:
    hidden = {"a.py": "from RealtimeSTT import AudioToTextRecorder as R\n"
              "r = R(model='base', allowed_latency_limit=500)\n"}  # fmt: skip
    found = only(examined(tmp_path, hidden), "queue-long")
    assert found.evidence.endswith("500 x 32 ms = 16.0 s")


def test_a_chunk_is_as_long_as_the_source_says(tmp_path: Path) -> None:
    source = (
        "import queue\nCHUNK_SAMPLES = 2048\nSAMPLE_RATE = 48000\n"
        "MAX_ITEMS = 50\naudio = queue.Queue(maxsize=MAX_ITEMS)\n"
    )
    found = only(examined(tmp_path, {"a.py": source}), "queue-long")
    assert found.evidence == "a.py:5 audio: 50 items = 2.1 s"


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
    examined(tmp_path, handled("time.sleep(1)", imports=_TIME))
    assert ("blocking-call", "bad") in kinds(check_folder(tmp_path / "app.py"))


def test_rtvc_itself_is_well() -> None:
    findings = check_folder(Path(rtvc.__file__).parent.parent)
    assert [finding for finding in findings if finding.severity == "bad"] == []
    assert {finding.id for finding in findings} <= set(CHECKS)
    # It was really read: its handlers are known.
    assert "no-handlers" not in {finding.id for finding in findings}


# Parts


@pytest.mark.parametrize(
    ("operator", "version", "below", "least"),
    [
        ("==", (4, 4), (4, 4, 0, 1), (4, 4)),
        ("<", (4, 5), (4, 5), None),
        (">=", (4, 6), None, (4, 6)),
        ("~=", (4, 4, 1), (4, 5), (4, 4, 1)),
        ("^", (3, 24), (4,), (3, 24)),
        ("!=", (4, 4), None, None),
    ],
)
def test_what_a_pin_allows(
    operator: str, version: tuple[int, ...], below: tuple[int, ...], least: tuple[int, ...]
) -> None:
    pin = Pin("ctranslate2", ((operator, version),), "here")
    assert (pin.below, pin.least) == (below, least)


def test_a_dockerfile_is_read_with_its_continued_lines() -> None:
    text = "# syntax\nARG V=12\nFROM cuda:$V\nRUN a \\\n  # why\n  && b\nCMD x\n"
    steps = [(step.line, step.word, step.rest) for step in instructions(text)]
    assert steps == [
        (2, "ARG", "V=12"),
        (3, "FROM", "cuda:12"),
        (4, "RUN", "a  && b"),
        (7, "CMD", "x"),
    ]


def test_services_are_told_apart_by_indentation() -> None:
    text = (
        "x-a: &a\n  k: v\nservices:\n  # one\n  web: &w\n    build: .\n"
        "  'db':\n    image: x\nvolumes:\n  v:\n"
    )
    assert services(text) == {"web": (5, "    build: .\n"), "db": (7, "    image: x\n")}


def test_every_check_says_what_it_costs_and_troubles_say_what_to_do() -> None:
    nothing_to_do = {"model-shared", "queue-bounded", "ctranslate2-match", "not-read"}
    nothing_to_do |= {"no-handlers", "no-gpu", "health", "models-shared", "notice"}
    assert {kind for kind, check in CHECKS.items() if not check.fix} == nothing_to_do
    assert all(check.why and "\n" not in check.why + check.fix for check in CHECKS.values())


def test_few_places_of_a_kind_are_shown_and_the_rest_counted() -> None:
    many = [Finding("polling", "note", "x", f"a.py:{line}") for line in range(9)]
    shown = spared([*many, Finding("polling", "bad", "x", "b.py:1")])
    assert len(shown) == MOST_OF_A_KIND + 1
    assert shown[MOST_OF_A_KIND - 1].evidence == "a.py:4 (and 4 more)"
    assert shown[-1].evidence == "b.py:1"
    assert ordered(shown)[0].severity == "bad"


# A process

WELL = ProcessFacts(
    pid=1,
    name="python",
    threads=12,
    open_files=40,
    file_limit=65536,
    resident_bytes=2_000_000_000,
    memory_limit_bytes=16_000_000_000,
    children_bytes=(1_500_000_000, 20_000_000),
    ptrace_scope=1,
    may_trace=True,
    cpus=8,
    cpu_limit=None,
    pools={"OMP_NUM_THREADS": "4", "KMP_BLOCKTIME": "0"},
    libraries=("libiomp5", "libopenblas"),
)


def test_a_well_process_is_praised() -> None:
    assert {finding.severity for finding in judge_process(WELL)} == {"good"}


@pytest.mark.parametrize(
    ("changes", "kind", "severity"),
    [
        ({"open_files": 1000, "file_limit": 1024}, "descriptors", "bad"),
        ({"open_files": 900, "file_limit": 1024}, "descriptors", "warning"),
        ({"file_limit": 1024}, "descriptor-limit", "note"),
        ({"threads": 400}, "threads", "warning"),
        ({"resident_bytes": 15_900_000_000}, "memory", "bad"),
        ({"resident_bytes": 13_500_000_000}, "memory", "warning"),
        ({"children_bytes": (2_000_000_000, 2_000_000_000)}, "model-processes", "warning"),
        ({"may_trace": False}, "ptrace", "note"),
        ({"cpu_limit": 2.0}, "cpu-limit", "warning"),
        ({"cpu_limit": 2.0, "pools": {"KMP_BLOCKTIME": "0"}}, "cpu-limit", "warning"),
        ({"cpu_limit": 2.0, "pools": None}, "cpu-limit", "note"),
        ({"pools": {"OMP_WAIT_POLICY": "ACTIVE"}}, "spinning-threads", "warning"),
        ({"pools": {"OMP_NUM_THREADS": "4"}}, "spinning-threads", "note"),
        ({"pools": {"KMP_BLOCKTIME": "0"}}, "spinning-threads", "note"),
    ],
)
def test_an_ill_process_is_told(changes: dict[str, Any], kind: str, severity: str) -> None:
    findings = judge_process(replace(WELL, **changes))
    assert (kind, severity) in kinds(findings)
    others = {one.id for one in findings if one.severity != "good"} - {kind}
    assert others <= {"spinning-threads"}


def test_what_the_system_does_not_tell_is_not_judged() -> None:
    assert judge_process(ProcessFacts(pid=1, name="x")) == []


def test_this_process_is_read() -> None:
    read = read_process(os.getpid())
    assert read.threads is not None
    assert read.threads >= 1
    assert read.open_files is not None
    assert read.resident_bytes is not None
    assert {one.severity for one in check_process(os.getpid())} <= {"good", "note", "warning"}


def test_a_process_that_is_not_there_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="expected the id of a running process"):
        read_process(2**22 + 5)


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[Files], Path]:
    def build(files: Files) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return build


def test_limits_of_control_groups_are_read_from_within_to_without(
    machine: Callable[[Files], Path],
) -> None:
    pid = os.getpid()
    root = machine(
        {
            f"proc/{pid}/cgroup": "0::/pod/box\n",
            f"proc/{pid}/maps": "7f00-7f01 r-xp 0 0:0 1 /lib/libiomp5-5f8ee9.so\n",
            "proc/self/status": "Name:\tx\nCapEff:\t0000000000000000\n",
            "proc/sys/kernel/yama/ptrace_scope": "1\n",
            "sys/fs/cgroup/pod/box/cpu.max": "max 100000\n",
            "sys/fs/cgroup/pod/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/pod/box/memory.max": "1000000\n",
            "sys/fs/cgroup/memory.max": "max\n",
        }
    )
    read = read_process(pid, root)
    assert (read.cpu_limit, read.memory_limit_bytes) == (1.5, 1_000_000)
    assert (read.ptrace_scope, read.may_trace) == (1, False)
    assert read.libraries == ("libiomp5",)


@pytest.mark.parametrize(
    ("capabilities", "scope", "may"),
    [
        ("0000000000080000", 2, True),
        ("0000000000080000", 3, False),
        ("0", 0, True),
        ("0", 1, False),
    ],
)
def test_who_may_attach(
    machine: Callable[[Files], Path], capabilities: str, scope: int, may: bool
) -> None:
    status = {
        "proc/self/status": f"CapEff:\t{capabilities}\n",
        "proc/sys/kernel/yama/ptrace_scope": str(scope),
    }
    assert read_process(os.getpid(), machine(status)).may_trace is may


def test_only_settings_of_thread_pools_are_taken_from_an_environment() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "SECRET": "x"}  # noqa: TID251
    program = [sys.executable, "-c", "print(flush=True); input()"]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, stdin=pipe, stdout=pipe, env=environment) as child:
        assert child.stdout is not None
        try:
            # Before its first word it may still be us.
            child.stdout.readline()
            pools = read_process(child.pid).pools
        finally:
            child.communicate(b"\n")
    assert pools is not None
    assert pools["OMP_NUM_THREADS"] == "2"
    assert "SECRET" not in pools


# The GPU's driver


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        (GpuFacts(absent="no NVIDIA driver is here"), ("no-gpu", "note")),
        (GpuFacts("470.1", (11, 4), ("Tesla T4",)), ("gpu-driver", "bad")),
        (GpuFacts("580.1", (13, 0), ("L4",)), ("gpu-driver", "good")),
        (GpuFacts(None, None, ("L4",)), ("gpu-driver", "good")),
    ],
)
def test_a_driver_is_judged_by_the_cuda_it_runs(facts: GpuFacts, kind: tuple[str, str]) -> None:
    assert kinds(judge_gpu(facts)) == {kind}


def test_a_machine_says_whether_it_has_a_gpu() -> None:
    read = read_gpu()
    assert (read.absent is None) == bool(read.devices)


# A server


def answers(**changes: Answer) -> dict[str, Answer]:
    engine = {"id": "base.en", "sharing": "shared", "calibration_s": 3.1}
    said = {
        "/healthz": Answer(200, {"status": "ok"}),
        "/health": Answer(404),
        "/readyz": Answer(200, {"state": "ready", "notice": None}),
        "/v1/models": Answer(200, {"data": [engine, {"id": "espeak"}]}),
    }
    return {**said, **{f"/{name.replace('_', '/')}": answer for name, answer in changes.items()}}


def server(url: str = "http://127.0.0.1:8000", median_s: float = 0.004, **changes: Answer) -> Any:
    return ServerFacts(url, answers(**changes), median_s=median_s)


def test_a_well_server_is_praised() -> None:
    findings = judge_server(server())
    assert kinds(findings) == {
        ("health", "good"),
        ("slow-answer", "good"),
        ("models-shared", "good"),
    }


def models(**said: Any) -> Answer:
    return Answer(
        200, {"data": [{"id": "base.en", "sharing": "shared", "calibration_s": 1, **said}]}
    )


@pytest.mark.parametrize(
    ("facts", "kind", "severity"),
    [
        (ServerFacts("http://x", {}, trouble="refused"), "no-answer", "bad"),
        (server(v1_models=models(sharing="per-session")), "per-session-models", "bad"),
        (server(v1_models=models(calibration_s=None)), "uncalibrated", "note"),
        (server(healthz=Answer(404), readyz=Answer(404)), "no-health", "warning"),
        (server(readyz=Answer(404)), "no-health", "note"),
        (server(readyz=Answer(503, {"detail": "model: 40 %"})), "not-ready", "note"),
        (server(readyz=Answer(200, {"notice": "PocketSphinx stands in"})), "notice", "note"),
        (server(median_s=0.9), "slow-answer", "warning"),
        (server("http://box:8000"), "no-microphone", "warning"),
        (ServerFacts("https://box", answers(), untrusted=True), "tls-untrusted", "note"),
    ],
)
def test_an_ill_server_is_told(facts: ServerFacts, kind: str, severity: str) -> None:
    findings = judge_server(facts)
    assert {one.id for one in findings if one.severity != "good"} == {kind}
    assert (kind, severity) in kinds(findings)


@pytest.mark.parametrize("body", [[], {"data": None}, {"data": [1, None]}, "x", None])
def test_models_in_another_shape_are_nothing(body: Any) -> None:
    findings = judge_server(server(v1_models=Answer(200, body)))
    assert {one.id for one in findings} == {"health", "slow-answer"}


def test_a_port_where_nobody_listens_is_bad() -> None:
    read = read_server(f"ws://127.0.0.1:{free_port()}/ws", FakeClock())
    assert kinds(judge_server(read)) == {("no-answer", "bad")}


@pytest.mark.slow
def test_our_own_server_is_well(server_url: str) -> None:
    httpx.get(f"{server_url}/healthz").raise_for_status()
    findings = judge_server(read_server(server_url, SystemClock()))
    assert ("models-shared", "good") in kinds(findings)
    assert ("health", "good") in kinds(findings)
    assert exit_code(findings) == 0


# The command


def ran(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["profile", "doctor", *arguments])
    shown = capsys.readouterr()
    return int(str(ended.value.code)), shown.out + shown.err


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
    assert code == SICK
    assert [one["kind"] for one in json.loads(out)["targets"]] == ["folder", "process", "server"]


def test_a_target_that_is_nothing_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = ran("no-such-folder", capsys=capsys)
    assert (code, out.count("\n")) == (2, 1)
    assert "expected a folder, a process id or a URL" in out


class Refused(Exception):
    """What the fake drivers raise."""


def refuse(*given: object) -> None:
    raise Refused("not here")


def test_a_driver_that_is_not_there_is_a_note() -> None:
    nvml = SimpleNamespace(NVMLError=Refused, nvmlInit=refuse)
    (found,) = judge_gpu(read_gpu(nvml))
    assert (found.id, found.severity, found.evidence) == ("no-gpu", "note", "NVML says: not here")


def test_a_driver_is_asked_and_let_go() -> None:
    ended: list[bool] = []
    nvml = SimpleNamespace(
        NVMLError=Refused,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: ended.append(True),
        nvmlSystemGetDriverVersion=lambda: b"470.82",
        nvmlSystemGetCudaDriverVersion_v2=lambda: 11040,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: refuse() if handle else "Tesla T4",
    )
    (found,) = judge_gpu(read_gpu(nvml))
    assert (found.id, found.severity) == ("gpu-driver", "bad")
    assert found.evidence == "driver 470.82, CUDA 11.4: Tesla T4, unnamed"
    assert ended == [True]
