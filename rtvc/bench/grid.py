"""From what a user asks for to the rows of the table: pure.

Every combination is a row. One that makes no sense for its engine is not dropped: it becomes a row
that says why. Settings that an engine does not have at all make no rows of their own.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product

from rtvc.errors import UsageError
from rtvc.results.cells import Cell, CellFailure
from rtvc.stt.models import TRAINED_FOR_SHORT
from rtvc.stt.synthetic import PREFIX

OWN = "auto"
"""Context: whatever the weights were trained for."""

POCKETSPHINX = "pocketsphinx"
"""An engine and its only model."""

SELFTEST = "selftest"

_PLAIN_TYPES = frozenset({"auto", "float32"})


@dataclass(frozen=True, slots=True)
class Ability:
    """What an engine can be asked for."""

    types: frozenset[str] | None = None
    """Compute types; None: those of CTranslate2 on the device."""
    gpu_types: frozenset[str] = frozenset()
    """More of them on a GPU."""
    short_context: bool = False
    """Whether its encoder may see less than 30 s."""
    batches: bool = True
    """Whether one inference takes several utterances, or pieces of a recording."""
    batches_of_beams: bool = True
    """Whether it takes several with a beam wider than 1."""
    vad: frozenset[bool] = frozenset({False})
    """Whether it can do without cutting silence out, and whether it can do it."""
    own_weights: bool = True
    """Whether it takes CTranslate2 folders, and so the self-test model."""
    distilled: bool = True
    """Whether there are distil-* weights for it."""
    selftest: bool = True
    """Whether the self-test model knows all that it asks for."""


ABILITIES: Mapping[str, Ability] = {
    "faster-whisper": Ability(short_context=True, vad=frozenset({False, True})),
    "faster-whisper-batched": Ability(vad=frozenset({False, True})),
    "openai-whisper": Ability(
        _PLAIN_TYPES,
        frozenset({"float16"}),
        batches_of_beams=False,
        own_weights=False,
        distilled=False,
    ),
    "transformers": Ability(_PLAIN_TYPES | {"bfloat16"}, frozenset({"float16"}), own_weights=False),
    "whisperx": Ability(vad=frozenset({True}), selftest=False),
    POCKETSPHINX: Ability(_PLAIN_TYPES, batches=False),
}
"""Of every engine there is, by its name."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the rows are combined from; each at least one."""

    models: tuple[str, ...]
    """As the user names them."""
    engines: tuple[str, ...] = ("faster-whisper",)
    """Keys of `ABILITIES`."""
    devices: tuple[str, ...] = ("cpu",)
    """"cpu", "cuda"."""
    compute_types: tuple[str, ...] = ("auto",)
    """"auto", and what each engine knows."""
    beams: tuple[int, ...] = (1,)
    """Widths."""
    batches: tuple[int, ...] = (1,)
    """Utterances, or pieces, in one inference."""
    contexts: tuple[str, ...] = (OWN,)
    """"full", "short", or as the weights were trained."""
    vad_filters: tuple[bool, ...] = (False,)
    """Whether silence is cut out first."""
    threads: tuple[int, ...] = (1,)
    """CPU threads."""


@dataclass(frozen=True, slots=True)
class Here:
    """What this machine can do."""

    compute_types: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Of CTranslate2, by device; a device that is not there is left out."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The rows."""

    cells: tuple[Cell, ...]
    """To be measured, in the order in which they were asked for."""
    unsupported: tuple[CellFailure, ...] = ()
    """What cannot be combined, and why."""


def grid(wish: Wish, here: Here) -> Grid:
    """All combinations, each once.

    Raises:
        UsageError: an engine that is unknown, or a number that makes no sense.
    """
    _check(wish)
    cells: list[Cell] = []
    failures: list[CellFailure] = []
    for cell in dict.fromkeys(_combined(wish)):
        reason = objection(cell, here)
        if reason is None:
            cells.append(cell)
        else:
            failures.append(CellFailure(cell, "unsupported", reason))
    return Grid(tuple(cells), tuple(failures))


def with_preset(found: Grid, preset: Cell, here: Here) -> Grid:
    """The same with one more row, the first, unless it is there already."""
    if preset in found.cells:
        return found
    reason = objection(preset, here)
    if reason is not None:
        failure = CellFailure(preset, "unsupported", reason)
        others = tuple(each for each in found.unsupported if each.cell != preset)
        return replace(found, unsupported=(failure, *others))
    return replace(found, cells=(preset, *found.cells))


def seed_baseline(device: str, threads: int, *, synthetic: bool = False) -> Cell:
    """The preset: medium.en, beam 3, VAD filter, by faster-whisper and one turn at a time."""
    model = f"{PREFIX if synthetic else ''}medium.en"
    return Cell("faster-whisper", model, device, beam=3, vad_filter=True, threads=threads)


def objection(cell: Cell, here: Here) -> str | None:
    """Why a row makes no sense; None: it may be measured."""
    ability = ABILITIES[cell.engine]
    checks = (_device, _compute_type, _model, _context, _batch, _vad)
    return next((said for check in checks if (said := check(cell, ability, here))), None)


