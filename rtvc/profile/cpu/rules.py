"""Which stage of a voice pipeline a stack of frames is in: a table, the innermost match wins.

The table knows rtvc and the servers and libraries people build voice chat of. A new server needs
rows here and nothing else. Paths are as py-spy shortens them: from the package's folder on, or the
bare name of a script.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache


class Stage(StrEnum):
    """Where a thread of a voice server can be."""

    VAD = "VAD"
    FEATURES = "features"
    INFERENCE = "inference"
    TURN = "turn model"
    AUDIO = "audio conversion"
    MESSAGES = "messages"
    WEBSOCKET = "WebSocket"
    EVENT_LOOP = "event loop"
    LLM = "language model"
    TTS = "speech synthesis"
    METRICS = "metrics"
    UPKEEP = "imports and garbage"
    OTHER = "other"
    IDLE = "idle"


COMPUTE = frozenset(
    {Stage.VAD, Stage.FEATURES, Stage.INFERENCE, Stage.TURN, Stage.AUDIO, Stage.TTS}
)
"""Stages that hand work to threads of native libraries, which have no Python frames."""

CARRIERS = frozenset({Stage.WEBSOCKET, Stage.EVENT_LOOP})
"""Stages that call the rest: code of nobody's they merely carry is not theirs, but `other`."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One call of a stack."""

    function: str
    """Name; qualified by its class from Python 3.11 on."""
    file: str
    """Shortened path, library of a native frame; empty where py-spy knows none."""
    line: int | None = None
    """Line now running; None where py-spy knows none."""


