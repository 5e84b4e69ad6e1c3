"""`rtvc serve`."""

import asyncio
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from rtvc.clock import SystemClock
from rtvc.config import Settings, load_settings
from rtvc.server.access.guard import check_exposure
from rtvc.server.access.origins import is_loopback
from rtvc.server.faults.inject import parse
from rtvc.server.lifecycle.memory import hand_back_memory
from rtvc.server.lifecycle.signals import StopSignals
from rtvc.server.lifecycle.startup import bind, build_services, check_speech_to_text
from rtvc.server.lifecycle.startup import serve as serve_until_stopped
from rtvc.server.lifecycle.tls import certificate_files
from rtvc.server.logs import log_safely
from rtvc.server.readiness import Readiness
from rtvc.server.services import Services

_SERVER, _ACCESS, _STT, _TURN, _LLM, _TTS, _CLOUD = (
    "Server: section serve of rtvc.toml",
    "Who may come in: section access",
    "Speech-to-text: section stt",
    "Turns: section turn",
    "Language model: section llm",
    "Speech synthesis: section tts",
    "Where it runs: section cloud",
)


def _flag(name: str, panel: str, text: str, **more: Any) -> Any:
    # Brackets hold defaults here, not markup.
    shown = text.replace("[", r"\[")
    return typer.Option(name, help=shown, rich_help_panel=panel, show_default=False, **more)


