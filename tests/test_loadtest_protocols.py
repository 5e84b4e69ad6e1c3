"""`rtvc loadtest` as a whole, against small servers of other people's protocols."""

from pathlib import Path

import pytest

from rtvc.loadtest.wire.wires import WIRES
from tests.loadtest_runs import Done, loadtest, serving
from tests.servers import running_server

pytestmark = pytest.mark.slow

SHORT = ("--speakers", "2", "--duration", "6", "--ramp", "0.5", "--grace", "4")
DELAY_S = 0.3


def run(protocol: str, folder: Path, *more: str, mode: str = "ok", spoken: str = "") -> Done:
    arguments = ("--protocol", protocol, "--delay", str(DELAY_S), "--mode", mode)
    with serving("tests.stranger_servers", *arguments) as server:
        url = f"ws://127.0.0.1:{server.port}"
        return loadtest(url, folder, *SHORT, "--protocol", spoken or "auto", *more)


@pytest.mark.parametrize("protocol", ["whisperlive", "realtimestt", "realtimevoicechat"])
def test_a_stranger_is_recognised_and_measured(protocol: str, tmp_path: Path) -> None:
    done = run(protocol, tmp_path / "run")
    summary, turns = done.summary, done.run.turns
    assert summary["protocol"] == protocol, done.errors
    assert summary["connections"]["ok"] == 2, done.errors
    assert turns
    assert all(turn.heard == "play some jazz" for turn in turns if turn.final_at_s is not None)
    delays = [t.transcription_delay_s for t in turns if t.transcription_delay_s is not None]
    assert delays
    assert min(delays) >= DELAY_S
    assert all(turn.first_partial_at_s is not None for turn in turns)
    replies = [turn.response_latency_s for turn in turns if turn.response_latency_s is not None]
    assert bool(replies) == WIRES[protocol].conversation
    hidden = set(summary["not_observable"])
    assert hidden == WIRES[protocol].not_observable
    for name in hidden & summary["metrics"].keys():
        assert summary["metrics"][name]["n"] == 0
        assert summary["metrics"][name]["max"] is None
    assert not [name for name in summary["failures"] if name.startswith("garbage")]
    assert "connection, ready (inferred)" in done.page or protocol != "realtimevoicechat"


@pytest.mark.parametrize("protocol", ["whisperlive", "realtimestt"])
def test_a_full_stranger_has_refused_and_not_failed(protocol: str, tmp_path: Path) -> None:
    done = run(protocol, tmp_path / "run", mode="full", spoken=protocol)
    assert done.summary["connections"]["refused"] == 2
    assert done.summary["failures"] == {"refused_by_message": 2}
    assert done.code == 1


@pytest.mark.parametrize("protocol", ["whisperlive", "realtimestt", "realtimevoicechat"])
def test_garbage_is_counted_and_the_call_goes_on(protocol: str, tmp_path: Path) -> None:
    done = run(protocol, tmp_path / "run", mode="garbage", spoken=protocol)
    assert done.summary["connections"]["ok"] == 2
    assert done.summary["utterances"]["spoken"] > 0
    names = {name for name in done.summary["failures"] if name.startswith("garbage")}
    assert len(names) >= 2, names


@pytest.mark.parametrize(
    ("spoken", "path", "failure"),
    [
        ("openai-realtime", "/ws/transcribe", "wrong_protocol"),
        ("realtimevoicechat", "/ws/transcribe", "wrong_protocol"),
        ("whisperlive", "", "http_403"),
    ],
)
def test_the_wrong_protocol_fails_under_its_own_name(
    spoken: str, path: str, failure: str, tmp_path: Path
) -> None:
    with serving("tests.stranger_servers", "--protocol", "realtimestt") as server:
        url = f"ws://127.0.0.1:{server.port}{path}"
        done = loadtest(url, tmp_path / "run", *SHORT, "--protocol", spoken)
    made = done.summary["connections"]
    assert (made["failed"], made["ok"]) == (2, 0), done.errors
    assert done.summary["failures"].get(failure) == 2
    if failure == "wrong_protocol":
        assert f"the server speaks realtimestt, not {spoken}" in done.summary["verdict"]
    assert (done.folder / "report.html").exists()


@pytest.mark.model
def test_our_own_realtimevoicechat_endpoint_is_measured_by_its_protocol(tmp_path: Path) -> None:
    with running_server() as url:
        told = url.replace("http", "ws") + "/ws"
        done = loadtest(told, tmp_path / "run", *SHORT, "--duration", "15", "--protocol", "auto")
    summary = done.summary
    assert summary["protocol"] == "realtimevoicechat"
    assert (summary["connections"]["ok"], summary["connections"]["failed"]) == (2, 0), done.errors
    assert summary["utterances"]["finals_missing"] == 0
    assert summary["accuracy"]["wer"] < 0.2
    assert summary["metrics"]["response_latency"]["n"] > 0
    assert summary["metrics"]["connection"]["n"] == 2, "inferred from the first text"
    assert summary["ready"] == "inferred"
