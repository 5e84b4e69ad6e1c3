"""Which models there are, and where the one asked for is.

A name is never silently replaced: only when none was given may another be chosen, with a notice.
"""

import difflib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rtvc.errors import ModelError
from rtvc.stt import hub, synthetic
from rtvc.stt.transcriber import ReportProgress
from rtvc.stt.whisper import EncoderContext

SELFTEST_PATH = Path(__file__).parent / "selftest"
NEEDED_FILES = ("model.bin", "config.json", "tokenizer.json")
VOCABULARIES = ("vocabulary.json", "vocabulary.txt")


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One model as published for faster-whisper."""

    name: str
    """As users type it."""
    repository: str
    """On the Hugging Face Hub."""
    english_only: bool
    """Or about a hundred languages."""
    size_mb: int
    """Megabytes of download, about."""
    licence: str
    """Of the weights."""

    @property
    def dimensions(self) -> synthetic.Dimensions:
        """What its cost depends on."""
        return synthetic.DIMENSIONS[_SAME_DIMENSIONS.get(self.name, self.name)]

    @property
    def languages(self) -> int:
        """Languages it understands."""
        return 1 if self.english_only else self.dimensions.languages

    @property
    def memory_mb(self) -> int:
        """Of a process with it, one inference at a time: int8, on a CPU."""
        # Measured with synthetic weights: tiny.en 181, base.en 203, small.en 425 MB.
        return round(1.15 * self.dimensions.parameters / 1e6 + 140)

    @property
    def gpu_memory_mb(self) -> int:
        """Of its weights alone: float16, on a GPU."""
        return round(2 * self.dimensions.parameters / 1e6)


_SAME_DIMENSIONS = {"large-v1": "large-v2", "distil-large-v3.5": "distil-large-v3"}


def _systran(name: str, size_mb: int, licence: str = "MIT", repository: str = "") -> CatalogueEntry:
    where = repository or f"Systran/faster-whisper-{name}"
    english_only = name.endswith(".en") or name.startswith("distil-")
    return CatalogueEntry(name, where, english_only, size_mb, licence)


CATALOGUE = {
    entry.name: entry
    for entry in (
        _systran("tiny.en", 78),
        _systran("tiny", 78),
        _systran("base.en", 148),
        _systran("base", 148),
        _systran("small.en", 486),
        _systran("small", 486),
        _systran("medium.en", 1530),
        _systran("medium", 1530),
        _systran("large-v1", 3090),
        _systran("large-v2", 3090),
        _systran("large-v3", 3090),
        _systran("large-v3-turbo", 1620, "MIT", "mobiuslabsgmbh/faster-whisper-large-v3-turbo"),
        _systran("distil-small.en", 334, "MIT", "Systran/faster-distil-whisper-small.en"),
        _systran("distil-medium.en", 790, "MIT", "Systran/faster-distil-whisper-medium.en"),
        _systran("distil-large-v2", 1520, "MIT", "Systran/faster-distil-whisper-large-v2"),
        _systran("distil-large-v3", 1520, "MIT", "Systran/faster-distil-whisper-large-v3"),
        _systran("distil-large-v3.5", 1520, "MIT", "distil-whisper/distil-large-v3.5-ct2"),
    )
}
ALIASES = {"turbo": "large-v3-turbo", "large": "large-v3"}
BUILT_IN = ("selftest", "pocketsphinx", "scripted")
DEFAULT_ON_GPU = "small.en"
DEFAULT_ON_CPU = "base.en"
SYNTHETIC_NOTICE = (
    f"Synthetic weights cost what the real model costs and understand nothing: {synthetic.TEXT} "
    f"stands for every transcript."
)
TRAINED_FOR_SHORT = "acft"
"""In the name of a folder of weights tuned for short audio contexts (FUTO's ACFT)."""
ACFT_HEADROOM_S, ACFT_LEAST_S = 0.64, 3.2
"""The audio context that FUTO's own keyboard gives such weights: 32 positions of 20 ms beyond the
audio, 160 at least. Synthetic weights stand for them where they are given a short context."""

WantedContext = Literal["auto", "full", "short", "guarded"]


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model that is on this machine."""

    name: str
    """As the user knows it."""
    kind: str
    """"whisper", "self-test model", "synthetic weights", "pocketsphinx" or "scripted"."""
    path: Path | None = None
    """CTranslate2 folder; None where there is none."""
    encoder_context: EncoderContext = "full"
    """What the encoder sees: as asked for, else as the weights were trained."""
    headroom_s: float = 1.0
    """Silence after the audio in a short context."""
    least_context_s: float = 2.0
    """No short context is shorter."""
    suppress_blank: bool = True
    """False where an empty transcript is the right answer to silence."""
    notice: str | None = None
    """What the user must know about this choice; None: it is what they asked for."""


def resolve_model(
    name: str | None,
    *,
    device: str = "auto",
    encoder_context: WantedContext = "auto",
    report: ReportProgress | None = None,
    offline: bool = False,
) -> ResolvedModel:
    """Find the model, downloading or making it if need be. Blocks: call it in a thread.

    `offline`: nothing is downloaded, and nothing made.

    Raises:
        ModelError: it is not here and cannot be had; says what was tried and what to do.
    """
    found = _resolved(name, device, report or _tell_nobody, offline=offline)
    if encoder_context == "auto":
        return found
    return replace(found, encoder_context=encoder_context)


def _resolved(
    name: str | None, device: str, tell: ReportProgress, *, offline: bool
) -> ResolvedModel:
    if name is None:
        return _default_model(device, tell, offline=offline)
    if name == "selftest":
        return _selftest()
    if name in BUILT_IN:
        return ResolvedModel(name, name)
    if name.startswith(synthetic.PREFIX):
        return _synthetic(name, tell, offline=offline)
    entry = CATALOGUE.get(ALIASES.get(name, name))
    if entry is not None:
        return ResolvedModel(name, "whisper", _fetched(entry, tell, offline=offline))
    return _folder_model(name)


def catalogue_entry(name: str) -> CatalogueEntry:
    """The entry of a name or alias.

    Raises:
        ModelError: there is none; says which there are.
    """
    entry = CATALOGUE.get(ALIASES.get(name, name))
    if entry is None:
        raise ModelError(f'expected one of {", ".join(CATALOGUE)}, got "{name}"')
    return entry


def is_here(entry: CatalogueEntry) -> bool:
    """Whether it is whole on this machine."""
    return _cached(entry) is not None


def cuda_device_count() -> int:
    """CUDA devices that CTranslate2 can use."""
    # Importing CTranslate2 takes a while: without an NVIDIA driver there is no need to ask it.
    if not _has_nvidia_driver():
        return 0
    import ctranslate2

    return int(ctranslate2.get_cuda_device_count())


def missing_files(folder: Path) -> list[str]:
    """What a folder lacks to be a CTranslate2 Whisper model."""
    missing = [name for name in NEEDED_FILES if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in VOCABULARIES):
        missing.append(VOCABULARIES[0])
    return missing


def _tell_nobody(progress: float, detail: str) -> None:
    """Takes reports that nobody reads."""


def _selftest() -> ResolvedModel:
    checked = _checked_folder(SELFTEST_PATH)
    return ResolvedModel(
        "selftest", "self-test model", checked, "short", headroom_s=0.5, suppress_blank=False
    )


def _synthetic(name: str, tell: ReportProgress, *, offline: bool) -> ResolvedModel:
    size = name.removeprefix(synthetic.PREFIX)
    synthetic.dimensions_of(size)
    folder = synthetic.synthetic_folder(size) if offline else synthetic.synthesized(size, tell)
    return _synthetic_in(name, folder)


def _synthetic_in(name: str, folder: Path) -> ResolvedModel:
    return ResolvedModel(
        name,
        synthetic.KIND,
        folder,
        headroom_s=ACFT_HEADROOM_S,
        least_context_s=ACFT_LEAST_S,
        notice=SYNTHETIC_NOTICE,
    )


def _has_nvidia_driver() -> bool:
    import pynvml

    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return False
    return bool(count)


def _default_model(device: str, tell: ReportProgress, *, offline: bool) -> ResolvedModel:
    on_gpu = device == "cuda" or (device == "auto" and cuda_device_count() > 0)
    entry = CATALOGUE[DEFAULT_ON_GPU if on_gpu else DEFAULT_ON_CPU]
    try:
        return ResolvedModel(entry.name, "whisper", _fetched(entry, tell, offline=offline))
    except ModelError as error:
        notice = (
            f"Using PocketSphinx, which is far less accurate than Whisper: {error} "
            f"Name a model (a folder or a catalogue name) to be sure of it."
        )
        return ResolvedModel("pocketsphinx", "pocketsphinx", notice=notice)


def _folder_model(name: str) -> ResolvedModel:
    folder = Path(name).expanduser()
    if folder.is_dir():
        if folder.resolve() == SELFTEST_PATH.resolve():
            return _selftest()
        return _user_folder(name, _checked_folder(folder))
    if folder.exists():
        raise ModelError(f"expected a CTranslate2 Whisper folder, found a file: {name}")
    names = [*BUILT_IN, f"{synthetic.PREFIX}NAME", *CATALOGUE]
    near = "".join(f": did you mean {n}?" for n in difflib.get_close_matches(name, names, n=1))
    raise ModelError(f'expected a folder or one of {", ".join(names)}, got "{name}"{near}')


def _user_folder(name: str, folder: Path) -> ResolvedModel:
    if synthetic.read_card(folder) is not None:
        return _synthetic_in(name, folder)
    if TRAINED_FOR_SHORT not in folder.resolve().name.lower():
        return ResolvedModel(name, "whisper", folder)
    return ResolvedModel(
        name,
        "whisper",
        folder,
        "short",
        headroom_s=ACFT_HEADROOM_S,
        least_context_s=ACFT_LEAST_S,
    )


def _checked_folder(folder: Path) -> Path:
    missing = missing_files(folder)
    if missing:
        raise ModelError(
            f"expected a CTranslate2 Whisper folder in {folder}, it lacks {', '.join(missing)}; "
            f"{_what_is_there(folder)}"
        )
    specification = _specification(folder / "model.bin")
    if specification != "WhisperSpec":
        raise ModelError(
            f"expected a CTranslate2 Whisper model in {folder}, found {specification or 'no model'}"
        )
    return folder


def _what_is_there(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    if any(_is_pytorch(name) for name in names):
        return "it holds PyTorch weights: convert them with ct2-transformers-converter"
    return f"found {_listed(names)}" if names else "it is empty"


def _is_pytorch(name: str) -> bool:
    return name.endswith((".safetensors", ".pt", ".pth")) or name == "pytorch_model.bin"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _specification(model_file: Path) -> str:
    """What kind of model a CTranslate2 file holds: a version, a length, a name ending in zero."""
    with model_file.open("rb") as stream:
        head = stream.read(64)
    if len(head) < 6:
        return ""
    _version, length = struct.unpack_from("<IH", head)
    return head[6 : 6 + length].rstrip(b"\0").decode("ascii", "replace")


def _fetched(entry: CatalogueEntry, tell: ReportProgress, *, offline: bool) -> Path:
    cached = _cached(entry)
    if cached is not None:
        return _checked_folder(cached)
    if offline:
        raise ModelError(f'"{entry.name}" is not in the local cache. {_hint(entry)}')
    tell(0.0, f"looking for {entry.name} on the model hub")
    found = _listed_at_hub(entry)
    tell(0.0, f"downloading {entry.name} (about {entry.size_mb} MB)")
    return _checked_folder(_download(entry, found, tell))


def _cached(entry: CatalogueEntry) -> Path | None:
    folder = hub.snapshot(entry.repository)
    return None if folder is None or missing_files(folder) else folder


def _listed_at_hub(entry: CatalogueEntry) -> hub.Listing:
    """A quick question first: it finds out soon that there is no network."""
    try:
        return hub.listing(entry.repository)
    except Exception as error:
        raise ModelError(_unreachable(entry, error)) from error


def _download(entry: CatalogueEntry, found: hub.Listing, tell: ReportProgress) -> Path:
    try:
        return hub.download(entry.repository, found, tell)
    except Exception as error:
        why = _unreachable(entry, error)
        raise ModelError(f"{why} What was fetched is kept: the next attempt goes on.") from error


def _unreachable(entry: CatalogueEntry, error: Exception) -> str:
    why = " ".join(str(error).split())[:120] or type(error).__name__
    return (
        f'"{entry.name}" is not in the local cache and the model hub did not give it ({why}). '
        f"{_hint(entry)}"
    )


def _hint(entry: CatalogueEntry) -> str:
    return (
        f"Copy a folder of {entry.repository} here and name that folder, "
        f'or use "selftest" or "pocketsphinx", which need no download.'
    )