def serve(
    model: Annotated[
        str | None,
        _flag(
            "--model",
            _STT,
            "selftest, tiny.en … large-v3, distil-*, pocketsphinx, or a folder. "
            "Unset: the best faster-whisper model that can be had, else PocketSphinx.",
        ),
    ] = None,
    device: Annotated[str | None, _flag("--device", _STT, "auto, cpu or cuda [auto]")] = None,
    compute_type: Annotated[
        str | None, _flag("--compute-type", _STT, "CTranslate2 type: int8, float16, … [auto]")
    ] = None,
    beam: Annotated[int | None, _flag("--beam", _STT, "Beams of the decoder [1: greedy]")] = None,
    workers: Annotated[
        int | None, _flag("--workers", _STT, "Inferences at once [found at warm-up]")
    ] = None,
    threads: Annotated[
        int | None,
        _flag("--threads-per-worker", _STT, "CPU threads of one inference [found at warm-up]"),
    ] = None,
    max_batch: Annotated[
        int | None, _flag("--max-batch", _STT, "Utterances in one inference [found at warm-up]")
    ] = None,
    warm_up_audio_s: Annotated[
        float | None,
        _flag(
            "--warm-up-audio-s",
            _STT,
            "Infer every length of audio up to this before the server is ready, for about a "
            "minute: such audio needs no more memory later [0: one length]",
        ),
    ] = None,
    sharing: Annotated[
        str | None,
        _flag("--sharing", _STT, "shared, pool or per-session: who shares a model [shared]"),
    ] = None,
    pool_size: Annotated[int | None, _flag("--pool-size", _STT, "Engines of a pool [2]")] = None,
    encoder_context: Annotated[
        str | None,
        _flag("--encoder-context", _STT, "full (30 s), short, guarded [as the weights want it]"),
    ] = None,
    delay_target_ms: Annotated[
        int | None,
        _flag("--delay-target-ms", _STT, "End of speech to transcript, p95, for admission [500]"),
    ] = None,
    language: Annotated[
        str | None, _flag("--language", _STT, "ISO-639-1, such as en [the model's own]")
    ] = None,
    prompt: Annotated[
        str | None, _flag("--prompt", _STT, "Context for every transcription [the client's]")
    ] = None,
    hotwords: Annotated[
        str | None, _flag("--hotwords", _STT, "Names and rare words that may be said")
    ] = None,
    host: Annotated[str | None, _flag("--host", _SERVER, "Address [127.0.0.1]")] = None,
    port: Annotated[int | None, _flag("--port", _SERVER, "Port, 0 for any free one [8000]")] = None,
    max_sessions: Annotated[
        int | None, _flag("--max-sessions", _SERVER, "Sessions at once; more get 503 [32]")
    ] = None,
    admission: Annotated[
        str | None,
        _flag(
            "--admission",
            _SERVER,
            "headroom: refuse before the delay target breaks; slots: only when full [headroom]",
        ),
    ] = None,
    tls: Annotated[
        str | None,
        _flag("--tls", _SERVER, "self-signed, or CERT.pem,KEY.pem: browsers want it off localhost"),
    ] = None,
    inject: Annotated[
        list[str] | None,
        _flag(
            "--inject",
            _SERVER,
            "A fault on purpose, NAME or NAME=AMOUNT, and @BEGIN+LENGTH (seconds after it is "
            "ready) if it is on for a while; may be given again [none]",
            metavar="NAME[=AMOUNT]",
        ),
    ] = None,
    otel_endpoint: Annotated[
        str | None,
        _flag(
            "--otel-endpoint",
            _SERVER,
            "OpenTelemetry collector for a trace of each turn, such as http://localhost:4318 "
            "[none]",
            metavar="URL",
        ),
    ] = None,
    no_instruments: Annotated[
        bool,
        _flag(
            "--no-instruments",
            _SERVER,
            "No metrics, timings of turns or traces: for measuring what they cost",
        ),
    ] = False,
    settings: Annotated[
        Path | None, _flag("--settings", _SERVER, "Settings file [rtvc.toml, if there is one]")
    ] = None,
    keys_file: Annotated[
        Path | None,
        _flag(
            "--keys-file",
            _ACCESS,
            "Callers need one of these keys; rtvc keys make adds one [none]",
            metavar="FILE",
        ),
    ] = None,
    open_to_all: Annotated[
        bool,
        _flag("--open", _ACCESS, "Let everyone in, without keys, though others can reach it"),
    ] = False,
    origin: Annotated[
        list[str] | None,
        _flag(
            "--origin",
            _ACCESS,
            "Let pages of that site call, such as https://voice.example; may be repeated "
            "[its own page only]",
            metavar="ORIGIN",
        ),
    ] = None,
    silence_ms: Annotated[
        int | None,
        _flag("--silence-ms", _TURN, "Silence that ends a turn [250, longer mid-sentence]"),
    ] = None,
    threshold: Annotated[
        float | None, _flag("--threshold", _TURN, "Speech probability, 0 to 1 [0.5]")
    ] = None,
    partials: Annotated[
        str | None,
        _flag("--partials", _TURN, "adaptive (rarer under load), flat-out or off [adaptive]"),
    ] = None,
    llm: Annotated[
        str | None,
        _flag(
            "--llm", _LLM, "scripted, or the base URL of an OpenAI-compatible endpoint [scripted]"
        ),
    ] = None,
    llm_model: Annotated[
        str | None, _flag("--llm-model", _LLM, "Model to ask the endpoint for [llama3.2]")
    ] = None,
    system: Annotated[
        str | None, _flag("--system", _LLM, "Instructions a session starts with")
    ] = None,
    tts: Annotated[
        str | None,
        _flag("--tts", _TTS, "espeak, or the base URL of an OpenAI-compatible endpoint [espeak]"),
    ] = None,
    tts_model: Annotated[
        str | None, _flag("--tts-model", _TTS, "Model to ask the endpoint for [tts-1]")
    ] = None,
    voice: Annotated[str | None, _flag("--voice", _TTS, "Voice of the replies [en-us]")] = None,
    cloud: Annotated[
        str | None,
        _flag("--cloud", _CLOUD, "none, or aws: an EC2 instance that tells how full it is [none]"),
    ] = None,
) -> None:
    """Run the reference server: speech in, speech out, over one shared Whisper.

    Every flag is also a setting in rtvc.toml and an environment variable: --port is port in the
    section serve, and RTVC_SERVE_PORT. Defaults stand in brackets. API keys are taken from
    RTVC_LLM_API_KEY and RTVC_TTS_API_KEY only; RTVC_ACCESS_KEY is a key that callers need.
    """
    flags: dict[str, dict[str, Any]] = {
        "serve": {
            "host": host,
            "port": port,
            "max_sessions": max_sessions,
            "admission": admission,
            "tls": tls,
            "inject": inject or None,
            "otel_endpoint": otel_endpoint,
            "instruments": False if no_instruments else None,
        },
        "access": {
            "keys_file": keys_file,
            "open": True if open_to_all else None,
            "origins": origin or None,
        },
        "stt": {
            "model": model,
            "device": device,
            "compute_type": compute_type,
            "beam_size": beam,
            "workers": workers,
            "threads_per_worker": threads,
            "max_batch": max_batch,
            "warm_up_audio_s": warm_up_audio_s,
            "language": language,
            "prompt": prompt,
            "hotwords": hotwords,
            "sharing": sharing,
            "pool_size": pool_size,
            "encoder_context": encoder_context,
            "delay_target_ms": delay_target_ms,
        },
        "turn": {"silence_ms": silence_ms, "threshold": threshold, "partials": partials},
        "llm": {**_backend(llm, "scripted"), "model": llm_model, "system": system},
        "tts": {**_backend(tts, "espeak"), "model": tts_model, "voice": voice},
        "cloud": {"provider": cloud},
    }
    _run(lambda: load_settings(flags, toml=settings))


