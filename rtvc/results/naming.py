"""What a cell is called, what its text is worth, and what to give `rtvc serve` to run it. Pure."""

from collections.abc import Iterable, Sequence

from rtvc.results.cells import Cell

TEXT_MEANS_NOTHING = frozenset({"synthetic weights", "random weights"})
"""Kinds of model that cost what a model costs and write what means nothing."""

BUILT_IN_SPEECH_ONLY = frozenset({"self-test model"})
"""Kinds of model that understand the built-in synthetic speakers and nobody else."""

SYNTHETIC_PREFIX = "synthetic:"
"""Before the name of the model whose shape synthetic weights have."""

SERVED_ENGINES = frozenset({"faster-whisper", "faster-whisper-batched"})
"""Whose settings are also those of `rtvc serve`: it runs the same weights and batches them."""

POCKETSPHINX = "pocketsphinx"


def label(cell: Cell) -> str:
    """What a cell is called in a sentence; what is usual is left out.

    >>> label(Cell("faster-whisper", "small.en", compute_type="int8"))
    'small.en int8 beam 1'
    >>> label(Cell("openai-whisper", "medium.en", beam=3, vad_filter=True))
    'medium.en beam 3, VAD filter, openai-whisper'
    """
    if cell.engine == POCKETSPHINX:
        return "PocketSphinx"
    named = cell.model if cell.compute_type == "auto" else f"{cell.model} {cell.compute_type}"
    parts = [
        f"{named} beam {cell.beam}",
        f"batch {cell.batch}" if cell.batch > 1 else "",
        "" if cell.context == "full" else f"{cell.context} context",
        "VAD filter" if cell.vad_filter else "",
        _engine(cell.engine),
    ]
    return ", ".join(filter(None, parts))


def _engine(name: str) -> str:
    """How the engine is named beside a model; the usual one is not."""
    return {"faster-whisper": "", "faster-whisper-batched": "batched"}.get(name, name)


def labels(cells: Iterable[Cell]) -> dict[str, str]:
    """Of each cell by key: as `label` says, and what tells it from others called the same.

    >>> usual = Cell("faster-whisper", "tiny.en")
    >>> two = labels([usual, Cell("faster-whisper", "tiny.en", threads=2)])
    >>> two[usual.key]
    'tiny.en beam 1, 1 thread'
    """
    by_label: dict[str, list[Cell]] = {}
    for cell in dict.fromkeys(cells):
        by_label.setdefault(label(cell), []).append(cell)
    return {
        cell.key: ", ".join([name, *_told_apart(cell, alike)])
        for name, alike in by_label.items()
        for cell in alike
    }


def _told_apart(cell: Cell, alike: Sequence[Cell]) -> list[str]:
    """What differs among cells that are called the same."""
    parts = []
    if len({other.device for other in alike}) > 1:
        parts.append(f"on {cell.device}")
    if len({other.threads for other in alike}) > 1:
        parts.append(f"{cell.threads} thread{'' if cell.threads == 1 else 's'}")
    return parts


def serve_flags(cell: Cell, *, language: str | None = None) -> tuple[str, ...]:
    """Flags of `rtvc serve` that run what the cell measured; empty: it cannot run this engine.

    `language`: what the cell was told; a model that knows several would else find it out by itself.

    >>> " ".join(serve_flags(Cell("faster-whisper", "small.en", compute_type="int8")))
    '--model small.en --device cpu --compute-type int8 --beam 1 --encoder-context full'
    """
    if cell.engine == POCKETSPHINX:
        return ("--model", POCKETSPHINX)
    if cell.engine not in SERVED_ENGINES:
        return ()
    flags = ["--model", cell.model, "--device", cell.device]
    if cell.compute_type != "auto":
        flags += ["--compute-type", cell.compute_type]
    flags += ["--beam", str(cell.beam), "--encoder-context", cell.context]
    if cell.batch > 1:
        flags += ["--max-batch", str(cell.batch)]
    if language is not None and model_size(cell.model) and not knows_english_only(cell.model):
        flags += ["--language", language]
    return tuple(flags)


def knows_english_only(name: str) -> bool:
    """Whether a Whisper model of that name was trained for English alone.

    >>> [knows_english_only(name) for name in ("small", "small.en", "distil-small.en", "turbo")]
    [False, True, True, False]
    """
    return ".en" in name or "distil" in name


def serve_note(cell: Cell, model_kind: str) -> str:
    """What `rtvc serve` does otherwise than the cell did; empty: nothing."""
    if cell.engine not in SERVED_ENGINES and cell.engine != POCKETSPHINX:
        return f"`rtvc serve` does not run {cell.engine}; it runs the same models by faster-whisper"
    if model_kind == "synthetic weights":
        real = cell.model.removeprefix(SYNTHETIC_PREFIX)
        return f"synthetic weights understand nothing: serve {real} once its weights are here"
    if cell.vad_filter:
        return "`rtvc serve` hears where speech is by itself: there is no VAD filter to set"
    return ""


def model_size(name: str) -> int:
    """Rank of a Whisper model's size by its name, small to large; 0: a name that tells nothing.

    A distilled model stands below the one that it was made from.

    >>> [model_size(name) for name in ("tiny.en", "distil-small.en", "small", "selftest")]
    [1, 4, 5, 0]
    """
    sizes = ("tiny", "base", "small", "medium", "large")
    if name.removeprefix(SYNTHETIC_PREFIX) == "turbo":
        return 2 * sizes.index("large")
    found = [number for number, size in enumerate(sizes) if size in name]
    if not found:
        return 0
    smaller = "distil" in name or "turbo" in name
    return 2 * found[-1] + 1 - smaller
