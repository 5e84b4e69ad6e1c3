"""The doctor reads source: models, queues, the event loop, threads, audio, text."""

from pathlib import Path

import pytest

from rtvc.profile.doctor.command import check_folder
from rtvc.profile.doctor.findings import SICK, exit_code
from tests.doctor_folders import (
    PER_CONNECTION,
    SHARED,
    SickAndWell,
    examined,
    handled,
    kinds,
    only,
    told_apart,
)

# Models


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
        "from tornado.websocket import WebSocketHandler\n"
        "class Talk(WebSocketHandler):\n    def open(self):\n        build()\n",
        "from channels.generic.websocket import AsyncWebsocketConsumer\n"
        "class Talk(AsyncWebsocketConsumer):\n    async def connect(self):\n        build()\n",
        "from flask_sock import Sock\nsock = Sock(app)\n@sock.route(\x27/\x27)\n"
        "def talk(link):\n    build()\n",
        "from fastapi import Depends, WebSocket\n"
        "async def talk(link: WebSocket, model=Depends(build)):\n    await link.accept()\n",
    ],
)
def test_handlers_of_other_libraries_are_known(tmp_path: Path, server: str) -> None:
    source = "from faster_whisper import WhisperModel\ndef build():\n    return WhisperModel('b')\n"
    findings = examined(tmp_path, {"app.py": source + server})
    assert ("model-per-connection", "bad") in kinds(findings)


def calls_deep(levels: int) -> str:
    """Functions of which each calls the next, and the last loads a model."""
    links = [f"def f{n}():\n    f{n + 1}()\n" for n in range(1, levels)]
    return "".join(links) + f"def f{levels}():\n    return WhisperModel(\x27base\x27)\n"


@pytest.mark.parametrize(("levels", "found"), [(8, True), (9, False)])
def test_calls_are_followed_eight_deep(tmp_path: Path, levels: int, found: bool) -> None:
    imports = "from faster_whisper import WhisperModel"
    findings = examined(tmp_path, handled("f1()", calls_deep(levels), imports=imports))
    assert (("model-per-connection", "bad") in kinds(findings)) is found


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
_TURN = "class Turn:\n    def on_final(self, text):\n        self.final_transcription = text\n"

PAIRS: dict[str, SickAndWell] = {
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
    "no-handlers": ("note", {"a.py": "x = 1\n"}, handled("pass")),
}


@pytest.mark.parametrize("name", PAIRS)
def test_found_where_it_is_and_not_where_it_is_not(tmp_path: Path, name: str) -> None:
    told_apart(tmp_path, name, PAIRS[name])


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


def test_a_short_bound_is_praised(tmp_path: Path) -> None:
    findings = examined(tmp_path, handled("audio_queue = asyncio.Queue(maxsize=50)"))
    assert ("queue-bounded", "good") in kinds(findings)


@pytest.mark.parametrize("target", ["voice", "voice/backend", "."])
def test_a_folder_inside_a_package_is_read_as_its_files_import_it(
    tmp_path: Path, target: str
) -> None:
    base = (
        "class Base:\n    def listen(self):\n        while True:\n            if self.exit:\n"
        "                break\n    def cleanup(self):\n        self.exit = True\n"
    )
    client = (
        "import threading\nfrom voice.backend.base import Base\nclass Client(Base):\n"
        "    def __init__(self, websocket):\n"
        "        self.thread = threading.Thread(target=self.listen)\n        self.thread.start()\n"
    )
    package = {
        "voice/__init__.py": "",
        "voice/backend/__init__.py": "",
        "voice/backend/base.py": base,
        "voice/backend/client.py": client,
    }
    examined(tmp_path, package)
    assert kinds(check_folder(tmp_path / target)) == set()
