"""Keys, tokens, origins and limits, without a server: time is handed in."""

import hashlib
import random
import string
import tomllib
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from rtvc.cli import build_app
from rtvc.clock import FakeClock
from rtvc.config import AccessSettings, load_settings
from rtvc.errors import UsageError
from rtvc.server.access.credentials import Credential, credential
from rtvc.server.access.denials import REASONS, Denied
from rtvc.server.access.guard import Access, check_exposure, scopes_for
from rtvc.server.access.keys import Key, KeyRing, entry, hashed, load_keys, new_key, read_keys
from rtvc.server.access.limits import Bucket, Limits, Who, network
from rtvc.server.access.origins import host_allowed, origin_allowed
from rtvc.server.access.tokens import MAX_CHARS, Token, Tokens, TooLong

SECRET = "rtvc_" + "k" * 43
ADDRESS = "192.0.2.7"


def request(path: str, kind: str = "http", method: str = "GET", **headers: str) -> dict[str, Any]:
    """An ASGI scope; a header's underscores are dashes."""
    path, _, query = path.partition("?")
    protocols = headers.pop("protocols", "")
    return {
        "type": kind,
        "path": path,
        "method": method,
        "query_string": query.encode(),
        "headers": [
            (b"host", b"localhost:8000"),
            *((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()),
        ],
        "client": (ADDRESS, 40_000),
        "subprotocols": protocols.split() if protocols else [],
    }


def socket(path: str = "/v1/realtime", **headers: str) -> dict[str, Any]:
    return request(path, "websocket", **headers)


def bearer(secret: str) -> str:
    return f"Bearer {secret}"


def access(clock: FakeClock | None = None, **settings: Any) -> Access:
    """With one key, "ada"."""
    keys = KeyRing([Key("ada", hashed(SECRET), **settings.pop("key", {}))])
    chosen = AccessSettings(**settings)
    return Access(chosen, clock or FakeClock(), host="0.0.0.0", keys=keys)


def denial(door: Access, scope: dict[str, Any]) -> Denied:
    with pytest.raises(Denied) as caught:
        door.admit(scope)
    return caught.value


# Keys.


def test_a_key_is_kept_as_its_hash_and_found_again() -> None:
    ring = KeyRing([Key("ada", hashed(SECRET)), Key("bob", hashed(new_key()))])
    found = ring.find(SECRET)
    assert found is not None
    assert found.name == "ada"
    assert found.sha256 == hashlib.sha256(SECRET.encode()).hexdigest()
    assert ring.find(SECRET[:-1]) is None
    assert ring.find("") is None
    assert ring.find(hashed(SECRET)) is None


def test_a_lone_surrogate_is_a_wrong_key_and_no_crash() -> None:
    assert KeyRing([Key("ada", hashed(SECRET))]).find("\ud800") is None


def test_every_key_is_another() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) == 48 for key in keys)


