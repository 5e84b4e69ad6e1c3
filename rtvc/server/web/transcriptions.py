"""POST /v1/audio/transcriptions: whole files, as OpenAI's clients send them.

The upload is bounded in bytes and in seconds. A file goes to the file engine part by part, beside
live sessions and never ahead of them; its text can be streamed as the parts are done.
"""

import asyncio
import json
import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.datastructures import FormData, UploadFile

from rtvc.errors import AudioError, ModelError, ProtocolError, RtvcError, TranscriberError
from rtvc.server.access.denials import Denied
from rtvc.server.access.visits import visit_of
from rtvc.server.services import Services
from rtvc.server.sessions.told import told
from rtvc.server.web.bodies import bounded, read_form
from rtvc.server.web.recordings import decoded
from rtvc.stt.files import FileHypothesis, FileJob, Segment, parts
from rtvc.stt.synthetic import LANGUAGES
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, AudioArray, JobKind

_log = logging.getLogger(__name__)

PATH = "/v1/audio/transcriptions"
FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
STREAMED = ("json", "text")
GRANULARITIES = ("word", "segment")
HOSTED_NAMES = ("whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe")
"""What clients written for OpenAI ask for: here they mean the server's own model."""
MAX_FILES = 4
"""At once; one more is told to try again."""
RETRY_AFTER_S = 5
MAX_PROMPT_CHARS = 4000
_STATUS = {
    "file_too_large": 413,
    "model_not_found": 404,
    "not_ready": 503,
    "request_timeout": 408,
    "server_busy": 503,
    "unsupported_media_type": 415,
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request as understood."""

    file: UploadFile
    """The recording, whatever its container and codec."""
    response_format: str = "json"
    """One of FORMATS."""
    language: str | None = None
    """ISO-639-1; None: detected."""
    prompt: str | None = None
    """Context the model may lean on, or None."""
    temperature: float = 0.0
    """0: the most likely text."""
    words: bool = False
    """Whether each word's time is wanted."""
    segments: bool = True
    """Whether segments are told in verbose_json."""
    stream: bool = False
    """Whether text is sent as it is found."""


def add_transcriptions(app: FastAPI, services: Services) -> None:
    """Offer the endpoint."""
    slots = asyncio.Semaphore(MAX_FILES)

    @app.post(PATH)
    async def transcriptions(request: Request) -> Response:
        try:
            readiness = services.readiness
            if services.files is None or not readiness.lets_in or readiness.restarting:
                raise ProtocolError("the server is not ready yet", code="not_ready")
            if slots.locked():
                message = f"expected at most {MAX_FILES} files at once, all places are taken"
                raise ProtocolError(message, code="server_busy")
            await slots.acquire()
            return await _answered(request, services, slots.release)
        except Denied as denied:
            services.access.note(denied, request.scope)
            return JSONResponse(denied.body, status_code=denied.status, headers=denied.headers)
        except RtvcError as error:
            return refused(error)


async def _answered(request: Request, services: Services, release: Callable[[], None]) -> Response:
    """The answer; the slot is given back once nothing more will be sent."""
    streaming = False
    try:
        limit = round(services.settings.serve.max_upload_mb * 1e6)
        form = await read_form(bounded(request, limit), limit)
        try:
            wanted = understood(form, services.engine.status.model)
            longest_s = services.settings.serve.max_file_s
            audio = await asyncio.to_thread(
                decoded, wanted.file.file, longest_s, clock=services.clock
            )
            visit_of(request.scope).charge(len(audio) / SAMPLE_RATE_HZ)
        finally:
            await form.close()
        answers = _answers(services, wanted, audio, request)
        if wanted.stream:
            streaming = True
            return await _streamed(_events(answers, len(audio) / SAMPLE_RATE_HZ, release))
        async with aclosing(answers):
            told = [answer async for answer in answers]
        return written(wanted, told, len(audio) / SAMPLE_RATE_HZ)
    finally:
        if not streaming:
            release()


async def _answers(
    services: Services, wanted: Wanted, audio: AudioArray, request: Request
) -> AsyncGenerator[FileHypothesis, None]:
    """What each part says, in order; ends early when nobody listens any more."""
    files = services.files
    if files is None:
        raise TranscriberError("the server is stopping")
    file_id = f"file_{uuid.uuid4().hex}"
    for number, (offset_s, part) in enumerate(parts(audio)):
        if await request.is_disconnected():
            return
        job = FileJob(
            session_id=f"{file_id}_{number}",
            item_id=file_id,
            kind=JobKind.FINAL,
            revision=number,
            audio=part,
            enqueued_at_s=services.clock.now(),
            language=wanted.language or services.settings.stt.language,
            prompt=services.settings.stt.context(wanted.prompt),
            offset_s=offset_s,
            words=wanted.words,
            temperature=wanted.temperature,
        )
        yield await files.transcribe(services.engine.status.model, job)


# Requests


def understood(form: FormData, model: str) -> Wanted:
    """The form's fields.

    Raises:
        ProtocolError: one is missing or wrong; says which.
    """
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise ProtocolError("expected a file in the form field file", param="file")
    _check_model(_text(form, "model"), model)
    chosen = _choice(form, "response_format", FORMATS, "json")
    stream = _flag(form, "stream")
    if stream and chosen not in STREAMED:
        raise ProtocolError(
            f"expected response_format json or text with stream, got {chosen}",
            param="response_format",
        )
    granularities = _granularities(form, chosen)
    return Wanted(
        file=file,
        response_format=chosen,
        language=_language(form),
        prompt=_prompt(form),
        temperature=_temperature(form),
        words="word" in granularities,
        segments="segment" in granularities or not granularities,
        stream=stream,
    )


def _text(form: FormData, name: str) -> str | None:
    value = form.get(name)
    return value.strip() or None if isinstance(value, str) else None


def _check_model(asked: str | None, model: str) -> None:
    if asked is not None and asked not in (model, *HOSTED_NAMES):
        raise ProtocolError(
            f'expected model "{model}" (or {HOSTED_NAMES[0]}), got "{asked[:80]}"',
            code="model_not_found",
            param="model",
        )


def _choice(form: FormData, name: str, choices: Sequence[str], default: str) -> str:
    value = _text(form, name) or default
    if value not in choices:
        raise ProtocolError(
            f'expected {name} one of {", ".join(choices)}, got "{value[:80]}"', param=name
        )
    return value


def _flag(form: FormData, name: str) -> bool:
    return _choice(form, name, ("true", "false", "True", "False"), "false").lower() == "true"


def _granularities(form: FormData, response_format: str) -> set[str]:
    names = ("timestamp_granularities[]", "timestamp_granularities")
    asked = {str(value) for name in names for value in form.getlist(name)}
    if asked - set(GRANULARITIES):
        raise ProtocolError(
            f'expected word or segment, got "{", ".join(sorted(asked))[:80]}"', param=names[1]
        )
    if "word" in asked and response_format != "verbose_json":
        raise ProtocolError(
            f"expected response_format verbose_json with times of words, got {response_format}",
            param=names[1],
        )
    return asked


def _language(form: FormData) -> str | None:
    value = _text(form, "language")
    if value is not None and value not in LANGUAGES:
        raise ProtocolError(
            f'expected an ISO-639-1 language such as en, got "{value[:80]}"', param="language"
        )
    return value


def _prompt(form: FormData) -> str | None:
    value = _text(form, "prompt")
    if value is not None and len(value) > MAX_PROMPT_CHARS:
        raise ProtocolError(
            f"expected a prompt of at most {MAX_PROMPT_CHARS} characters, got {len(value)}",
            param="prompt",
        )
    return value


def _temperature(form: FormData) -> float:
    value = _text(form, "temperature") or "0"
    try:
        temperature = float(value)
    except ValueError:
        temperature = -1.0
    if not 0 <= temperature <= 1:
        raise ProtocolError(
            f'expected a temperature from 0 to 1, got "{value[:80]}"', param="temperature"
        )
    return temperature


# Answers


def written(wanted: Wanted, told: Sequence[FileHypothesis], audio_s: float) -> Response:
    """The whole answer in the format asked for."""
    segments = [segment for answer in told for segment in answer.segments]
    text = " ".join(segment.text for segment in segments)
    match wanted.response_format:
        case "text":
            return PlainTextResponse(text + "\n")
        case "srt":
            return PlainTextResponse(srt(segments), media_type="application/x-subrip")
        case "vtt":
            return PlainTextResponse(vtt(segments), media_type="text/vtt")
        case "verbose_json":
            return JSONResponse(_verbose(wanted, told, segments, audio_s))
        case _:
            return JSONResponse({"text": text, "usage": _usage(audio_s)})


def _usage(audio_s: float) -> dict[str, Any]:
    return {"type": "duration", "seconds": max(round(audio_s), 1)}


def _verbose(
    wanted: Wanted, told: Sequence[FileHypothesis], segments: Sequence[Segment], audio_s: float
) -> dict[str, Any]:
    languages = [answer.language for answer in told if answer.language]
    body: dict[str, Any] = {
        "task": "transcribe",
        "language": languages[0] if languages else wanted.language or "",
        "duration": round(audio_s, 3),
        "text": " ".join(segment.text for segment in segments),
        "usage": _usage(audio_s),
    }
    if wanted.segments:
        body["segments"] = [
            _segment(number, segment, wanted.temperature) for number, segment in enumerate(segments)
        ]
    if wanted.words:
        body["words"] = [
            {"word": word.text, "start": round(word.start_s, 3), "end": round(word.end_s, 3)}
            for segment in segments
            for word in segment.words
        ]
    return body


def _segment(number: int, segment: Segment, temperature: float) -> dict[str, Any]:
    known = asdict(segment)
    return {
        "id": number,
        "seek": round(segment.start_s * 100),
        "start": round(segment.start_s, 3),
        "end": round(segment.end_s, 3),
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": temperature,
        **{name: known[name] for name in ("avg_logprob", "compression_ratio", "no_speech_prob")},
    }


def srt(segments: Sequence[Segment]) -> str:
    """SubRip subtitles."""
    return "".join(
        f"{number}\n{_clock(segment.start_s, ',')} --> {_clock(segment.end_s, ',')}\n"
        f"{segment.text}\n\n"
        for number, segment in enumerate(segments, 1)
    )


def vtt(segments: Sequence[Segment]) -> str:
    """WebVTT subtitles; what would be markup is not."""
    cues = (
        f"{_clock(segment.start_s, '.')} --> {_clock(segment.end_s, '.')}\n"
        f"{segment.text.replace('&', '&amp;').replace('<', '&lt;')}\n\n"
        for segment in segments
    )
    return "WEBVTT\n\n" + "".join(cues)


def _clock(seconds: float, mark: str) -> str:
    """
    >>> _clock(3723.4567, ",")
    '01:02:03,457'
    """
    total_ms = round(seconds * 1000)
    minutes, ms = divmod(total_ms, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{ms // 1000:02}{mark}{ms % 1000:03}"


async def _events(
    answers: AsyncIterator[FileHypothesis], audio_s: float, release: Callable[[], None]
) -> AsyncGenerator[str, None]:
    """Server-sent events; the first, an empty one, comes once the first part is there."""
    texts: list[str] = []
    begun = False
    try:
        async for answer in answers:
            if not begun:
                begun = True
                yield ""
            for segment in answer.segments:
                delta = f" {segment.text}" if texts else segment.text
                texts.append(segment.text)
                yield _event({"type": "transcript.text.delta", "delta": delta})
        done = {"type": "transcript.text.done", "text": " ".join(texts)}
        yield _event({**done, "usage": _usage(audio_s)})
    except RtvcError as error:
        if not begun:
            raise
        yield _event(_error_body(error))
    finally:
        release()


async def _streamed(events: AsyncGenerator[str, None]) -> StreamingResponse:
    """Begun before the answer is: an early failure is a refusal, and a client that leaves before
    it reads anything still has the generator ended and its place given back."""
    first = await anext(events)

    async def rest() -> AsyncIterator[str]:
        yield first
        async for event in events:
            yield event

    return StreamingResponse(rest(), media_type="text/event-stream")


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"


def refused(error: RtvcError) -> JSONResponse:
    """An error as OpenAI's clients read it."""
    if not isinstance(error, ProtocolError | AudioError):
        _log.warning("no transcript of a file: %s", error)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if _status(error) == 503 else None
    return JSONResponse(_error_body(error), status_code=_status(error), headers=headers)


def _status(error: RtvcError) -> int:
    if isinstance(error, ProtocolError):
        return _STATUS.get(error.code, 400)
    if isinstance(error, AudioError):
        return 400
    return 503 if isinstance(error, TranscriberError) and not isinstance(error, ModelError) else 500


def _error_body(error: RtvcError) -> dict[str, Any]:
    ours = _status(error) >= 500
    return {
        "error": {
            "message": told(error) if ours else str(error),
            "type": "server_error" if ours else "invalid_request_error",
            "param": getattr(error, "param", "file" if isinstance(error, AudioError) else None),
            "code": getattr(error, "code", None),
        }
    }
