"""What was asked for, what is prepared, and what the server says before the load."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import httpx
import numpy as np
import pytest

from rtvc.audio import write_wav
from rtvc.clock import FakeClock
from rtvc.errors import RtvcError, UsageError
from rtvc.loadtest.plan import Wish, default_folder, make_spec
from rtvc.loadtest.preflight import ServerFacts, ask_server
from rtvc.loadtest.runner import claim_folder, keep_last_rows, longest_s
from rtvc.loadtest.speakers.clips import (
    Cast,
    builtin_corpus,
    load_cast,
    load_clips,
    recorded_corpus,
    save_clips,
)
from rtvc.loadtest.spec import load_spec, with_scheme
from rtvc.record import ConnectionRow, RunWriter, load_run, new_manifest

URL = "ws://127.0.0.1:8000"


def test_the_spec_survives_its_file(tmp_path: Path) -> None:
    spec = make_spec(Wish(URL, speakers=3), tmp_path / "run", tmp_path)
    spec.save(tmp_path / "spec.json")
    assert load_spec(tmp_path / "spec.json") == spec


@pytest.mark.parametrize("url", ["htp:/foo", "ws:/box:8000", "box:port", "http:box", "a b"])
def test_what_is_no_address_is_refused_before_anything_is_tried(url: str) -> None:
    with pytest.raises(UsageError, match=r"expected a URL such as ws://127\.0\.0\.1:8000, got"):
        with_scheme(url)


@pytest.mark.parametrize("url", ["box", "box:80/ws?a=b:c", "[::1]:8000", "10.0.0.1", "a-b.test/x"])
def test_a_bare_address_is_one_over_http(url: str) -> None:
    assert with_scheme(url) == f"http://{url}"


def test_speakers_arrive_gently_and_the_arrival_is_not_measured(tmp_path: Path) -> None:
    few = make_spec(Wish(URL, speakers=3), tmp_path, tmp_path)
    many = make_spec(Wish(URL, speakers=200), tmp_path, tmp_path)
    assert few.ramp_s == few.warm_up_s == pytest.approx(0.6)
    assert many.ramp_s == many.warm_up_s == 5.0
    assert longest_s(few) > few.warm_up_s + few.duration_s


def test_nobody_waits_for_replies_in_a_transcription_session(tmp_path: Path) -> None:
    assert make_spec(Wish(URL, transcription=True), tmp_path, tmp_path).scenario == "dictation"
    with pytest.raises(UsageError, match="use dictation"):
        make_spec(Wish(URL, transcription=True, scenario="conversation"), tmp_path, tmp_path)


def test_a_storm_is_judged_by_its_connections_only(tmp_path: Path) -> None:
    wish = Wish(URL, storm_rounds=4)
    spec = make_spec(wish, tmp_path, tmp_path)
    assert (spec.kind, spec.rounds, spec.scenario) == ("connect-storm", 4, "connect-storm")
    assert wish.judged_by == ("connection_p95<3s", "errors<1%")
    assert Wish(URL, storm_rounds=4, targets=("connection_max<1s",)).judged_by == (
        "connection_max<1s",
    )


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (Wish("127.0.0.1:8000"), "expected a URL"),
        (Wish("ftp://box"), "expected a URL"),
        (Wish(URL, speakers=0), "expected 1 to"),
        (Wish(URL, duration_s=0), "expected a --duration of more than 0 s"),
        (Wish(URL, ramp_s=-1), "expected --ramp"),
        (Wish(URL, warm_up_s=float("nan")), "expected --warm-up"),
        (Wish(URL, scenario="shouting"), "expected a scenario"),
        (Wish(URL, protocol="telex"), "expected a protocol"),
        (Wish(URL, storm_rounds=-1), "expected 0 or more rounds"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_run_is_said_at_once(wish: Wish, expected: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=expected):
        make_spec(wish, tmp_path, tmp_path)


def test_a_run_needs_an_empty_folder(tmp_path: Path) -> None:
    assert claim_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "a" / "run.json").touch()
    with pytest.raises(UsageError, match="expected an empty folder"):
        claim_folder(tmp_path / "a")
    assert default_folder("x", datetime(2026, 1, 2, tzinfo=UTC)).name == "20260102T000000Z-x"


def test_no_two_speakers_share_a_text() -> None:
    deal = builtin_corpus(speakers=4, run_s=10, seed=3).deal
    texts = [{clip.text for clip in clips} for clips in deal]
    assert all(len(mine) == 3 for mine in texts)
    assert len(set().union(*texts)) == 12


def test_clips_survive_their_file_and_speak_the_same(tmp_path: Path) -> None:
    spec = make_spec(Wish(URL, speakers=2, duration_s=4), tmp_path, tmp_path)
    corpus = builtin_corpus(2, 8, seed=1)
    save_clips(spec.clips_file, corpus.deal, spec)
    loaded = load_clips(spec.clips_file)
    for before, after in zip(chain(*corpus.deal), chain(*loaded), strict=True):
        assert after.clip.text == before.text
        assert after.clip.words == before.words
        assert after.clip.speech_end_s == before.speech_end_s
        assert len(after.pcm16) == round(len(before.audio) * 24_000 / before.rate_hz)
    assert all(np.abs(clip.pcm16).max() > 1000 for clips in loaded for clip in clips)
    one, two = (load_cast(spec).microphone(1) for _ in range(2))
    assert [one.frame(k) for k in range(300)] == [two.frame(k) for k in range(300)]


def test_a_storm_needs_no_clips(tmp_path: Path) -> None:
    cast = load_cast(make_spec(Wish(URL, storm_rounds=1), tmp_path, tmp_path))
    assert isinstance(cast, Cast)
    assert cast.microphone(0).done


def test_recordings_with_too_few_texts_would_hide_cross_talk(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.2, 16_000).astype(np.float32)
    for name, text in (("a", "hello there"), ("b", "Hello, there!"), ("c", "good bye")):
        write_wav(tmp_path / f"{name}.wav", noise, 16_000)
        (tmp_path / f"{name}.txt").write_text(text, "utf-8")
    corpus = recorded_corpus(tmp_path, 2)
    assert [sorted(clip.clip_id for clip in clips) for clips in corpus.deal] == [["a", "b"], ["c"]]
    with pytest.raises(UsageError, match="at least 3 recordings with different texts"):
        recorded_corpus(tmp_path, 3)


def asked(*answers: Callable[[], httpx.Response]) -> tuple[ServerFacts, list[str]]:
    """What `ask_server` makes of answers in a row, and what it said while waiting."""
    queue, said, clock = list(answers), list[str](), FakeClock()
    answer_next = httpx.MockTransport(lambda _: queue.pop(0)())
    with httpx.Client(transport=answer_next) as client:
        facts = ask_server(
            "http://box/readyz",
            client=client,
            clock=clock,
            sleep=clock.advance,
            patience_s=5,
            on_wait=said.append,
        )
    return facts, said


def loading() -> httpx.Response:
    return httpx.Response(503, json={"state": "loading", "detail": "model: 40 %"})


def ready() -> httpx.Response:
    body = {"state": "ready", "model": "m", "model_kind": "whisper", "max_sessions": 4}
    return httpx.Response(200, json=body)


def test_a_server_that_loads_is_waited_for() -> None:
    facts, said = asked(loading, loading, ready)
    assert (facts.model, facts.model_kind, facts.max_sessions) == ("m", "whisper", 4)
    assert said == ["waiting for the server: model: 40 %"] * 2


def test_a_server_that_stands_aside_is_waited_for_as_it_may_come_back() -> None:
    def aside() -> httpx.Response:
        body = {"state": "aside", "detail": "standing aside: its group has more servers"}
        return httpx.Response(503, json=body)

    facts, said = asked(aside, ready)
    assert facts.max_sessions == 4
    assert said == ["waiting for the server: standing aside: its group has more servers"]
    with pytest.raises(RtvcError, match="not ready within 5 s: standing aside"):
        asked(*[aside] * 20)


def test_waiting_ends() -> None:
    with pytest.raises(RtvcError, match="not ready within 5 s: model: 40 %"):
        asked(*[loading] * 20)


def test_a_server_that_failed_is_not_waited_for() -> None:
    with pytest.raises(RtvcError, match="failed to start: no such model"):
        asked(lambda: httpx.Response(503, json={"state": "failed", "detail": "no such model"}))


def test_of_somebody_elses_server_nothing_is_known() -> None:
    assert asked(lambda: httpx.Response(404, text="not found"))[0] == ServerFacts()
    assert asked(lambda: httpx.Response(200, json=[1]))[0] == ServerFacts()


def test_no_server_at_all() -> None:
    def refuse() -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    with pytest.raises(RtvcError, match="no server answers at http://box/readyz"):
        asked(refuse)


def test_of_two_rows_of_an_attempt_the_last_one_counts(tmp_path: Path) -> None:
    def row(speaker: int, outcome: str) -> ConnectionRow:
        return ConnectionRow(speaker, "s", 1.0, 0.1, 0.1, 0.2, outcome, None, None, None)

    with RunWriter(tmp_path, new_manifest(["rtvc"], FakeClock()), FakeClock()) as writer:
        writer.append(row(0, "ok"), row(1, "ok"), row(0, "lost"))
    keep_last_rows(tmp_path)
    assert [(r.speaker, r.outcome) for r in load_run(tmp_path).connections] == [
        (0, "lost"),
        (1, "ok"),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["connections.csv", "run.json"]