def file_of(folder: Path, text: str) -> Path:
    path = folder / "keys.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_of_keys(tmp_path: Path) -> None:
    more = (
        'scopes = ["watch"]\nmax_sessions = 3\nconnects_per_minute = 9\naudio_s_per_hour = 60.5\n'
    )
    path = file_of(tmp_path, entry("ada", SECRET) + entry("grafana", "x" * 20) + more)
    ada, grafana = read_keys(path)
    assert (ada.name, ada.max_sessions) == ("ada", None)
    assert ada.scopes == frozenset(["talk", "watch"])
    assert grafana == Key("grafana", hashed("x" * 20), frozenset(["watch"]), 3, 9, 60.5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f'[keys.ada]\nsha256 = "{SECRET}"', "[keys.ada] sha256: expected 64 hexadecimal"),
        ("[keys.ada]\n", "[keys.ada] sha256: expected 64 hexadecimal"),
        (f'[keys.ada]\nkey = "{SECRET}"', "[keys.ada]: unknown field key, expected one of sha256"),
        (f'[keys.ada]\n{SECRET} = "x"', "[keys.ada]: unknown field, expected one of sha256"),
        (f'keys = "{SECRET}"', "expected nothing but tables [keys.NAME]"),
        (f'key = "{SECRET}"', "expected nothing but tables [keys.NAME]"),
        (f'[keys]\nada = "{SECRET}"', "[keys.ada]: expected a table with sha256"),
        (f'[keys."{SECRET} "]\nsha256 = "x"', "expected names of up to 64 letters"),
        (entry("ada", SECRET) + 'scopes = ["root"]', "[keys.ada] scopes: expected a list of talk"),
        (entry("ada", SECRET) + "scopes = []", "[keys.ada] scopes: expected a list of talk"),
        (entry("ada", SECRET) + "max_sessions = 0", "[keys.ada] max_sessions: expected a whole"),
        (entry("ada", SECRET) + "max_sessions = true", "[keys.ada] max_sessions: expected a whole"),
        (entry("ada", SECRET) + "max_sessions = 1.5", "[keys.ada] max_sessions: expected a whole"),
        (entry("ada", SECRET) + 'audio_s_per_hour = "x"', "audio_s_per_hour: expected a number"),
        (entry("ada", SECRET) + "audio_s_per_hour = nan", "audio_s_per_hour: expected a number"),
        (f"[keys.ada]\nsha256 = {SECRET}", "is not valid TOML at line 2"),
    ],
)
def test_a_bad_file_is_explained_without_its_values(
    tmp_path: Path, text: str, expected: str
) -> None:
    with pytest.raises(UsageError) as error:
        read_keys(file_of(tmp_path, text))
    said = str(error.value)
    assert expected in said
    assert "keys.toml" in said
    assert "\n" not in said
    assert SECRET not in said


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the keys in .*none.toml: No such file"):
        read_keys(tmp_path / "none.toml")


@pytest.mark.parametrize(("mode", "good"), [(0o600, True), (0o664, True), (0o646, False)])
def test_a_file_that_anyone_may_write_to_is_no_list_of_keys(
    tmp_path: Path, mode: int, good: bool
) -> None:
    file = file_of(tmp_path, entry("ada", SECRET))
    file.chmod(mode)
    if good:
        assert len(read_keys(file)) == 1
    else:
        with pytest.raises(UsageError, match=r"not everybody may write to, got mode 0646"):
            read_keys(file)


def test_the_key_of_the_environment(tmp_path: Path) -> None:
    settings = load_settings(environment={"RTVC_ACCESS_KEY": SECRET}, toml=file_of(tmp_path, ""))
    found = load_keys(settings.access).find(SECRET)
    assert found is not None
    assert found.name == "environment"
    for shown in (repr(settings), str(settings.public()), settings.model_dump_json()):
        assert SECRET not in shown


def test_a_short_key_of_the_environment_is_refused_and_not_shown() -> None:
    with pytest.raises(UsageError) as error:
        load_settings(environment={"RTVC_ACCESS_KEY": "hunter2"})
    assert str(error.value) == "RTVC_ACCESS_KEY: expected a key of at least 16 characters"


@pytest.mark.parametrize("origin", ["voice.example", "https://voice.example/", "ftp://x", "*"])
def test_an_origin_is_a_scheme_and_a_host(origin: str) -> None:
    with pytest.raises(UsageError, match="expected origins such as"):
        load_settings({"access": {"origins": [origin]}}, environment={})


# rtvc keys.


def keys_make(*words: str) -> Any:
    line = ["keys", "make", *words]
    return CliRunner().invoke(build_app(line), line, catch_exceptions=True)


def test_keys_make_prints_the_key_once_and_keeps_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    first, second = (keys_make(name, "--file", str(path)) for name in ("ada", "bob"))
    assert (first.exit_code, second.exit_code) == (0, 0)
    secret = first.stdout.strip()
    text = path.read_text(encoding="utf-8")
    assert secret not in text
    assert tomllib.loads(text)["keys"]["ada"] == {"sha256": hashed(secret)}
    assert path.stat().st_mode & 0o777 == 0o600
    ring = KeyRing(read_keys(path))
    assert [ring.find(one.stdout.strip()) for one in (first, second)] == read_keys(path)


