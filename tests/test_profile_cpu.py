"""CPU time by pipeline stage: attribution on written stacks, and the pictures of it."""

import io
import json
import sys
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from rtvc.profile.cpu.command import doubts, show
from rtvc.profile.cpu.flamegraph import COLOURS, flamegraph, speedscope
from rtvc.profile.cpu.py_spy import (
    Recording,
)
from rtvc.profile.cpu.rules import FALLBACKS, NATIVE, RULES, Frame, Stage, stage_of
from rtvc.profile.cpu.sampling import (
    CpuProfile,
    CpuUse,
    Sampling,
    Stack,
    as_json,
    attribute,
    collapsed,
    headline,
    hottest,
    is_idle,
    parse_collapsed,
)

BOOT = "Thread._bootstrap (threading.py:1002);Thread.run (threading.py:982)"
LOOP = "<module> (main.py:3);Runner.run (asyncio/runners.py:1);_run_once (asyncio/base_events.py:9)"


def frames(calls: str) -> tuple[Frame, ...]:
    [stack] = parse_collapsed(f"thread (1): main;{calls} 1", 1)
    return stack.frames


# What py-spy writes


def test_stacks_are_read_with_their_process_thread_and_lines() -> None:
    text = (
        'process 10:"python a.py";thread (11): MainThread;f (a.py:1);g (b/c.py:22) 3\n'
        'process 10:"python a.py";process 12:"python -c pass";thread (13);<lambda> (a.py:7) 1\n'
    )
    first, second = parse_collapsed(text, 99)
    assert first == Stack(
        10, "11", "MainThread", (Frame("f", "a.py", 1), Frame("g", "b/c.py", 22)), 3
    )
    assert (second.pid, second.thread, second.thread_name) == (12, "13", "")
    assert second.frames == (Frame("<lambda>", "a.py", 7),)


def test_command_lines_with_semicolons_and_line_breaks_do_not_break_a_stack() -> None:
    text = (
        'process 10:"python -c import x; x.run() 5\nprint(1); y (z.py:1) 2";thread (11): m;'
        "f (a.py:1) 3\n"
        'process 10:"python -c import x; x.run() 5\nprint(1); y (z.py:1) 2";thread (11): m;'
        "g (a.py:2) 4\n"
    )
    stacks = parse_collapsed(text, 1)
    assert [(stack.pid, stack.frames[0].function, stack.count) for stack in stacks] == [
        (10, "f", 3),
        (10, "g", 4),
    ]


def test_native_and_empty_stacks_are_kept_and_nonsense_is_dropped() -> None:
    text = "thread (1): a;start_thread (libc.so.6);std::function<void (int)>::run (x.cc:4) 2\n"
    native, empty = parse_collapsed(text + "thread (2): pool 7\n", 5)
    assert native.pid == 5
    assert native.frames[0] == Frame("start_thread", "libc.so.6", None)
    assert native.frames[1] == Frame("std::function<void (int)>::run", "x.cc", 4)
    assert (empty.frames, empty.count) == ((), 7)
    assert parse_collapsed("", 5) == parse_collapsed("hello\nthread (3): x no", 5) == []


def test_what_is_kept_of_a_recording_holds_no_command_line() -> None:
    text = 'process 10:"serve --key secret";thread (11): main;f (a.py:1) 3\n'
    kept = collapsed(parse_collapsed(text, 10), {10: "serve"})
    assert kept == "10 serve;thread 11 main;f (a.py:1) 3\n"


# Attribution

