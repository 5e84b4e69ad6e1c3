"""How much one key, and one address, may take. Pure: time is handed in; memory is bounded."""

from collections import Counter, OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from rtvc.config import AccessSettings
from rtvc.server.access.denials import Denied
from rtvc.server.access.keys import Key

MAX_BUCKETS = 16_384
"""Callers that are remembered; the one that was quiet for longest is forgotten first."""
SESSIONS_RETRY_S = 5.0
UNKNOWN = "unknown"


def network(address: str | None) -> str:
    """What counts as one address: a caller of IPv6 has 2^64 of them.

    >>> network("192.0.2.7"), network("2001:db8:1:2:3::4"), network("::ffff:192.0.2.7")
    ('192.0.2.7', '2001:db8:1:2::/64', '192.0.2.7')
    """
    if not address:
        return UNKNOWN
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return UNKNOWN
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
    return str(parsed)


class Bucket:
    """Holds so much; what is taken comes back evenly."""

    __slots__ = ("_at_s", "_held", "_per_s", "_size")

    def __init__(self, size: float, period_s: float, now_s: float) -> None:
        self._size = self._held = size
        self._per_s = size / period_s
        self._at_s = now_s

    def fit(self, size: float, period_s: float) -> None:
        """From now on it holds so much; what part of it was taken stays taken."""
        if size != self._size:
            self._held *= size / self._size
            self._size = size
            self._per_s = size / period_s

    def wait_s(self, amount: float, now_s: float) -> float:
        """How long until so much can be taken; 0: now."""
        self._held = min(self._size, self._held + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        # More than it ever holds can be taken from a full one.
        return max(0.0, (min(amount, self._size) - self._held) / self._per_s)

    def take(self, amount: float, now_s: float) -> float:
        """Take so much if it is there; else how long until it is."""
        wait_s = self.wait_s(amount, now_s)
        if wait_s <= 0:
            self._held -= amount
        return wait_s


@dataclass(frozen=True, slots=True)
class Who:
    """Whose use is counted."""

    address: str
    """As `network` names it."""
    key: Key | None = None
    """None: nobody was asked for one."""


class Limits:
    """What callers have taken lately."""

    def __init__(self, settings: AccessSettings, *, max_buckets: int = MAX_BUCKETS) -> None:
        self._settings = settings
        self._max_buckets = max_buckets
        self._buckets: OrderedDict[tuple[str, str], Bucket] = OrderedDict()
        self._sessions: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        return len(self._buckets)

    def use(self, settings: AccessSettings) -> None:
        """From now on these hold; whoever used up what there was begins anew."""
        self._settings = settings
        self._buckets.clear()

    # Wrong keys.

    def wrong_key(self, address: str, now_s: float) -> None:
        """One was offered from there."""
        self._wrong_keys(address, now_s).take(1, now_s)

    def check_address(self, address: str, now_s: float) -> None:
        """Whether it may offer a key.

        Raises:
            Denied: it offered too many wrong ones.
        """
        if ("wrong", address) not in self._buckets:
            return
        wait_s = self._wrong_keys(address, now_s).wait_s(1, now_s)
        if wait_s > 0:
            message = "too many wrong keys came from this address"
            raise Denied("too_many_wrong_keys", message, retry_after_s=wait_s)

    def _wrong_keys(self, address: str, now_s: float) -> Bucket:
        return self._bucket("wrong", address, self._settings.wrong_keys_per_minute, 60, now_s)

    # Connects and sessions.

    def connect(self, who: Who, now_s: float) -> None:
        """A session or an upload begins.

        Raises:
            Denied: too many did.
        """
        for holder, most in self._holders(who, "connects_per_minute"):
            wait_s = self._bucket("connect", holder, most, 60, now_s).take(1, now_s)
            if wait_s > 0:
                message = f"expected at most {most:g} connects a minute"
                raise Denied("too_many_connects", message, retry_after_s=wait_s)

    def enter(self, who: Who) -> None:
        """A session opens; `leave` has to follow.

        Raises:
            Denied: too many are open.
        """
        key_most = who.key.max_sessions if who.key else None
        bounds = [(_of_key(who), key_most), (who.address, self._settings.sessions_per_address)]
        for holder, most in bounds:
            if most is not None and self._sessions["session", holder] >= most:
                message = f"expected at most {most} sessions at once"
                raise Denied("too_many_sessions", message, retry_after_s=SESSIONS_RETRY_S)
        for holder, _ in bounds:
            self._sessions["session", holder] += 1

    def leave(self, who: Who) -> None:
        """A session has ended."""
        for holder in (_of_key(who), who.address):
            self._sessions["session", holder] -= 1
            if self._sessions["session", holder] <= 0:
                del self._sessions["session", holder]

    # Audio.

    def counts_audio(self, who: Who) -> bool:
        """Whether there is a limit at all."""
        return bool(self._holders(who, "audio_s_per_hour"))

    def hear(self, who: Who, seconds: float, now_s: float) -> None:
        """So much audio came.

        Raises:
            Denied: more than was allowed.
        """
        for holder, most in self._holders(who, "audio_s_per_hour"):
            wait_s = self._bucket("audio", holder, most, 3600, now_s).take(seconds, now_s)
            if wait_s > 0:
                message = f"expected at most {most:g} s of audio an hour"
                raise Denied("too_much_audio", message, retry_after_s=wait_s)

    def _holders(self, who: Who, field: str) -> list[tuple[str, float]]:
        """Who has such a limit, and which."""
        bounds = [
            (_of_key(who), getattr(who.key, field, None)),
            (who.address, getattr(self._settings, field)),
        ]
        return [(holder, most) for holder, most in bounds if most is not None]

    def _bucket(self, kind: str, holder: str, size: float, period_s: float, now_s: float) -> Bucket:
        place = (kind, holder)
        bucket = self._buckets.get(place)
        if bucket is None:
            bucket = self._buckets[place] = Bucket(size, period_s, now_s)
        # A key's limits may be others than at the last time.
        bucket.fit(size, period_s)
        self._buckets.move_to_end(place)
        while len(self._buckets) > self._max_buckets:
            self._buckets.popitem(last=False)
        return bucket


def _of_key(who: Who) -> str:
    """No address has such a name."""
    return f"key {who.key.name}" if who.key else "no key"
