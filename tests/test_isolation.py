"""Two callers of one server: neither ever meets a word, an id or a sound of the other."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from rtvc.server.sessions.session_life import new_id
from rtvc.transcript import normalise
from tests.realtime_peer import Peer, session, silence, speech

ONE = "Please check the weather in Madrid."
OTHER = "Tell me a joke about purple elephants."
UNGUESSABLE = re.compile(r"[a-z]+_[0-9a-f]{20}")
COMMON = {"a", "about", "in", "is", "me", "please", "the", "you", "said", "that"}


def words(text: str) -> set[str]:
    return set(normalise(text).split()) - COMMON


def texts_of(value: Any) -> Iterator[str]:
    """Every text in a message, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            # Audio is base64, in which any word may stand by chance.
            if name not in ("audio", "delta") or not isinstance(inner, str) or " " in inner:
                yield from texts_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts_of(inner)


async def say(peer: Peer, text: str) -> None:
    await peer.speak(speech(text).audio)
    await peer.speak(silence(1.5))


async def talk(url: str, own: Peer, text: str) -> None:
    await say(own, text)
    await own.until("conversation.item.input_audio_transcription.completed")
    await own.until("response.done")


@pytest.mark.model
@pytest.mark.slow
async def test_two_who_talk_at_once_hear_nothing_of_each_other(server_url: str) -> None:
    async with session(server_url) as one, session(server_url) as other:
        async with asyncio.TaskGroup() as both, httpx.AsyncClient() as client:
            both.create_task(talk(server_url, one, ONE))
            both.create_task(talk(server_url, other, OTHER))
            await one.until("input_audio_buffer.speech_started")
            during = (await client.get(f"{server_url}/v1/sessions")).text
            shown = (await client.get(f"{server_url}/metrics")).text
        async with httpx.AsyncClient() as client:
            after = (await client.get(f"{server_url}/v1/sessions")).text
    for own, theirs, said in ((one, OTHER, ONE), (other, ONE, OTHER)):
        heard = set[str]().union(*(words(text) for text in texts_of(own.events)))
        assert words(said) & heard, "it heard itself"
        assert not (words(theirs) - words(said)) & heard
    assert not ids(one) & ids(other)
    for public in (during, after, shown):
        assert not (words(ONE) | words(OTHER)) & set(normalise(public).split())
    assert json.loads(during)["count"] == 2


def ids(peer: Peer) -> set[str]:
    """Of sessions, items and responses."""
    return set(re.findall(r"\b(?:sess|item|resp|conv)_[0-9a-f]{20}\b", json.dumps(peer.events)))


@pytest.mark.model
@pytest.mark.slow
async def test_nobody_reaches_anothers_items(server_url: str) -> None:
    async with session(server_url) as one, session(server_url) as other:
        content = [{"type": "input_text", "text": "a secret of mine"}]
        item = {"id": "item_known", "type": "message", "role": "user", "content": content}
        await one.send("conversation.item.create", item=item)
        await one.until("conversation.item.done")
        for kind in ("conversation.item.retrieve", "conversation.item.delete"):
            await other.send(kind, item_id="item_known")
        await other.until("error", count=2)
        assert "secret of mine" not in json.dumps(other.events)
        await one.send("conversation.item.retrieve", item_id="item_known")
        told = await one.until("conversation.item.retrieved")
    assert "secret of mine" in json.dumps(told)


def test_ids_cannot_be_guessed() -> None:
    made = [new_id("sess") for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(UNGUESSABLE.fullmatch(each) for each in made)
    # Each place takes each value: 80 bits, not a counter or a clock in other letters.
    places = zip(*(each.partition("_")[2] for each in made), strict=True)
    assert all(len(set(place)) == 16 for place in places)


@pytest.mark.model
@pytest.mark.slow
async def test_the_ids_of_a_session_are_such(server_url: str) -> None:
    async with session(server_url) as peer:
        told = peer.of("session.created")[0]["session"]["id"]
        async with httpx.AsyncClient() as client:
            shown = (await client.get(f"{server_url}/v1/sessions")).json()["sessions"]
    assert UNGUESSABLE.fullmatch(told)
    assert told in {each["id"] for each in shown}