def test_keys_make_keeps_what_is_there(tmp_path: Path) -> None:
    path = file_of(tmp_path, "# mine\n" + entry("ada", SECRET))
    again = keys_make("ada", "--file", str(path))
    assert isinstance(again.exception, UsageError)
    assert "has a key named ada already" in str(again.exception)
    assert keys_make("bob", "--file", str(path)).exit_code == 0
    assert path.read_text(encoding="utf-8").startswith("# mine\n")
    assert [key.name for key in read_keys(path)] == ["ada", "bob"]


@pytest.mark.parametrize("name", ["", "a b", "ä", "../x", "x" * 65, "environment"])
def test_keys_make_wants_a_plain_name(tmp_path: Path, name: str) -> None:
    made = keys_make(name, "--file", str(tmp_path / "keys.toml"))
    assert isinstance(made.exception, UsageError)
    assert not (tmp_path / "keys.toml").exists()


# May the server start?


def test_beyond_loopback_it_is_closed_or_open_on_purpose(tmp_path: Path) -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.8.8.8"):
        check_exposure(AccessSettings(), host)
    for host in ("0.0.0.0", "::", "192.0.2.1", "voice.example"):
        with pytest.raises(UsageError, match=r"rtvc keys make.*--open"):
            check_exposure(AccessSettings(), host)
        check_exposure(AccessSettings(open=True), host)
        keys = file_of(tmp_path, entry("ada", SECRET))
        check_exposure(AccessSettings(keys_file=keys), host)


def test_keys_and_open_exclude_each_other(tmp_path: Path) -> None:
    keys = file_of(tmp_path, entry("ada", SECRET))
    with pytest.raises(UsageError, match="--open and keys"):
        check_exposure(AccessSettings(keys_file=keys, open=True), "127.0.0.1")
    with pytest.raises(UsageError, match="holds no keys"):
        check_exposure(AccessSettings(keys_file=file_of(tmp_path, "")), "127.0.0.1")


# Credentials.


def test_where_a_credential_may_stand() -> None:
    assert credential(request("/")) is None
    assert credential(request("/", authorization="Basic x")) is None
    assert credential(request("/", authorization="Bearer ")) is None
    for scheme in ("Bearer", "bearer"):
        assert credential(request("/", authorization=f"{scheme}  abc ")) == Credential("abc")
    offered = socket(protocols="realtime openai-insecure-api-key.ek_1 openai-beta.realtime-v1")
    assert credential(offered) == Credential("ek_1")
    assert credential(socket("/ws?token=ek_2")) == Credential("ek_2", in_query=True)
    assert "ek_2" not in repr(credential(socket("/ws?token=ek_2")))


# Origins and hosts.


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        (None, "box:8000", True),
        ("http://box:8000", "box:8000", True),
        ("http://BOX:8000", "box:8000", True),
        ("https://box", "box", True),
        ("https://box:443", "box", True),
        ("http://box", "box:80", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("https://named.example", "box:8000", True),
        ("http://named.example", "box:8000", False),
        ("http://box:8001", "box:8000", False),
        ("http://box.evil.example:8000", "box:8000", False),
        ("http://evil.example", "box:8000", False),
        ("http://box:8000@evil.example", "box:8000", False),
        ("http://evil.example/box:8000", "box:8000", False),
        ("null", "box:8000", False),
        ("", "box:8000", False),
        ("file://", "box:8000", False),
        ("http://box:x", "box:x", False),
        ("http://box", None, False),
    ],
)
def test_which_pages_may_call(origin: str | None, host: str | None, allowed: bool) -> None:
    assert origin_allowed(origin, host, ("https://named.example",)) is allowed


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("LOCALHOST:9", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("127.0.0.2:8000", True),
        ("named.example:1", True),
        (None, True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("evil.example@localhost", False),
        ("", False),
        ("a b", False),
    ],
)
def test_under_which_names_a_local_server_may_be_called(host: str | None, allowed: bool) -> None:
    assert host_allowed(host, "127.0.0.2", ("https://named.example",)) is allowed


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_origin_or_host_breaks_the_check(origin: str, host: str) -> None:
    assert isinstance(origin_allowed(origin, host, ()), bool)
    assert isinstance(host_allowed(host, "127.0.0.1", ()), bool)


