"""What every engine of a bench can do: load, transcribe one turn, some at once, a long recording.

An engine's packages are imported in `prepare` and nowhere else, so that a machine without them can
still measure the others.
"""

import importlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

from rtvc.clock import Clock
from rtvc.errors import MissingEngineError
from rtvc.results.cells import Cell
from rtvc.stt.transcriber import AudioArray, Transcriber


@dataclass(frozen=True, slots=True)
class Text:
    """What an engine made of some audio."""

    text: str
    """Stripped; empty when nothing was said."""
    guards: tuple[str, ...] = ()
    """Names of guards that fired; empty also where an engine has none."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What an engine is made from."""

    cell: Cell
    """Model and settings."""
    clock: Clock
    """For the times that an engine reports by itself."""
    most_at_once: int = 1
    """Turns that one inference should be able to hold, where the engine can."""


class BenchEngine(Protocol):
    """One engine with one model; its methods are called in the order they stand here."""

    @property
    def model_kind(self) -> str:
        """ "whisper", "synthetic weights", "self-test model", "random weights" or "pocketsphinx";
        known after `prepare`."""

    @property
    def packages(self) -> Mapping[str, str]:
        """Versions of what does the work; complete after `prepare`."""

    @property
    def most_at_once(self) -> int:
        """Turns that one inference can hold; 1: `transcribe_batch` takes one after the other."""

    @property
    def workers(self) -> int:
        """Inferences that can run at once, each on threads of its own; 1: one after the other."""

    @property
    def most_abreast(self) -> int:
        """Inferences that it can be loaded for at once: at least `workers`, more where cores are to
        be shared."""

    @property
    def transcriber(self) -> Transcriber:
        """The same loaded model behind the contract of the server; not to be loaded again.

        Raises:
            ModelError: asked for before `load`.
        """

    def prepare(self) -> None:
        """Import what does the work and find the weights, which is not counted as loading.

        Raises:
            MissingEngineError: it is not installed.
            ModelError: the weights are not on this machine.
        """

    def load(self, abreast: int = 1) -> None:
        """Load the weights, for so many inferences at once; what was loaded before is let go first.

        Raises:
            ModelError: they cannot be loaded, or not with these settings.
        """

    def transcribe(self, audio: AudioArray, language: str | None) -> Text:
        """One turn by itself; `language` is ISO-639-1, None: to be found out."""

    def transcribe_batch(self, audios: Sequence[AudioArray], language: str | None) -> list[Text]:
        """Some turns, in one inference where the engine can; in order."""

    def transcribe_long(self, audio: AudioArray, language: str | None) -> Text:
        """A recording of any length."""


def imported(module: str, *, package: str, install: str) -> ModuleType:
    """A module that rtvc does not need for anything else.

    Raises:
        MissingEngineError: it is not there, or cannot be imported; `install` says what helps.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingEngineError(
            f"expected {package} to be installed, but {' '.join(str(error).split())}; {install}"
        ) from error


def versions(*packages: str) -> dict[str, str]:
    """Of those that are installed.

    >>> list(versions("numpy", "no-such-package"))
    ['numpy']
    """
    found: dict[str, str] = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
