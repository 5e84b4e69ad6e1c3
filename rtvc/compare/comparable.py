"""Which runs may be compared. Pure.

What is measured must be the same: the same speakers say the same, in the same way, timed from the
same instants, on the same kind of model. Whatever is to be tried out may differ, and is told: the
commit, the model, the server's settings, the machine.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rtvc.record import Machine, Manifest, Run
from rtvc.summary import Summary

FREE_SETTINGS = {
    *("duration_s", "warm_up_s", "ramp_s", "seed", "connect_timeout_s"),
    *("processes", "workers", "start_speakers", "step_s", "most_speakers", "web", "generators"),
}
"""Settings of the load that say how long and by what it was driven, not what was done."""

UNTOLD_SETTINGS = {"generators"}
"""Of these, what differs in any two runs: process ids, hosts."""

SYNTHETIC_SPEECH = "; synthetic speech is made for the length of a run: give both one --duration"
"""Why two corpora differ though nobody chose another."""

SPOKEN_SETTINGS = {
    "frame_s": "length of a frame",
    "grace_s": "patience with a late answer",
    "normaliser": "normaliser of texts",
    "anchors": "definition of the instants",
    "transcription": "kind of session (transcription only)",
    "storm_rounds": "rounds of a connect storm",
    "scenario_fields": "scenario",
    "speakers": "number of speakers",
}
"""Where the name of a setting does not speak for itself."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a search for the capacity found."""

    holds: int
    """Most speakers that met every target."""
    fails_at: int | None
    """Fewest that did not; None if none was found."""
    decided: bool
    """Whether anything is known."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of two runs that are compared."""

    label: str
    """"A" or "B"."""
    run: Run
    """Its rows; of a search, those of the step that tells most."""
    summary: Summary
    """The figures of these rows."""
    bounds: Bounds | None = None
    """Of a search; None: it was none."""
    speakers: int | None = None
    """Of a search: speakers of the step that tells most; None: none was measured."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not the same on both sides."""

    name: str
    """What."""
    before: str
    """In A."""
    after: str
    """In B."""
    why: str = ""
    """What to know or do about it, from "; " on; empty: nothing."""

    def __str__(self) -> str:
        return f"{self.name} ({self.before} in A, {self.after} in B){self.why}"


def obstacles(before: Side, after: Side) -> list[str]:
    """Every reason why the two may not be compared; empty: they may."""
    useless = [reason for side in (before, after) if (reason := _useless(side)) is not None]
    return useless + [f"different {change}" for change in _different(before, after)]


def _useless(side: Side) -> str | None:
    run, label = side.run, side.label
    if side.summary.interrupted:
        return f"{label} was interrupted"
    if side.bounds is not None:
        return None if side.bounds.decided else f"{label} found nothing out: void or undecided"
    if run.cut_off:
        return f"{label} was cut off before its end"
    valid = side.summary.generator.valid
    return None if valid else f"{label} is void: {side.summary.generator.reason}"


def _different(before: Side, after: Side) -> Iterator[Change]:
    """What must be the same and is not."""
    old, new = before.run.manifest, after.run.manifest
    kinds = [_kind(side) for side in (before, after)]
    yield from _changed("kind of run", *kinds)
    yield from _changed("protocol", old.protocol, new.protocol)
    yield from _changed("kind of model", old.model_kind, new.model_kind)
    yield from _changed("sign that a session is ready", old.ready, new.ready)
    yield from _corpora(old, new)
    free = FREE_SETTINGS | ({"speakers"} if before.bounds and after.bounds else set())
    yield from _changed_settings(old.settings, new.settings, free)
    if before.bounds and after.bounds:
        yield from _changed("targets", ", ".join(old.targets), ", ".join(new.targets))


def _corpora(old: Manifest, new: Manifest) -> Iterator[Change]:
    lengths = {manifest.settings.get("duration_s") for manifest in (old, new)}
    for change in _changed("corpus", old.corpus_hash, new.corpus_hash):
        why = SYNTHETIC_SPEECH if len(lengths) > 1 else ""
        yield replace(change, why=why)


