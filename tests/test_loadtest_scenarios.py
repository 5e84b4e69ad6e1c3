"""From the name of a scenario to what goes over the wire."""

from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest

from rtvc.audio import rms, write_wav
from rtvc.errors import UsageError
from rtvc.loadtest.plan import Wish, make_spec, usual_size
from rtvc.loadtest.speakers.clips import (
    builtin_corpus,
    load_cast,
    load_clips,
    recorded_corpus,
    save_clips,
)
from rtvc.loadtest.spec import LoadSpec, load_spec
from rtvc.loadtest.wire.wires import WIRES
from rtvc.speech.corpus import corpus_hash
from rtvc.speech.monologue import speech_s
from rtvc.speech.scenario import (
    BUILTIN_SCENARIOS,
    Acoustics,
    Network,
    Part,
    Scenario,
    SpeechMix,
    load_scenario,
    scenario_to_dict,
)
from rtvc.transcript import normalise

URL = "ws://127.0.0.1:8000"


def spec_of(folder: Path, **wish: object) -> LoadSpec:
    return make_spec(Wish(URL, **wish), folder, folder)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", BUILTIN_SCENARIOS)
def test_every_shipped_scenario_can_be_run(name: str, tmp_path: Path) -> None:
    speakers, duration_s = usual_size(name)
    spec = spec_of(tmp_path, scenario=name, speakers=speakers, duration_s=duration_s)
    assert spec.scenario == name
    spec.save(tmp_path / "spec.json")
    again = load_spec(tmp_path / "spec.json")
    assert again == spec
    assert again.behaviour == spec.behaviour
    assert (spec.kind == "connect-storm") == (name == "connect-storm")
    assert spec.transcription == (name == "long-monologue")


def test_a_scenario_says_what_the_user_does_not(tmp_path: Path) -> None:
    assert usual_size("two-at-once") == (2, 60.0)
    assert usual_size("soak") == (10, 7200.0)
    assert Wish(URL, scenario="silence").judged_by == (
        "hallucinated_finals==0",
        "hallucinated_partials==0",
        "errors<1%",
    )
    assert Wish(URL, scenario="silence", targets=("errors<5%",)).judged_by == ("errors<5%",)
    monologue = spec_of(tmp_path, scenario="long-monologue")
    assert "intent=transcription" in monologue.url
    assert spec_of(tmp_path, scenario="connect-storm", storm_rounds=7).rounds == 7
    assert spec_of(tmp_path, scenario="connect-storm").rounds == 1


@pytest.mark.parametrize("name", ["steady", "two-at-once", "synchronised-turn-ends", "soak"])
def test_where_nobody_replies_a_scenario_runs_on(name: str, tmp_path: Path) -> None:
    assert not spec_of(tmp_path, scenario=name, transcription=True).behaviour.wait_for_reply
    assert spec_of(tmp_path, scenario=name).behaviour.wait_for_reply


@pytest.mark.parametrize("name", ["conversation", "interruptions", "mixed"])
def test_what_needs_replies_is_refused_where_nobody_replies(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"'{name}' waits for replies; use dictation"):
        spec_of(tmp_path, scenario=name, transcription=True)


def test_a_file_reaches_the_generator_whole(tmp_path: Path) -> None:
    path = tmp_path / "bad-line.toml"
    path.write_text('like = "steady"\n[network]\nloss = 0.03', "utf-8")
    spec = spec_of(tmp_path, scenario=str(path))
    path.unlink()
    assert spec.scenario == "bad-line"
    assert spec.behaviour.network == Network(loss=0.03)
    assert spec.behaviour.think_s == load_scenario("steady").think_s


def test_a_file_can_storm(tmp_path: Path) -> None:
    path = tmp_path / "rush.toml"
    path.write_text("[behaviour]\nconnect_rounds = 6", "utf-8")
    spec = spec_of(tmp_path, scenario=str(path), speakers=3)
    assert (spec.kind, spec.rounds, spec.scenario) == ("connect-storm", 6, "connect-storm")
    assert spec.behaviour.connect_rounds == 6


OPEN = '[arrivals]\nkind = "open"\nstay_s = [20, 40]\n'


