"""Scenario files: strict, clear about what is wrong, and the same when written and read again."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.errors import UsageError
from rtvc.slo import parse_objectives
from rtvc.speech.scenario import (
    BUILTIN_SCENARIOS,
    FOLDER,
    Acoustics,
    Arrivals,
    Network,
    Part,
    Scenario,
    SpeechMix,
    load_scenario,
    scenario_from_dict,
    scenario_to_dict,
)

EVERY_KEY = """
about = "all there is"
speakers = 4
duration_s = 90
transcription = true
objectives = ["wer<10%"]

[behaviour]
pause_s = [1, 2.5]
think_s = [0.5, 0.5]
wait_for_reply = false
reply_timeout_s = 12
interruption_probability = 0.25
interrupt_after_s = [0.5, 1.0]
start_within_s = 0
turn_ends_every_s = 8
turn_ends_apart_s = 0.1

[speech]
words = [4, 9]
words_per_minute = [150, 170]
voices = ["en-us", "en+m3"]
monologue_s = [20, 30]
gap_s = [0.1, 0.2]

[arrivals]
kind = "open"
per_minute = 12
stay_s = [20, 60]

[acoustics]
noise = "babble"
snr_db = 10
rt60_s = 0.5

[network]
loss = 0.02
jitter_ms = 20
bandwidth_kbit_s = 800
down_kbit_s = 4000
rtt_ms = 60
"""


def written(fields: dict[str, Any]) -> str:
    """As TOML: what JSON and TOML have in common, with a header for each table."""
    lines = [f"{key} = {json.dumps(v)}" for key, v in fields.items() if not is_table(v)]
    for key, value in fields.items():
        for table in value if key == "mix" else [value]:
            if isinstance(table, dict):
                lines.append(f"[[{key}]]" if key == "mix" else f"[{key}]")
                lines += [f"{k} = {inline(v)}" for k, v in table.items()]
    return "\n".join(lines)


def is_table(value: object) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and bool(value) and isinstance(value[0], dict)
    )


def inline(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {inline(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)


def read(text: str) -> Scenario:
    return scenario_from_dict(tomllib.loads(text), "mine", "mine.toml")


def test_every_key_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(EVERY_KEY, "utf-8")
    found = load_scenario(tmp_path / "mine.toml")
    assert found == Scenario(
        pause_s=(1.0, 2.5),
        think_s=(0.5, 0.5),
        wait_for_reply=False,
        reply_timeout_s=12.0,
        interruption_probability=0.25,
        interrupt_after_s=(0.5, 1.0),
        start_within_s=0.0,
        turn_ends_every_s=8.0,
        turn_ends_apart_s=0.1,
        speech=SpeechMix((4, 9), (150, 170), ("en-us", "en+m3"), (20.0, 30.0), (0.1, 0.2)),
        arrivals=Arrivals("open", None, 12.0, (20.0, 60.0)),
        acoustics=Acoustics("babble", 10.0, 0.5),
        network=Network(0.02, 20.0, 800.0, 60.0, 4000.0),
        name="mine",
        about="all there is",
        speakers=4,
        duration_s=90.0,
        transcription=True,
        objectives=("wer<10%",),
    )


def test_an_empty_file_is_the_usual_conversation() -> None:
    assert scenario_from_dict({}) == Scenario()


@pytest.mark.parametrize("name", BUILTIN_SCENARIOS)
def test_what_is_shipped_survives_its_own_file(name: str, tmp_path: Path) -> None:
    shipped = load_scenario(name)
    path = tmp_path / "copy.toml"
    path.write_text(written(scenario_to_dict(shipped)), "utf-8")
    again = load_scenario(path)
    assert scenario_to_dict(again) == scenario_to_dict(shipped)
    assert shipped.name == name
    assert shipped.about
    assert scenario_from_dict(scenario_to_dict(shipped), name) == shipped
    assert json.loads(json.dumps(scenario_to_dict(shipped))) == scenario_to_dict(shipped)
    assert parse_objectives(shipped.objectives)


def test_all_that_is_shipped_has_a_name() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.toml")) == sorted(BUILTIN_SCENARIOS)


def test_what_the_names_promise() -> None:
    of = load_scenario
    assert of("conversation") == Scenario(about=of("conversation").about, transcription=False)
    assert not of("dictation").wait_for_reply
    assert of("connect-storm").connect_rounds
    assert of("interruptions").interruption_probability == 0.5
    assert of("silence").silent
    assert of("silence").objectives[0] == "hallucinated_finals==0"
    assert of("synchronised-turn-ends").turn_ends_every_s
    two = of("two-at-once")
    assert two.speakers == 2
    assert two.turn_ends_every_s
    assert 0 < two.turn_ends_apart_s < 1
    low_s, high_s = of("long-monologue").speech.monologue_s or (0, 0)
    assert 30 < low_s < high_s <= 60
    assert (of("soak").duration_s or 0) >= 3600
    assert len(of("mixed").kinds) == 5


ranges_s = st.tuples(st.floats(0, 10), st.floats(0, 10)).map(lambda pair: tuple(sorted(pair)))
kinds = st.builds(
    Scenario,
    pause_s=ranges_s,
    think_s=ranges_s,
    wait_for_reply=st.booleans(),
    interruption_probability=st.floats(0, 1),
    turn_ends_every_s=st.none() | st.floats(1, 60),
    speech=st.builds(SpeechMix, monologue_s=st.none() | ranges_s.filter(lambda r: r[0] >= 1)),
    acoustics=st.builds(
        Acoustics,
        noise=st.sampled_from([None, "white", "pink", "babble"]),
        snr_db=st.floats(-20, 80),
        rt60_s=st.none() | st.floats(0.05, 5),
    ),
    network=st.builds(Network, loss=st.floats(0, 0.5), bandwidth_kbit_s=st.none() | st.just(9.5)),
)
arrivals = st.one_of(
    st.builds(Arrivals, ramp_s=st.none() | st.floats(0, 60)),
    st.builds(Arrivals, kind=st.just("open"), stay_s=st.just((1.0, 2.0)), per_minute=st.none()),
)
mixes = st.builds(
    Scenario,
    arrivals=arrivals,
    parts=st.lists(st.builds(Part, st.integers(1, 5), kinds), min_size=1, max_size=3).map(tuple),
)


@settings(deadline=None, max_examples=100)
@given(kinds | mixes)
def test_what_is_written_is_what_is_read(scenario: Scenario) -> None:
    assert scenario_from_dict(tomllib.loads(written(scenario_to_dict(scenario)))) == scenario
    again = scenario_from_dict(scenario_to_dict(scenario))
    assert again == scenario
    assert hash(again) == hash(scenario)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_a_mix_has_its_weights_among_as_many_speakers(weights: list[int]) -> None:
    parts = tuple(Part(weight, Scenario(reply_timeout_s=k)) for k, weight in enumerate(weights))
    mix = Scenario(parts=parts)
    for first in (0, 7 * sum(weights)):
        seen = [mix.of(first + k).reply_timeout_s for k in range(sum(weights))]
        assert [seen.count(k) for k in range(len(weights))] == weights


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[behaviour]\npauze_s = [1, 2]", "behaviour.pauze_s: unknown key; expected pause_s?"),
        ("behavior = 3", "behavior: unknown key; expected behaviour?"),
        ("[behaviour]\npause_s = 3", "behaviour.pause_s: expected two numbers"),
        ("[behaviour]\npause_s = [3, 2]", "behaviour.pause_s: expected two numbers"),
        ("[behaviour]\nsilent = 1", "behaviour.silent: expected true or false, got 1"),
        ("[behaviour]\nreply_timeout_s = true", "expected a number from 0 to 600, got True"),
        ("[behaviour]\nreply_timeout_s = nan", "expected a number from 0 to 600, got nan"),
        ("[behaviour]\nconnect_rounds = 1.5", "expected a whole number from 0 to 1000, got 1.5"),
        ("network = 7", "network: expected a table, got 7"),
        ("[network]\nloss = 0.9", "network.loss: expected a number from 0 to 0.5, got 0.9"),
        ('[acoustics]\nnoise = "brown"', "acoustics.noise: expected one of white, pink, babble"),
        ('[speech]\nvoices = ["Bob"]', "speech.voices: expected a list of names such as en-us"),
        ('[speech]\nvoices = "en-us"', "speech.voices: expected a list of names"),
        ('about = ["a"]', "about: expected text"),
        ('like = "shouting"', "like: expected one of conversation"),
        ("[arrivals]\nper_minute = 3", "arrivals: expected kind = .open."),
        ('[arrivals]\nkind = "open"', "arrivals: expected stay_s"),
        ("[behaviour]\nsilent = true\n[speech]\nmonologue_s = [9, 9]", "expected no monologue_s"),
        ("mix = []", "mix: expected one table"),
        ("[[mix]]\nweight = 0", r"mix\[0\].weight: expected a whole number from 1"),
        ("[[mix]]\nspeakers = 3", r"mix\[0\].speakers: unknown key"),
        ('[[mix]]\nlike = "mixed"', r"mix\[0\].like: expected speakers of one kind"),
        ("[[mix]]\n[mix.network]\nloss = 2", r"mix\[0\].network.loss: expected a number"),
        ("[[mix]]\nbehaviour = { connect_rounds = 1 }", r"mix\[0\].behaviour.connect_rounds"),
        ("[[mix]]\n[network]\nloss = 0.1", "network: expected within .*mix.network"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_key(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"^mine.toml: .*{said}"):
        read(text)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the scenario .*none.toml: No such file"):
        load_scenario(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("pause_s = ", "utf-8")
    with pytest.raises(UsageError, match=r"broken.toml: expected TOML"):
        load_scenario(tmp_path / "broken.toml")
    with pytest.raises(UsageError, match=r"expected a scenario \(conversation, .*FILE.toml"):
        load_scenario("shouting")


def test_a_file_is_like_another_but_for_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "silence.toml"
    path.write_text('like = "silence"\n[acoustics]\nsnr_db = 5', "utf-8")
    found, shipped = load_scenario(path), load_scenario("silence")
    assert found.acoustics == Acoustics("pink", 5.0)
    assert found.silent
    assert found.objectives == shipped.objectives
    assert found.name == "silence.toml", "a file does not pass for what is shipped"


def test_where_nobody_replies_nobody_waits() -> None:
    kinds_of_mixed = load_scenario("mixed").without_replies().kinds
    assert not any(kind.wait_for_reply for kind in kinds_of_mixed)
    assert not load_scenario("steady").without_replies().wait_for_reply
