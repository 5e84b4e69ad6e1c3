"""Scrapes of a small server, written by hand, and what the live view makes of them."""

import math
from collections.abc import Iterable
from typing import Any

from rtvc.clock import FakeClock
from rtvc.instruments.gpu import GpuSample, GpuSampler, open_gpus
from rtvc.profile.live import screen as drawing
from rtvc.profile.live.exposition import parse
from rtvc.profile.live.figures import View
from rtvc.profile.live.view import view_of
from rtvc.profile.live.watch import Status
from rtvc.profile.live.window import Scrape, Window
from tests.nvml_fake import FakeNvml

EDGES = (0.1, 0.2, 0.3, 0.5, 1.0)
DELAY = "rtvc_transcription_delay_seconds"


def histogram(name: str, values: Iterable[float], **labels: str) -> str:
    """As the server exposes it."""
    values = list(values)
    own = ",".join(f'{label}="{value}"' for label, value in labels.items())
    lines = [f"# TYPE {name} histogram"] if not labels else []
    for edge in (*EDGES, math.inf):
        le = "+Inf" if math.isinf(edge) else repr(edge)
        count = sum(value <= edge for value in values)
        lines.append(f'{name}_bucket{{{own}{"," if own else ""}le="{le}"}} {count}')
    shown = f"{{{own}}}" if own else ""
    return "\n".join(
        [*lines, f"{name}_count{shown} {len(values)}", f"{name}_sum{shown} {math.fsum(values)}"]
    )


def metrics(
    delays: Iterable[float] = (),
    *,
    sessions: int = 4,
    headroom: float | None = 8.6,
    state: str = "ready",
    restarts: int = 0,
    failed: int = 0,
    cpu_s: float = 10.0,
    backlog_s: float = 0.0,
    jobs: int = 0,
    aside: bool = False,
) -> str:
    """What a small server would expose; all counts since its start."""
    delays = list(delays)
    ready = int(state == "ready" and not aside)
    parts = [
        f"# TYPE rtvc_ready gauge\nrtvc_ready {ready}",
        f"# TYPE rtvc_aside gauge\nrtvc_aside {int(aside)}",
        '# TYPE rtvc_build_info gauge\nrtvc_build_info{version="9.8"} 1',
        f"# TYPE rtvc_open_sessions gauge\nrtvc_open_sessions {sessions}",
        "# TYPE rtvc_max_sessions gauge\nrtvc_max_sessions 16",
        "# TYPE rtvc_headroom_sessions gauge",
        "" if headroom is None else f"rtvc_headroom_sessions {headroom}",
        "# TYPE rtvc_refused_sessions_total counter\nrtvc_refused_sessions_total 0",
        histogram(DELAY, delays),
        "# TYPE rtvc_turn_stage_seconds histogram",
        histogram("rtvc_turn_stage_seconds", delays, stage="endpoint_wait", path="felt"),
        histogram("rtvc_turn_stage_seconds", (), stage="turn_model", path="felt"),
        histogram("rtvc_turn_stage_seconds", [0.05] * len(delays), stage="decode", path="hidden"),
        "# TYPE rtvc_engine_state gauge",
        *(
            f'rtvc_engine_state{{state="{one}"}} {int(one == state)}'
            for one in ("loading", "ready", "restarting", "failed")
        ),
        "# TYPE rtvc_engine_info gauge",
        'rtvc_engine_info{model="selftest",device="cpu",compute_type="int8",sharing="shared"} 1',
        f"# TYPE rtvc_engine_restarts_total counter\nrtvc_engine_restarts_total {restarts}",
        "# TYPE rtvc_engine_jobs_total counter",
        f'rtvc_engine_jobs_total{{outcome="failed"}} {failed}',
        f"# TYPE rtvc_engine_queued_jobs gauge\nrtvc_engine_queued_jobs {jobs}",
        f"# TYPE rtvc_engine_backlog_seconds gauge\nrtvc_engine_backlog_seconds {backlog_s}",
        "# TYPE rtvc_engine_inference_seconds histogram",
        histogram("rtvc_engine_inference_seconds", delays, kind="final"),
        "# TYPE rtvc_inbox_backlog_seconds gauge\nrtvc_inbox_backlog_seconds 0.12",
        "# TYPE rtvc_inbox_backlog_max_seconds gauge\nrtvc_inbox_backlog_max_seconds 0.1",
        "# TYPE rtvc_unsent_messages gauge\nrtvc_unsent_messages 3",
        histogram("rtvc_event_loop_lag_seconds", [0.01] * 20 * (len(delays) + 1)),
        "# TYPE rtvc_event_loop_lag_max_seconds gauge\nrtvc_event_loop_lag_max_seconds 0.012",
        "# TYPE rtvc_usable_cpus gauge\nrtvc_usable_cpus 8",
        '# TYPE rtvc_processes gauge\nrtvc_processes{process="server"} 1',
        "# TYPE rtvc_process_cpu_seconds_total counter",
        f'rtvc_process_cpu_seconds_total{{process="server"}} {cpu_s}',
        "# TYPE rtvc_process_resident_memory_bytes gauge",
        'rtvc_process_resident_memory_bytes{process="server"} 123000000',
    ]
    return "\n".join(filter(None, parts)) + "\n"


def sessions_body(count: int = 2, **more: Any) -> dict[str, Any]:
    """As the server's /v1/sessions."""
    listed = [
        {
            "id": f"sess_{number:08d}cafe",
            "protocol": "openai-realtime",
            "age_s": 10.0 * number + 1,
            "speaking": number == 0,
            "replying": number == 1,
            "utterances": number,
            "audio_backlog_s": 0.1,
            "unsent_messages": 1,
            **more,
        }
        for number in range(count)
    ]
    return {
        "sessions": listed,
        "queues": [{"name": "inbox", "depth": 6, "oldest_age_s": 0.3, "dropped": 0}],
    }


def scrape(at_s: float, text: str, **more: Any) -> Scrape:
    return Scrape(at_s, parse(text), **more)


def window_of(*scrapes: Scrape) -> Window:
    window = Window()
    for each in scrapes:
        window.add(each)
    return window


def status_of(view: View | None, **more: Any) -> Status:
    known: dict[str, Any] = {
        "url": "http://box:8000",
        "at_s": 12.0,
        "interval_s": 1.0,
        "view": view,
        "missing": None,
        "missing_s": 0.0,
        "news": None,
        "no_gpu": "no NVIDIA driver here",
    }
    return Status(**{**known, **more})


def busy_view(turns: int = 120, sessions: int = 6, **more: Any) -> View:
    delays = [0.15 + 0.001 * number for number in range(turns)]
    scrapes = [
        scrape(
            float(second),
            metrics(delays[: turns * second // 30], cpu_s=10 + 0.5 * second, backlog_s=second / 10),
            sessions=sessions_body(sessions, transcription_delays_s=[0.2, 0.3]),
            **more,
        )
        for second in range(31)
    ]
    return view_of(window_of(*scrapes))


def seen(delays: list[float], **more: Any) -> View:
    return view_of(window_of(scrape(0.0, metrics()), scrape(30.0, metrics(delays, **more))))


def gpus() -> tuple[GpuSample, ...]:
    opened = open_gpus(FakeClock(), FakeNvml())
    assert isinstance(opened, GpuSampler)
    with opened:
        return opened.sample()


def text_at(width: int, height: int, status: Status) -> str:
    return "\n".join(line.plain for line in drawing.lines(status, width, height))
