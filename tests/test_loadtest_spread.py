"""Who speaks where: every speaker once, evenly, under the number it has in the whole run."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtvc.errors import UsageError
from rtvc.loadtest.plan import MAX_SPEAKERS, Wish, make_spec
from rtvc.loadtest.scale.flags import check_roles
from rtvc.loadtest.scale.gun import StartGun
from rtvc.loadtest.scale.spread import Spread, only, share, shares, who
from rtvc.loadtest.scale.worker import address
from rtvc.loadtest.spec import LoadSpec, load_spec

URL = "ws://127.0.0.1:8000"


def a_spec(speakers: int = 5, parts: int = 1, part: int = 0, folder: Path = Path("x")) -> LoadSpec:
    spec = make_spec(Wish(URL, speakers=speakers), folder / "run", folder)
    return replace(spec, parts=parts, part=part)


@given(speakers=st.integers(1, 300), parts=st.integers(1, 20))
def test_every_speaker_lives_in_exactly_one_part(speakers: int, parts: int) -> None:
    numbers = [list(share(a_spec(speakers, parts), part).numbers) for part in range(parts)]
    assert sorted(number for part in numbers for number in part) == list(range(speakers))
    assert max(map(len, numbers)) - min(map(len, numbers)) <= 1
    # Whoever comes first, by the ramp or an order, comes to all of them.
    first = speakers // 2
    here = [sum(number < first for number in part) for part in numbers]
    assert max(here) - min(here) <= 1


def test_a_share_has_its_own_folder_and_clips(tmp_path: Path) -> None:
    spec = a_spec(5, 2, folder=tmp_path)
    first, second = shares(spec)
    assert (first.run_dir, second.run_dir) == (
        str(tmp_path / "run" / "parts" / "0"),
        str(tmp_path / "run" / "parts" / "1"),
    )
    assert first.clips_file != second.clips_file
    assert first.order_file == second.order_file
    assert first.stop_file == second.stop_file
    second.save(tmp_path / "spec.json")
    assert load_spec(tmp_path / "spec.json") == second
    assert list(second.numbers) == [1, 3]
    assert shares(a_spec(5)) == [a_spec(5)]


def test_clips_of_others_are_left_out() -> None:
    deal = [["a"], ["b", "c"], ["d"]]
    assert only(deal, range(1, 3, 2)) == [[], ["b", "c"], []]


def test_speakers_of_a_part_are_named() -> None:
    assert who(a_spec(5, 2, 1)) == "speakers 1 and 3"
    assert who(a_spec(2, 2, 1)) == "speaker 1"
    assert who(a_spec(900, 3, 0)) == "300 speakers: 0, 3, 6, …"


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (Wish(URL, speakers=MAX_SPEAKERS + 1), "expected 1 to 1000 speakers"),
        (Wish(URL, speakers=2, spread=Spread(processes=3)), "a speaker for each of 3"),
        (Wish(URL, storm_rounds=2, spread=Spread(processes=2)), "one process for a connect storm"),
        (Wish(URL, spread=Spread(processes=2, web_port=8089)), "--web with one process"),
        (Wish(URL, spread=Spread(processes=2, workers=2)), "--processes with each --worker"),
        (Wish(URL, speakers=999, spread=Spread(processes=257)), "1 to 256 generators"),
    ],
)
def test_what_cannot_be_spread_is_said(wish: Wish, expected: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=expected):
        make_spec(wish, tmp_path, tmp_path)


def test_two_processes_may_have_twice_the_speakers(tmp_path: Path) -> None:
    wish = Wish(URL, speakers=2 * MAX_SPEAKERS, spread=Spread(processes=2))
    spec = make_spec(wish, tmp_path, tmp_path)
    assert [len(each.numbers) for each in shares(spec)] == [MAX_SPEAKERS, MAX_SPEAKERS]


@pytest.mark.parametrize(
    ("url", "master", "worker", "join", "expected"),
    [
        (URL, False, True, "box", "without a URL"),
        (None, False, True, None, "--worker with --join"),
        (URL, True, True, None, "without a URL"),
        (URL, False, False, "box", "--join with --worker"),
        (None, True, False, None, "the server's URL"),
    ],
)
def test_roles_that_do_not_go_together(
    url: str | None, master: bool, worker: bool, join: str | None, expected: str
) -> None:
    with pytest.raises(UsageError, match=expected):
        check_roles(url=url, master=master, worker=worker, join=join, processes=1)


@pytest.mark.parametrize("text", ["", "box:", ":5", "box:0", "box:x", "box:70000"])
def test_an_address_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="expected --join HOST:PORT"):
        address(text)


def test_nobody_starts_before_the_shot(tmp_path: Path) -> None:
    gun = StartGun(tmp_path)
    gun.ready(1)
    assert gun.not_ready(3) == [0, 2]
    assert gun.fired_at_s() is None
    gun.fire(12.5)
    assert StartGun(tmp_path).fired_at_s() == 12.5
