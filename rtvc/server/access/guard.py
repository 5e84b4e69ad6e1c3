"""Decides who comes in: host, origin, key, scope, limits, in this order."""

import logging
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from rtvc.clock import Clock, SystemClock
from rtvc.config import AccessSettings
from rtvc.errors import UsageError
from rtvc.server.access.credentials import Credential, credential, header
from rtvc.server.access.denials import REASONS, Denied
from rtvc.server.access.keys import TALK, WATCH, Key, KeyRing, load_keys
from rtvc.server.access.limits import Limits, Who, network
from rtvc.server.access.origins import host_allowed, is_loopback, origin_allowed
from rtvc.server.access.tokens import Tokens
from rtvc.server.access.visits import POLICY_VIOLATION, Visit

_log = logging.getLogger(__name__)

TRANSCRIPTIONS = "/v1/audio/transcriptions"
_OPEN = frozenset(("/", "/favicon.ico", "/healthz", "/readyz", "/openapi.json"))
_OPEN_UNDER = "/static/"
_TALK = frozenset((TRANSCRIPTIONS, "/v1/realtime/client_secrets"))
_WATCH = frozenset(("/metrics", "/v1/sessions"))
_EITHER = frozenset((TALK, WATCH))
_READING = frozenset(("GET", "HEAD", "OPTIONS"))
_LOG_EVERY_S = 10.0


def scopes_for(scope: Any) -> frozenset[str] | None:
    """A key with one of them opens that door; None: it is open. What is not known is closed."""
    path = scope["path"]
    if scope["type"] == "websocket" or path in _TALK:
        return frozenset((TALK,))
    if path in _WATCH:
        return frozenset((WATCH,))
    return None if path in _OPEN or path.startswith(_OPEN_UNDER) else _EITHER


def check_exposure(settings: AccessSettings, host: str) -> None:
    """Whether the server may start as it is told to.

    Raises:
        UsageError: others could reach it and nobody would be asked for a key, or both at once.
    """
    if settings.keyed:
        if settings.open:
            raise UsageError("expected one of --open and keys (--keys-file), got both")
        if not len(load_keys(settings)):
            raise UsageError(
                f"{settings.keys_file} holds no keys: make one with "
                f"rtvc keys make NAME --file {settings.keys_file}"
            )
    elif not (settings.open or is_loopback(host)):
        raise UsageError(
            f"others can reach {host}, and nobody would be asked for a key: make one with rtvc "
            "keys make NAME --file keys.toml and add --keys-file keys.toml, or let everyone in "
            "with --open"
        )