def test_callers_who_come_and_go_are_counted_before(tmp_path: Path) -> None:
    path = tmp_path / "calls.toml"
    path.write_text(OPEN, "utf-8")
    spec = spec_of(tmp_path, scenario=str(path), speakers=6, duration_s=200.0)
    assert spec.arrivals_per_minute == pytest.approx(12.0)
    assert spec.warm_up_s == 40.0
    assert 48 * 0.5 < spec.speakers < 48 * 1.5, "12 a minute for 240 s"
    with pytest.raises(UsageError, match="callers in a run, got more: 12 a minute"):
        spec_of(tmp_path, scenario=str(path), speakers=6, duration_s=86_400.0)
    with pytest.raises(UsageError, match="who stay for a search"):
        spec_of(tmp_path, scenario=str(path), find_capacity=True)


def test_a_search_needs_speech(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nobody speaks"):
        spec_of(tmp_path, scenario="silence", find_capacity=True)


def test_the_usual_corpus_is_what_it_was() -> None:
    """Runs of older versions can be compared with: clips and their hash are the same."""
    corpus = builtin_corpus(speakers=2, run_s=8, seed=1)
    assert [len(clips) for clips in corpus.deal] == [3, 3]
    assert corpus.digest == corpus_hash(
        clip for pair in zip(*corpus.deal, strict=True) for clip in pair
    )


def test_monologues_are_spoken_in_one_voice_and_shared_with_nobody() -> None:
    scenario = Scenario(speech=SpeechMix(monologue_s=(8.0, 12.0)))
    deal = builtin_corpus(2, 5.0, seed=4, scenario=scenario).deal
    assert all(len(clips) >= 1 for clips in deal)
    assert all(8.0 <= speech_s(clip) <= 15.0 for clip in chain(*deal)), "to within a sentence"
    assert len({clip.voice for clip in deal[0]}) == 1
    words = deal[0][0].words
    assert words is not None
    assert words[-1].end_s == pytest.approx(deal[0][0].speech_end_s, abs=0.05)
    assert all(before.end_s <= after.end_s for before, after in pairwise(words))
    said = [set(sentences(clips)) for clips in deal]
    assert not said[0] & said[1]


def sentences(clips: list) -> list[str]:  # type: ignore[type-arg]
    return [part.strip() for clip in clips for part in clip.text.split(".") if part.strip()]


MIX = Scenario(
    parts=(
        Part(2, Scenario()),
        Part(1, Scenario(silent=True, acoustics=Acoustics("pink", 30.0))),
        Part(1, Scenario(speech=SpeechMix(monologue_s=(6.0, 8.0)))),
        Part(1, Scenario(speech=SpeechMix(words=(3, 5)), acoustics=Acoustics("babble", 12.0))),
    )
)


def test_in_a_mix_everybody_says_their_own() -> None:
    corpus = builtin_corpus(10, 12.0, seed=2, scenario=MIX)
    silent = [number for number in range(10) if MIX.of(number).silent]
    assert len(silent) == 2
    assert [number for number in range(10) if not corpus.deal[number]] == silent
    texts = [{normalise(clip.text) for clip in clips} for clips in corpus.deal]
    assert sum(map(len, texts)) == len(set().union(*texts)), "no text twice"
    background = {normalise(clip.text) for clip in corpus.talk}
    assert background
    assert not background & set().union(*texts), "babble is nobody's text"
    short = next(n for n in range(10) if MIX.of(n).speech.words == (3, 5))
    assert all(3 <= len(text.split()) <= 9 for text in texts[short])


def saved(spec: LoadSpec, speakers: int, scenario: Scenario) -> list[list[bytes]]:
    """Frames of each speaker's first seconds, as read back from the file."""
    corpus = builtin_corpus(speakers, 4.0, spec.seed, scenario)
    save_clips(spec.clips_file, corpus.deal, spec, corpus.talk)
    cast = load_cast(spec)
    microphones = [cast.microphone(number) for number in range(speakers)]
    for microphone in microphones:
        microphone.begin(0.0)
    return [[microphone.frame(k) for k in range(400)] for microphone in microphones]


def level_dbfs(frames: list[bytes]) -> float:
    samples = np.frombuffer(b"".join(frames), "<i2").astype(np.float32) / 32768
    return float(20 * np.log10(max(rms(samples), 1e-9)))


def test_noise_goes_on_while_nobody_speaks(tmp_path: Path) -> None:
    noisy = Scenario(
        speech=SpeechMix(words=(3, 5)), acoustics=Acoustics("white", 20.0), start_within_s=0.0
    )
    spec = replace(spec_of(tmp_path, speakers=2), scenario_fields=scenario_to_dict(noisy))
    frames = saved(spec, 2, noisy)
    for mine in frames:
        assert bytes(len(mine[0])) not in mine, "no hole in the noise"
        assert level_dbfs(mine[-50:]) == pytest.approx(-46.0, abs=0.5)
    assert frames[0][-1] != frames[1][-1]
    assert frames == saved(spec, 2, noisy), "the same seed, the same sound"
    assert frames != saved(replace(spec, seed=1), 2, noisy)


def test_in_silence_only_the_room_is_heard(tmp_path: Path) -> None:
    scenario = load_scenario("silence")
    spec = spec_of(tmp_path, scenario="silence", speakers=2)
    frames = saved(spec, 2, scenario)
    assert load_clips(spec.clips_file) == [[], []]
    assert level_dbfs(frames[0]) == pytest.approx(-26.0 - scenario.acoustics.snr_db, abs=0.5)
    assert load_cast(spec).microphone(0).utterances == ()


def test_two_at_once_overlap_and_end_apart(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, scenario="two-at-once", speakers=2, duration_s=20.0)
    corpus = builtin_corpus(2, 20.0, 0, spec.behaviour)
    save_clips(spec.clips_file, corpus.deal, spec, corpus.talk)
    cast = load_cast(spec)
    pair = [cast.microphone(number) for number in range(2)]
    for microphone, came_at_s in zip(pair, (0.0, 0.213), strict=True):
        microphone.begin(came_at_s)
        for index in range(900):
            microphone.frame(index)
    first, second = (microphone.utterances[0] for microphone in pair)
    end_s = second.speech_end_s + 0.213
    assert end_s - first.speech_end_s == pytest.approx(0.1, abs=spec.frame_s)
    assert second.speech_start_s + 0.213 < first.speech_end_s, "both speak at once"


@pytest.mark.parametrize("protocol", sorted(WIRES))
def test_clips_are_made_for_the_wire_they_go_over(protocol: str, tmp_path: Path) -> None:
    wire = WIRES[protocol]
    spec = replace(
        spec_of(tmp_path, speakers=1), protocol=protocol, frame_s=wire.frames_ms[0] / 1000
    )
    corpus = builtin_corpus(1, 4.0, seed=0)
    save_clips(spec.clips_file, corpus.deal, spec)
    (clips,) = load_clips(spec.clips_file)
    assert {clip.rate_hz for clip in clips} == {wire.rate_hz}
    longest = max(clips, key=lambda clip: len(clip.pcm16))
    assert len(longest.pcm16) / wire.rate_hz == pytest.approx(
        max(clip.duration_s for clip in corpus.deal[0]), abs=0.001
    )
    cast = load_cast(spec)
    frame = cast.microphone(0).frame(0)
    assert len(frame) == 2 * round(wire.rate_hz * wire.frames_ms[0] / 1000)
    assert (cast.frames is None) == (wire.append is None)


def test_recordings_can_be_joined_and_the_silent_need_none(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.2, 16_000).astype(np.float32)
    for name in "abcd":
        write_wav(tmp_path / f"{name}.wav", noise, 16_000)
        (tmp_path / f"{name}.txt").write_text(f"this is {name}", "utf-8")
    scenario = Scenario(
        parts=(
            Part(1, Scenario(speech=SpeechMix(monologue_s=(1.5, 3.0)))),
            Part(1, Scenario(silent=True)),
            Part(1, Scenario()),
        )
    )
    deal = recorded_corpus(tmp_path, 3, scenario).deal
    assert [len(clips) for clips in deal] == [1, 0, 2]
    assert deal[0][0].text == "this is a this is c"
    assert deal[0][0].words is None
