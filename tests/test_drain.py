"""What is said of a server that is stopped behind a proxy: made-up rows, exact figures."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from rtvc.config import ServeSettings
from rtvc.record import ConnectionRow, RunWriter, SampleRow, TurnRow
from rtvc.speech.scenario import load_scenario
from rtvc.summary.outcomes import CUT_OFF_SPEECH
from tests.acceptance.drain import SCENARIO, _begins, _earlier, _ends, judged, markdown
from tests.acceptance.drain_judge import (
    COLUMNS,
    LEAST_SESSIONS,
    STALE_S,
    UNNOTICED_S,
    Place,
    Seen,
    Stop,
    Told,
    checks,
    kind_of,
    table,
    told_of,
    why_void,
)
from tests.acceptance.drain_proxy import (
    CONFIGURATION,
    complaint,
    environment,
    program,
    read_stat,
)
from tests.acceptance.drain_watch import place_of
from tests.synthetic_run import a_manifest
from tests.test_chaos import a_turn

DEADLINE_S = 30.0
STOP = Stop("one", 100.0, 100.4, 110.0, 0, 120.0)
END_S = 200.0
CUT = "no session is cut before the deadline"


def a_call(
    speaker: int, opened_at_s: float, closed_at_s: float, outcome: str = "ok", code: int = 1000
) -> ConnectionRow:
    session = f"s{speaker}" if outcome in ("ok", "lost") else None
    return ConnectionRow(
        speaker, session, opened_at_s, 0.01, 0.01, 0.02, outcome, None, code, closed_at_s
    )


def a_run() -> tuple[list[ConnectionRow], dict[str, str]]:
    """Twelve on the first server when it is told: half finish, half are let go; others after."""
    calls, where = [], {}
    for speaker in range(12):
        let_go = speaker % 2 == 0
        how = ("lost", 1001) if let_go else ("ok", 1000)
        calls.append(a_call(speaker, 80.0 + speaker, 105.0, *how))
        where[f"s{speaker}"] = "one"
    for speaker, opened_at_s, server in ((20, 70.0, "two"), (21, 104.0, "two"), (22, 130.0, "one")):
        calls.append(a_call(speaker, opened_at_s, opened_at_s + 30))
        where[f"s{speaker}"] = server
    return calls, where


def seen(
    *more: ConnectionRow,
    turns: Sequence[TurnRow] = (),
    busy: Sequence[int] = (),
    on: str = "one",
    last_look_s: float = 0.1,
    cut_off_s: Mapping[float, float] | None = None,
) -> Seen:
    """With some more calls, on one of the servers; `busy`: speakers whose sessions were so when
    last looked at, which was so long before their end."""
    calls, where = a_run()
    where |= {row.session_id: on for row in more if row.session_id}
    ends_s = {row.session_id: row.closed_at_s or 0.0 for row in (*calls, *more)}
    places = {
        name: Place(server, int(name.removeprefix("s")) in busy, ends_s[name] - last_look_s)
        for name, server in where.items()
    }
    return Seen((*calls, *more), tuple(turns), places, DEADLINE_S, cut_off_s or {})


def judge(found: Seen, stop: Stop = STOP) -> Told:
    return told_of(stop, 0.0, END_S, found)


def kept(found: Seen, stop: Stop = STOP) -> dict[str, bool]:
    return checks([judge(found, stop)], found)


def broken(found: Seen, stop: Stop = STOP) -> list[str]:
    return [name for name, well in kept(found, stop).items() if not well]


def test_a_stop_that_nobody_felt_keeps_every_promise() -> None:
    found = seen(turns=[a_turn(0, 0, 103.0, 0.2), a_turn(20, 0, 103.0, 0.3)])
    told = judge(found)
    assert (told.sessions, told.finished, told.let_go) == (12, 6, 6)
    assert (told.late, told.cut, told.turns, told.turned_away) == (0, 0, 1, 0)
    assert (told.went_elsewhere, told.went_there, told.came_back) == (1, 0, 1)
    assert told.noticed_s == pytest.approx(0.4)
    assert told.drained_s == 10.0
    assert told.delay_away == "300 ms (max, n=2)"
    assert told.delay_before == "–"
    assert broken(found) == []
    assert why_void([told], found, None) is None


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (a_call(0, 80, 150), "finished"),
        (a_call(0, 80, 105, "lost", 1001), "let go"),
        (a_call(0, 80, 128.9, "lost", 1001), "let go"),
        (a_call(0, 80, 129.1, "lost", 1001), "late"),
        (a_call(0, 80, 105, "lost", 1006), "cut"),
        (a_call(1, 80, 105, "lost", 1001), "cut"),
        (a_call(1, 80, 131, "lost", 1001), "late"),
    ],
)
def test_how_a_session_ended(row: ConnectionRow, kind: str) -> None:
    """Speaker 1 was speaking, or being answered, when last seen."""
    assert kind_of(row, STOP, seen(row, busy=[row.speaker] if row.speaker == 1 else [])) == kind


@pytest.mark.parametrize(
    ("session", "busy"),
    [
        ({"speaking": False, "replying": False}, False),
        ({"speaking": True, "replying": False}, True),
        ({"speaking": False, "replying": True}, True),
    ],
)
def test_what_a_server_says_of_a_session(session: dict[str, bool], busy: bool) -> None:
    assert place_of("one", session, 7.0) == Place("one", busy, 7.0)


def test_what_was_said_of_a_session_long_ago_says_nothing_of_its_end() -> None:
    assert broken(seen(busy=[0], last_look_s=STALE_S - 0.1)) == [CUT]
    assert broken(seen(busy=[0], last_look_s=STALE_S + 0.1)) == []


def test_a_caller_who_was_heard_for_a_while_is_cut_whatever_the_server_says() -> None:
    found = seen(cut_off_s={105.0: UNNOTICED_S + 0.1})
    assert broken(found) == [CUT]
    assert judge(found).cut == 6, "of the twelve, all that the server ended at 105 s"


def test_who_begins_to_speak_in_the_moment_of_the_end_is_told() -> None:
    found = seen(cut_off_s={105.0: 0.25})
    told = judge(found)
    assert (told.let_go, told.cut, told.spoken_into_s) == (6, 0, (0.25,) * 6)
    assert broken(found) == []
    assert "| 6 (250 ms) |" in table([told])[2]


@pytest.mark.parametrize(
    ("call", "open_then"),
    [
        (a_call(90, 80, 99.9), False),
        (a_call(90, 80, 100.1), True),
        (a_call(90, 80, 99.5, "lost", 1001), True),
        (a_call(90, 80, 98.0, "lost", 1001), False),
        (a_call(90, 101.5, 140), False),
    ],
)
def test_who_was_there(call: ConnectionRow, open_then: bool) -> None:
    assert judge(seen(call)).sessions == 12 + open_then
    assert judge(seen(call, on="two")).sessions == 12


def test_a_final_that_never_came_is_a_turn_lost() -> None:
    found = seen(turns=[a_turn(0, 0, 103.0, None)])
    assert judge(found).finals_lost == 1
    assert broken(found) == ["no turn is lost"]


def test_what_was_still_being_said_when_the_session_ended_could_not_be_written_down() -> None:
    assert judge(seen(turns=[a_turn(0, 0, 105.5, None)])).finals_lost == 0


def test_a_turn_lost_on_the_other_server_counts_too() -> None:
    found = seen(turns=[a_turn(20, 0, 90.0, None)])
    assert judge(found).turns == 0
    assert broken(found) == ["no turn is lost"]


def owed(speaker: int, end_at_s: float, **more: Any) -> TurnRow:
    return a_turn(speaker, 0, end_at_s, 0.2, reply_expected=True, **more)


def test_a_reply_that_was_owed_before_the_deadline_is_a_turn_lost() -> None:
    found = seen(turns=[owed(0, 103.0)])
    assert judge(found).replies_lost == 1
    assert broken(found) == ["no turn is lost"]
    heard = {"response_latency_s": 0.5, "reply_last_audio_at_s": 104.0}
    assert judge(seen(turns=[owed(0, 103.0, **heard)])).replies_lost == 0


def test_at_the_deadline_a_reply_may_be_given_up() -> None:
    late = a_call(30, 80, 131.0, "lost", 1001)
    told = judge(seen(late, turns=[owed(30, 129.0)]))
    assert (told.late, told.cut, told.replies_lost) == (1, 0, 0)


def test_a_turn_that_was_over_before_is_none_of_the_stops() -> None:
    heard = {"response_latency_s": 0.5, "reply_last_audio_at_s": 97.0}
    assert judge(seen(turns=[owed(0, 95.0, **heard)])).turns == 0
    still = {**heard, "reply_last_audio_at_s": 101.0}
    assert judge(seen(turns=[owed(0, 95.0, **still)])).turns == 1


def test_a_session_that_was_cut_is_told() -> None:
    cut = a_call(30, 80, 104.0, "lost", 1006)
    assert broken(seen(cut)) == [CUT]
    assert broken(seen(busy=[0])) == [CUT]


def test_a_session_that_the_other_server_ended_is_told() -> None:
    lost = a_call(30, 80, 104.0, "lost", 1001)
    assert broken(seen(lost, on="two")) == ["no other session is ended by a server"]


def test_a_server_that_takes_sessions_while_it_stops_is_told() -> None:
    there = a_call(30, 103.0, 109.0)
    assert broken(seen(there)) == ["new sessions go to the other server"]


@pytest.mark.parametrize("outcome", ["refused", "failed"])
def test_who_is_turned_away_is_told(outcome: str) -> None:
    found = seen(a_call(30, 100.2, 100.3, outcome))
    assert judge(found).turned_away == 1
    assert broken(found) == ["nobody is turned away"]
    later = seen(a_call(30, 150.0, 150.1, outcome))
    assert judge(later).turned_away == 0
    assert broken(later) == ["nobody is turned away"]


@pytest.mark.parametrize(
    "how", [{"exit_code": None}, {"exit_code": 1}, {"ended_at_s": 100 + DEADLINE_S + 7}]
)
def test_a_server_that_does_not_end_well_is_told(how: dict[str, Any]) -> None:
    changed: dict[str, Any] = {"back_at_s": 140.0, **how}
    stop = replace(STOP, **changed)
    assert "the server ends by itself, in time" in broken(seen(), stop)


def test_a_server_that_gets_nobody_afterwards_is_told() -> None:
    found = seen()
    fewer = replace(found, connections=[row for row in found.connections if row.speaker != 22])
    assert broken(fewer) == ["it comes back and gets sessions again"]


def test_nothing_is_proven_by_a_run_that_could_not_show_it() -> None:
    found = seen()
    told = judge(found)
    assert why_void([told], found, "late frames") == (
        "the load generator did not keep up: late frames"
    )
    unknown = replace(found, places={})
    assert f"got {len(found.connections)} that none" in (why_void([told], unknown, None) or "")
    few = replace(told, sessions=LEAST_SESSIONS - 1)
    assert "10 sessions or more" in (why_void([few], found, None) or "")
    assert "some at each" in (why_void([told, replace(told, sessions=0)], found, None) or "")
    assert why_void([], found, None) is not None


def test_calms_and_ends_of_several_stops() -> None:
    second = replace(STOP, server="two", told_at_s=175.0, ended_at_s=180.0, back_at_s=None)
    assert _begins([STOP, second]) == [0.0, 120.0]
    assert _ends([STOP, second]) == [175.0, float("inf")]
    assert _begins([second, STOP]) == [0.0, 180.0]
    moved = _earlier(second, 50.0)
    assert (moved.told_at_s, moved.ended_at_s, moved.back_at_s) == (125.0, 130.0, None)


@dataclass
class Over:
    """A load test that is over; its clock began at 1000 by ours."""

    folder: Path
    said: str | None = None
    zero_s: float = 1000.0

    def trouble(self) -> str | None:
        return self.said


def test_a_recorded_run_is_judged_by_the_load_tests_clock(tmp_path: Path) -> None:
    found = seen(turns=[a_turn(0, 0, 103.0, 0.2)])
    with RunWriter(tmp_path, a_manifest()) as writer:
        writer.append(*found.connections, *found.turns)
        writer.append(SampleRow(105.0, "generator", CUT_OFF_SPEECH, 0.25))
        writer.append(SampleRow(105.0, "generator", "other_count", 7.0))
    ours = _earlier(STOP, -1000.0)
    places = {
        name: replace(place, at_s=place.at_s + 1000.0) for name, place in found.places.items()
    }
    told = judged(Over(tmp_path), [ours], places)
    assert all(told["checks"].values())
    assert told["void"] is None
    (stop,) = told["stops"]
    assert (stop["sessions"], stop["let_go"], stop["spoken_into_s"]) == (12, 6, (0.25,) * 6)
    assert told["instants"][0]["told_at_s"] == STOP.told_at_s
    places["s0"] = replace(places["s0"], busy=True)
    assert not judged(Over(tmp_path), [ours], places)["checks"][CUT]
    void = judged(Over(tmp_path, f"cannot read {tmp_path}/summary.json"), [ours], places)["void"]
    assert void == "the load generator did not keep up: cannot read (elsewhere)"


def test_the_table_has_a_row_for_each_stop() -> None:
    told = judge(seen())
    header, rule, row = table([told])
    assert header.count("|") == rule.count("|") == row.count("|") == len(COLUMNS) + 1
    assert row.startswith("| one | 12 | 6 | 6 | 0 | 0 | 0 |")
    assert "| 0.4 s | 10.0 s |" in row
    assert "| never |" in table([replace(told, noticed_s=None)])[2]


def test_the_page_says_what_was_kept_and_what_was_not() -> None:
    told = judge(seen())
    found = {
        "stops": [{name: getattr(told, name) for name in Told.__dataclass_fields__}],
        "sessions": 15,
        "turns": 1200,
        "speakers": 12,
        "model": "selftest",
        "asked_again_by_the_proxy": 1,
        "haproxy": "HAProxy version 0",
        "machine": {"cpu": "a processor", "cores": 2},
        "void": None,
        "checks": {"kept": True, "broken": False},
    }
    page = markdown(found)
    assert "| kept | yes |" in page
    assert "| broken | **no** |" in page
    assert "1,200 turns" in page
    assert "Void: too few." in markdown({**found, "void": "too few"})


def test_callers_come_and_go_and_are_answered() -> None:
    scenario = load_scenario(SCENARIO)
    assert scenario.arrivals.kind == "open"
    assert scenario.arrivals.stay_s is not None
    assert scenario.wait_for_reply


# The proxy.

STAT = """# pxname,svname,qcur,scur,stot,wretr,wredis,status,
voice,FRONTEND,,3,9,,,OPEN,
rtvc,one,0,1,4,2,1,UP,
rtvc,two,0,2,5,,,DOWN 1/2,
rtvc,BACKEND,0,3,9,2,1,UP,

