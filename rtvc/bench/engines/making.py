"""From the name of an engine to the engine; nothing heavy is imported before it is prepared."""

from collections.abc import Callable

from rtvc.bench.engines.batched_whisper import BatchedWhisper
from rtvc.bench.engines.contract import BenchEngine, Setup
from rtvc.bench.engines.library_whisper import LibraryWhisper
from rtvc.bench.engines.openai_whisper import OpenAiWhisper
from rtvc.bench.engines.pocketsphinx import PocketSphinx
from rtvc.bench.engines.served_whisper import ServedWhisper
from rtvc.bench.engines.transformers_whisper import TransformersWhisper
from rtvc.errors import UsageError


def _faster_whisper(setup: Setup) -> BenchEngine:
    """Whoever cuts silence out asks the library to, as the servers do that are measured so."""
    return LibraryWhisper(setup) if setup.cell.vad_filter else ServedWhisper(setup)


_ENGINES: dict[str, Callable[[Setup], BenchEngine]] = {
    "faster-whisper": _faster_whisper,
    "faster-whisper-batched": BatchedWhisper,
    "openai-whisper": OpenAiWhisper,
    "transformers": TransformersWhisper,
    "pocketsphinx": PocketSphinx,
}


def make_engine(setup: Setup) -> BenchEngine:
    """The engine that the cell names, not prepared yet.

    Raises:
        UsageError: there is none of that name in this process.
    """
    make = _ENGINES.get(setup.cell.engine)
    if make is None:
        raise UsageError(f'expected one of {", ".join(_ENGINES)}, got "{setup.cell.engine}"')
    return make(setup)