def _kind(side: Side) -> str:
    if side.bounds is not None:
        return "search for the capacity"
    return "connect storm" if side.run.manifest.settings.get("storm_rounds") else "run"


def _changed(name: str, old: Any, new: Any) -> Iterator[Change]:
    if old != new:
        yield Change(name, _written(old), _written(new))


def _changed_settings(
    old: Mapping[str, Any], new: Mapping[str, Any], free: set[str]
) -> Iterator[Change]:
    """A setting that one of them did not have yet is the same if it is off in the other."""
    for name in sorted((old.keys() | new.keys()) - free):
        before, after = old.get(name) or None, new.get(name) or None
        called = SPOKEN_SETTINGS.get(name, name.removesuffix("_s").replace("_", " "))
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _changed_each(f"{called}: ", _flat(before), _flat(after))
        elif before != after:
            yield Change(called, _written(before), _written(after))


def _written(value: Any) -> str:
    if value is None or value == "":
        return "not recorded"
    return f"{value:g}" if isinstance(value, float) else str(value)


def allowed(before: Side, after: Side) -> list[Change]:
    """What may differ, and does."""
    old, new = before.run.manifest, after.run.manifest
    pairs = [
        ("rtvc", old.rtvc_version, new.rtvc_version),
        ("commit", old.commit, new.commit),
        ("model", old.model, new.model),
        ("server", _address(old), _address(new)),
    ]
    found = [change for pair in pairs for change in _changed(*pair)]
    for name in sorted(FREE_SETTINGS - UNTOLD_SETTINGS):
        found += _changed(name, old.settings.get(name), new.settings.get(name))
    found += _changed_each("server's ", _flat(old.server), _flat(new.server))
    found += _changed_each("package ", old.packages, new.packages)
    return found


def _changed_each(prefix: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name in sorted(old.keys() | new.keys()):
        yield from _changed(f"{prefix}{name}", old.get(name), new.get(name))


MOMENTARY = {"uptime_s", "sessions", "elapsed_s", "ready_s", "retry_after_s", "tasks", "status"}
"""What a server says of the moment and not of itself."""


def _flat(said: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their path.

    >>> _flat({"model": "a", "limits": {"sessions_max": 4}, "uptime_s": 3})
    {'model': 'a', 'limits.sessions_max': 4}
    """
    flat: dict[str, Any] = {}
    for name, value in said.items():
        if name in MOMENTARY:
            continue
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _address(manifest: Manifest) -> str | None:
    return manifest.url.partition("?")[0] if manifest.url else None


def warnings(before: Side, after: Side) -> list[str]:
    """What may explain a difference all by itself."""
    old, new = before.run.manifest, after.run.manifest
    said = []
    machines = [str(change) for change in _machine_changes(old.machine, new.machine)]
    if machines:
        said.append(f"the machines differ, and so may the delays: {'; '.join(machines)}")
    if old.colocated != new.colocated:
        said.append("server and load generator shared a machine in only one of the runs")
    for side in (before, after):
        said += _mishaps(side.label, side.run.manifest)
    return said


def _mishaps(label: str, manifest: Manifest) -> Iterator[str]:
    if manifest.commit and manifest.commit.endswith("-dirty"):
        yield f"{label} was made from a source tree with uncommitted changes"
    if manifest.lost_generators:
        yield f"{label} lost {len(manifest.lost_generators)} of its load generators"
    if manifest.aborted:
        yield f"{label} ended before its time, when it had missed {manifest.aborted}"


def _machine_changes(old: Machine, new: Machine) -> Iterator[Change]:
    yield from _changed("processor", old.cpu, new.cpu)
    yield from _changed("cores", old.cores, new.cores)
    yield from _changed("memory", _gib(old.memory_bytes), _gib(new.memory_bytes))
    yield from _changed("GPUs", ", ".join(old.gpus) or "none", ", ".join(new.gpus) or "none")


def _gib(count: int) -> str:
    return f"{count / 2**30:.0f} GiB"
