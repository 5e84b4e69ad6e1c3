"""Bytes, resampling and files."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.audio import (
    FloatArray,
    Resampler,
    alaw_decode,
    alaw_encode,
    float_to_pcm16,
    pcm16_to_float,
    read_audio,
    resample,
    rms,
    ulaw_decode,
    ulaw_encode,
    write_wav,
)
from rtvc.errors import AudioError

RATES_HZ = (8_000, 16_000, 22_050, 24_000, 44_100, 48_000)
PAIRS_HZ = ((24_000, 16_000), (48_000, 16_000), (44_100, 16_000), (8_000, 16_000), (16_000, 24_000))


def noise(samples: int, seed: int = 0) -> FloatArray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(samples) * 0.2).astype(np.float32)


def sine(hz: float, rate_hz: int, seconds: float = 0.5) -> FloatArray:
    at_s = np.arange(int(rate_hz * seconds)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * hz * at_s)).astype(np.float32)


def streamed(samples: FloatArray, from_hz: int, to_hz: int, cuts: list[int]) -> FloatArray:
    resampler = Resampler(from_hz, to_hz)
    pieces = [resampler.feed(piece) for piece in np.split(samples, sorted(cuts))]
    return np.concatenate([*pieces, resampler.flush()])


@given(st.binary(max_size=200).map(lambda b: b[: len(b) // 2 * 2]))
def test_every_pcm16_survives_the_round_trip(pcm16: bytes) -> None:
    assert float_to_pcm16(pcm16_to_float(pcm16)) == pcm16


def test_an_odd_byte_count_is_refused() -> None:
    with pytest.raises(AudioError, match="got 3 bytes"):
        pcm16_to_float(b"\0\0\0")


def test_samples_outside_the_range_are_clipped() -> None:
    assert float_to_pcm16([1.0, 7.0, -7.0]) == b"\xff\x7f\xff\x7f\x00\x80"


@pytest.mark.parametrize("law", ["ulaw", "alaw"])
def test_g711_decodes_as_the_standard_library_did(law: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        audioop = pytest.importorskip("audioop", reason="audioop left Python in 3.13")
    every_byte = bytes(range(256))
    decode = ulaw_decode if law == "ulaw" else alaw_decode
    expected = getattr(audioop, f"{law}2lin")(every_byte, 2)
    assert float_to_pcm16(decode(every_byte)) == expected


@pytest.mark.parametrize(
    ("decode", "encode"), [(ulaw_decode, ulaw_encode), (alaw_decode, alaw_encode)]
)
def test_g711_bytes_survive_but_for_the_two_zeros_of_ulaw(
    decode: Callable[[bytes], FloatArray], encode: Callable[[FloatArray], bytes]
) -> None:
    every_byte = bytes(range(256))
    samples = decode(every_byte)
    assert np.array_equal(decode(encode(samples)), samples)
    assert encode(np.array([0.3], np.float32)) == encode(decode(encode(np.array([0.3]))))


@settings(deadline=None, max_examples=40)
@given(
    pair=st.tuples(st.sampled_from(RATES_HZ), st.sampled_from(RATES_HZ)),
    samples=st.integers(0, 3000),
    cuts=st.lists(st.integers(0, 3000), max_size=12),
)
def test_cutting_the_input_changes_nothing(
    pair: tuple[int, int], samples: int, cuts: list[int]
) -> None:
    signal = noise(samples)
    whole = streamed(signal, *pair, cuts=[])
    cut = streamed(signal, *pair, cuts=[min(c, samples) for c in cuts])
    assert len(cut) == len(whole) == int(samples * pair[1] / pair[0] + 0.5)
    np.testing.assert_allclose(cut, whole, atol=1e-6)


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS_HZ)
def test_the_stream_holds_back_no_more_than_its_delay(from_hz: int, to_hz: int) -> None:
    resampler, got = Resampler(from_hz, to_hz), 0
    assert resampler.delay_s <= 0.005 + 1e-9
    for frame in range(1, 40):
        got += len(resampler.feed(noise(from_hz // 100)))
        assert frame / 100 - got / to_hz <= resampler.delay_s + 1 / to_hz
    assert resampler.flush().size


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS_HZ)
@pytest.mark.parametrize("share", [0.02, 0.4, 0.85])
def test_tones_of_the_speech_band_pass_in_place(from_hz: int, to_hz: int, share: float) -> None:
    hz = share * min(from_hz, to_hz) / 2
    out = streamed(sine(hz, from_hz), from_hz, to_hz, cuts=[777])
    inner = slice(to_hz // 20, -to_hz // 20)
    error = out[inner] - sine(hz, to_hz)[: len(out)][inner]
    assert np.abs(error).max() < 5e-4  # -60 dB of the tone


@pytest.mark.parametrize(("from_hz", "to_hz"), [p for p in PAIRS_HZ if p[0] > p[1]])
@pytest.mark.parametrize("share", [1.01, 1.2, 1.45])
def test_tones_above_the_new_band_vanish(from_hz: int, to_hz: int, share: float) -> None:
    out = streamed(sine(share * to_hz / 2, from_hz), from_hz, to_hz, cuts=[])
    assert rms(out[to_hz // 20 : -to_hz // 20]) < 1e-4


def test_a_flushed_resampler_starts_afresh() -> None:
    resampler, signal = Resampler(48_000, 16_000), noise(1000)
    first = np.concatenate([resampler.feed(signal), resampler.flush()])
    again = np.concatenate([resampler.feed(signal), resampler.flush()])
    np.testing.assert_array_equal(first, again)


@given(st.integers(0, 2000), st.sampled_from(RATES_HZ), st.sampled_from(RATES_HZ))
@settings(deadline=None, max_examples=30)
def test_one_shot_length_is_the_rounded_ratio(samples: int, from_hz: int, to_hz: int) -> None:
    assert len(resample(noise(samples), from_hz, to_hz)) == round(samples * to_hz / from_hz)


def test_rates_below_one_are_refused() -> None:
    with pytest.raises(AudioError, match="above 0 Hz"):
        Resampler(0, 16_000)
    with pytest.raises(AudioError, match="above 0 Hz"):
        resample(noise(4), 16_000, -1)


def test_a_wav_comes_back_as_written(tmp_path: Path) -> None:
    signal = noise(500)
    write_wav(tmp_path / "a.wav", signal, 22_050)
    back, rate_hz = read_audio(tmp_path / "a.wav")
    assert rate_hz == 22_050
    np.testing.assert_allclose(back, signal, atol=1 / 32768)


def test_a_file_that_is_no_audio_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.wav").write_text("not a sound")
    with pytest.raises(AudioError, match=r"notes\.wav"):
        read_audio(tmp_path / "notes.wav")
    with pytest.raises(AudioError, match=r"gone\.wav"):
        read_audio(tmp_path / "gone.wav")
    with pytest.raises(AudioError, match="nowhere"):
        write_wav(tmp_path / "nowhere" / "a.wav", noise(4), 16_000)
