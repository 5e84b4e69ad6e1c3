"""Instances that can be rented: data in a TOML file, and how their GPUs compare.

No ratio of speeds is measured here. It is derived from two figures of each GPU's data sheet and is
called extrapolated wherever it is used.
"""

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rtvc.errors import UsageError, why

SHIPPED = Path(__file__).with_name("instances.toml")

MOST_FASTER = 2.0
"""Nobody is promised more: small models wait for kernels to be started, not for the GPU."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One kind of GPU."""

    name: str
    """As its maker calls it, without the memory: "A10G"."""
    memory_gib: float
    """Its own memory."""
    bandwidth_gb_s: float
    """Of that memory."""
    half_tflops: float
    """Dense half-precision arithmetic on tensor cores."""

    @property
    def memory_bytes(self) -> int:
        return round(self.memory_gib * 1024**3)

    def speed_against(self, other: "Gpu") -> float:
        """Times as fast as another at most: by the figure that favours it less, so that nobody is
        flattered, and never more than `MOST_FASTER`.

        >>> a10g, l4 = Gpu("A10G", 24, 600, 70), Gpu("L4", 24, 300, 121)
        >>> l4.speed_against(a10g)
        0.5
        """
        bandwidth = self.bandwidth_gb_s / other.bandwidth_gb_s
        return min(bandwidth, self.half_tflops / other.half_tflops, MOST_FASTER)


@dataclass(frozen=True, slots=True)
class Instance:
    """One kind of machine that can be rented."""

    name: str
    """As the provider calls it."""
    gpu: str
    """Name of its GPUs."""
    gpus: int
    """How many."""
    vcpus: int
    """Threads of its processors."""
    memory_gib: float
    """Of the host."""
    usd_per_hour: float | None = None
    """On demand; None: no price is known."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Where the prices come from."""

    region: str
    """Of the provider."""
    kind: str
    """What they are for."""
    source: str
    """Where they were found."""
    date: str
    """When they were written down: ISO 8601."""
    note: str = ""
    """What to beware of."""

    def __str__(self) -> str:
        noted = f" ({self.note})" if self.note else ""
        return f"{self.source}; {self.region}, {self.kind}; as of {self.date}{noted}"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What a file of instances says."""

    prices: Prices
    """Of all of them."""
    gpus: Mapping[str, Gpu]
    """By name."""
    instances: tuple[Instance, ...]
    """In the order of the file."""

    def gpu_called(self, name: str | None) -> Gpu | None:
        """The GPU that a driver calls so ("NVIDIA A10G", "Tesla T4"); None: it is not known.

        Whole words count, so an L40S is no L4.
        """
        words = set(re.findall(r"[A-Za-z0-9]+", name or ""))
        return next((gpu for gpu in self.gpus.values() if gpu.name in words), None)

    def only(self, names: Sequence[str]) -> "Catalogue":
        """The same with no other instances; empty: with all.

        Raises:
            UsageError: there is none of such a name.
        """
        known = {instance.name: instance for instance in self.instances}
        for name in names:
            if name not in known:
                raise UsageError(f"expected an instance ({', '.join(known)}), got {name!r}")
        chosen = tuple(known[name] for name in names) or self.instances
        return replace(self, instances=chosen)

    def priced(self, prices: Mapping[str, float]) -> "Catalogue":
        """The same at other prices, by name of the instance."""
        return replace(
            self,
            instances=tuple(
                replace(instance, usd_per_hour=prices.get(instance.name, instance.usd_per_hour))
                for instance in self.instances
            ),
        )


def load_instances(path: Path | None = None) -> Catalogue:
    """The instances that ship, or those of a file of one's own.

    Raises:
        UsageError: it cannot be read, or is not as it should be; names the file and the place.
    """
    file = path or SHIPPED
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read instances from {file}: {why(error)}") from error
    except ValueError as error:
        raise UsageError(f"{file}: expected TOML, but {why(error)}") from error
    return _catalogue(content, file)


def _catalogue(content: Mapping[str, Any], file: Path) -> Catalogue:
    unknown = sorted(set(content) - {"prices", "gpu", "instance"})
    if unknown:
        raise UsageError(f"{file}: expected [prices], [[gpu]] and [[instance]], got {unknown[0]}")
    prices = _read(Prices, content.get("prices", {}), f"{file}: prices")
    gpus = [_read(Gpu, each, f"{file}: gpu[{n}]") for n, each in _tables(content, "gpu")]
    instances = [
        _read(Instance, each, f"{file}: instance[{n}]") for n, each in _tables(content, "instance")
    ]
    by_name = {gpu.name: gpu for gpu in gpus}
    for instance in instances:
        _check(instance, by_name, file)
    for gpu in gpus:
        if min(gpu.memory_gib, gpu.bandwidth_gb_s, gpu.half_tflops) <= 0:
            raise UsageError(f"{file}: {gpu.name}: expected figures above 0")
    return Catalogue(prices, by_name, tuple(instances))


def _tables(content: Mapping[str, Any], name: str) -> list[tuple[int, Any]]:
    found = content.get(name, [])
    return list(enumerate(found)) if isinstance(found, list) else [(0, found)]


def _check(instance: Instance, gpus: Mapping[str, Gpu], file: Path) -> None:
    if instance.gpu not in gpus:
        raise UsageError(
            f"{file}: {instance.name}: expected a GPU of the file ({', '.join(gpus)}), got "
            f"{instance.gpu!r}"
        )
    if min(instance.gpus, instance.vcpus) < 1 or instance.memory_gib <= 0:
        raise UsageError(f"{file}: {instance.name}: expected GPUs, vCPUs and memory above 0")
    usd = instance.usd_per_hour
    if usd is not None and not (math.isfinite(usd) and usd >= 0):
        raise UsageError(f"{file}: {instance.name}: expected a price of 0 or more")


def _read(kind: type[Any], fields: object, place: str) -> Any:
    """What is not known is refused, as it may be a slip of the pen."""
    if isinstance(fields, Mapping):
        unknown = sorted(set(fields) - set(kind.__dataclass_fields__))
        if unknown:
            raise UsageError(f"{place}: unknown key {unknown[0]}")
    try:
        return TypeAdapter(kind).validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{place}: {where}: {first['msg']}") from error