"""


def test_what_the_proxy_says_of_its_servers() -> None:
    lines = read_stat(STAT)
    assert list(lines) == ["one", "two"]
    assert (lines["one"].up, lines["one"].retries, lines["one"].redispatches) == (True, 2, 1)
    assert (lines["two"].up, lines["two"].retries) == (False, 0)


def test_the_proxys_patience_fits_the_servers() -> None:
    text = CONFIGURATION.read_text("utf-8")
    patience_s = {
        name: float(s) for name, s in re.findall(r"^    timeout (\S+) (\d+)s$", text, re.M)
    }
    serve = ServeSettings()
    # A ping may be lost, and who does not answer is the server's to close.
    assert patience_s["tunnel"] > 2 * serve.ping_interval_s
    # A busy server answers its check late; one that stops says so at once.
    assert patience_s["check"] > 1
    (interval_ms,) = re.findall(r"check inter (\d+)ms fall 1 rise \d$", text, re.M)
    assert int(interval_ms) < 1000 * serve.shutdown_s / 10


def test_the_configuration_that_ships_is_understood() -> None:
    haproxy = program()
    if haproxy is None:
        pytest.skip("HAProxy is not installed")
    variables = environment(8000, ("127.0.0.1:8001", "127.0.0.1:8002"))
    assert complaint(haproxy, variables) is None
    assert complaint(haproxy, {**variables, "RTVC_ONE": "no address"}) is not None