PLACES = [
    # rtvc
    (f"{BOOT};_hear_all (rtvc/server/hearing.py:92);Ear._judge (rtvc/server/ear.py:120);"
     "SileroVad.probabilities (rtvc/voice/silero.py:60);"
     "InferenceSession.run (onnxruntime/capi/onnxruntime_inference_collection.py:5)", Stage.VAD),
    (f"{BOOT};Child._take_work (rtvc/stt/child.py:88);WhisperTranscriber.transcribe "
     "(rtvc/stt/whisper.py:158);WhisperTranscriber._features (rtvc/stt/whisper.py:237);"
     "WhisperTranscriber._features.<locals>.<listcomp> (rtvc/stt/whisper.py:237);"
     "FeatureExtractor.stft (faster_whisper/feature_extractor.py:119);pad "
     "(numpy/lib/_arraypad_impl.py:792)", Stage.FEATURES),
    (f"{BOOT};WhisperTranscriber._features.<locals>.<listcomp> (rtvc/stt/whisper.py:237)",
     Stage.FEATURES),
    (f"{BOOT};WhisperTranscriber._decode (rtvc/stt/whisper.py:264)", Stage.INFERENCE),
    (f"{BOOT};Ear.hear (rtvc/server/ear.py:102);Resampler._take (rtvc/audio.py:216);as_strided "
     "(numpy/lib/_stride_tricks_impl.py:95)", Stage.AUDIO),
    (f"{BOOT};Child._send (rtvc/stt/child.py:92);dumps (multiprocessing/reduction.py:51)",
     Stage.MESSAGES),
    (f"{BOOT};SmartTurn.completeness (rtvc/voice/turn_model.py:66);run "
     "(onnxruntime/capi/x.py:1)", Stage.TURN),
    (f"{LOOP};Listener._handle (rtvc/server/sessions/listener.py:172)", Stage.OTHER),
    (f"{LOOP};RealtimeConnection._read (rtvc/server/sessions/connection.py:168);WebSocket.receive "
     "(starlette/websockets.py:53)", Stage.WEBSOCKET),
    (f"{LOOP};OpenAiLanguageModel.stream (rtvc/server/replies/llm.py:84)", Stage.LLM),
    (f"{BOOT};Synthesizer.say (rtvc/speech/synthesis.py:215)", Stage.TTS),
    # RealtimeSTT and RealtimeVoiceChat
    (f"{BOOT};_recording_worker (RealtimeSTT/audio_recorder.py:9);_is_silero_speech "
     "(RealtimeSTT/audio_recorder.py:5);_call_impl (torch/nn/modules/module.py:1)", Stage.VAD),
    (f"{BOOT};AudioToTextRecorder._is_webrtc_speech (RealtimeSTT/audio_recorder.py:5)", Stage.VAD),
    (f"{BOOT};run (RealtimeSTT/audio_recorder.py:9);transcribe (faster_whisper/transcribe.py:7)",
     Stage.INFERENCE),
    (f"{BOOT};_realtime_worker (RealtimeSTT/audio_recorder.py:9)", Stage.OTHER),
    (f"{BOOT};TurnDetection._text_worker (turndetect.py:4);get_completion_probability "
     "(turndetect.py:8);forward (transformers/models/distilbert/modeling_distilbert.py:3);linear "
     "(torch/nn/functional.py:1)", Stage.TURN),
    (f"{LOOP};process_chunk_queue (audio_in.py:8);resample_poly (scipy/signal/_signaltools.py:3)",
     Stage.AUDIO),
    (f"{BOOT};_llm_inference_worker (speech_pipeline_manager.py:3);generate (llm_module.py:9);"
     "__stream__ (openai/_streaming.py:4);loads (json/__init__.py:3)", Stage.MESSAGES),
    (f"{BOOT};_llm_inference_worker (speech_pipeline_manager.py:3);__stream__ "
     "(openai/_streaming.py:4)", Stage.LLM),
    (f"{BOOT};synthesize (audio_module.py:3);play (RealtimeTTS/text_to_stream.py:4);forward "
     "(torch/nn/modules/module.py:1)", Stage.TTS),
    (f"{LOOP};send_tts_chunks (server.py:4)", Stage.WEBSOCKET),
    (f"{BOOT};TranscriptionProcessor._start_silence_monitor.<locals>.monitor (transcribe.py:4)",
     Stage.OTHER),
    # WhisperLive
    (f"{BOOT};recv_audio (whisper_live/server.py:3);__call__ (whisper_live/vad.py:3)", Stage.VAD),
    (f"{BOOT};speech_to_text (whisper_live/backend/base.py:4);transcribe_audio "
     "(whisper_live/backend/faster_whisper_backend.py:3)", Stage.INFERENCE),
    (f"{BOOT};recv_audio (whisper_live/server.py:3);recv (websockets/sync/connection.py:4);loads "
     "(threading.py:3)", Stage.WEBSOCKET),
    # Anybody's
    (f"{BOOT};mine (app.py:3);forward (torch/nn/modules/module.py:1)", Stage.INFERENCE),
    (f"{BOOT};load (app.py:3);log_mel_spectrogram (whisper/audio.py:9)", Stage.FEATURES),
    (f"{BOOT};mine (app.py:3);resample (soxr/__init__.py:3)", Stage.AUDIO),
    (f"{BOOT};mine (app.py:3);model_validate (pydantic/main.py:3)", Stage.MESSAGES),
    (LOOP, Stage.EVENT_LOOP),
    (f"{LOOP};put_nowait (asyncio/queues.py:3);append (collections/__init__.py:3)",
     Stage.EVENT_LOOP),
    (f"{LOOP};handle (app.py:3);sum (numpy/_core/x.py:3)", Stage.OTHER),
    ("<module> (app.py:3);_find_and_load (<frozen importlib._bootstrap>:3);<module> "
     "(transformers/__init__.py:5)", Stage.UPKEEP),
    (f"{BOOT};mine (app.py:3);ctranslate2::models::Model::run (libctranslate2-1.so)",
     Stage.INFERENCE),
    ("<module> (app.py:3)", Stage.OTHER),
]  # fmt: skip