# Limits.


def test_a_bucket_refills_evenly() -> None:
    bucket = Bucket(60, 60, 0.0)
    assert bucket.take(60, 0.0) == 0
    assert bucket.take(1, 0.0) == pytest.approx(1.0)
    assert bucket.take(1, 0.5) == pytest.approx(0.5)
    assert bucket.take(1, 1.0) == 0
    assert bucket.take(61, 1000.0) == 0
    assert bucket.take(1, 1000.0) == pytest.approx(2.0)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 100)), max_size=50))
def test_no_bucket_gives_more_than_it_may(steps: list[tuple[float, float]]) -> None:
    bucket, now_s, taken = Bucket(10, 60, 0.0), 0.0, 0.0
    for amount, later_s in steps:
        now_s += later_s
        if bucket.take(amount, now_s) <= 0:
            taken += amount
    assert taken <= 10 + now_s * 10 / 60 + 1e-6


def test_addresses_that_count_as_one() -> None:
    assert network("2001:db8:1:2:aaaa::1") == network("2001:db8:1:2:bbbb::2")
    assert network("2001:db8:1:3::1") != network("2001:db8:1:2::1")
    assert network("fe80::1%eth0") == "fe80::/64"
    assert network(None) == network("") == network("testclient") == "unknown"


def test_sessions_at_once_by_key_and_by_address() -> None:
    limits = Limits(AccessSettings(sessions_per_address=2))
    ada = Key("ada", "", max_sessions=1)
    limits.enter(Who("a", ada))
    with pytest.raises(Denied, match="at most 1 sessions"):
        limits.enter(Who("b", ada))
    limits.enter(Who("a", Key("bob", "")))
    with pytest.raises(Denied, match="at most 2 sessions"):
        limits.enter(Who("a", Key("eve", "")))
    limits.leave(Who("a", ada))
    limits.enter(Who("a", ada))


def test_connects_a_minute_by_key_and_by_address() -> None:
    limits = Limits(AccessSettings(connects_per_minute=3))
    who = Who("a", Key("ada", "", connects_per_minute=2))
    limits.connect(who, 0.0)
    limits.connect(who, 0.0)
    with pytest.raises(Denied) as error:
        limits.connect(who, 0.0)
    assert (error.value.reason, error.value.status) == ("too_many_connects", 429)
    assert error.value.headers == {"Retry-After": "30"}
    limits.connect(Who("a"), 0.0)
    with pytest.raises(Denied):
        limits.connect(Who("a"), 0.0)
    limits.connect(Who("b"), 0.0)
    limits.connect(who, 30.0)


def test_audio_an_hour() -> None:
    limits = Limits(AccessSettings(audio_s_per_hour=100))
    assert limits.counts_audio(Who("a"))
    limits.hear(Who("a"), 60, 0.0)
    with pytest.raises(Denied, match="100 s of audio an hour") as error:
        limits.hear(Who("a"), 60, 0.0)
    assert error.value.reason == "too_much_audio"
    limits.hear(Who("a"), 60, error.value.retry_after_s or 0.0)
    assert not Limits(AccessSettings()).counts_audio(Who("a", Key("ada", "")))


