"""Replies: cut into sentences, spoken while written, stopped at once."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.clock import FakeClock
from rtvc.errors import ReplyError
from rtvc.server.replies.llm import FinalDelta, Message
from rtvc.server.replies.reply import (
    EVENT_LIMIT,
    AudioDelta,
    BrokenReplyError,
    ReplyDone,
    ReplyEvent,
    ReplyTimings,
    TextDelta,
    heard_part,
    speak_reply,
    text_heard,
)
from rtvc.server.replies.sentences import SentenceSplitter, speakable

RATE_HZ = 24_000
CHAR_BYTES = RATE_HZ // 10 * 2  # the fake voice takes 100 ms a character


def split(text: str) -> list[str]:
    splitter = SentenceSplitter()
    return [*splitter.feed(text), *splitter.flush()]


@pytest.mark.parametrize(
    "sentences",
    [
        ["One.", " Two!", " Three?", " Four"],
        ["It costs 3.50 euros.", " Really."],
        ["Mr. Smith met Dr. A. B. Jones at St. Mary's.", " He left."],
        ["Buy e.g. nuts, i.e. food.", " Thanks."],
        ["Well... maybe not.", " Good."],
        ["Well… maybe not.", " Good."],
        ["We met at 5 p.m. on Monday.", " We met at 5 p.m.", " He paid."],
        ["No.", " I disagree."],
        ["That is No. 5 of them.", " Yes."],
        ['She said "go."', " He went.", " (Really!)", " Yes."],
        ["1. Wash it.", " Done."],
        ["So do I.", " And you?!", " Fine."],
        ["First line\n", "second line"],
        ["你好。", "我很好！", "谢谢"],
        ["Version 2.0.1 is on example.com now.", " Yes."],
    ],
)
def test_splits_into_sentences(sentences: list[str]) -> None:
    assert split("".join(sentences)) == sentences


def test_a_sentence_is_out_as_soon_as_white_space_follows() -> None:
    splitter = SentenceSplitter()
    assert splitter.feed("Yes.") == []
    assert splitter.feed(" ") == ["Yes."]


def test_the_first_piece_does_not_wait_for_a_long_sentence() -> None:
    text = "When the weather is good in the morning, " + "we walk a very long way " * 5
    pieces = split(text + "home.")
    assert pieces[0] == "When the weather is good in the morning,"
    assert split("we walk a very long way " * 5)[0].strip().count(" ") > 8
    assert len(split("we walk a very long way " * 5)[0]) <= 70


def test_later_pieces_break_only_when_very_long() -> None:
    text = "Hi. " + "and then we walk, on and on " * 20
    _, *later = split(text)
    assert all(len(piece) <= 240 for piece in later)
    assert len(later[0]) > 120
    assert later[0].endswith(",")
    assert [len(piece) for piece in split("Hi. " + "x" * 600)] == [3, 240, 240, 121]


TEXT = st.lists(
    st.one_of(
        st.sampled_from(
            [". ", "! ", "e.g. ", "3.5", "\n", "。", ", ", "...", " Mr. ", "a.m. B", '"']
        ),
        st.text(max_size=30),
    ),
    max_size=30,
).map("".join)


@settings(deadline=None, max_examples=150)
@given(TEXT, st.lists(st.integers(1, 20), max_size=20))
def test_nothing_is_lost_and_the_cuts_ignore_how_the_text_came(text: str, sizes: list[int]) -> None:
    splitter, pieces, rest = SentenceSplitter(), [], text
    for size in sizes:
        pieces += splitter.feed(rest[:size])
        rest = rest[size:]
    pieces += splitter.feed(rest) + splitter.flush()
    assert pieces == split(text)
    assert "".join(pieces).rstrip() == text.rstrip()
    assert all(piece.strip() and len(piece) <= 240 for piece in pieces)


def test_markup_is_not_read_out() -> None:
    assert speakable("## **Bold** and `code`\n- item") == "Bold and code\nitem"
    assert speakable("— 🙂 !") == ""
    assert speakable("2 - 1 is 1") == "2 - 1 is 1"


@dataclass
class ListedModel:
    """Writes the given deltas, one each time the loop comes round; then fails or ends."""

    deltas: Sequence[str]
    failure: ReplyError | None = None
    waits_at: int | None = None
    name: str = "listed"
    written: int = 0
    closed: bool = False
    clock: FakeClock = field(default_factory=FakeClock)
    step_s: float = 0.0

    async def stream(
        self, messages: Sequence[Message], *, max_tokens: int | None
    ) -> AsyncGenerator[str, None]:
        try:
            for delta in self.deltas:
                await asyncio.sleep(3600 if self.written == self.waits_at else 0)
                self.clock.advance(self.step_s)
                self.written += 1
                yield delta
            if self.failure:
                raise self.failure
        finally:
            self.closed = True

    async def close(self) -> None:
        self.closed = True


@dataclass
class CharacterVoice:
    """Speaks 100 ms a character, one or two characters a piece; may fail or hang at a word."""

    fails_at: str | None = None
    hangs_at: str | None = None
    piece_bytes: int = 2 * CHAR_BYTES
    name: str = "characters"
    rate_hz: int = RATE_HZ
    said: list[str] = field(default_factory=list)
    speaking: int = 0
    most_speaking: int = 0
    clock: FakeClock = field(default_factory=FakeClock)
    step_s: float = 0.0

    async def synthesize(
        self, text: str, *, voice: str | None, speed: float
    ) -> AsyncGenerator[bytes, None]:
        self.speaking += 1
        self.most_speaking = max(self.speaking, self.most_speaking)
        self.said.append(text)
        try:
            if self.fails_at and self.fails_at in text:
                raise ReplyError("no voice left")
            await asyncio.sleep(3600 if self.hangs_at and self.hangs_at in text else 0)
            self.clock.advance(self.step_s)
            for start in range(0, len(text) * CHAR_BYTES, self.piece_bytes):
                yield bytes(min(self.piece_bytes, len(text) * CHAR_BYTES - start))
        finally:
            self.speaking -= 1

    async def close(self) -> None:
        """Nothing is held."""


def speak(
    llm: ListedModel,
    tts: CharacterVoice,
    *,
    audio: bool = True,
    max_tokens: int | None = None,
    clock: FakeClock | None = None,
) -> AsyncGenerator[ReplyEvent, None]:
    return speak_reply(
        [Message("user", "Hello")], llm, tts, clock=clock or FakeClock(), audio=audio,
        max_tokens=max_tokens,
    )  # fmt: skip


async def events_of(llm: ListedModel, tts: CharacterVoice) -> list[ReplyEvent]:
    return [event async for event in speak(llm, tts)]


def text_of(events: Sequence[ReplyEvent]) -> str:
    return "".join(e.text for e in events if isinstance(e, TextDelta))


def audio_of(events: Sequence[ReplyEvent]) -> list[AudioDelta]:
    return [event for event in events if isinstance(event, AudioDelta)]


async def alone() -> bool:
    """Whether this test's task is the only one left."""
    return asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_reply_is_written_and_spoken_whole() -> None:
    llm = ListedModel(["Good ", "morning. ", "It is ", "noon."])
    voice = CharacterVoice()
    events = await events_of(llm, voice)
    assert text_of(events) == "Good morning. It is noon."
    assert voice.said == ["Good morning.", "It is noon."]
    assert sum(len(e.pcm16) for e in audio_of(events)) == (13 + 11) * CHAR_BYTES
    done = events[-1]
    assert isinstance(done, ReplyDone)
    assert (done.text, done.finish_reason, done.tokens) == (text_of(events), "completed", 4)
    assert await alone()


