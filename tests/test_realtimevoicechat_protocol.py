"""RealtimeVoiceChat's wire, and the search for the sample rate its page never states."""

import json
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.errors import ProtocolError
from rtvc.protocol.realtimevoicechat import (
    KNOWN_RATES_HZ,
    PACKET_SAMPLES,
    AudioPacket,
    ClearHistory,
    ClientMessage,
    SampleRateFinder,
    ServerMessage,
    SetSpeed,
    TtsStart,
    TtsStop,
    decode_packet,
    encode_client_message,
    encode_packet,
    encode_server_message,
    parse_client_message,
    parse_server_message,
    tts_chunk,
)


def test_a_packet_is_read_byte_by_byte_as_the_page_writes_it() -> None:
    packet = bytes.fromhex("0102030400000001") + b"\x34\x12\xff\xff"
    assert decode_packet(packet) == AudioPacket(0x01020304, True, b"\x34\x12\xff\xff")
    assert decode_packet(packet).samples == 2
    assert not decode_packet(bytes.fromhex("01020304fffffffe")).playing


@given(st.integers(0, 2**40), st.booleans(), st.binary(max_size=64).map(lambda b: b * 2))
def test_packets_come_back_with_the_low_bits_of_the_clock(
    timestamp_ms: int, playing: bool, pcm: bytes
) -> None:
    packet = AudioPacket(timestamp_ms, playing, pcm)
    back = decode_packet(encode_packet(packet))
    assert back == AudioPacket(timestamp_ms % 2**32, playing, pcm)


def test_a_full_packet_is_4104_bytes() -> None:
    assert len(encode_packet(AudioPacket(0, False, bytes(2 * PACKET_SAMPLES)))) == 4104


@pytest.mark.parametrize("packet", [b"", bytes(7), bytes(9), bytes(1024 * 1024 + 2)])
def test_packets_that_cannot_be_audio_are_refused(packet: bytes) -> None:
    with pytest.raises(ProtocolError, match=f"expected .* got {len(packet)}"):
        decode_packet(packet)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"tts_start"}', TtsStart()),
        ('{"type":"tts_stop"}', TtsStop()),
        ('{"type":"clear_history"}', ClearHistory()),
        ('{"type":"set_speed","speed":40}', SetSpeed(40)),
        ('{"type":"set_speed","speed":39.6}', SetSpeed(40)),
        ('{"type":"set_speed","speed":1e300}', SetSpeed(100)),
        ('{"type":"set_speed","speed":-3}', SetSpeed(0)),
        ('{"type":"hello"}', None),
        ('{"type":["tts_stop"]}', None),
        ("{}", None),
    ],
)
def test_what_the_page_says(text: str, message: ClientMessage | None) -> None:
    assert parse_client_message(text) == message


@pytest.mark.parametrize("message", [TtsStart(), TtsStop(), ClearHistory(), SetSpeed(7)])
def test_what_the_page_would_say_comes_back(message: ClientMessage) -> None:
    assert parse_client_message(encode_client_message(message)) == message


@pytest.mark.parametrize(
    "text",
    [
        "tts_stop",
        "[]",
        '{"type":"set_speed","speed":"fast"}',
        '{"type":"set_speed","speed":true}',
    ],
)
def test_what_is_no_message_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError, match="expected"):
        parse_client_message(text)


def test_what_the_server_says() -> None:
    wire = encode_server_message(ServerMessage("partial_user_request", "hé"))
    assert json.loads(wire) == {"type": "partial_user_request", "content": "hé"}
    assert parse_server_message(wire) == ServerMessage("partial_user_request", "hé")
    assert json.loads(encode_server_message(ServerMessage("stop_tts")))["content"] == ""
    assert parse_server_message('{"type":"welcome","content":3}') is None
    assert parse_server_message('{"type":"stop_tts"}') == ServerMessage("stop_tts")


def test_reply_audio_comes_out_as_it_went_in() -> None:
    message = parse_server_message(encode_server_message(tts_chunk(b"\1\2\3\4")))
    assert message is not None
    assert message.pcm() == b"\1\2\3\4"


def test_server_messages_that_are_broken_are_refused() -> None:
    with pytest.raises(ProtocolError, match="content: expected a string, got 3"):
        parse_server_message('{"type":"tts_chunk","content":3}')
    with pytest.raises(ProtocolError, match="content: expected base64"):
        ServerMessage("tts_chunk", "*").pcm()


@given(st.text() | st.binary())
@settings(deadline=None)
def test_any_message_parses_or_is_refused(message: str | bytes) -> None:
    for parse in (parse_client_message, parse_server_message):
        try:
            parse(message)
        except ProtocolError as error:
            assert "expected" in str(error)  # noqa: PT017 - most messages raise, some do not


# The search for the sample rate.


def readings(
    rate_hz: int,
    rng: random.Random,
    *,
    seconds: float = 12.0,
    jitter_ms: float = 0.0,
    stall_probability: float = 0.0,
    loss_probability: float = 0.0,
    start_ms: float = 1_700_000_000_000.0,
) -> Iterator[tuple[float, int]]:
    """Packets of a page: when the audio was spoken (s), and what its clock said (ms mod 2^32).

    A stalled page stamps everything it missed when it wakes; its clock never runs backwards.
    """
    packet_ms = PACKET_SAMPLES / rate_hz * 1000
    last_ms = wakes_ms = start_ms
    for index in range(1, int(seconds * 1000 / packet_ms) + 1):
        captured_ms = start_ms + index * packet_ms
        if rng.random() < stall_probability:
            wakes_ms = captured_ms + rng.uniform(100, 400)
        jittered_ms = captured_ms + rng.uniform(-jitter_ms, jitter_ms)
        last_ms = max(jittered_ms, wakes_ms, last_ms)
        if rng.random() >= loss_probability:
            yield index * packet_ms / 1000, int(last_ms) % 2**32