def test_other_limits_of_a_key_hold_and_give_nothing_away() -> None:
    limits = Limits(AccessSettings())
    few = Who("a", Key("ada", "", audio_s_per_hour=100))
    many = Who("a", Key("ada", "", audio_s_per_hour=1000))
    limits.hear(few, 100, 0.0)
    with pytest.raises(Denied):
        limits.hear(few, 10, 0.0)
    # While sessions from before the change are still open, both are asked in turn.
    for who in (many, few, many):
        with pytest.raises(Denied):
            limits.hear(who, 10, 0.0)
    limits.hear(many, 500, 3600.0)
    limits.hear(many, 400, 3600.0)
    with pytest.raises(Denied, match="at most 100 s"):
        limits.hear(few, 20, 3600.0)


def test_callers_without_number_take_no_more_memory() -> None:
    limits = Limits(AccessSettings(), max_buckets=100)
    for number in range(10_000):
        limits.wrong_key(f"10.0.{number // 256}.{number % 256}", number / 1000)
        limits.connect(Who(f"10.1.{number // 256}.{number % 256}"), number / 1000)
    assert len(limits) == 100


# Tokens.


def test_a_token_is_good_for_its_time() -> None:
    clock = FakeClock()
    tokens = tokens_of("ada", clock=clock)
    value = tokens.make("ada", 10, {"type": "realtime"})
    assert value.startswith("ek_")
    assert tokens.find(value) == Token("ada", {"type": "realtime"})
    clock.advance(9.9)
    assert tokens.find(value) is not None
    clock.advance(0.1)
    with pytest.raises(Denied) as error:
        tokens.find(value)
    assert error.value.reason == "expired_token"


def tokens_of(*names: str, secret: str = SECRET, clock: FakeClock | None = None) -> Tokens:
    """A server's, that knows keys of these names."""
    keys = {name: Key(name, hashed(f"{secret}{name}")) for name in names}
    return Tokens(clock or FakeClock(), keys.get)


def test_servers_with_the_same_keys_know_each_others_tokens() -> None:
    value = tokens_of("ada", "bob").make("ada", 60, {"type": "transcription"})
    assert tokens_of("ada").find(value) == Token("ada", {"type": "transcription"})
    assert tokens_of("bob").find(value) is None
    assert tokens_of("ada", secret="another").find(value) is None


def test_two_tokens_for_the_same_have_nothing_in_common() -> None:
    one, other = (tokens_of("ada").make("ada", 60, {"type": "realtime"}) for _ in range(2))
    # What follows Fernet's version and time, which is in whole seconds.
    assert one[15:-4] != other[15:-4]


def test_no_letter_of_a_token_can_be_another() -> None:
    tokens = tokens_of("ada", "bob")
    value = tokens.make("ada", 60, {"type": "realtime"})
    sealed, _, _ = value.removeprefix("ek_").partition(".")
    # The last letter of base64 has bits to spare.
    for place in range(len(sealed) - 1):
        other = "B" if sealed[place] == "A" else "A"
        assert tokens.find(f"ek_{sealed[:place]}{other}{sealed[place + 1 :]}.ada") is None
    assert tokens.find(f"ek_{sealed}.bob") is None


@pytest.mark.parametrize(
    "value",
    ["ek_", "ek_.", "ek_.ada", "ek_x.ada", "ek_é.ada", "ek_ada", "ek_x.\ud800", "ek_gAAAA.ada"],
)
def test_what_is_no_token_stands_for_nothing(value: str) -> None:
    assert tokens_of("ada").find(value) is None


@pytest.mark.parametrize("letters", [40, 60, 100, 4000, 1_000_000])
def test_letters_enough_for_a_token_stand_for_nothing(letters: int) -> None:
    assert tokens_of("ada").find(f"ek_gAAAA{'A' * letters}.ada") is None


def test_a_token_is_written_in_one_way() -> None:
    tokens = tokens_of("ada")
    value = tokens.make("ada", 60, {"type": "realtime"})
    for place in (3, 4, 50, len(value) - 4):
        for more in ("=", " ", "+", "\n", "é"):
            assert tokens.find(value[:place] + more + value[place:]) is None
    assert tokens.find(f"{value}\n") is None