@pytest.mark.parametrize(("calls", "stage"), PLACES)
def test_a_stack_belongs_to_the_stage_of_its_innermost_known_call(calls: str, stage: Stage) -> None:
    assert stage_of(frames(calls)) is stage


def test_every_stage_has_a_rule_and_a_colour() -> None:
    named = {stage for stage, _, _ in RULES} | {stage for stage, _ in FALLBACKS}
    assert named == set(Stage) - {Stage.IDLE}
    assert set(COLOURS) == set(Stage)


def test_no_frames_and_unknown_frames_are_other() -> None:
    assert stage_of(()) is Stage.OTHER
    assert stage_of([Frame("f", "")]) is Stage.OTHER


def test_a_wait_is_idle_and_some_calls_wait_only_when_the_thread_does_not_run() -> None:
    lock = frames(f"{BOOT};transcribe (faster_whisper/transcribe.py:7);Condition.wait "
                  "(threading.py:3)")  # fmt: skip
    pipe = frames(f"{BOOT};Connection.recv (multiprocessing/connection.py:3)")
    pool = frames(f"{BOOT};_worker (concurrent/futures/thread.py:83)")
    inbox = frames(f"{BOOT};Assembler.get (websockets/sync/messages.py:185);"
                   "Assembler.get_next_frame (websockets/sync/messages.py:130)")  # fmt: skip
    assert stage_of(lock) is stage_of(pool) is stage_of(inbox) is Stage.IDLE
    assert stage_of(pipe, running=True) is Stage.MESSAGES
    assert stage_of(pipe, running=False) is Stage.IDLE


# Putting samples and CPU time together

FEATURES = f"{BOOT};stft (faster_whisper/feature_extractor.py:1)"
DECODE = f"{BOOT};WhisperTranscriber._decode (rtvc/stt/whisper.py:264)"
SILERO = f"{BOOT};probabilities (rtvc/voice/silero.py:60)"
WAIT = f"{BOOT};Condition.wait (threading.py:3)"
MINE = f"{BOOT};mine (app.py:3)"


