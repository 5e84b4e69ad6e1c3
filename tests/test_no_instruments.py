"""A server without instruments: everything works, and nothing is measured."""

import httpx
import pytest

from rtvc.config import load_settings
from rtvc.server.measuring.metrics import METRICS, Metrics, NoMetrics
from rtvc.stt.transcriber import JobKind
from tests.realtime_peer import session
from tests.servers import running_server
from tests.test_server_realtime import utterance
from tests.test_turn_timing import a_hypothesis, a_turn


def observed(metrics: Metrics) -> int:
    timings = a_turn().timings("transcript", None, "m")
    assert timings is not None
    metrics.turn(timings)
    metrics.answered(JobKind.FINAL.value, a_hypothesis(0.0, 0.1))
    metrics.suspected()
    metrics.lagged(0.1)
    histograms = [each for group in metrics.histograms.values() for each in group.values()]
    return metrics.premature_suspects + sum(h.cumulative()[-1][1] > 0 for h in histograms)


def test_nothing_is_observed() -> None:
    assert observed(Metrics()) > len([m for m in METRICS.values() if m.kind == "histogram"]) - 2
    assert observed(NoMetrics()) == 0


def test_instruments_are_on_unless_switched_off() -> None:
    assert load_settings(environment={}).serve.instruments
    off = load_settings(environment={"RTVC_SERVE_INSTRUMENTS": "false"})
    assert not off.serve.instruments


@pytest.mark.model
@pytest.mark.slow
async def test_a_turn_is_served_and_not_timed() -> None:
    with running_server("--no-instruments") as url:
        async with session(url) as peer:
            await peer.speak(utterance("turn on the lights."))
            await peer.until("response.done")
            assert peer.transcripts() == ["turn on the lights."]
            assert peer.of("rtvc.turn") == []
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{url}/metrics")).status_code == 404
            sessions = (await client.get(f"{url}/v1/sessions")).json()
    assert sessions["event_loop_lag_max_s"] is None
