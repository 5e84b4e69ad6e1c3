"""What a report says of the run itself: where, when, on what, and what to beware of."""

import json
from datetime import datetime
from typing import Any

from rtvc.record import Manifest, Run
from rtvc.report.wording import HALF_LOST
from rtvc.summary import Summary


def facts(manifest: Manifest, summary: Summary) -> list[str]:
    length = "" if summary.duration_s is None else f"{summary.duration_s:.0f} s"
    speakers = f"{summary.speakers} speaker{'' if summary.speakers == 1 else 's'}"
    if summary.steps:
        most = max(step.speakers for step in summary.steps)
        length = f"{summary.steps[-1].measured_until_s / 60:.0f} min"
        speakers = f"{len(summary.steps)} steps with up to {most} speakers"
    model = _model(manifest)
    named = f"model {model}" if model else None
    found = (when(manifest.started_at), manifest.url, speakers, length, named)
    return [fact for fact in found if fact]


def when(started_at: str) -> str:
    """The moment as people write it; what is no moment as it is."""
    try:
        moment = datetime.fromisoformat(started_at)
    except ValueError:
        return started_at
    return f"{moment:%d %B %Y, %H:%M} UTC".lstrip("0")


def _model(manifest: Manifest) -> str | None:
    if manifest.model is None:
        return manifest.model_kind
    return f"{manifest.model} ({manifest.model_kind})" if manifest.model_kind else manifest.model


def notices(run: Run, summary: Summary) -> list[str]:
    found = []
    if summary.self_test:
        found.append(
            "Measured with the self-test model: it understands the built-in synthetic speakers "
            "only. Its delays and word errors say nothing about a real model's."
        )
    if not run.manifest.text_observable:
        found.append(
            "Measured with synthetic weights: they cost what the real model costs, and what they "
            "write means nothing. Delays are real; what was heard is not observable."
        )
    if summary.interrupted:
        found.append("The run was interrupted; what it had recorded is shown and not judged.")
    elif summary.cut_off:
        found.append("The run was cut off before its end; what it had recorded is shown.")
    if summary.accuracy.wer is not None and summary.accuracy.wer > HALF_LOST:
        found.append("Almost nothing was understood: is this the right model for this speech?")
    if run.manifest.colocated:
        found.append("Server and load generator shared one machine and competed for its cores.")
    return found


def environment(manifest: Manifest) -> list[tuple[str, str]]:
    machine = manifest.machine
    found: list[tuple[str, str | None]] = [
        ("Command", manifest.command),
        ("Server", manifest.url),
        ("Protocol", manifest.protocol),
        ("Model", _model(manifest)),
        (
            "Machine",
            f"{machine.cpu}, {machine.cores} cores, {machine.memory_bytes / 2**30:.0f} GiB",
        ),
        ("GPU", ", ".join(machine.gpus) or "none"),
        ("System", f"{machine.platform}, Python {machine.python}"),
        ("Corpus", " ".join(filter(None, (manifest.corpus, manifest.corpus_hash))) or None),
        ("rtvc", " ".join(filter(None, (manifest.rtvc_version, manifest.commit)))),
        ("Started", manifest.started_at),
    ]
    return [(name, value) for name, value in found if value]


def details(manifest: Manifest) -> list[tuple[str, list[tuple[str, str]]]]:
    sections = {
        "Settings": manifest.settings,
        "What the server said of itself": manifest.server,
        "Package versions": manifest.packages,
    }
    return [
        (name, [(key, _written(value)) for key, value in entries.items()])
        for name, entries in sections.items()
    ]


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