def answers(packets: Iterator[tuple[float, int]]) -> list[tuple[float, int | None]]:
    finder = SampleRateFinder()
    return [(at_s, finder.feed(stamp_ms, PACKET_SAMPLES)) for at_s, stamp_ms in packets]


@pytest.mark.parametrize("rate_hz", KNOWN_RATES_HZ)
def test_a_clean_clock_decides_within_about_a_second(rate_hz: int) -> None:
    for seed in range(20):
        rng = random.Random(seed)
        heard = answers(readings(rate_hz, rng, seconds=4, start_ms=rng.uniform(0, 1e9)))
        assert {answer for _, answer in heard} == {None, rate_hz}
        decided_s = next(at_s for at_s, answer in heard if answer)
        assert decided_s <= (1.3 if rate_hz == 8000 else 1.0)


@pytest.mark.parametrize("rate_hz", KNOWN_RATES_HZ)
@pytest.mark.parametrize(
    ("jitter_ms", "stall_probability", "loss_probability", "decided_at_least"),
    [
        (5, 0, 0, 20),
        (20, 0, 0, 18),
        (0, 0.02, 0, 19),
        (0, 0, 0.05, 20),
        (20, 0.005, 0.005, 13),
        (10, 0.02, 0.02, 0),
    ],
    ids=["slight-jitter", "jitter", "bursts", "losses", "all-three", "hopeless"],
)
def test_a_bad_clock_never_leads_to_a_wrong_rate(
    rate_hz: int,
    jitter_ms: float,
    stall_probability: float,
    loss_probability: float,
    decided_at_least: int,
) -> None:
    decided = 0
    for seed in range(20):
        packets = readings(
            rate_hz,
            random.Random(seed),
            jitter_ms=jitter_ms,
            stall_probability=stall_probability,
            loss_probability=loss_probability,
        )
        heard = answers(packets)
        assert {answer for _, answer in heard} <= {None, rate_hz}
        decided += heard[-1][1] == rate_hz
    assert decided >= decided_at_least


@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
def test_the_clock_may_wrap(rate_hz: int) -> None:
    packets = readings(rate_hz, random.Random(1), seconds=3, start_ms=2**32 - 500)
    assert answers(packets)[-1][1] == rate_hz


def test_packets_may_hold_any_number_of_samples() -> None:
    finder = SampleRateFinder()
    rng = random.Random(2)
    spoken = 0
    for _ in range(60):
        samples = rng.randint(1500, 2500)
        spoken += samples
        finder.feed(int(spoken / 44.1), samples)
    assert finder.rate_hz == 44_100


def test_an_answer_is_corrected_when_most_recent_blocks_disagree() -> None:
    finder = SampleRateFinder()
    for _, stamp_ms in readings(48_000, random.Random(3), seconds=3):
        finder.feed(stamp_ms, PACKET_SAMPLES)
    assert (finder.rate_hz, finder.confidence) == (48_000, 1.0)
    later = readings(44_100, random.Random(4), seconds=4, start_ms=1_700_000_010_000)
    confidences = []
    for _, stamp_ms in later:
        finder.feed(stamp_ms, PACKET_SAMPLES)
        confidences.append(finder.confidence)
    assert finder.rate_hz == 48_000
    assert confidences[-1] < 0.5
    for _, stamp_ms in readings(44_100, random.Random(5), start_ms=1_700_000_020_000):
        finder.feed(stamp_ms, PACKET_SAMPLES)
    assert (finder.rate_hz, finder.confidence) == (44_100, 1.0)


@pytest.mark.parametrize("step_ms", [0, 5000, -1, 1])
def test_a_clock_that_tells_nothing_decides_nothing(step_ms: int) -> None:
    finder = SampleRateFinder()
    for index in range(200):
        assert finder.feed(index * step_ms % 2**32, PACKET_SAMPLES) is None
    assert finder.confidence == 0.0


def test_a_rate_nobody_uses_is_not_snapped_to_a_neighbour() -> None:
    finder = SampleRateFinder()
    for index in range(400):
        assert finder.feed(int(index * PACKET_SAMPLES / 46.0), PACKET_SAMPLES) is None


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 5000)), max_size=80))
@settings(deadline=None, max_examples=60)
def test_any_readings_are_survived(packets: list[tuple[int, int]]) -> None:
    finder = SampleRateFinder()
    for timestamp_ms, samples in packets:
        finder.feed(timestamp_ms, samples)
    assert 0.0 <= finder.confidence <= 1.0


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=10, max_size=80))
@settings(deadline=None, max_examples=60)
def test_any_small_steps_are_survived(steps: list[tuple[int, int]]) -> None:
    finder = SampleRateFinder()
    clock_ms = 0
    for step_ms, samples in steps:
        clock_ms += step_ms
        finder.feed(clock_ms, samples)
    assert 0.0 <= finder.confidence <= 1.0