RULES: tuple[tuple[Stage, str, str], ...] = (
    # rtvc; before it had folders, its server's files lay in one
    (Stage.VAD, r"rtvc/voice/(vad|silero|echo)\.py", ""),
    (Stage.TURN, r"rtvc/(voice/turn_model|server/(sessions/)?turn_judge)\.py", ""),
    (Stage.FEATURES, r"rtvc/stt/whisper\.py", r"_features|_context_frames"),
    (Stage.INFERENCE, r"rtvc/stt/(whisper|guards|pocketsphinx|scripted|synthetic)\.py", ""),
    (Stage.AUDIO, r"rtvc/audio\.py", ""),
    (Stage.AUDIO, r"rtvc/server/(web/)?recordings\.py", "decoded|_read"),
    (Stage.LLM, r"rtvc/server/(replies/)?llm\.py", ""),
    (Stage.TTS, r"rtvc/(server/(replies/)?tts|speech/synthesis)\.py", ""),
    (Stage.MESSAGES, r"rtvc/protocol/", ""),
    (Stage.WEBSOCKET, r"rtvc/server/(\w+/)?(outbox|socket_counts)\.py", ""),
    (Stage.WEBSOCKET, r"rtvc/server/(sessions/)?connection\.py", r"_read|_post|_take"),
    (Stage.METRICS, r"rtvc/server/(\w+/)?(metrics|scrape|exposition)\.py", ""),
    (Stage.METRICS, r"rtvc/instruments/(process|gpu\w*|queues|event_loop|otel)\.py", ""),
    (Stage.METRICS, r"rtvc/stt/process\.py", "resident_bytes"),
    (Stage.OTHER, r"rtvc/(server|stt|voice|speech)/", ""),
    # faster-whisper, CTranslate2, OpenAI's Whisper and its copies
    (Stage.FEATURES, r"faster_whisper/feature_extractor\.py", ""),
    (Stage.VAD, r"faster_whisper/vad\.py", ""),
    (Stage.AUDIO, r"faster_whisper/audio\.py", ""),
    (
        Stage.INFERENCE,
        r"(faster_whisper|ctranslate2|whisperx|pywhispercpp|insanely_fast_whisper)/",
        "",
    ),
    (Stage.FEATURES, r"whisper/audio\.py", r"log_mel_spectrogram|pad_or_trim|mel_filters"),
    (Stage.AUDIO, r"whisper/audio\.py", ""),
    (Stage.INFERENCE, r"(whisper|mlx_whisper|lightning_whisper_mlx|moshi|nemo|funasr)/", ""),
    # Voice activity
    (Stage.VAD, r"(silero_vad|snakers4_silero-vad\w*|webrtcvad\w*|pyannote|ten_vad)/", ""),
    (Stage.VAD, r"(silero_vad|voice_activity|utils_vad|webrtcvad|vad)\.py", ""),
    # RealtimeSTT
    (
        Stage.VAD,
        r"RealtimeSTT/",
        r"_?is_(silero|webrtc)_speech|_check_voice_activity|_is_voice_active",
    ),
    (
        Stage.INFERENCE,
        r"RealtimeSTT/",
        r"_?(perform_final_)?transcribe|_run_inference|_normalize_audio",
    ),
    (Stage.INFERENCE, r"RealtimeSTT/transcription_engines/", ""),
    (Stage.AUDIO, r"RealtimeSTT/", r"feed_audio|_?preprocess_audio|process_audio|_?resample\w*"),
    (Stage.OTHER, r"RealtimeSTT/", ""),
    # WhisperLive
    (Stage.AUDIO, r"whisper_live/server\.py", r"get_audio_from_websocket|bytes_to_float_array"),
    (Stage.VAD, r"whisper_live/server\.py", r"voice_activity"),
    (Stage.WEBSOCKET, r"whisper_live/server\.py", ""),
    (
        Stage.AUDIO,
        r"whisper_live/(backend/base|noise_reduction)\.py",
        r"add_frames|get_audio_\w+|reduce\w*",
    ),
    (Stage.MESSAGES, r"whisper_live/backend/", r"send_\w+|format_segment|prepare_segments"),
    (
        Stage.INFERENCE,
        r"whisper_live/(backend|transcriber)/",
        r"transcribe\w*|encode|generate\w*|infer\w*",
    ),
    (Stage.INFERENCE, r"whisper_live/(transcriber|batch_inference)", ""),
    (Stage.OTHER, r"whisper_live/", ""),
    # RealtimeVoiceChat, whose files are scripts
    (Stage.TURN, r"^turndetect\.py", ""),
    (Stage.TTS, r"^audio_module\.py", ""),
    (Stage.AUDIO, r"^upsample_overlap\.py", ""),
    (Stage.AUDIO, r"^audio_in\.py", ""),
    (Stage.LLM, r"^llm_module\.py", ""),
    (Stage.WEBSOCKET, r"^server\.py", ""),
    (Stage.OTHER, r"^(transcribe|speech_pipeline_manager|text_similarity|text_context)\.py", ""),
    # Pipecat
    (Stage.VAD, r"pipecat/audio/vad/", ""),
    (Stage.TURN, r"pipecat/audio/turn/", ""),
    (Stage.AUDIO, r"pipecat/audio/", ""),
    (Stage.INFERENCE, r"pipecat/services/.*(stt|whisper)", ""),
    (Stage.TTS, r"pipecat/services/.*tts", ""),
    (Stage.LLM, r"pipecat/services/.*llm", ""),
    (Stage.MESSAGES, r"pipecat/serializers/", ""),
    (Stage.WEBSOCKET, r"pipecat/transports/", ""),
    # transformers by the task it is used for
    (Stage.FEATURES, r"transformers/.*feature_extraction_", ""),
    (Stage.INFERENCE, r"transformers/(models/\w*(whisper|wav2vec2)|pipelines/automatic)", ""),
    (Stage.TURN, r"transformers/(models/\w*bert|pipelines/text_classification)", ""),
    # Speech synthesis
    (Stage.TTS, r"(RealtimeTTS|TTS|kokoro|orpheus\w*|snac|piper|edge_tts|gtts|pyttsx3)/", ""),
    (Stage.TTS, r"(elevenlabs|stream2sentence|chatterbox|parler_tts|styletts2|misaki|melo)/", ""),
    # Audio conversion
    (Stage.AUDIO, r"scipy/(signal|io)/", ""),
    (Stage.FEATURES, r"(librosa/feature|torchaudio/(compliance|transforms))", ""),
    (Stage.AUDIO, r"(soxr|samplerate|resampy|librosa|torchaudio|av|pydub|pyogg|opuslib)/", ""),
    (Stage.AUDIO, r"(soundfile|audioop|wave|ffmpeg|samplerate|soxr)\.py", ""),
    # Language model
    (Stage.LLM, r"(openai|anthropic|groq|ollama|litellm|llama_cpp|lmstudio|vllm)/", ""),
    (Stage.LLM, r"(langchain\w*|mistralai|google/(genai|generativeai)|httpx\w*|httpcore)/", ""),
    (Stage.LLM, r"aiohttp/client", ""),
    # Messages
    (Stage.MESSAGES, r"(json|orjson|ujson|simplejson|msgpack|pydantic\w*|google/protobuf)/", ""),
    (Stage.MESSAGES, r"(pickle|base64|jsonable_encoder)\.py", ""),
    (Stage.MESSAGES, r"fastapi/(encoders|_compat)", ""),
    (Stage.MESSAGES, r"multiprocessing/(connection|reduction|queues|managers)\.py", ""),
    # Bookkeeping of one's own use
    (Stage.METRICS, r"(psutil|prometheus_client|opentelemetry)/", ""),
    # Carriers
    (Stage.WEBSOCKET, r"(websockets?|wsproto|uvicorn|starlette|fastapi|hypercorn|daphne)/", ""),
    (Stage.WEBSOCKET, r"(aiohttp|socketio|engineio|simple_websocket|aiortc|aioice|h11)/", ""),
    (Stage.EVENT_LOOP, r"(asyncio|uvloop|anyio|trio|gevent|eventlet|tornado)/", ""),
    (Stage.EVENT_LOOP, r"selectors\.py", ""),
    # Upkeep
    (Stage.UPKEEP, r"<frozen importlib", ""),
    (Stage.UPKEEP, r"", r"_?PyGC_\w+|gc_collect\w*|deduce_unreachable|__del__"),
    # Native frames (--native)
    (Stage.INFERENCE, r"libctranslate2", ""),
    (Stage.INFERENCE, r"", r"ctranslate2::.*"),
    (Stage.AUDIO, r"(libsoxr|libsamplerate|libswresample|libavcodec)", ""),
    (Stage.TTS, r"(libespeak|libpiper)", ""),
    (Stage.EVENT_LOOP, r"libuv", ""),
)
"""Stage, start of the path (after any folder; `^`: of the whole path), function (whole name).
Empty matches anything; the first row that fits a frame is the frame's."""

