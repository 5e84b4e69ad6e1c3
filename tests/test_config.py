"""Settings: what goes before what, and what is said of mistakes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtvc.config import Settings, environment_without_settings, load_settings
from rtvc.errors import UsageError

SECRET = "sk-never-shown-0123456789"


@pytest.fixture(autouse=True)
def an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(text: str, name: str = "rtvc.toml") -> Path:
    path = Path(name)
    path.write_text(text, "utf-8")
    return path


def explanation(*, toml: Path | None = None, **environment: str) -> str:
    with pytest.raises(UsageError) as error:
        load_settings(toml=toml, environment=environment)
    message = str(error.value)
    assert "\n" not in message
    assert error.value.exit_code == 2
    return message


def test_without_anything_there_are_defaults() -> None:
    assert load_settings(environment={}) == Settings()


@given(
    file=st.none() | st.integers(0, 65535),
    environment=st.none() | st.integers(0, 65535),
    flag=st.none() | st.integers(0, 65535),
)
def test_a_flag_goes_before_the_environment_and_that_before_the_file(
    file: int | None, environment: int | None, flag: int | None
) -> None:
    written("" if file is None else f"[serve]\nport = {file}\n")
    found = load_settings(
        {"serve": {"port": flag}},
        environment={} if environment is None else {"RTVC_SERVE_PORT": str(environment)},
    )
    given_ones = [port for port in (flag, environment, file, 8000) if port is not None]
    assert found.serve.port == given_ones[0]


def test_sections_are_merged_setting_by_setting() -> None:
    written('[serve]\nport = 9000\nhost = "0.0.0.0"\n[stt]\nmodel = "tiny.en"\n')
    found = load_settings(
        {"serve": {"port": None, "max_sessions": 3}}, environment={"RTVC_STT_MODEL": "selftest"}
    )
    assert (found.serve.port, found.serve.host, found.serve.max_sessions) == (9000, "0.0.0.0", 3)
    assert found.stt.model == "selftest"


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load_settings(environment={"RTVC_STT_MODEL": ""}).stt.model is None


def test_a_named_file_is_read_instead_of_the_one_in_the_folder() -> None:
    written("[serve]\nport = 1\n")
    other = written("[serve]\nport = 2\n", "other.toml")
    assert load_settings(toml=other, environment={}).serve.port == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[serve]\nprot = 1\n",
            ["rtvc.toml [serve] prot: unknown setting, did you mean port?"],
        ),
        (
            "[server]\nport = 1\n",
            ["rtvc.toml [server]: unknown setting, did you mean serve?"],
        ),
        ("[serve]\nx = 1\n", ["[serve] x: unknown setting, expected one of host, port,"]),
        ('[serve]\nport = "many"\n', ["[serve] port: expected a valid integer", "got 'many'"]),
        ("[serve]\nport = 70000\n", ["[serve] port", "65535", "70000"]),
        ("[serve]\nsend_timeout_s = inf\n", ["[serve] send_timeout_s", "finite"]),
        ("[serve]\naudio_queue_s = nan\n", ["[serve] audio_queue_s"]),
        ('[stt]\ndevice = "tpu"\n', ["[stt] device: expected 'auto', 'cpu'", "got 'tpu'"]),
        ("port = 1\n", ["rtvc.toml", "section [port]"]),
        ("[serve\n", ["rtvc.toml", "TOML", "line 1"]),
        ("[serve]\nport = 0\nmax_sessions = 0\n", ["[serve] max_sessions", "got 0"]),
    ],
)
def test_a_mistake_in_the_file_is_explained_in_one_line(text: str, says: list[str]) -> None:
    written(text)
    message = explanation()
    for part in says:
        assert part in message


def test_all_mistakes_are_told_at_once() -> None:
    written("[serve]\nport = -1\n[turn]\nthreshold = 2\n")
    message = explanation()
    assert "[serve] port" in message
    assert "[turn] threshold" in message


def test_a_file_that_is_not_there_or_not_text_is_named() -> None:
    assert "none.toml: no such file" in explanation(toml=Path("none.toml")).lower()
    assert "is a directory" in explanation(toml=Path()).lower()
    Path("bytes.toml").write_bytes(b"\xff\xfe")
    assert "bytes.toml" in explanation(toml=Path("bytes.toml"))


def test_a_mistake_in_the_environment_is_explained() -> None:
    written("[serve]\nport = 1\n")
    assert explanation(RTVC_SERVE_PORT="eight").startswith("RTVC_SERVE_PORT: expected a valid")
    message = explanation(RTVC_STT_MODLE="tiny.en")
    assert message == "RTVC_STT_MODLE: unknown setting, did you mean RTVC_STT_MODEL?"
    message = explanation(RTVC_CLOUD_XYZ="1")
    assert message.startswith(
        "RTVC_CLOUD_XYZ: unknown setting, expected one of RTVC_CLOUD_PROVIDER, "
    )


def test_other_programs_variables_are_left_alone() -> None:
    assert load_settings(environment={"SERVE_PORT": "1", "XRTVC_SERVE_PORT": "2"}) == Settings()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().serve.port = 1  # type: ignore[misc]


def test_a_key_is_read_and_shown_nowhere() -> None:
    environment = {"RTVC_LLM_API_KEY": SECRET, "RTVC_TTS_API_KEY": SECRET}
    found = load_settings(environment=environment)
    assert found.llm.api_key is not None
    assert found.llm.api_key.get_secret_value() == SECRET
    for shown in (repr(found), str(found), str(found.public()), found.model_dump_json()):
        assert SECRET not in shown
    assert "api_key" not in found.public()["llm"]


@pytest.mark.parametrize(
    "text",
    [
        f'[llm]\napi_key = ["{SECRET}"]\n',
        f'[llm]\napikey = "{SECRET}"\n',
        f'[lllm]\napi_key = "{SECRET}"\n',
        f'api_key = "{SECRET}"\n',
        f'[serve]\napi_key = "{SECRET}"\n',
        f'[llm]\napi_key = {{ value = "{SECRET}" }}\n',
    ],
)
def test_a_key_in_the_wrong_place_is_not_repeated(text: str) -> None:
    written(text)
    assert SECRET not in explanation()


def test_a_process_of_ours_can_be_kept_from_the_users_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RTVC_SERVE_TLS", "self-signed")
    monkeypatch.setenv("KEPT", "yes")
    found = environment_without_settings()
    assert "RTVC_SERVE_TLS" not in found
    assert found["KEPT"] == "yes"


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [
        ({}, None, None),
        ({"prompt": "A call."}, None, "A call."),
        ({"prompt": "A call."}, "A lecture.", "A lecture."),
        ({"hotwords": "Ada"}, None, "Ada"),
        ({"prompt": "A call.", "hotwords": "Ada"}, "A lecture.", "Ada A lecture."),
    ],
)
def test_hotwords_are_told_beside_the_clients_prompt_or_ours(
    ours: dict[str, str], theirs: str | None, told: str | None
) -> None:
    assert load_settings({"stt": ours}, environment={}).stt.context(theirs) == told