def test_who_has_a_key_can_seal_anything_and_it_opens_nothing() -> None:
    tokens = tokens_of("ada")
    seal = tokens._seal("ada")
    assert seal is not None

    def found(packed: bytes) -> Token | None:
        return tokens.find(f"ek_{seal.encrypt(packed).decode().rstrip('=')}.ada")

    good = b'{"until_s": 9999999999, "session": {"type": "realtime"}}'
    assert found(zlib.compress(good)) == Token("ada", {"type": "realtime"})
    deep = b'{"until_s": 9999999999, "session": {"type": ' + b"[" * 9999 + b"]" * 9999 + b"}}"
    for told in (
        *(b"", b"[]", b"7", b"\xff", b"[" * 99_999, good[:-1], deep, b" " * 2_000_000 + good),
        *(b'{"until_s": 9999999999, "session": []}', b'{"session": {"type": "realtime"}}'),
        *(good.replace(b"9999999999", other) for other in (b"NaN", b"1e999", b'"x"', b"null")),
    ):
        assert found(zlib.compress(told)) is None
    for packed in (b"", b"not packed", zlib.compress(good)[:-20]):
        assert found(packed) is None


def test_a_token_is_of_the_key_that_made_it_though_another_is_the_same() -> None:
    keys = {name: Key(name, hashed(SECRET)) for name in ("ada", "bob")}
    tokens = Tokens(FakeClock(), keys.get)
    value = tokens.make("ada", 60, {"type": "realtime"})
    assert tokens.find(value.removesuffix("ada") + "bob") is None


def test_a_token_stays_within_a_line() -> None:
    tokens = tokens_of("ada")
    letters = random.Random(0)
    words = "".join(letters.choices("abcdefghijklmnopqrstuvwxyz", k=4000))
    value = tokens.make("ada", 60, {"type": "realtime", "instructions": words[:3000]})
    assert len(value) <= MAX_CHARS
    assert not set(value) - set(string.ascii_letters + string.digits + "_-.")
    with pytest.raises(TooLong, match="expected settings that fit into 4096 characters, got"):
        tokens.make("ada", 60, {"type": "realtime", "instructions": words + words[::-1]})


def test_without_keys_a_token_is_good_where_it_was_made() -> None:
    tokens = tokens_of()
    value = tokens.make(None, 60, {"type": "realtime"})
    assert tokens.find(value) == Token(None, {"type": "realtime"})
    assert tokens_of().find(value) is None


def test_a_key_that_is_not_there_makes_no_token() -> None:
    with pytest.raises(KeyError):
        tokens_of("ada").make("bob", 60, {})


# The door.


@pytest.mark.parametrize(
    ("path", "kind", "opened_by"),
    [
        ("/", "http", None),
        ("/healthz", "http", None),
        ("/readyz", "http", None),
        ("/static/app.js", "http", None),
        ("/v1/realtime", "websocket", {"talk"}),
        ("/ws", "websocket", {"talk"}),
        ("/", "websocket", {"talk"}),
        ("/static/x", "websocket", {"talk"}),
        ("/v1/audio/transcriptions", "http", {"talk"}),
        ("/v1/realtime/client_secrets", "http", {"talk"}),
        ("/metrics", "http", {"watch"}),
        ("/v1/sessions", "http", {"watch"}),
        ("/v1/models", "http", {"talk", "watch"}),
        ("/metrics/", "http", {"talk", "watch"}),
        ("//metrics", "http", {"talk", "watch"}),
        ("/anything/new", "http", {"talk", "watch"}),
    ],
)
def test_what_a_door_wants(path: str, kind: str, opened_by: set[str] | None) -> None:
    assert scopes_for(request(path, kind)) == opened_by


def test_nobody_without_a_key_where_there_are_keys() -> None:
    door = access()
    for scope in (socket(), request("/metrics"), request("/v1/sessions"), request("/new")):
        refused = denial(door, scope)
        assert (refused.reason, refused.status) == ("no_key", 401)
        assert refused.headers == {"WWW-Authenticate": "Bearer"}
    assert not door.admit(request("/readyz")).trusted
    assert door.admit(request("/readyz", authorization=bearer(SECRET))).trusted