FALLBACKS: tuple[tuple[Stage, str], ...] = (
    (Stage.INFERENCE, r"(onnxruntime|torch|transformers|tensorrt\w*|openvino|mlx|tokenizers)/"),
    (Stage.INFERENCE, r"(libonnxruntime|libtorch|libcudart|libcuda|libcublas|libcudnn)"),
)
"""Engines that several stages share: they count only where no caller says whose work it is."""

PARKED: tuple[tuple[str, str], ...] = (
    (r"threading\.py", r"wait|acquire|join|_wait_for_tstate_lock"),
    (r"selectors\.py", "select"),
    (r"queue\.py", "get"),
    (r"subprocess\.py", r"_?wait|_try_wait"),
    (r"multiprocessing/connection\.py", r"_recv|_poll|wait"),
    # Their waits are calls in C, which leave no frame.
    (r"concurrent/futures/thread\.py", "_worker"),
    (r"websockets/sync/messages\.py", "get_next_frame"),
    (r"rtvc/stt/child\.py", "_take_work"),
    (r"rtvc/stt/process\.py", "_read|_write"),
)
"""Innermost calls that wait, even where the sampler thought the thread was running."""

BLOCKING: tuple[tuple[str, str], ...] = (
    (r"rtvc/stt/child\.py", "run"),
    (r"multiprocessing/(connection|queues|synchronize|popen\w*)\.py", ""),
    (r"(socket|ssl)\.py", ""),
    (r"asyncio/(runners|base_events)\.py", ""),
    (r"uvloop/", ""),
    (r"websockets/sync/", ""),
)
"""Innermost calls that wait whenever the thread is not running."""