def sampling(*seen: tuple[int, str, str, int], rate_hz: float = 10.0) -> Sampling:
    """Of 10 s; each: process, thread, calls, samples."""
    stacks = [Stack(pid, thread, "", frames(calls), count) for pid, thread, calls, count in seen]
    return Sampling(stacks, rate_hz, 10.0)


def test_cpu_time_of_native_threads_goes_to_the_stage_that_waited_for_them() -> None:
    running = sampling((1, "7", FEATURES, 20), (1, "8", SILERO, 5))
    present = sampling(
        (1, "7", FEATURES, 10), (1, "7", DECODE, 40), (1, "8", SILERO, 3), (1, "8", WAIT, 47),
        rate_hz=5.0,
    )  # fmt: skip
    profile = attribute(
        running, present, {1: CpuUse("serve", 18.0, {"7": 2.0, "8": 0.5, "90": 15.5})}, 10.0
    )
    stages = profile.stages
    assert stages[Stage.FEATURES].cpu_s == pytest.approx(2.0)
    assert stages[Stage.VAD].cpu_s == pytest.approx(0.5)
    assert stages[Stage.INFERENCE].native_s == stages[Stage.INFERENCE].cpu_s == pytest.approx(15.5)
    assert stages[Stage.INFERENCE].threads == pytest.approx(0.8)
    assert headline(profile) == "inference takes 86 % of the CPU time"


def test_a_thread_that_computes_with_its_library_gets_the_time_of_the_librarys_threads() -> None:
    running = sampling((1, "7", SILERO, 90), (1, "7", MINE, 10))
    present = sampling((1, "7", SILERO, 45), (1, "7", MINE, 5), rate_hz=5.0)
    used = {1: CpuUse("x", 20.0, {"7": 10.0, "9": 10.0})}
    stages = attribute(running, present, used, 10.0).stages
    assert stages[Stage.VAD].cpu_s == pytest.approx(19.0)
    assert stages[Stage.OTHER].native_s == 0


def test_each_threads_cpu_time_goes_by_where_that_thread_ran() -> None:
    """A sampler that takes a waiting thread for a running one does not mislead."""
    running = sampling((1, "7", DECODE, 100), (1, "8", SILERO, 10))
    used = {1: CpuUse("x", 2.0, {"7": 0.0, "8": 2.0})}
    stages = attribute(running, None, used, 10.0).stages
    assert stages[Stage.VAD].cpu_s == pytest.approx(2.0)
    assert stages[Stage.INFERENCE].cpu_s == 0


def test_without_counted_cpu_time_samples_stand_for_it() -> None:
    running = sampling((1, "7", FEATURES, 30), (1, "7", WAIT, 50), (2, "9", DECODE, 60))
    profile = attribute(running, None, {}, 10.0)
    assert profile.cpu_s == pytest.approx(9.0)
    assert profile.samples == 90
    assert [process.pid for process in profile.processes] == [2, 1]
    assert profile.share(Stage.FEATURES) == pytest.approx(1 / 3)
    assert profile.stages[Stage.IDLE].cpu_s == 0


def test_threads_that_cannot_be_matched_share_by_all_samples() -> None:
    running = sampling((1, "0x7F01", FEATURES, 30), (1, "0x7F02", DECODE, 10))
    stages = attribute(running, None, {1: CpuUse("x", 8.0, {"7": 8.0})}, 10.0).stages
    assert stages[Stage.FEATURES].cpu_s == pytest.approx(6.0)


def test_a_process_that_was_never_sampled_keeps_its_cpu_time_as_other() -> None:
    profile = attribute(sampling(), None, {3: CpuUse("ffmpeg", 4.0, {"3": 4.0})}, 10.0)
    assert profile.stages[Stage.OTHER].cpu_s == pytest.approx(4.0)
    assert profile.processes[0].name == "ffmpeg"


