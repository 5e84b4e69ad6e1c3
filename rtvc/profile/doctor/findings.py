"""What the doctor can say: findings, and the table of all it knows to look for.

A finding says what is there; its check says why that costs and what to do instead. A figure
stands in a `why` only with the public source it was taken from.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

Severity = Literal["bad", "warning", "note", "good"]
SEVERITIES: tuple[Severity, ...] = ("bad", "warning", "note", "good")
SICK = 99
"""Exit code when something bad was found."""

MOST_OF_A_KIND = 5
"""Places shown of one finding; the last says how many more there are."""

_RVC = "RealtimeVoiceChat 37eda59"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing the doctor looks for."""

    why: str
    """What it costs, in one line."""
    fix: str = ""
    """What to do; empty: nothing need be done."""
    source: str = ""
    """The public threads or code that say so; empty: plain reasoning."""


CHECKS: dict[str, Check] = {
    # A checkout: models
    "model-per-connection": Check(
        "every caller waits for a load, and the device holds one copy of the weights more for "
        "each: 5 s a client against less than 1 s shared, an 8 GB card full, were reported",
        "build it once, in the lifespan or at module level, warm it up before the port accepts, "
        "and hand the one object to every session; a session keeps only its VAD state and buffers",
        "WhisperLive#223, #109",
    ),
    "small-model-per-connection": Check(
        "small models add up: 30 sockets with a Silero session each came to about 120 threads",
        "share the loaded weights, keep only the detector's state apart, and give it one thread",
        "sglang-omni#385",
    ),
    "model-loaded-lazily": Check(
        "the first caller after each start waits for the load and the warm-up",
        "load it in the lifespan, and answer readiness only when it is warm",
        "WhisperLive#358",
    ),
    "model-shared": Check("one copy of the weights for all, loaded before anybody calls"),
    "several-workers": Check(
        "every worker loads its own copy of the models, and copies on one GPU take turns: "
        "two at once take twice as long, and beyond about 8 clients all degrade",
        "one worker, one shared engine that batches across sessions; scale out by machine or GPU",
        "faster-whisper#441, #1192",
    ),
    "batching-for-nothing": Check(
        "it batches the pieces of one recording: utterances shorter than 30 s gain nothing",
        "call the model directly, or batch the utterances of several sessions",
        "speaches#169",
    ),
    # A checkout: queues, event loop, threads
    "queue-unbounded": Check(
        "under load it grows unseen: nothing is refused, what is heard is ever older; "
        "lags of 16 s were reported",
        "give it a bound in seconds of audio, a policy when full (refuse, drop oldest), count what "
        "was dropped, and report its backlog",
        "WhisperLiveKit#131",
    ),
    "queue-long": Check(
        "whatever waits in it is felt as delay long before anything is dropped; limits count "
        "items, so nobody sees the seconds",
        "bound it to what may be late, a second or two, and report the backlog in seconds of audio",
        f"RealtimeSTT v0.3.104, {_RVC} (allowed_latency_limit 500 x 32 ms = 16 s)",
    ),
    "queue-bounded": Check("a backlog of audio cannot grow beyond what may be late"),
    "blocking-call": Check(
        "until it returns no other session is heard, answered or pinged; frozen loops end in "
        "missed pings and connections closed with 1006",
        "await an asynchronous equivalent, or hand it to asyncio.to_thread / run_in_executor",
        "pipecat#3378, automatos#591",
    ),
    "resampling-on-loop": Check(
        "arithmetic on audio holds the event loop, once for every chunk of every session",
        "resample in a worker thread, or in the browser's worklet",
        _RVC,
    ),
    "polling": Check(
        "it wakes hundreds of times a second for every session, and hides wake-ups that are lost",
        "wait on the queue or the event itself; from another thread use loop.call_soon_threadsafe",
        f"{_RVC} (1 ms polls)",
    ),
    "thread-leak": Check(
        "each connection leaves a thread behind that never ends: memory and switches grow until "
        "the process is restarted",
        "end the loop on an event that the connection's clean-up sets, and join the thread there",
        f"{_RVC} (a never-ending worker per connection)",
    ),
    "final-discarded": Check(
        "an inference whose text nobody reads competes with the reply at the worst moment",
        "make its text the one that counts, or leave the pass out",
        f"{_RVC} (the final pass is logged only)",
    ),
    # A checkout: sample rates
    "rate-assumed": Check(
        "a device at another rate is heard too fast and too high, silently: 44.1 kHz taken for "
        "48 kHz by 8.8 %, which costs words",
        "send the rate with the session, or resample from the rate the client really has",
        _RVC,
    ),
    "page-rate-unread": Check(
        "the AudioContext's rate is the device's (44.1, 48, 16 kHz), whatever getUserMedia asked "
        "for: the server would guess it",
        "read context.sampleRate (in a worklet: sampleRate) and resample or send it",
        _RVC,
    ),
    # A checkout: versions
    "ctranslate2-cudnn": Check(
        "ctranslate2 from 4.8 on needs CUDA 12 alone, from 4.5 on CUDA 12 with cuDNN 9, 4.0 to 4.4 "
        "CUDA 12 with cuDNN 8, 3 CUDA 11: with another pair the first inference ends the process",
        "pin ctranslate2 and the base image (or nvidia-cudnn-cu12) as one pair",
        "faster-whisper README; OpenNMT/CTranslate2#1949",
    ),
    "ctranslate2-match": Check("the image carries what ctranslate2 needs of CUDA and cuDNN"),
    "ctranslate2-old": Check(
        "below 4.5 it needs cuDNN 8, which current images and torch no longer bring",
        "ctranslate2>=4.5 with CUDA 12 and cuDNN 9",
        f"faster-whisper README; {_RVC} pins it below 4.5",
    ),
    "ctranslate2-unpinned": Check(
        "the next build may bring a release that wants another CUDA or cuDNN",
        "pin it in a constraints or lock file, together with the base image",
        "faster-whisper README",
    ),
    "torch-unpinned": Check(
        "torch brings a cuDNN of its own: a new release beside ctranslate2 puts two in one process",
        "pin torch to a release with the same cuDNN as ctranslate2's, or leave it out: "
        "faster-whisper does not need it",
        "faster-whisper README",
    ),
    "faster-whisper-old": Check(
        "below 1.0 it holds ctranslate2 below 4, which is built for CUDA 11",
        "faster-whisper>=1.1",
        "faster-whisper requirements.txt",
    ),
    # A checkout: containers and how it is started
    "no-healthcheck": Check(
        "nobody notices a frozen server, and callers are sent to one that still loads",
        "HEALTHCHECK (or compose healthcheck) on a readiness endpoint, with a start period as "
        "long as the models take to load",
    ),
    "runs-as-root": Check(
        "whoever breaks out of the server owns the container",
        "USER with an id of its own, and give it the model cache",
    ),
    "no-model-cache": Check(
        "each new container fetches the models again, gigabytes, before it can answer",
        "a volume for the cache (HF_HOME), or fetch the models while the image is built",
    ),
    "reload": Check(
        "a watcher restarts the server, and loads every model again, when a file changes",
        "leave --reload to development",
    ),
    "compose-no-gpu": Check(
        "the image is built for CUDA and the service asks for no GPU: it falls back to the CPU "
        "or does not start",
        "gpus: all, or deploy.resources.reservations.devices with driver nvidia",
    ),
    "compose-shm": Check(
        "Docker gives 64 MB of /dev/shm: processes that share tensors or audio run out of it",
        "shm_size: 1gb, or ipc: host",
    ),
    "compose-nofile": Check(
        "each WebSocket takes a descriptor, models and files more; the limit is the daemon's",
        "ulimits: nofile: 65536",
    ),
    # A checkout: what could not be read
    "not-read": Check("what stands there was not checked"),
    "no-handlers": Check("what is built or started for each connection could not be told"),
    # A process
    "descriptors": Check(
        "at the limit no connection is accepted and no file opened",
        "find what is not closed, or raise the limit (LimitNOFILE=, ulimits: nofile)",
    ),
    "descriptor-limit": Check(
        "each WebSocket takes a descriptor, models and files more",
        "ulimit -n 65536 (systemd LimitNOFILE=, compose ulimits: nofile)",
    ),
    "threads": Check(
        "hundreds of threads on few cores spend their time in switches; a number that grows with "
        "every connection is a leak: 30 sockets with a VAD session each came to about 120",
        "rtvc profile cpu --pid shows whose they are; share models, give each one thread",
        "sglang-omni#385",
    ),
    "memory": Check(
        "near the limit the kernel ends the process, and every call with it",
        "share one model; a smaller or int8 one; or raise the limit",
        "faster-whisper README: int8 saves about 35 % of the memory",
    ),
    "model-processes": Check(
        "several large children look like a model each, and copies on one GPU take turns",
        "one engine process shared by all sessions",
        "faster-whisper#441, #1192",
    ),
    "ptrace": Check(
        "py-spy and debuggers may not attach to it",
        "run the profiler as root, in a container with --cap-add SYS_PTRACE, or set "
        "kernel.yama.ptrace_scope=0 while profiling",
        "py-spy#12, #459",
    ),
    "cpu-limit": Check(
        "thread pools are sized by the machine's cores: on fewer they queue behind each other and "
        "the process is throttled in bursts",
        "OMP_NUM_THREADS (and cpu_threads of the model) = the cores it really has",
    ),
    "spinning-threads": Check(
        "idle OpenMP and BLAS threads spin before they sleep and take the cores from the others",
        "OMP_WAIT_POLICY=passive, KMP_BLOCKTIME=0, OPENBLAS_NUM_THREADS=1 beside a model's threads",
    ),
    "gpu-driver": Check(
        "ctranslate2 4 and current torch are built for CUDA 12: an older driver runs neither",
        "a driver for CUDA 12 or newer",
        "faster-whisper README",
    ),
    "no-gpu": Check("what stands here holds for the CPU alone"),
    # A server
    "no-answer": Check(
        "nobody can talk to it",
        "is it started, is the port right, does a firewall stand between?",
    ),
    "no-health": Check(
        "a load balancer cannot tell a server that is frozen or still loads from one that is well",
        "answer /healthz at once, and /readyz with 503 until every model is warm",
    ),
    "health": Check("load balancers and orchestrators can tell when to send callers"),
    "not-ready": Check("callers who come now are refused or wait", "wait until it is ready"),
    "slow-answer": Check(
        "an endpoint that computes nothing answers as fast as the event loop turns: something "
        "holds the loop, and holds audio as well",
        "rtvc profile cpu while it is slow; rtvc profile doctor on its source",
        "pipecat#3378, automatos#591",
    ),
    "per-session-models": Check(
        "a copy of the model for each session: callers wait for loads, and copies on one GPU "
        "take turns, two at once twice as long",
        "--sharing shared",
        "WhisperLive#223, faster-whisper#441, #1192",
    ),
    "models-shared": Check("one engine batches the work of all sessions"),
    "uncalibrated": Check(
        "batch size, threads and how many sessions may enter are guessed, not measured",
        "let it calibrate at start-up",
    ),
    "no-microphone": Check(
        "browsers give no microphone to a page from another machine without https",
        "TLS (rtvc serve --tls self-signed, or a proxy with a certificate), or an ssh tunnel to "
        "localhost",
    ),
    "tls-untrusted": Check(
        "clients must be told to trust it, and WebSockets fail without a question being asked",
        "a certificate of an authority that the clients trust; rtvc's own verbs accept any with "
        "--insecure",
    ),
    "notice": Check("the server itself says so"),
}
"""Id → what it costs and what to do."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something the doctor saw."""

    id: str
    """A key of `CHECKS`."""
    severity: Severity
    """bad: fix it first; warning: costs under load; note: worth knowing; good: as it should be."""
    what: str
    """One line."""
    evidence: str
    """File and line, or a figure."""

    @property
    def check(self) -> Check:
        return CHECKS[self.id]

    def to_wire(self) -> dict[str, Any]:
        check = self.check
        return {
            "id": self.id,
            "severity": self.severity,
            "what": self.what,
            "evidence": self.evidence,
            "why": check.why,
            "source": check.source or None,
            "fix": check.fix or None,
        }


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first, else in the order found."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def exit_code(findings: Iterable[Finding]) -> int:
    return SICK if any(finding.severity == "bad" for finding in findings) else 0


def counted(findings: Iterable[Finding]) -> dict[Severity, int]:
    """How many of each severity."""
    severities = [finding.severity for finding in findings]
    return {severity: severities.count(severity) for severity in SEVERITIES}


def spared(findings: Sequence[Finding]) -> list[Finding]:
    """At most a few places of one kind; the last of them says how many more there are."""
    kinds: dict[tuple[str, Severity], list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.id, finding.severity), []).append(finding)
    return [finding for alike in kinds.values() for finding in _few(alike)]


def _few(alike: list[Finding]) -> list[Finding]:
    more = len(alike) - MOST_OF_A_KIND
    if more <= 0:
        return alike
    *shown, last = alike[:MOST_OF_A_KIND]
    return [*shown, replace(last, evidence=f"{last.evidence} (and {more} more)")]