def test_a_good_key_comes_in_and_is_named() -> None:
    door = access()
    visit = door.admit(socket(authorization=bearer(SECRET)))
    assert (visit.key_id, visit.trusted, visit.session) == ("ada", True, None)
    assert door.visits == {visit}
    door.leave(visit)
    assert not door.visits
    assert door.admit(socket(protocols=f"openai-insecure-api-key.{SECRET}")).key_id == "ada"


def test_a_key_never_stands_in_an_address() -> None:
    door = access()
    assert denial(door, socket(f"/ws?token={SECRET}")).reason == "wrong_key"
    value = door.tokens.make("ada", 60, {"type": "realtime"})
    assert door.admit(socket(f"/ws?token={value}")).key_id == "ada"


def test_a_token_opens_sessions_only() -> None:
    door = access()
    value = door.tokens.make("ada", 60, {"type": "transcription"})
    assert door.admit(socket(authorization=bearer(value))).session == {"type": "transcription"}
    for path in ("/v1/realtime/client_secrets", "/v1/audio/transcriptions"):
        refused = denial(door, request(path, method="POST", authorization=bearer(value)))
        assert (refused.reason, refused.status) == ("wrong_scope", 403)
    assert denial(door, request("/metrics", authorization=bearer(value))).reason == "wrong_scope"


def test_a_key_is_good_for_its_scopes() -> None:
    door = access(key={"scopes": frozenset(["watch"])})
    door.admit(request("/metrics", authorization=bearer(SECRET)))
    assert denial(door, socket(authorization=bearer(SECRET))).reason == "wrong_scope"


def test_guessing_is_stopped() -> None:
    clock = FakeClock()
    door = access(clock, wrong_keys_per_minute=3)
    for number in range(3):
        assert denial(door, socket(authorization=bearer(f"guess {number}"))).reason == "wrong_key"
    right = socket(authorization=bearer(SECRET))
    refused = denial(door, right)
    assert (refused.reason, refused.status) == ("too_many_wrong_keys", 429)
    assert "Retry-After" in refused.headers
    # At the open doors, too: a right guess must not be told from a wrong one.
    assert not door.admit(request("/readyz", authorization=bearer(SECRET))).trusted
    right["client"] = ("192.0.2.8", 1)
    door.admit(right)
    clock.advance(21)
    door.admit(socket(authorization=bearer(SECRET)))


def test_guessing_at_an_open_door_counts() -> None:
    door = access(wrong_keys_per_minute=3)
    for number in range(3):
        assert not door.admit(request("/readyz", authorization=bearer(f"guess {number}"))).trusted
    assert denial(door, socket(authorization=bearer(SECRET))).reason == "too_many_wrong_keys"


def test_pages_of_others_are_refused_where_they_could_do_something() -> None:
    door = access()
    good = bearer(SECRET)
    evil = "https://evil.example"
    assert denial(door, socket(authorization=good, origin=evil)).status == 403
    post = request("/v1/audio/transcriptions", method="POST", authorization=good, origin=evil)
    assert denial(door, post).reason == "foreign_origin"
    door.admit(request("/healthz", origin=evil))
    door.admit(socket(authorization=good, origin="http://localhost:8000"))


def test_a_local_server_without_keys_goes_by_its_own_names() -> None:
    door = Access(AccessSettings(), FakeClock(), host="127.0.0.1")
    door.admit(request("/v1/sessions"))
    foreign = request("/v1/sessions")
    foreign["headers"] = [(b"host", b"evil.example")]
    assert denial(door, foreign).reason == "foreign_host"
    for open_door in (
        Access(AccessSettings(open=True), FakeClock(), host="127.0.0.1"),
        Access(AccessSettings(), FakeClock(), host="0.0.0.0"),
        Access(AccessSettings(origins=("https://evil.example",)), FakeClock(), host="127.0.0.1"),
    ):
        open_door.admit(foreign)