RUNNERS: tuple[tuple[str, str], ...] = (
    (r"asyncio/(runners|base_events|events)\.py", "run|run_until_complete|run_forever|_run"),
    (r"uvloop/", ""),
    (r"uvicorn/(server|main|_compat)\.py", "run|serve|asyncio_run"),
    (r"threading\.py", r"run|_bootstrap\w*"),
    (r"concurrent/futures/thread\.py", "run"),
)
"""Calls that only call others: innermost, they stand for native code, which leaves no frame."""

NATIVE = "native code without frames"

_LIBRARY = frozenset(sys.stdlib_module_names) | {"sniffio", "exceptiongroup", "uvloop"}


def _compiled(path: str, function: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    start = path if path.startswith("^") else f"(?:^|/)(?:{path})"
    # A name may be qualified on both sides: Recorder._is_silero_speech.<locals>.<listcomp>.
    name = rf"(?:.*\.)?(?:{function})(?:\..*)?$" if function else ""
    return re.compile(start), re.compile(name)


_RULES = [(stage, *_compiled(path, function)) for stage, path, function in RULES]
_FALLBACKS = [(stage, *_compiled(path, "")) for stage, path in FALLBACKS]
_PARKED = [_compiled(*each) for each in PARKED]
_BLOCKING = [_compiled(*each) for each in BLOCKING]
_RUNNERS = [_compiled(*each) for each in RUNNERS]


@lru_cache(maxsize=16_384)
def _own_stage(function: str, file: str) -> tuple[Stage | None, bool]:
    """What one frame says of itself, and whether only as a fallback."""
    for fallback, rules in ((False, _RULES), (True, _FALLBACKS)):
        for stage, path, name in rules:
            if path.search(file) and name.match(function):
                return stage, fallback
    return None, False


@lru_cache(maxsize=16_384)
def _waits(function: str, file: str, *, running: bool) -> bool:
    calls = _PARKED if running else _PARKED + _BLOCKING
    return any(path.search(file) and name.match(function) for path, name in calls)


@lru_cache(maxsize=16_384)
def _is_library(file: str) -> bool:
    """Of Python's own library, which works for whoever calls it."""
    return file.partition("/")[0].removesuffix(".py") in _LIBRARY or file.startswith("<")


def stage_of(frames: Sequence[Frame], *, running: bool = True) -> Stage:
    """The stage of a stack, outermost frame first; `running`: the thread was on a processor.

    >>> loop, json = Frame("run", "asyncio/runners.py"), Frame("loads", "json/__init__.py")
    >>> stage_of([loop]), stage_of([loop, json]), stage_of([loop, Frame("mine", "mine.py")])
    (<Stage.EVENT_LOOP: 'event loop'>, <Stage.MESSAGES: 'messages'>, <Stage.OTHER: 'other'>)
    """
    if frames and _waits(frames[-1].function, frames[-1].file, running=running):
        return Stage.IDLE
    shared: Stage | None = None
    carried = False
    for frame in reversed(frames):
        # A module's own code says nothing: it is the program itself, or it is being imported.
        stage, fallback = _own_stage(frame.function, frame.file)
        if frame.function == "<module>":
            stage, fallback = None, False
        if stage is None or fallback:
            shared = shared or stage
            carried = carried or not _is_library(frame.file)
        elif not (carried and stage in CARRIERS):
            return (shared or stage) if stage is Stage.OTHER else stage
    return shared or Stage.OTHER


def telling(frames: Sequence[Frame]) -> Frame:
    """The innermost call that says what is done, outermost frame first; at least one frame.

    >>> telling([Frame("mine", "mine.py", 3), Frame("namedtuple", "collections/__init__.py")])
    Frame(function='mine', file='mine.py', line=None)
    >>> telling([Frame("serve", "app.py"), Frame("Runner.run", "asyncio/runners.py")]).file
    'called by Runner.run in asyncio/runners.py'
    """
    for frame in reversed(frames):
        function, file = frame.function, frame.file
        if any(path.search(file) and name.match(function) for path, name in _RUNNERS):
            return Frame(NATIVE, f"called by {function} in {file}")
        if not _is_library(file) or _own_stage(function, file)[0] is not None:
            return Frame(function, file)
    return Frame(frames[-1].function, frames[-1].file)