async def test_the_first_sentence_is_spoken_before_the_reply_is_written() -> None:
    llm = ListedModel(["Good morning. ", "It ", "is noon."], waits_at=2)
    reply = speak(llm, CharacterVoice())
    event = await anext(reply)
    while not isinstance(event, AudioDelta):
        event = await anext(reply)
    assert llm.written == 2
    await reply.aclose()
    assert llm.closed
    assert await alone()


async def test_the_next_sentence_is_synthesized_while_one_is_being_sent() -> None:
    voice = CharacterVoice()
    reply = speak(ListedModel(["One. ", "Two. ", "Three."]), voice)
    async for event in reply:
        if isinstance(event, AudioDelta):
            break
    await asyncio.sleep(0.01)  # nobody takes events now
    assert voice.said == ["One.", "Two.", "Three."]
    assert voice.most_speaking == 1
    await reply.aclose()


async def test_a_caller_that_does_not_take_events_stops_the_model() -> None:
    llm = ListedModel([f"Sentence number {n} is here. " for n in range(500)])
    voice = CharacterVoice()
    reply = speak(llm, voice)
    await anext(reply)
    await asyncio.sleep(0.05)
    assert llm.written <= EVENT_LIMIT + 2
    assert len(voice.said) <= EVENT_LIMIT
    await reply.aclose()
    assert await alone()


