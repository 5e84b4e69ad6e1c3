"""What a reload can change while the server runs, and what needs a restart; pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from rtvc.config import Settings


class When(Enum):
    """From when on a changed setting holds."""

    AT_ONCE = "at once"
    NEW_SESSIONS = "for new sessions"
    NEW_REPLIES = "for new replies"
    RESTART = "after a restart"


_SECTIONS = {
    "turn": When.NEW_SESSIONS,
    "llm": When.NEW_REPLIES,
    "tts": When.NEW_REPLIES,
    "access": When.AT_ONCE,
    "cloud": When.AT_ONCE,
}
"""Where all of a section can change alike."""
_SETTINGS = {
    "access.keys_file": When.RESTART,
    "access.key": When.RESTART,
    "access.open": When.RESTART,
    "access.proxies": When.RESTART,
    "access.head_s": When.RESTART,
    "access.max_connections": When.RESTART,
    "access.connections_per_address": When.RESTART,
    "access.idle_s": When.NEW_SESSIONS,
    "access.session_s": When.NEW_SESSIONS,
    "access.messages_per_s": When.NEW_SESSIONS,
    "serve.max_sessions": When.AT_ONCE,
    "serve.admission": When.AT_ONCE,
    "serve.audio_queue_s": When.NEW_SESSIONS,
    "serve.send_timeout_s": When.NEW_SESSIONS,
    "serve.max_upload_mb": When.AT_ONCE,
    "serve.max_file_s": When.AT_ONCE,
    "serve.shutdown_s": When.AT_ONCE,
    "serve.stop_idle_s": When.AT_ONCE,
    "serve.last_final_s": When.AT_ONCE,
    "stt.language": When.NEW_SESSIONS,
    "stt.prompt": When.NEW_SESSIONS,
    "stt.hotwords": When.NEW_SESSIONS,
    "stt.delay_target_ms": When.AT_ONCE,
    "llm.system": When.NEW_SESSIONS,
    "cloud.provider": When.RESTART,
    "cloud.group": When.RESTART,
}
"""All others need a restart. What the keys file holds is read again."""


@dataclass(frozen=True, slots=True)
class Change:
    """One setting that is not what it was."""

    section: str
    """Of rtvc.toml."""
    key: str
    """Within it."""
    before: Any
    """Value in effect."""
    after: Any
    """Value that was read."""

    @property
    def name(self) -> str:
        return f"{self.section}.{self.key}"

    @property
    def when(self) -> When:
        return when(self.section, self.key)

    def __str__(self) -> str:
        """Only figures are shown: a text may hold what is nobody else's business.

        >>> str(Change("serve", "max_sessions", 32, 64))
        'serve.max_sessions 32 → 64'
        >>> str(Change("llm", "url", "http://me:secret@one", "http://two"))
        'llm.url'
        """
        values = (self.before, self.after)
        shown = all(isinstance(value, int | float) for value in values)
        return f"{self.name} {self.before} → {self.after}" if shown else self.name


def when(section: str, key: str) -> When:
    """From when on a change of this setting holds."""
    return _SETTINGS.get(f"{section}.{key}", _SECTIONS.get(section, When.RESTART))


def changes(before: Settings, after: Settings) -> list[Change]:
    """Every setting that differs."""
    return [
        Change(section, key, old, new)
        for section, key in _all()
        if (old := _of(before, section, key)) != (new := _of(after, section, key))
    ]


def in_effect(before: Settings, after: Settings) -> Settings:
    """The settings that hold after a reload: what needs a restart stays as it was."""
    kept: dict[str, dict[str, Any]] = {}
    for change in changes(before, after):
        if change.when is When.RESTART:
            kept.setdefault(change.section, {})[change.key] = change.before
    sections = {
        section: getattr(after, section).model_copy(update=update)
        for section, update in kept.items()
    }
    return after.model_copy(update=sections)


def told(found: list[Change]) -> str:
    """What a reload did, in one line.

    >>> told([Change("serve", "max_sessions", 32, 64), Change("serve", "port", 8000, 80)])
    'changed: serve.max_sessions 32 → 64; only after a restart: serve.port 8000 → 80'
    """
    live = [str(change) for change in found if change.when is not When.RESTART]
    later = [str(change) for change in found if change.when is When.RESTART]
    parts = []
    if live:
        parts.append(f"changed: {', '.join(live)}")
    if later:
        parts.append(f"only after a restart: {', '.join(later)}")
    return "; ".join(parts) or "no setting changed"


def markdown_table() -> str:
    """Which setting changes when, for `docs/operations.md`."""
    by_when: dict[When, list[str]] = {kind: [] for kind in When}
    for section, keys in _by_section().items():
        for kind in When:
            matching = [key for key in keys if when(section, key) is kind]
            shown = ", ".join(f"`{key}`" for key in matching)
            if matching:
                by_when[kind].append(f"{section}: {shown}")
    lines = ["| A change holds | Settings |", "|---|---|"]
    lines += [f"| {kind.value} | {'; '.join(names)} |" for kind, names in by_when.items()]
    return "\n".join(lines)


def _by_section() -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {}
    for section, key in _all():
        sections.setdefault(section, []).append(key)
    return sections


def _all() -> Iterator[tuple[str, str]]:
    for section, about in Settings.model_fields.items():
        for key in getattr(about.annotation, "model_fields", {}):
            yield section, key


def _of(settings: Settings, section: str, key: str) -> Any:
    return getattr(getattr(settings, section), key)
