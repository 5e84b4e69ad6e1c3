"""One scrape of `/metrics`: what was observed so far, and how things are now."""

import asyncio
from collections import defaultdict
from typing import get_args

from rtvc import __version__
from rtvc.instruments.process import ProcessSampler, ProcessUse, usable_cpus
from rtvc.server.measuring.exposition import CONTENT_TYPE, Sheet
from rtvc.server.services import Services
from rtvc.stt.ladder import Step
from rtvc.stt.transcriber import EngineState, EngineStatus

__all__ = ["CONTENT_TYPE", "Scraper"]

_OUTCOMES = ("done", "superseded", "cancelled", "failed", "promoted", "shed")
_PROCESSES = {"rtvc.stt.child": "engine"}
"""Word of a child's command line → what it is."""


class Scraper:
    """Answers scrapes; nothing is shared with another server in this process."""

    def __init__(self, services: Services, processes: ProcessSampler | None = None) -> None:
        """`processes` None: this server and its engine."""
        self._services = services
        self._risen = _Risen()
        self._processes = processes or ProcessSampler("server", _PROCESSES)

    async def text(self) -> bytes:
        """As Prometheus reads it; the event loop only copies figures, the rest is for a thread."""
        sheet = Sheet()
        self._put_observed(sheet)
        self._put_server(sheet)
        self._put_engine(sheet, self._services.engine.status)
        self._put_sessions(sheet)
        self._put_sockets(sheet)
        return await asyncio.to_thread(self._finished, sheet)

    def _finished(self, sheet: Sheet) -> bytes:
        for role, use in self._processes.sample().items():
            _put_process(sheet, role, use)
        return sheet.text()

    def _put_observed(self, sheet: Sheet) -> None:
        metrics = self._services.metrics
        for name, histograms in metrics.histograms.items():
            for labels, histogram in histograms.items():
                sheet.put_histogram(name, histogram.cumulative(), histogram.sum, *labels)
        sheet.put("rtvc_premature_suspects_total", metrics.premature_suspects)
        for labels, count in metrics.reply_failures.items():
            sheet.put("rtvc_reply_failures_total", count, *labels)
        for guard in self._services.breakers:
            sheet.put("rtvc_breaker_open", guard.out, guard.service)
        sheet.put("rtvc_apologies_total", metrics.apologies)
        sheet.put("rtvc_spare_voice_sentences_total", metrics.spare_sentences)
        sheet.put_all("rtvc_reloads_total", metrics.reloads.items())
        sheet.put("rtvc_boot_to_ready_seconds", metrics.boot.process_s, "process")
        sheet.put("rtvc_boot_to_ready_seconds", metrics.boot.instance_s, "instance")
        sheet.put_all("rtvc_cloud_failures_total", metrics.cloud_failures.items())
        if self._services.traces is not None:
            sheet.put_all("rtvc_traces_total", self._services.traces.outcomes.items())

    def _put_server(self, sheet: Sheet) -> None:
        admission = self._services.admission
        sheet.put("rtvc_ready", self._services.readiness.ready)
        sheet.put("rtvc_aside", self._services.readiness.state == "aside")
        sheet.put("rtvc_build_info", 1, __version__)
        sheet.put("rtvc_open_sessions", admission.sessions)
        sheet.put("rtvc_max_sessions", admission.max_sessions)
        sheet.put("rtvc_refused_sessions_total", admission.refused)
        sheet.put("rtvc_event_loop_lag_max_seconds", self._services.loop_lag.max_s)
        sheet.put("rtvc_usable_cpus", usable_cpus())

    def _put_engine(self, sheet: Sheet, engine: EngineStatus) -> None:
        for state in get_args(EngineState):
            sheet.put("rtvc_engine_state", state == engine.state, state)
        about = (engine.model, engine.model_kind, engine.device)
        sheet.put("rtvc_engine_info", 1, *about, engine.compute_type or "", engine.sharing)
        for name, value in _engine_gauges(engine).items():
            sheet.put(name, value)
        self._put_jobs(sheet, engine)
        for step in Step:
            times = engine.degradation_changes.get(step.label, 0)
            risen = self._risen.to(f"degradation {step.label}", times)
            sheet.put("rtvc_degradation_changes_total", risen, step.label)

    def _put_jobs(self, sheet: Sheet, engine: EngineStatus) -> None:
        risen = {name: self._risen.to(name, count) for name, count in engine.counters.items()}
        sheet.put("rtvc_engine_restarts_total", self._risen.to("restarts", engine.restarts))
        failed = self._risen.to("failed_restarts", engine.failed_restarts)
        sheet.put("rtvc_engine_failed_restarts_total", failed)
        sheet.put("rtvc_engine_submitted_jobs_total", risen.get("submitted"))
        sheet.put("rtvc_engine_retried_jobs_total", risen.get("retried"))
        for outcome in _OUTCOMES:
            sheet.put("rtvc_engine_jobs_total", risen.get(outcome), outcome)

    def _put_sessions(self, sheet: Sheet) -> None:
        now_s = self._services.clock.now()
        described = [session.describe(now_s) for session in self._services.sessions.values()]
        backlogs_s = [float(session["audio_backlog_s"]) for session in described]
        sheet.put("rtvc_inbox_backlog_seconds", sum(backlogs_s))
        sheet.put("rtvc_inbox_backlog_max_seconds", max(backlogs_s, default=None))
        sheet.put("rtvc_unsent_messages", sum(s["unsent_messages"] for s in described))

    def _put_sockets(self, sheet: Sheet) -> None:
        sockets = self._services.metrics.sockets
        sheet.put_all("rtvc_websocket_opens_total", sockets.opens.items())
        sheet.put_all("rtvc_websocket_refusals_total", sockets.refusals.items())
        sheet.put_all("rtvc_websocket_closes_total", sockets.closes.items())
        messages = (("in", sockets.messages_in), ("out", sockets.messages_out))
        sheet.put_all("rtvc_websocket_messages_total", messages)
        sheet.put_all("rtvc_denied_requests_total", self._services.access.denied.items())
        payload = (("in", sockets.bytes_in), ("out", sockets.bytes_out))
        sheet.put_all("rtvc_websocket_bytes_total", payload)