def test_holders_of_the_lock_are_counted_by_samples_alone() -> None:
    running = sampling((1, "7", FEATURES, 30))
    profile = attribute(running, None, {1: CpuUse("x", 99.0, {"7": 99.0})}, 10.0, gil_only=True)
    assert profile.cpu_s == pytest.approx(3.0)
    assert headline(profile) == "features takes 100 % of the time the interpreter's lock was held"


def test_unknown_code_is_named_in_the_headline() -> None:
    profile = attribute(sampling((1, "7", MINE, 30), (1, "7", FEATURES, 10)), None, {}, 10.0)
    assert headline(profile) == (
        "code of no known stage takes 75 % of the CPU time, first of all mine (app.py)"
    )
    assert profile.hottest[0].samples == 30


def test_nothing_ran() -> None:
    profile = attribute(sampling((1, "7", WAIT, 90)), None, {1: CpuUse("x", 0.0)}, 10.0)
    assert headline(profile).startswith("idle: 0.00 s of CPU time in 10 s is too little to judge")
    assert profile.share(Stage.VAD) is None
    json.dumps(as_json(profile))


def printed(profile: CpuProfile) -> str:
    console = Console(file=io.StringIO(), width=120)
    show(console, profile, [])
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_an_idle_server_is_not_judged() -> None:
    profile = attribute(sampling(), None, {1: CpuUse("rtvc serve", 0.01, {"1": 0.01})}, 10.0)
    assert is_idle(profile)
    told = printed(profile)
    assert "idle: 0.01 s of CPU time in 10 s" in told
    assert "no known stage" not in told
    assert "other" not in told
    assert as_json(profile)["idle"] is True


def test_a_server_that_works_little_is_judged_and_one_that_computes_natively_too() -> None:
    little = attribute(sampling((1, "7", FEATURES, 5)), None, {1: CpuUse("x", 0.5)}, 10.0)
    native = attribute(
        sampling(), sampling((1, "7", DECODE, 40), rate_hz=5.0), {1: CpuUse("x", 9.0)}, 10.0
    )
    assert not is_idle(little)
    assert not is_idle(native)
    assert "features takes 100 %" in printed(little)


def test_bookkeeping_of_a_server_that_tells_its_metrics_has_a_stage() -> None:
    scraped = frames(f"{LOOP};metrics (rtvc/server/web/app.py:9);ppid_map (psutil/_pslinux.py:4)")
    own = frames(f"{LOOP};Scrape._fill (rtvc/server/web/scrape.py:40)")
    memory = frames(f"{LOOP};resident_bytes (rtvc/stt/process.py:120)")
    assert stage_of(scraped) is stage_of(own) is stage_of(memory) is Stage.METRICS


def test_what_was_hot_is_named_by_a_call_that_says_something() -> None:
    runner = "<module> (main.py:3);Runner.run (asyncio/runners.py:118)"
    work = f"{BOOT};mine (app.py:3);namedtuple (collections/__init__.py:7)"
    known = f"{BOOT};mine (app.py:3);loads (json/__init__.py:7)"
    seen = sampling((1, "7", runner, 60), (1, "8", work, 30), (1, "9", known, 10)).stacks
    named = [(call.frame.function, call.frame.file, call.stage) for call in hottest(seen)]
    assert named == [
        (NATIVE, "called by Runner.run in asyncio/runners.py", Stage.EVENT_LOOP),
        ("mine", "app.py", Stage.OTHER),
        ("loads", "json/__init__.py", Stage.MESSAGES),
    ]


CALLS = st.sampled_from([FEATURES, DECODE, SILERO, WAIT, MINE])
SEEN = st.lists(
    st.tuples(st.sampled_from([1, 2]), st.sampled_from(["7", "8"]), CALLS, st.integers(1, 50)),
    max_size=8,
)
SECONDS = st.floats(0, 100)


