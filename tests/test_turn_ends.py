"""With no silence chosen, turns end soon and seldom too soon: the acceptance figures, in small."""

import pytest

from rtvc.speech.corpus import builtin_clips
from rtvc.voice.silero import SileroModel
from tests.acceptance.endpointing import (
    SERVER_VAD,
    figures,
    listen,
    outcomes_of,
    selftest,
    text_of,
)


@pytest.mark.model
@pytest.mark.slow
def test_an_unset_silence_ends_turns_soon_and_seldom_too_soon() -> None:
    vad, hear = SileroModel(), text_of(selftest())
    heard = [listen(clip, vad) for clip in builtin_clips(30, seed=2)]
    found = {
        name: figures(outcomes_of(heard, hear, SERVER_VAD[name], None))
        for name in ("unset", "500 ms")
    }
    assert found["unset"]["premature_share"] <= 1 / 30
    assert found["unset"]["never_ended"] == 0
    assert found["unset"]["delay_ms_p95"] < 450
    assert found["500 ms"]["delay_ms_p50"] > found["unset"]["delay_ms_p50"] + 150
