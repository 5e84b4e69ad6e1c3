"""What a reload can change, what it leaves for a restart, and what it says of both."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from rtvc.config import Settings, load_settings
from rtvc.server.lifecycle.changes import When, changes, in_effect, markdown_table, told, when

DOCUMENT = Path(__file__).parent.parent / "docs" / "operations.md"


def settings(**sections: dict[str, Any]) -> Settings:
    return load_settings(sections, environment={}, toml=Path("/dev/null"))


@pytest.mark.parametrize(
    ("section", "key", "expected"),
    [
        ("serve", "max_sessions", When.AT_ONCE),
        ("serve", "admission", When.AT_ONCE),
        ("serve", "send_timeout_s", When.NEW_SESSIONS),
        ("serve", "port", When.RESTART),
        ("serve", "inject", When.RESTART),
        ("serve", "instruments", When.RESTART),
        ("serve", "otel_endpoint", When.RESTART),
        ("stt", "model", When.RESTART),
        ("stt", "workers", When.RESTART),
        ("stt", "sharing", When.RESTART),
        ("stt", "hotwords", When.NEW_SESSIONS),
        ("stt", "delay_target_ms", When.AT_ONCE),
        ("turn", "silence_ms", When.NEW_SESSIONS),
        ("llm", "url", When.NEW_REPLIES),
        ("tts", "voice", When.NEW_REPLIES),
        ("access", "origins", When.AT_ONCE),
        ("access", "keys_file", When.RESTART),
        ("cloud", "capacity", When.AT_ONCE),
        ("cloud", "idle_before_unprotected_s", When.AT_ONCE),
        ("cloud", "deregistration_delay_s", When.AT_ONCE),
        ("cloud", "provider", When.RESTART),
        ("cloud", "group", When.RESTART),
        ("nothing", "known", When.RESTART),
    ],
)
def test_when_a_change_holds(section: str, key: str, expected: When) -> None:
    assert when(section, key) is expected


def test_nothing_changes_when_nothing_is_different() -> None:
    same = settings(serve={"max_sessions": 4})
    assert changes(same, same) == []
    assert in_effect(same, same) == same
    assert told([]) == "no setting changed"


def test_what_needs_a_restart_stays_as_it_was_and_the_rest_does_not() -> None:
    before = settings(serve={"max_sessions": 4}, stt={"model": "tiny.en"})
    after = settings(
        serve={"max_sessions": 9, "port": 81},
        stt={"model": "base.en", "hotwords": "Ada"},
        turn={"silence_ms": 400},
        llm={"max_tokens": 20},
    )
    held = in_effect(before, after)
    assert (held.serve.max_sessions, held.serve.port) == (9, before.serve.port)
    assert (held.stt.model, held.stt.hotwords) == ("tiny.en", "Ada")
    assert (held.turn.silence_ms, held.llm.max_tokens) == (400, 20)
    # What was left for a restart is still found by the next reload, and nothing else.
    assert {change.name for change in changes(held, after)} == {"serve.port", "stt.model"}


def test_a_line_tells_both_kinds_apart() -> None:
    before = settings()
    after = settings(serve={"max_sessions": 9, "port": 81}, tts={"voice": "nova"})
    assert told(changes(before, after)) == (
        "changed: serve.max_sessions 32 → 9, tts.voice; only after a restart: serve.port 8000 → 81"
    )


def test_no_secret_and_no_text_is_shown() -> None:
    before = settings()
    after = settings(
        llm={"api_key": "sk-very-secret", "url": "http://me:pass-word@host/v1"},
        tts={"api_key": "tk-very-secret"},
        stt={"prompt": "the patient's name is"},
        serve={"otel_endpoint": "http://user:hush@collector"},
    )
    found = changes(before, after)
    assert isinstance(after.llm.api_key, SecretStr)
    assert {change.name for change in found} == {
        *("llm.api_key", "llm.url", "tts.api_key", "stt.prompt", "serve.otel_endpoint")
    }
    line = told(found)
    for private in ("secret", "pass-word", "patient", "hush"):
        assert private not in line


def test_the_documentation_shows_the_table() -> None:
    assert markdown_table() in DOCUMENT.read_text("utf-8")


def test_every_setting_is_in_the_table_once() -> None:
    for section, about in Settings.model_fields.items():
        for key in getattr(about.annotation, "model_fields", {}):
            rows = [row for row in markdown_table().splitlines() if f"{section}: " in row]
            assert sum(f"`{key}`" in _of_section(row, section) for row in rows) == 1


def _of_section(row: str, section: str) -> str:
    return next(part for part in row.replace("|", ";").split("; ") if f"{section}: " in f" {part}")
