"""The doctor at a whole fork: laid out as RealtimeVoiceChat is, a processor for each caller."""

from pathlib import Path

import pytest

from rtvc.profile.doctor.findings import SICK, Finding, exit_code
from tests.doctor_folders import Files, examined, kinds, only

SERVER = """
import asyncio
import logging
import os
import threading
import time

import uvicorn
from fastapi import FastAPI, WebSocket

from audio_in import AudioInputProcessor
from speech_pipeline_manager import SpeechPipelineManager
from upsample_overlap import UpsampleOverlap

MAX_AUDIO_QUEUE_SIZE = int(os.getenv("MAX_AUDIO_QUEUE_SIZE", "50"))
logger = logging.getLogger(__name__)
app = FastAPI()


class TranscriptionCallbacks:
    def __init__(self, messages: asyncio.Queue):
        self.messages = messages
        self.partial_transcription = ""
        self.final_transcription = ""
        self.abort_event = threading.Event()
        self.abort_worker_thread = threading.Thread(target=self._abort_worker, daemon=True)
        self.abort_worker_thread.start()

    def _abort_worker(self):
        while True:
            if self.abort_event.wait(timeout=0.1):
                self.abort_event.clear()

    def on_partial(self, txt: str):
        self.final_transcription = ""
        self.partial_transcription = txt
        self.messages.put_nowait({"type": "partial_user_request", "content": txt})

    def on_final(self, txt: str):
        logger.info("final %s", txt)
        if not self.final_transcription:
            self.final_transcription = txt

    def on_before_final(self):
        content = self.partial_transcription
        self.messages.put_nowait({"type": "final_user_request", "content": content})


async def process_incoming_data(ws: WebSocket, audio_chunks: asyncio.Queue):
    while True:
        message = await ws.receive()
        if audio_chunks.qsize() < MAX_AUDIO_QUEUE_SIZE:
            await audio_chunks.put(message["bytes"])
        else:
            logger.warning("dropping chunk")


async def send_tts_chunks(manager, messages: asyncio.Queue):
    upsampler = UpsampleOverlap()
    while True:
        await asyncio.sleep(0.001)
        chunk = manager.audio_chunks.get_nowait()
        messages.put_nowait({"type": "tts_chunk", "content": upsampler.base64(chunk)})


async def send_text_messages(ws: WebSocket, messages: asyncio.Queue):
    while True:
        await ws.send_json(await messages.get())


@app.websocket("/ws")
async def websocket_endpoint(ws: WebSocket):
    await ws.accept()
    messages = asyncio.Queue()
    audio_chunks = asyncio.Queue()
    audio_input = AudioInputProcessor("en", pipeline_latency=0.5)
    manager = SpeechPipelineManager()
    callbacks = TranscriptionCallbacks(messages)
    audio_input.realtime_callback = callbacks.on_partial
    audio_input.transcriber.full_transcription_callback = callbacks.on_final
    audio_input.transcriber.before_final_sentence = callbacks.on_before_final
    tasks = [
        asyncio.create_task(process_incoming_data(ws, audio_chunks)),
        asyncio.create_task(audio_input.process_chunk_queue(audio_chunks)),
        asyncio.create_task(send_tts_chunks(manager, messages)),
        asyncio.create_task(send_text_messages(ws, messages)),
    ]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


if __name__ == "__main__":
    uvicorn.run("server:app", host="0.0.0.0", port=8000, log_config=None)
"""

AUDIO_IN = """
import asyncio

import numpy as np
from scipy.signal import resample_poly

from transcribe import TranscriptionProcessor


class AudioInputProcessor:
    _RESAMPLE_RATIO = 3

    def __init__(self, language: str = "en", pipeline_latency: float = 0.5) -> None:
        self.transcriber = TranscriptionProcessor(language, pipeline_latency=pipeline_latency)
        self.realtime_callback = None

    def process_audio_chunk(self, raw_bytes: bytes) -> np.ndarray:
        samples = np.frombuffer(raw_bytes, dtype=np.int16).astype(np.float32)
        return resample_poly(samples, 1, 3)

    async def process_chunk_queue(self, audio_queue: asyncio.Queue) -> None:
        while True:
            audio = await audio_queue.get()
            self.transcriber.feed_audio(self.process_audio_chunk(audio).tobytes())
"""

TRANSCRIBE = """
import logging

from RealtimeSTT import AudioToTextRecorder

from turndetect import TurnDetection

logger = logging.getLogger(__name__)

DEFAULT_RECORDER_CONFIG = {
    "model": "base.en",
    "realtime_model_type": "base.en",
    "realtime_processing_pause": 0.03,
    "allowed_latency_limit": 500,
}


class TranscriptionProcessor:
    def __init__(self, language: str, pipeline_latency: float) -> None:
        self.full_transcription_callback = None
        self.before_final_sentence = None
        self.turn_detection = TurnDetection()
        self._create_recorder(dict(DEFAULT_RECORDER_CONFIG, language=language))

    def _create_recorder(self, config: dict) -> None:
        logger.info("creating the recorder")
        self.recorder = AudioToTextRecorder(**config)

    def feed_audio(self, chunk: bytes) -> None:
        self.recorder.feed_audio(chunk)
"""