def _combined(wish: Wish) -> Iterator[Cell]:
    for engine, model in _engines_and_models(wish):
        if engine == POCKETSPHINX:
            # It runs on a CPU and nowhere else, whatever the others run on.
            yield Cell(engine, POCKETSPHINX)
            continue
        # In the order of the fields of `Cell`.
        rest = product(
            wish.devices,
            wish.compute_types,
            wish.beams,
            wish.batches,
            wish.contexts,
            wish.vad_filters,
            wish.threads,
        )
        yield from (_as_it_runs(Cell(engine, model, *settings)) for settings in rest)


def _engines_and_models(wish: Wish) -> Iterator[tuple[str, str]]:
    """PocketSphinx has one model, and that one no other engine."""
    models = [model for model in wish.models if model != POCKETSPHINX]
    wanted = POCKETSPHINX in wish.models or POCKETSPHINX in wish.engines
    for engine in wish.engines:
        if engine != POCKETSPHINX:
            yield from ((engine, model) for model in models)
    if wanted:
        yield POCKETSPHINX, POCKETSPHINX


def _as_it_runs(cell: Cell) -> Cell:
    """What is left open, filled in; what the engine always does, said."""
    ability = ABILITIES[cell.engine]
    if cell.context == OWN:
        cell = replace(cell, context=own_context(cell) if ability.short_context else "full")
    if ability.vad == {True}:
        cell = replace(cell, vad_filter=True)
    return cell


def own_context(cell: Cell) -> str:
    """What the weights were trained for, as the server would have it.

    >>> own_context(Cell("faster-whisper", "selftest")), own_context(Cell("x", "tiny.en"))
    ('short', 'full')
    """
    trained_for_short = cell.model == SELFTEST or TRAINED_FOR_SHORT in cell.model.lower()
    return "short" if trained_for_short and not cell.vad_filter else "full"


def _check(wish: Wish) -> None:
    for engine in wish.engines:
        if engine not in ABILITIES:
            raise UsageError(f'expected an engine of {", ".join(ABILITIES)}, got "{engine}"')
    _among("--device", wish.devices, ("cpu", "cuda"))
    _among("--context", wish.contexts, (OWN, "full", "short"))
    for name, numbers in (
        ("--beam", wish.beams),
        ("--batch", wish.batches),
        ("--threads", wish.threads),
    ):
        if any(number < 1 for number in numbers):
            raise UsageError(f"expected {name} of 1 or more, got {min(numbers)}")


def _among(flag: str, given: Iterable[str], known: tuple[str, ...]) -> None:
    for each in given:
        if each not in known:
            raise UsageError(f'expected {flag} of {", ".join(known)}, got "{each}"')


def _device(cell: Cell, ability: Ability, here: Here) -> str | None:
    if cell.device == "cpu":
        return None
    if cell.engine == POCKETSPHINX:
        return "PocketSphinx runs on the CPU only"
    return None if cell.device in here.compute_types else "there is no CUDA device here"


def _compute_type(cell: Cell, ability: Ability, here: Here) -> str | None:
    on_gpu = cell.device == "cuda"
    if ability.types is None:
        known = here.compute_types.get(cell.device, frozenset()) | {"auto"}
    else:
        known = ability.types | (ability.gpu_types if on_gpu else frozenset())
    if cell.compute_type in known:
        return None
    if cell.compute_type in ability.gpu_types:
        return f"{cell.engine} computes in {cell.compute_type} on a GPU only"
    where = f"on this {'GPU' if on_gpu else 'CPU'}"
    return f"{cell.engine} has no {cell.compute_type} {where}; it has {', '.join(sorted(known))}"


def _model(cell: Cell, ability: Ability, here: Here) -> str | None:
    if cell.model == SELFTEST and not ability.own_weights:
        return f"the self-test model is made for CTranslate2; {cell.engine} cannot read it"
    if cell.model == SELFTEST and not ability.selftest:
        return f"{cell.engine} asks for more than the self-test model knows"
    if cell.model.startswith("distil-") and not ability.distilled:
        return f"distilled weights do not come in {cell.engine}'s format; transformers has them"
    return None


def _context(cell: Cell, ability: Ability, here: Here) -> str | None:
    if cell.context != "short":
        return None
    if not ability.short_context:
        return f"the encoder of {cell.engine} always sees 30 s"
    if cell.vad_filter:
        return "the library's VAD filter comes with its 30 s context"
    return None


def _batch(cell: Cell, ability: Ability, here: Here) -> str | None:
    if cell.batch == 1:
        return None
    if cell.engine == "faster-whisper" and cell.vad_filter:
        return "with its VAD filter faster-whisper takes one utterance; the batched engine more"
    if cell.beam > 1 and not ability.batches_of_beams:
        return f"with a beam wider than 1 {cell.engine} takes one utterance at a time"
    return None if ability.batches else f"{cell.engine} takes one utterance at a time"


def _vad(cell: Cell, ability: Ability, here: Here) -> str | None:
    return None if cell.vad_filter in ability.vad else f"{cell.engine} has no VAD filter"