class _Risen:
    """Counts that never fall: an engine takes its own along when it goes with its session."""

    def __init__(self) -> None:
        self._last: dict[str, int] = defaultdict(int)
        self._sum: dict[str, int] = defaultdict(int)

    def to(self, name: str, count: int) -> int:
        """By how much the count has risen in all."""
        self._sum[name] += max(0, count - self._last[name])
        self._last[name] = count
        return self._sum[name]


def _engine_gauges(engine: EngineStatus) -> dict[str, float | None]:
    return {
        "rtvc_headroom_sessions": engine.headroom_sessions,
        "rtvc_partial_interval_seconds": engine.partial_interval_s,
        "rtvc_degradation_step": float(engine.degradation),
        "rtvc_engine_queued_jobs": engine.queued,
        "rtvc_engine_backlog_seconds": engine.backlog_s,
        "rtvc_engine_max_batch_jobs": engine.max_batch,
        "rtvc_engine_workers": engine.workers,
        "rtvc_engine_worker_threads": engine.threads_per_worker,
        "rtvc_engine_processes": engine.engines,
        "rtvc_model_load_seconds": engine.load_s,
        "rtvc_model_warm_up_seconds": engine.warm_up_s,
    }


def _put_process(sheet: Sheet, role: str, use: ProcessUse) -> None:
    sheet.put("rtvc_processes", use.processes, role)
    sheet.put("rtvc_process_cpu_seconds_total", use.cpu_s, role)
    sheet.put("rtvc_process_resident_memory_bytes", use.resident_bytes, role)
    sheet.put("rtvc_process_threads", use.threads, role)
    sheet.put("rtvc_process_open_files", use.open_files, role)
