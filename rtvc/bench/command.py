"""`rtvc bench`: its flags."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rtvc.bench.asked import (
    Asked,
    Listening,
    as_synthetic,
    check_models,
    check_pythons,
    known_language,
    numbers,
    pairs,
    switches,
    usual_device,
    usual_models,
)
from rtvc.bench.grid import ABILITIES, Wish
from rtvc.bench.input import USUAL_CONDITIONS
from rtvc.bench.run import Bench
from rtvc.bench.spec import Measures
from rtvc.duration import parse_positive_duration
from rtvc.errors import UsageError
from rtvc.instruments.process import usable_cpus
from rtvc.results.targets import parse_targets
from rtvc.results.yardstick import SEED_BASELINE

MOST_THREADS = 4
"""What Whisper's users get by default, where there are so many."""

Lists = list[str] | None


def _flag(name: str, text: str, **more: Any) -> Any:
    # Brackets hold defaults here, not markup.
    return typer.Option(name, help=text.replace("[", r"\["), show_default=False, **more)


def bench(
    model: Annotated[
        Lists,
        _flag(
            "--model",
            "Models, such as tiny.en,small.en, a folder, selftest, pocketsphinx, "
            "synthetic:tiny.en; repeatable, as are all lists [those on this machine]",
            metavar="NAMES",
        ),
    ] = None,
    engine: Annotated[
        Lists, _flag("--engine", f"Of {', '.join(ABILITIES)} [faster-whisper]", metavar="NAMES")
    ] = None,
    compute_type: Annotated[
        Lists,
        _flag(
            "--compute-type", "Such as int8,float16,int8_float16 [auto: the usual]", metavar="NAMES"
        ),
    ] = None,
    beam: Annotated[Lists, _flag("--beam", "Widths of the search [1]", metavar="NUMBERS")] = None,
    batch: Annotated[
        Lists,
        _flag("--batch", "Utterances or pieces in one inference [1]", metavar="NUMBERS"),
    ] = None,
    context: Annotated[
        Lists,
        _flag("--context", "Of the encoder: full,short [as the weights have it]", metavar="NAMES"),
    ] = None,
    vad_filter: Annotated[
        Lists, _flag("--vad-filter", "Silence cut out first: on,off [off]", metavar="ON,OFF")
    ] = None,
    device: Annotated[
        Lists, _flag("--device", "cpu,cuda [cuda if there is one]", metavar="NAMES")
    ] = None,
    threads: Annotated[
        Lists,
        _flag("--threads", "CPU threads of a cell [all, at most 4]", metavar="NUMBERS"),
    ] = None,
    preset: Annotated[
        str | None,
        _flag(
            "--preset",
            "One more row, and the one to compare with: seed-baseline (medium.en, beam 3, VAD "
            "filter: what servers run that load a model per session)",
            metavar="NAME",
        ),
    ] = None,
    synthetic: Annotated[
        bool,
        _flag("--synthetic", "Random weights of each model's shape: speed alone, no download"),
    ] = False,
    pull: Annotated[bool, _flag("--pull", "Fetch weights that are not here [skipped]")] = False,
    engine_python: Annotated[
        Lists,
        _flag(
            "--engine-python",
            "Interpreter with the packages of an engine that clash with ours, such as "
            "whisperx=wx/bin/python; repeatable",
            metavar="NAME=PATH",
        ),
    ] = None,
    rounds: Annotated[
        int, _flag("--rounds", "Times each cell is measured, in turn [3]", metavar="N")
    ] = 3,
    speech: Annotated[
        Path | None,
        _flag(
            "--speech",
            "Folder of recordings with a .txt beside each [synthetic speakers]",
            metavar="FOLDER",
        ),
    ] = None,
    language: Annotated[
        str | None,
        _flag("--language", "What is said in the folder, such as de [as it says itself]"),
    ] = None,
    clips: Annotated[int, _flag("--clips", "Turns, in each condition [24]", metavar="N")] = 24,
    condition: Annotated[
        Lists,
        _flag(
            "--condition",
            "What turns are heard in: clean,white:20,pink:10,babble:10,room:0.4,babble:10+room "
            f"[{','.join(USUAL_CONDITIONS)}]",
            metavar="NAMES",
        ),
    ] = None,
    long_files: Annotated[int, _flag("--long-files", "Long recordings [1]", metavar="N")] = 1,
    long: Annotated[str, _flag("--long", "Length of each [5m]", metavar="TIME")] = "5m",
    streaming: Annotated[
        int, _flag("--streaming", "Turns heard as they are spoken; 0: none [6]", metavar="N")
    ] = 6,
    held: Annotated[
        bool,
        _flag("--held/--no-held", "Add sessions until the delay target breaks, for minutes [yes]"),
    ] = True,
    held_delay_ms: Annotated[
        int,
        _flag(
            "--held-delay-ms",
            "End of speech to final, p95, silence that ends a turn included: what held sessions "
            "keep [500]",
            metavar="MS",
            min=1,
        ),
    ] = 500,
    most_at_once: Annotated[
        int,
        _flag("--most-at-once", "Largest batch whose time is taken, for rtvc plan [8]"),
    ] = 8,
    target: Annotated[
        Lists,
        _flag(
            "--target",
            "What to recommend under: 'delay_p95<500ms', 'wer<10%', 'memory<4GiB'; repeatable "
            "[delay_p95<500ms]",
            metavar="BOUND",
        ),
    ] = None,
    compare_with: Annotated[
        str | None,
        _flag(
            "--compare-with",
            "Row that the others are compared with [the preset, or the slowest]",
            metavar="ROW",
        ),
    ] = None,
    hang_limit: Annotated[
        str | None,
        _flag(
            "--hang-limit",
            "A cell that gives no sign of life is ended [15m, or ten times the longest recording]",
            metavar="TIME",
        ),
    ] = None,
    seed: Annotated[int, _flag("--seed", "Of texts, voices and noise [0]", metavar="N")] = 0,
    out: Annotated[
        Path | None,
        _flag(
            "--out",
            "New folder, or one to go on with [reports/runs/<time>-bench]",
            metavar="FOLDER",
        ),
    ] = None,
    as_json: Annotated[bool, _flag("--json", "Only the figures as JSON on stdout")] = False,
) -> None:
    """Measure models and settings on this machine, each in a process of its own, and say which to
    run.

    Every combination of the lists is a row; what cannot be combined, or is not here, is a row with
    its reason. A bench that is stopped goes on with the same flags and --out.

    Exit code: 0 a row is within the targets, 99 none is, 3 nothing was measured, 130 interrupted
    (what was measured is kept), 2 wrong usage, 1 anything else.
    """
    if preset not in (None, SEED_BASELINE):
        raise UsageError(f'expected --preset {SEED_BASELINE}, got "{preset}"')
    if rounds < 1 or streaming < 0 or most_at_once < 1:
        raise UsageError(
            "expected --rounds and --most-at-once of 1 or more and --streaming of 0 or more, "
            f"got {rounds}, {most_at_once} and {streaming}"
        )
    models = _models(model, preset=preset, synthetic=synthetic)
    pythons = pairs(engine_python or [], "--engine-python")
    check_pythons(pythons)
    targets = parse_targets(target or [])
    asked = Asked(
        grid=Wish(
            models=models,
            engines=_listed(engine, "faster-whisper"),
            devices=_listed(device) or (usual_device(),),
            compute_types=_listed(compute_type, "auto"),
            beams=numbers(_listed(beam, "1"), "--beam"),
            batches=numbers(_listed(batch, "1"), "--batch"),
            contexts=_listed(context, "auto"),
            vad_filters=switches(_listed(vad_filter, "off"), "--vad-filter"),
            threads=numbers(_listed(threads, str(min(usable_cpus(), MOST_THREADS))), "--threads"),
        ),
        preset=preset is not None,
        synthetic=synthetic,
        rounds=rounds,
        listening=Listening(
            clips=clips,
            conditions=_listed(condition, *USUAL_CONDITIONS),
            speech=speech,
            language=known_language(language),
            long_files=long_files,
            long_s=parse_positive_duration(long, "--long"),
            seed=seed,
        ),
        measures=Measures(
            most_at_once=most_at_once,
            streaming=streaming,
            held=held,
            delay_target_s=held_delay_ms / 1000,
        ),
        targets=targets,
        yardstick=compare_with,
        pythons=pythons,
        pull=pull,
        hang_s=None if hang_limit is None else parse_positive_duration(hang_limit, "--hang-limit"),
    )
    raise typer.Exit(Bench(asked, out, as_json=as_json).run())


def _models(given: Lists, *, preset: str | None, synthetic: bool) -> tuple[str, ...]:
    """Named ones; with a preset alone, none beside it."""
    named = _listed(given)
    if not named and preset is None:
        named = usual_models()
    models = tuple(as_synthetic(name) for name in named) if synthetic else named
    check_models(models)
    return tuple(dict.fromkeys(models))


def _listed(given: Sequence[str] | None, *usual: str) -> tuple[str, ...]:
    """What stands between commas, of a flag that may be given several times.

    >>> _listed(["a, b", "c"]), _listed(None, "x")
    (('a', 'b', 'c'), ('x',))
    """
    parts = [part.strip() for text in given or () for part in text.split(",")]
    return tuple(part for part in parts if part) or usual