@given(SEEN, SEEN, SECONDS, SECONDS, SECONDS)
@settings(deadline=None, max_examples=60)
def test_no_cpu_time_is_lost_or_made(
    ran: list[tuple[int, str, str, int]],
    there: list[tuple[int, str, str, int]],
    first_s: float,
    second_s: float,
    native_s: float,
) -> None:
    whole_s = first_s + second_s + native_s
    threads = {"7": first_s, "8": second_s, "9": native_s}
    used = {pid: CpuUse("x", whole_s, threads) for pid in (1, 2)}
    profile = attribute(sampling(*ran), sampling(*there, rate_hz=5.0), used, 10.0)
    assert profile.cpu_s == pytest.approx(2 * whole_s)
    assert sum(time.cpu_s for time in profile.stages.values()) == pytest.approx(2 * whole_s)
    assert all(time.cpu_s >= time.native_s >= 0 for time in profile.stages.values())


# Pictures


def test_the_flamegraph_is_a_picture_without_script_in_which_widths_are_samples() -> None:
    stacks = sampling((1, "7", FEATURES, 30), (1, "7", MINE, 10)).stacks
    drawn = flamegraph(stacks, {1: "a<b>&c"}, "who & what")
    picture = ElementTree.fromstring(drawn)
    assert "script" not in drawn
    boxes = {
        title.text.split("\n")[0]: box.attrib
        for box in picture.iter("{http://www.w3.org/2000/svg}rect")
        for title in box
        if title.text
    }
    assert boxes["all"]["fill"] == COLOURS[Stage.FEATURES]
    assert float(boxes["1 a<b>&c"]["width"]) == 1200
    assert float(boxes["stft (faster_whisper/feature_extractor.py)"]["width"]) == 900
    assert float(boxes["mine (app.py)"]["width"]) == 300
    assert float(boxes["mine (app.py)"]["x"]) == 900


def test_a_flamegraph_of_nothing_and_one_deeper_than_pythons_own_stack() -> None:
    ElementTree.fromstring(flamegraph([], {}, "nothing ran"))
    deep = tuple(Frame(f"f{number}", "a.py") for number in range(3 * sys.getrecursionlimit()))
    drawn = flamegraph([Stack(1, "7", "", deep, 4)], {}, "deep")
    assert drawn.count("<rect") >= len(deep)


def test_speedscopes_file_has_a_profile_a_thread_and_seconds_as_weights() -> None:
    stacks = sampling((1, "7", FEATURES, 30), (1, "7", MINE, 10), (1, "8", SILERO, 5)).stacks
    made = speedscope(stacks, {1: "serve"}, "title", rate_hz=10)
    assert made["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    first, second = made["profiles"]
    assert (first["type"], first["unit"], first["startValue"]) == ("sampled", "seconds", 0)
    assert first["endValue"] == pytest.approx(4.0) == sum(first["weights"])
    assert second["weights"] == [0.5]
    assert second["name"] == "1 serve: 8"
    known = made["shared"]["frames"]
    named = [[known[number]["name"] for number in sample] for sample in first["samples"]]
    assert [sample[-1] for sample in named] == ["stft", "mine"]
    assert known[first["samples"][1][-1]] == {"name": "mine", "file": "app.py", "line": 3}


def test_doubts_are_told() -> None:
    profile = attribute(sampling((1, "7", MINE, 20)), None, {}, 10.0)
    recording = Recording(sampling(), None, 10.0, {}, behind_s=2.0, errors=9, cut=True)
    told = " / ".join(doubts(recording, profile))
    for part in ("2.0 s behind", "incomplete", "9 samples could not", "only 20 samples", "waiting"):
        assert part in told
    sure = Recording(sampling(), sampling(), 10.0, {}, behind_s=None, errors=0, cut=False)
    assert doubts(sure, CpuProfile(10.0, (), ())) == []