def test_where_there_are_no_keys_none_is_looked_at() -> None:
    door = Access(AccessSettings(), FakeClock(), host="127.0.0.1")
    visit = door.admit(socket(authorization="Bearer sk-whatever"))
    assert (visit.key_id, visit.trusted) == (None, True)
    value = door.tokens.make(None, 60, {"type": "transcription"})
    assert door.admit(socket(authorization=bearer(value))).session == {"type": "transcription"}


def test_a_revoked_key_takes_its_tokens_and_sessions_along(tmp_path: Path) -> None:
    path = file_of(tmp_path, entry("ada", SECRET) + entry("bob", "b" * 20))
    door = Access.of(AccessSettings(keys_file=path), FakeClock(), "0.0.0.0")
    visits = [door.admit(socket(authorization=bearer(key))) for key in (SECRET, "b" * 20)]
    value = door.tokens.make("ada", 60, {"type": "realtime"})
    ended: list[tuple[str | None, int, str]] = []
    for visit in visits:

        def note(code: int, reason: str, _: Denied | None, name: str | None = visit.key_id) -> None:
            ended.append((name, code, reason))

        visit.on_end(note)
    assert door.reload() == ()
    file_of(tmp_path, entry("bob", "b" * 20) + entry("eve", "e" * 20))
    assert door.reload() == ("ada",)
    assert ended == [("ada", 1008, "the key was revoked")]
    assert denial(door, socket(authorization=bearer(SECRET))).reason == "wrong_key"
    assert denial(door, socket(authorization=bearer(value))).reason == "wrong_key"
    assert door.admit(socket(authorization=bearer("e" * 20))).key_id == "eve"


@pytest.mark.parametrize("text", ["[keys.ada]\nsha256 = 7", ""])
def test_a_bad_or_emptied_file_leaves_the_keys_as_they_were(text: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, entry("ada", SECRET))
    door = Access.of(AccessSettings(keys_file=path), FakeClock(), "0.0.0.0")
    file_of(tmp_path, text)
    with pytest.raises(UsageError):
        door.reload()
    assert door.admit(socket(authorization=bearer(SECRET))).key_id == "ada"


def test_another_key_of_the_same_name_is_another_key(tmp_path: Path) -> None:
    path = file_of(tmp_path, entry("ada", SECRET))
    door = Access.of(AccessSettings(keys_file=path), FakeClock(), "0.0.0.0")
    value = door.tokens.make("ada", 60, {"type": "realtime"})
    file_of(tmp_path, entry("ada", "a" * 20))
    assert door.reload() == ("ada",)
    assert denial(door, socket(authorization=bearer(value))).reason == "wrong_key"


def test_a_token_opens_no_more_than_its_key_does_by_now(tmp_path: Path) -> None:
    path = file_of(tmp_path, entry("ada", SECRET))
    door = Access.of(AccessSettings(keys_file=path), FakeClock(), "0.0.0.0")
    value = door.tokens.make("ada", 60, {"type": "realtime"})
    file_of(tmp_path, entry("ada", SECRET) + 'scopes = ["talk"]\n')
    assert door.reload() == ("ada",)
    assert door.admit(socket(authorization=bearer(value))).key_id == "ada"
    file_of(tmp_path, entry("ada", SECRET) + 'scopes = ["watch"]\n')
    assert door.reload() == ("ada",)
    assert denial(door, socket(authorization=bearer(value))).reason == "wrong_scope"


def test_refusals_are_counted_and_logged_now_and_then(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    door = access(clock)
    assert set(door.denied) == set(REASONS)
    for _ in range(50):
        scope = socket(authorization=bearer("guess"))
        door.note(denial(access(), scope), scope)
    assert door.denied["wrong_key"] == 50
    assert len(caplog.records) == 1
    clock.advance(10)
    door.note(denial(access(), scope), scope)
    assert len(caplog.records) == 2
    assert "guess" not in caplog.text
    assert ADDRESS in caplog.text