@pytest.mark.parametrize("events_before", [0, 1, 3])
async def test_closing_the_reply_leaves_nothing_running(events_before: int) -> None:
    llm = ListedModel(["One. ", "Two. ", "Three."] * 50, waits_at=60)
    voice = CharacterVoice(hangs_at="Two")
    reply = speak(llm, voice)
    for _ in range(events_before):
        await anext(reply)
    await reply.aclose()
    assert voice.speaking == 0
    assert llm.closed or llm.written == 0
    assert await alone()


async def test_cancelling_the_listener_leaves_nothing_running() -> None:
    llm, voice = ListedModel(["One. ", "Two. "], waits_at=2), CharacterVoice(hangs_at="Two")
    listening = asyncio.create_task(events_of(llm, voice))
    await asyncio.sleep(0.01)
    assert voice.said == ["One.", "Two."]
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    assert (voice.speaking, llm.closed) == (0, True)
    assert await alone()


async def test_a_reply_in_text_only_asks_nothing_of_the_synthesizer() -> None:
    voice = CharacterVoice()
    reply = speak(ListedModel(["One. ", "Two."]), voice, audio=False)
    events = [event async for event in reply]
    assert text_of(events) == "One. Two."
    assert not audio_of(events)
    assert not voice.said
    assert isinstance(events[-1], ReplyDone)


async def test_an_empty_reply_is_done_at_once() -> None:
    assert await events_of(ListedModel([]), CharacterVoice()) == [
        ReplyDone("", "completed", 0, ReplyTimings())
    ]


async def test_the_models_own_count_and_reason_are_believed() -> None:
    llm = ListedModel(["One ", "two.", FinalDelta("", "length", 9)])
    done = (await events_of(llm, CharacterVoice()))[-1]
    assert isinstance(done, ReplyDone)
    assert (done.finish_reason, done.tokens) == ("length", 9)


async def test_a_model_that_ignores_max_tokens_is_stopped() -> None:
    llm = ListedModel(["One ", "two ", "three ", "four."])
    events = [event async for event in speak(llm, CharacterVoice(), max_tokens=2)]
    done = events[-1]
    assert isinstance(done, ReplyDone)
    assert (done.text, done.finish_reason, done.tokens) == ("One two ", "length", 2)
    assert llm.closed


async def test_exactly_max_tokens_is_a_complete_reply() -> None:
    llm = ListedModel(["One ", "two.", FinalDelta("", "completed")])
    events = [event async for event in speak(llm, CharacterVoice(), max_tokens=2)]
    done = events[-1]
    assert isinstance(done, ReplyDone)
    assert (done.finish_reason, done.tokens) == ("completed", 2)


async def test_when_the_voice_fails_what_was_said_is_kept() -> None:
    llm, voice = ListedModel(["One. ", "Two. ", "Six. "]), CharacterVoice(fails_at="Two")
    events: list[ReplyEvent] = []

    async def listen() -> None:
        async for event in speak(llm, voice):
            events.append(event)

    with pytest.raises(BrokenReplyError, match="no voice left") as caught:
        await listen()
    assert caught.value.spoken == "One."
    assert caught.value.text == text_of(events)
    assert sum(len(e.pcm16) for e in audio_of(events)) == 4 * CHAR_BYTES
    assert await alone()