TURNDETECT = """
from transformers import DistilBertForSequenceClassification, DistilBertTokenizerFast


class TurnDetection:
    def __init__(self) -> None:
        name = "someone/sentence-finished"
        self.tokenizer = DistilBertTokenizerFast.from_pretrained(name)
        self.model = DistilBertForSequenceClassification.from_pretrained(name)
"""

PIPELINE = """
import queue


class SpeechPipelineManager:
    def __init__(self) -> None:
        self.audio_chunks = queue.Queue()
"""

UPSAMPLE = """
import base64

import numpy as np
from scipy.signal import resample_poly


class UpsampleOverlap:
    def base64(self, chunk: bytes) -> str:
        audio = np.frombuffer(chunk, dtype=np.int16).astype(np.float32)
        return base64.b64encode(resample_poly(audio, 48000, 24000).astype(np.int16)).decode()
"""

PAGE = """
const stream = await navigator.mediaDevices.getUserMedia({audio: {sampleRate: {ideal: 24000}}});
const audioContext = new AudioContext();
await audioContext.audioWorklet.addModule('/static/pcmWorkletProcessor.js');
socket.send(batchView);
"""

DOCKERFILE = """
FROM nvidia/cuda:12.1.1-cudnn8-runtime-ubuntu22.04
WORKDIR /app
COPY requirements.txt .
RUN pip install -r requirements.txt
COPY code/ /app/code
WORKDIR /app/code
CMD ["python", "-m", "uvicorn", "server:app", "--host", "0.0.0.0", "--port", "8000"]
"""

COMPOSE = """
services:
  app:
    build: .
    ports:
      - "8000:8000"
  ollama:
    image: ollama/ollama
"""

FORK: Files = {
    "code/server.py": SERVER,
    "code/audio_in.py": AUDIO_IN,
    "code/transcribe.py": TRANSCRIBE,
    "code/turndetect.py": TURNDETECT,
    "code/speech_pipeline_manager.py": PIPELINE,
    "code/upsample_overlap.py": UPSAMPLE,
    "code/static/app.js": PAGE,
    "requirements.txt": "RealtimeSTT==0.3.104\nfaster-whisper==1.1.1\nctranslate2==4.6.0\ntorch\n",
    "Dockerfile": DOCKERFILE,
    "docker-compose.yml": COMPOSE,
}


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    return examined(tmp_path_factory.mktemp("fork"), FORK)


def test_all_that_is_wrong_with_the_fork_is_found(fork: list[Finding]) -> None:
    assert exit_code(fork) == SICK
    assert {found for found in kinds(fork) if found[1] in ("bad", "warning")} == {
        ("model-per-connection", "bad"),
        ("thread-leak", "bad"),
        ("ctranslate2-cudnn", "bad"),
        ("queue-unbounded", "warning"),
        ("queue-long", "warning"),
        ("resampling-on-loop", "warning"),
        ("final-discarded", "warning"),
        ("rate-assumed", "warning"),
        ("page-rate-unread", "warning"),
        ("torch-unpinned", "warning"),
        ("no-healthcheck", "warning"),
        ("runs-as-root", "warning"),
        ("no-model-cache", "warning"),
        ("compose-no-gpu", "warning"),
    }
    assert ("polling", "note") in kinds(fork)


def test_the_way_to_each_callers_recorder_is_shown(fork: list[Finding]) -> None:
    found = [one.evidence for one in fork if one.id == "model-per-connection"]
    (recorder,) = [evidence for evidence in found if "AudioToTextRecorder" in evidence]
    assert [step.split()[1] for step in recorder.split(" → ")] == [
        "websocket_endpoint",
        "AudioInputProcessor.__init__",
        "TranscriptionProcessor.__init__",
        "TranscriptionProcessor._create_recorder",
        "AudioToTextRecorder(...)",
    ]
    assert recorder.startswith("code/server.py:")


def test_its_hidden_queue_is_told_in_seconds(fork: list[Finding]) -> None:
    assert only(fork, "queue-long").evidence.endswith("500 x 32 ms = 16.0 s")


def test_what_upstream_does_once_is_not_blamed(tmp_path: Path) -> None:
    """As upstream has it: one processor for all callers, made before the port accepts."""
    made = '    audio_input = AudioInputProcessor("en", pipeline_latency=0.5)\n'
    lifespan = (
        "from contextlib import asynccontextmanager\n\n\n@asynccontextmanager\n"
        "async def lifespan(app: FastAPI):\n"
        '    app.state.audio_input = AudioInputProcessor("en", pipeline_latency=0.5)\n'
        "    yield\n\n\n"
    )
    server = SERVER.replace(made, "    audio_input = app.state.audio_input\n")
    server = server.replace("app = FastAPI()\n", f"{lifespan}app = FastAPI(lifespan=lifespan)\n")
    findings = examined(tmp_path, {**FORK, "code/server.py": server})
    assert "model-per-connection" not in {one.id for one in findings}
    assert ("model-shared", "good") in kinds(findings)
