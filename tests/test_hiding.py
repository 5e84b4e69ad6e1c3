"""Secrets leave no trace: by name, by shape, by value; and it takes no time to speak of."""

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtvc.hiding import (
    HIDDEN,
    command_line,
    hide,
    is_secret_name,
    places,
    without_places,
    without_secrets,
)

SECRET = "Zq8xVt3LmN7pRw2K"
# As keys are made; nothing that a pattern could take for the end of one.
values = st.text("abcdefghijkLMNOPQRSTUVWXYZ0123456789_-.~", min_size=8, max_size=80).map(
    lambda text: f"s{text}9"
)


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"authorization: Basic {SECRET}==",
        f"{{'Authorization': 'Bearer {SECRET}', 'Accept': '*/*'}}",
        f"[(b'authorization', b'Bearer {SECRET}')]",
        f"sent bearer {SECRET} twice",
        f"GET /v1/realtime?token={SECRET}&model=x",
        f"GET /v1/realtime?model=x&access_token={SECRET}",
        f"wss://h/?key={SECRET}",
        f"wss://h/?api-key={SECRET}#x",
        f"https://h/?X-Amz-Signature={SECRET}",
        f"wss://user:{SECRET}@host/path",
        f"wss://user:{SECRET}@{SECRET}@host/path",
        f"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.{SECRET}, x",
        f"sk-{SECRET}",
        f"told sk-proj-{SECRET}.",
        f"ek_{SECRET}",
        f"ek_{'gAAAA' * 300}{SECRET}.ada",
        f"rtvc_{SECRET}",
        f'{{"api_key": "{SECRET}"}}',
        f'{{"client_secret": "{SECRET}"}}',
        f"password='{SECRET} {SECRET}'",
        f"Cookie: session={SECRET}; a=b",
        f"x-api-key: {SECRET}",
        f"--api-key={SECRET}",
    ],
)
def test_a_secret_is_hidden_wherever_it_stands(text: str) -> None:
    hidden = hide(text)
    assert SECRET not in hidden
    assert hidden != text


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens=400 temperature=0",
        "rtvc_turn_stage_seconds_bucket rtvc_partial_transcripts_total",
        "ws://127.0.0.1:8000/v1/realtime?model=base.en&rtvc=1",
        "task-force ask-me desk-1234567890",
        "expected a Bearer token, got none",
        "the basic settings of a session",
        "closed by the server with 1011: the monkey=banana",
        "mail ann@example.org",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert hide(text) == text


@given(
    values, st.sampled_from(["token", "key", "api_key", "access_token", "my-secret", "PASSWORD"])
)
def test_a_query_never_shows_its_secrets(value: str, name: str) -> None:
    hidden = hide(f"wss://host/v1?a=1&{name}={value}&b=2")
    assert hidden == f"wss://host/v1?a=1&{name}={HIDDEN}&b=2"


@given(values)
def test_a_header_never_shows_its_secret(value: str) -> None:
    assert value not in hide(f"Authorization: Bearer {value}\r\nAccept: */*")
    assert "Accept: */*" in hide(f"Authorization: Bearer {value}\r\nAccept: */*")
    assert value not in hide(f"realtime, openai-insecure-api-key.{value}")


@given(st.text(max_size=300))
def test_hiding_twice_is_hiding_once(text: str) -> None:
    once = hide(text)
    assert hide(once) == once


@given(st.text(min_size=4, max_size=30), st.text(max_size=50), st.text(max_size=50))
def test_what_is_told_is_hidden_by_its_value(secret: str, before: str, after: str) -> None:
    if secret not in HIDDEN:
        assert secret not in hide(before + secret + after, [secret]).replace(HIDDEN, "")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=10,
)


@given(json_values)
def test_settings_keep_their_shape(settings: Any) -> None:
    hidden = without_secrets({"settings": settings, "llm": {"api_key": SECRET, "n": [settings]}})
    assert SECRET not in json.dumps(hidden)
    assert json.loads(json.dumps(without_secrets(hidden))) == json.loads(json.dumps(hidden))


@pytest.mark.parametrize("name", ["api_key", "apiKey", "OPENAI_API_KEY", "accessToken", "Cookie"])
def test_secrets_go_by_many_names(name: str) -> None:
    assert is_secret_name(name)
    assert without_secrets({name: SECRET}) == {name: HIDDEN}


@pytest.mark.parametrize("name", ["max_tokens", "keyboard", "monkey", "tokens"])
def test_some_names_only_sound_like_it(name: str) -> None:
    assert not is_secret_name(name)


def test_a_command_line_shows_flags_and_no_secrets() -> None:
    shown = command_line(["rtvc", "loadtest", f"ws://h/?token={SECRET}", "--api-key", SECRET])
    assert SECRET not in shown
    assert "--api-key" in shown


def test_places_are_hidden_from_those_who_need_not_know() -> None:
    text = "cannot read /srv/models/base.en/model.bin; C:\\Users\\ann\\x; [::1]:80; box.local:8000"
    assert places(without_places(text)) == []
    for word in ("srv", "Users", "box", "::1"):
        assert word not in without_places(text)
    assert without_places("3 of 4 and/or n/a at 12:30") == "3 of 4 and/or n/a at 12:30"


HOSTILE = [
    "a" * 200_000,
    "key" * 60_000,
    "token=" * 40_000,
    "://" * 60_000,
    "://a" * 50_000,
    "authorization:" * 20_000,
    "bearer " * 40_000,
    "basic " + "a" * 200_000,
    "sk-" * 60_000,
    "sk-" + "a_" * 100_000,
    "'api_key': '" * 20_000,
    "/a" * 100_000,
    "1.1.1." * 40_000,
    "a-" * 100_000,
    "a." * 100_000,
    '"' * 200_000,
    "[:" * 100_000,
]


def test_no_text_takes_long_to_search() -> None:
    """200 kB of the worst there is, in a process that is given up on when it takes too long."""
    code = "import sys, json; from rtvc.hiding import without_places\n"
    code += "for text in json.load(sys.stdin): without_places(text)"
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(HOSTILE), text=True, timeout=60, check=False
    )
    assert done.returncode == 0