async def test_when_the_model_fails_its_whole_sentences_are_still_spoken() -> None:
    llm = ListedModel(["One. ", "Two. ", "Thr"], failure=ReplyError("out of memory"))
    voice = CharacterVoice()
    with pytest.raises(BrokenReplyError, match="out of memory") as caught:
        await events_of(llm, voice)
    assert voice.said == ["One.", "Two."]
    assert (caught.value.text, caught.value.spoken) == ("One. Two. Thr", "One. Two.")
    assert await alone()


async def test_a_bug_is_not_dressed_up_as_a_reply_error() -> None:
    llm = ListedModel(["One. ", 7])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        await events_of(llm, CharacterVoice())
    assert await alone()


async def test_positions_rise_to_the_end_of_each_sentence() -> None:
    text = "A first sentence. And a second one! Yes."
    events = await events_of(ListedModel(list(text)), CharacterVoice())
    positions = [e.text_position for e in audio_of(events)]
    assert positions == sorted(positions)
    assert positions[-1] == len(text)
    assert {17, 35} <= set(positions)


async def test_positions_follow_the_pace_of_the_voice() -> None:
    text = "A first sentence. And a second sentence, too."
    heard_s, errors = 0.0, []
    for audio in audio_of(await events_of(ListedModel(list(text)), CharacterVoice())):
        heard_s += len(audio.pcm16) / 2 / RATE_HZ
        if heard_s > 1.8:  # the second sentence: the pace is known by then
            errors.append(abs(audio.text_position - heard_s * 10))
    assert max(errors) <= 3


async def test_the_timings_add_up_to_the_first_audio() -> None:
    clock = FakeClock()
    llm = ListedModel(["Good ", "morning. ", "Bye."], clock=clock, step_s=0.5)
    voice = CharacterVoice(clock=clock, step_s=0.25)
    events = [event async for event in speak(llm, voice, clock=clock)]
    first, *later = audio_of(events)
    timings = first.timings
    assert timings is not None
    assert timings.llm_ttft_s == 0.5
    assert timings.first_sentence_s == 0.5
    assert timings.tts_ttfb_s is not None
    assert timings.tts_ttfb_s >= 0.25
    assert all(audio.timings is None for audio in later)
    done = events[-1]
    assert isinstance(done, ReplyDone)
    assert done.timings == timings


def test_text_heard_is_linear_between_positions() -> None:
    positions = [(200.0, 4), (400.0, 10), (400.0, 10), (1000.0, 40)]
    assert [text_heard(positions, ms) for ms in (-5, 0, 100, 200, 300, 400, 700, 1000, 9e9)] == [
        0, 0, 2, 4, 7, 10, 25, 40, 40,
    ]  # fmt: skip
    assert text_heard([], 500) == 0


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(1, 300), st.integers(0, 20)), max_size=20),
    st.lists(st.floats(0, 8000), min_size=2, max_size=2).map(sorted),
)
def test_more_playing_never_means_less_heard(
    steps: list[tuple[float, int]], played_ms: list[float]
) -> None:
    positions, end_ms, place = [], 0.0, 0
    for length_ms, characters in steps:
        end_ms, place = end_ms + length_ms, place + characters
        positions.append((end_ms, place))
    earlier, later = (text_heard(positions, ms) for ms in played_ms)
    assert 0 <= earlier <= later <= place


def test_the_history_keeps_whole_words_only() -> None:
    positions = [(1000.0, 20)]
    assert heard_part("One two three four five.", positions, 400) == "One two"
    assert heard_part("One two three four five.", positions, 350) == "One two"
    assert heard_part("One two", [(1000.0, 7)], 1000) == "One two"
    assert heard_part("One two", positions, 50) == ""
