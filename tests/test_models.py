"""Finding a model: what was asked for, or an error that helps; never something else in its name."""

import shutil
from pathlib import Path

import pytest

from rtvc.clock import SystemClock
from rtvc.errors import ModelError
from rtvc.stt import hub, models
from rtvc.stt.engine import build_engine
from rtvc.stt.models import CATALOGUE, SELFTEST_PATH, CatalogueEntry, missing_files, resolve_model


def copied_selftest(folder: Path) -> Path:
    shutil.copytree(SELFTEST_PATH, folder)
    return folder


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_cached", lambda entry: None)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, empty_cache: None) -> None:
    def refuse(entry: CatalogueEntry) -> None:
        raise ModelError(models._unreachable(entry, OSError("no route")))

    monkeypatch.setattr(models, "_listed_at_hub", refuse)


def test_the_selftest_model_ships() -> None:
    found = resolve_model("selftest")
    assert (found.name, found.kind, found.encoder_context) == (
        "selftest",
        "self-test model",
        "short",
    )
    assert found.path is not None
    assert missing_files(found.path) == []
    assert not found.suppress_blank
    assert found.notice is None


def test_the_selftest_folder_is_called_what_it_is() -> None:
    assert resolve_model(str(SELFTEST_PATH)).kind == "self-test model"


@pytest.mark.parametrize("name", ["pocketsphinx", "scripted"])
def test_built_in_names_need_no_folder(name: str) -> None:
    found = resolve_model(name)
    assert (found.name, found.kind, found.path) == (name, name, None)


def test_a_folder_is_used_as_it_is(tmp_path: Path) -> None:
    folder = copied_selftest(tmp_path / "mine")
    found = resolve_model(str(folder))
    assert (found.path, found.kind, found.encoder_context) == (folder, "whisper", "full")


@pytest.mark.parametrize("lost", ["model.bin", "config.json", "tokenizer.json", "vocabulary.json"])
def test_a_folder_says_what_it_lacks(tmp_path: Path, lost: str) -> None:
    folder = copied_selftest(tmp_path / "mine")
    (folder / lost).unlink()
    with pytest.raises(ModelError, match=f"it lacks {lost}; found"):
        resolve_model(str(folder))


def test_pytorch_weights_are_told_how_to_be_converted(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="ct2-transformers-converter"):
        resolve_model(str(tmp_path))


@pytest.mark.parametrize("head", [b"", b"\x06\x00\x00\x00\x0f\x00TransformerSpec\x00"])
def test_another_kind_of_model_is_refused(tmp_path: Path, head: bytes) -> None:
    folder = copied_selftest(tmp_path / "mine")
    (folder / "model.bin").write_bytes(head)
    with pytest.raises(ModelError, match="expected a CTranslate2 Whisper model"):
        resolve_model(str(folder))


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(b"")
    with pytest.raises(ModelError, match="found a file"):
        resolve_model(str(file))


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r'one of selftest, .*tiny\.en.*, got "tny": did you'):
        resolve_model("tny")
    with pytest.raises(ModelError, match=r"did you mean base\.en\?"):
        resolve_model("base_en")


def test_a_named_model_is_never_replaced(no_hub: None) -> None:
    with pytest.raises(ModelError) as raised:
        resolve_model("small.en")
    message = str(raised.value)
    assert "\n" not in message
    assert "not in the local cache" in message
    assert "no route" in message
    assert "Systran/faster-whisper-small.en" in message


def test_a_hub_that_never_answers_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, empty_cache: None
) -> None:
    monkeypatch.setattr(hub, "DEADLINE_S", 0.05)
    monkeypatch.setattr(hub, "_ask", lambda repository, outcome: None)
    with pytest.raises(ModelError, match="no answer within 0 s"):
        resolve_model("tiny")


def test_offline_the_hub_is_not_asked(monkeypatch: pytest.MonkeyPatch, empty_cache: None) -> None:
    asked: list[CatalogueEntry] = []
    monkeypatch.setattr(models, "_listed_at_hub", asked.append)
    with pytest.raises(ModelError, match='"tiny" is not in the local cache'):
        resolve_model("tiny", offline=True)
    assert asked == []


def test_a_cached_model_needs_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_cached", lambda entry: SELFTEST_PATH)
    found = resolve_model("turbo", offline=True)
    assert (found.name, found.kind, found.path) == ("turbo", "whisper", SELFTEST_PATH)


def test_a_download_is_announced_with_its_size(
    monkeypatch: pytest.MonkeyPatch, empty_cache: None
) -> None:
    monkeypatch.setattr(models, "_listed_at_hub", lambda entry: None)
    monkeypatch.setattr(models, "_download", lambda entry, found, tell: SELFTEST_PATH)
    told: list[str] = []
    resolve_model("tiny.en", report=lambda progress, detail: told.append(detail))
    assert told == ["looking for tiny.en on the model hub", "downloading tiny.en (about 78 MB)"]


@pytest.mark.parametrize(("device", "wanted"), [("cpu", "base.en"), ("cuda", "small.en")])
def test_no_name_means_a_model_that_suits_the_device(
    monkeypatch: pytest.MonkeyPatch, device: str, wanted: str
) -> None:
    monkeypatch.setattr(models, "_cached", lambda entry: SELFTEST_PATH)
    found = resolve_model(None, device=device)
    assert (found.name, found.notice) == (wanted, None)


def test_no_name_and_no_hub_means_pocketsphinx_and_says_so(no_hub: None) -> None:
    found = resolve_model(None, device="cpu")
    assert found.kind == "pocketsphinx"
    assert found.notice is not None
    assert "PocketSphinx" in found.notice
    assert "base.en" in found.notice


async def test_the_engine_passes_the_notice_on(no_hub: None) -> None:
    engine = build_engine(None, device="cpu", clock=SystemClock())
    await engine.start()
    try:
        status = engine.status
        assert (status.model, status.model_kind) == ("pocketsphinx", "pocketsphinx")
        assert status.notice is not None
    finally:
        await engine.close()


def test_the_catalogue_is_what_faster_whisper_knows() -> None:
    from faster_whisper.utils import _MODELS

    for name, entry in CATALOGUE.items():
        assert entry.name == name
        assert _MODELS[name] == entry.repository
        assert entry.size_mb > 0
    for alias, name in models.ALIASES.items():
        assert _MODELS[alias] == CATALOGUE[name].repository


def test_weights_tuned_for_short_contexts_are_known_by_their_name(tmp_path: Path) -> None:
    folder = copied_selftest(tmp_path / "futo-ACFT-tiny.en")
    found = resolve_model(str(folder))
    assert (found.encoder_context, found.headroom_s) == ("short", 0.64)
    assert found.least_context_s == 3.2
    assert resolve_model(str(folder), encoder_context="full").encoder_context == "full"


@pytest.mark.parametrize("wanted", ["full", "short", "guarded"])
def test_a_context_asked_for_is_the_one_used(wanted: models.WantedContext) -> None:
    assert resolve_model("selftest", encoder_context=wanted).encoder_context == wanted