def _backend(value: str | None, builtin: str) -> dict[str, str | None]:
    """`--llm scripted` or `--llm http://…`."""
    if value is None or value == builtin:
        return {"backend": value}
    return {"backend": "openai", "url": value}


def _run(read: Callable[[], Settings]) -> None:
    settings = read()

    def again() -> Settings:
        newer = read()
        log_safely((*settings.secrets(), *newer.secrets()))
        return newer

    log_safely(settings.secrets())
    hand_back_memory()
    console = Console(stderr=True)
    clock = SystemClock()
    # The model's files, the address and the certificate are checked before anything is loaded,
    # and the model before the port opens.
    parse(settings.serve.inject)
    check_exposure(settings.access, settings.serve.host)
    check_speech_to_text(settings.stt)
    listening = bind(settings.serve.host, settings.serve.port)
    with tempfile.TemporaryDirectory(prefix="rtvc-tls-") as folder, listening:
        chosen = settings.serve.tls
        tls = (
            None
            if chosen is None
            else certificate_files(chosen, Path(folder), settings.serve.host, clock)
        )
        services = build_services(settings, clock)
        url = _url(listening, secure=tls is not None)
        with (
            StopSignals() as signals,
            _Announcement(console, services, url) as announcement,
            # uvloop halves the cost of a message; thousands a second arrive.
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            serving = serve_until_stopped(
                services,
                listening,
                tls=tls,
                on_ready=announcement.ready,
                signals=signals,
                settings_again=again,
            )
            runner.run(serving)
    console.print("stopped")


def _url(listening: socket.socket, *, secure: bool) -> str:
    host, port = listening.getsockname()[:2]
    shown = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::1", "::") else host
    shown = f"[{shown}]" if ":" in shown else shown
    return f"http{'s' if secure else ''}://{shown}:{port}"


class _Announcement:
    """What `rtvc serve` says: progress bars while loading, then where to go."""

    def __init__(self, console: Console, services: Services, url: str) -> None:
        self._console = console
        self._services = services
        self._url = url
        self._stopping = False
        columns = (
            TextColumn("  {task.description:<20}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("[dim]{task.fields[detail]}"),
        )
        self._progress = Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        )
        self._bars = {
            task.name: self._progress.add_task(task.name, total=1.0, detail="")
            for task in services.readiness.tasks
        }

    def __enter__(self) -> "_Announcement":
        self._say(f"rtvc is starting on [bold]{self._url}[/] (the page answers already)")
        for line in self._services.faults.notices:
            self._say(f"[bold red]{escape(line)}[/]")
        self._services.readiness.listen(self._update)
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def _update(self) -> None:
        readiness: Readiness = self._services.readiness
        if readiness.draining and self._services.sessions and not self._stopping:
            self._stopping = True
            self._say("stopping: people may finish what they say; once more stops at once")
        for task in readiness.tasks:
            self._progress.update(
                self._bars[task.name], completed=task.progress, detail=escape(task.detail)
            )

    def ready(self) -> None:
        """Everything is warm."""
        self._progress.stop()
        status = self._services.engine.status
        if self._services.notice:
            self._say(f"[yellow]note:[/] {escape(self._services.notice)}")
        model = (
            status.model
            if status.model == status.model_kind
            else (f"{status.model} ({status.model_kind})")
        )
        self._say(
            f"ready: speech-to-text [bold]{escape(model)}[/] on {status.device}"
            f"{f' {status.compute_type}' if status.compute_type else ''}, replies by "
            f"{escape(self._services.llm.name)}, spoken by {escape(self._services.tts.name)}"
        )
        self._say(f"  talk to it   {self._url}")
        insecure = " --insecure" if self._services.settings.serve.tls == "self-signed" else ""
        key = " --api-key-file FILE" if self._services.access.keyed else ""
        load = f"rtvc loadtest {self._url} --speakers 10 --duration 60{insecure}{key}"
        self._say(f"  load it      {load}")
        self._warn_of_strangers()
        self._say("  stop it      Ctrl-C")

    def _warn_of_strangers(self) -> None:
        serve, access = self._services.settings.serve, self._services.settings.access
        if access.keyed:
            self._say("  who may      callers with a key")
        elif access.open:
            self._say("[bold yellow]note:[/] it is open: every page and every machine may call")
        if is_loopback(serve.host):
            return
        if not access.keyed:
            self._say(
                f"[yellow]note:[/] it listens on {escape(serve.host)}, where others can reach it, "
                "and asks nobody who they are"
            )
        if serve.tls is None:
            self._say(
                "[yellow]note:[/] from another machine browsers give no microphone to http: "
                "add --tls self-signed"
            )

    def _say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)