class Access:
    """Shared by all requests; on the event loop."""

    def __init__(
        self,
        settings: AccessSettings | None = None,
        clock: Clock | None = None,
        *,
        host: str = "0.0.0.0",
        keys: KeyRing | None = None,
    ) -> None:
        """`settings` None: everyone may come in. `host` is the address that it listens on."""
        self.settings = settings or AccessSettings(open=True)
        self.clock = clock or SystemClock()
        self.keyed = self.settings.keyed or keys is not None
        """Whether callers need a key."""
        self._keys = keys or KeyRing()
        self.tokens = Tokens(self.clock, lambda name: self._keys.named(name))
        self.limits = Limits(self.settings)
        self.denied: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        """Requests that were not let in, by reason."""
        self.visits: set[Visit] = set()
        """Sessions that are open."""
        self._host = host
        self._checks_host = not self.keyed and is_loopback(host)
        self._logged_at_s: dict[str, float] = {}

    @classmethod
    def of(cls, settings: AccessSettings, clock: Clock, host: str) -> "Access":
        """As the settings want it.

        Raises:
            UsageError: the keys file won't do.
        """
        return cls(settings, clock, host=host, keys=load_keys(settings) if settings.keyed else None)

    # Coming in.

    def admit(self, scope: Any) -> Visit:
        """The visit of a request or a WebSocket; of the latter, `leave` has to follow.

        Raises:
            Denied: it may not come in.
        """
        address = network((scope.get("client") or (None,))[0])
        if not self.settings.open:
            self._check_page(scope)
        who, session, trusted = self._identified(scope, address)
        counted = self.limits.counts_audio(who)
        hear = partial(self._hear, who) if counted else None
        visit = Visit(who, trusted=trusted, session=session, hear=hear)
        if scope["type"] == "websocket":
            self.limits.connect(who, self.clock.now())
            self.limits.enter(who)
            self.visits.add(visit)
        elif scope["path"] == TRANSCRIPTIONS:
            self.limits.connect(who, self.clock.now())
        return visit

    def leave(self, visit: Visit) -> None:
        """A WebSocket has ended."""
        self.visits.discard(visit)
        self.limits.leave(visit.who)

    def note(self, denied: Denied, scope: Any) -> None:
        """Somebody was not let in: counted, and logged now and then."""
        self.denied[denied.reason] += 1
        now_s = self.clock.now()
        logged_at_s = self._logged_at_s.get(denied.reason)
        if logged_at_s is None or now_s - logged_at_s >= _LOG_EVERY_S:
            self._logged_at_s[denied.reason] = now_s
            address = (scope.get("client") or ("?",))[0]
            count = self.denied[denied.reason]
            _log.warning("refused %s: %s (%d so far)", address, denied.reason, count)

    def _hear(self, who: Who, seconds: float) -> None:
        self.limits.hear(who, seconds, self.clock.now())

    def _check_page(self, scope: Any) -> None:
        host, origins = header(scope, b"host"), self.settings.origins
        if self._checks_host and not host_allowed(host, self._host, origins):
            raise Denied(
                "foreign_host",
                "expected localhost as the host: this server is for its own machine "
                "(name others with --origin, or use --open)",
            )
        if scope["type"] == "http" and scope["method"] in _READING:
            return
        if not origin_allowed(header(scope, b"origin"), host, origins):
            raise Denied(
                "foreign_origin", "pages of that site may not call this server (see --origin)"
            )

    # Who it is.

    def _identified(self, scope: Any, address: str) -> tuple[Who, dict[str, Any] | None, bool]:
        """Whose request it is, the settings that its token brings, and whether to trust it."""
        needed, offered = scopes_for(scope), credential(scope)
        if not self.keyed:
            return Who(address), self._settings_of(offered), True
        if needed is None:
            key = self._known(offered, address)
            return Who(address, key), None, key is not None
        if offered is None:
            raise Denied("no_key", "expected a key: Authorization: Bearer KEY")
        key, session = self._believed(offered, address)
        if not needed & key.scopes or (offered.is_token and scope["type"] != "websocket"):
            what = "a client token opens sessions only" if offered.is_token else "not for this key"
            raise Denied("wrong_scope", what)
        return Who(address, key), session, True

    def _believed(self, offered: Credential, address: str) -> tuple[Key, dict[str, Any] | None]:
        now_s = self.clock.now()
        self.limits.check_address(address, now_s)
        token = self.tokens.find(offered.secret) if offered.is_token else None
        if token is not None:
            key = self._keys.named(token.key_name or "")
        elif offered.in_query or offered.is_token:
            key = None
        else:
            key = self._keys.find(offered.secret)
        if key is None:
            self.limits.wrong_key(address, now_s)
            message = "the key is not known"
            if offered.in_query and not offered.is_token:
                message = "expected a client token (ek_…) in ?token=, got something else"
            raise Denied("wrong_key", message)
        return key, None if token is None else token.session

    def _known(self, offered: Credential | None, address: str) -> Key | None:
        """At a door that is open: who shows a good key is told more."""
        if offered is None:
            return None
        try:
            return self._believed(offered, address)[0]
        except Denied:
            return None

    def _settings_of(self, offered: Credential | None) -> dict[str, Any] | None:
        """Without keys, tokens open nothing, but they bring their settings along."""
        if offered is None or not offered.is_token:
            return None
        with suppress(Denied):
            token = self.tokens.find(offered.secret)
            return None if token is None else token.session
        return None

    # What changes while the server runs.

    def use(self, settings: AccessSettings) -> None:
        """Other origins and limits, from now on; of a session that is open its times stay."""
        if settings != self.settings:
            self.settings = settings
            self.limits.use(settings)

    def reload(self) -> tuple[str, ...]:
        """Read the keys again; the names of those that are good no more, or for less. Their
        sessions are closed, and their tokens open no more than they do; limits of the others hold
        from their next session on.

        Raises:
            UsageError: the file won't do; the keys stay as they were.
        """
        if not self.settings.keyed:
            return ()
        newer = load_keys(self.settings)
        if not len(newer):
            raise UsageError(f"{self.settings.keys_file} holds no keys any more: expected one")
        revoked = self._keys.revoked_by(newer)
        self._keys = newer
        self.end(revoked)
        return revoked

    def end(self, key_names: Iterable[str]) -> None:
        """Close the sessions of these keys."""
        names = frozenset(key_names)
        for visit in [visit for visit in self.visits if visit.key_id in names]:
            visit.end(POLICY_VIOLATION, "the key was revoked")
