"""Which device CUDA means by a number: not the one that NVML means, as a rule."""

from collections.abc import Sequence


def cuda_order(
    devices: Sequence[tuple[str, str]], visible: str | None, order: str | None
) -> tuple[str, ...] | None:
    """UUIDs of the devices that CUDA sees, in its numbering; None if that cannot be known.

    `devices`: (UUID, product) in NVML's order. CUDA puts the fastest first unless
    CUDA_DEVICE_ORDER says PCI_BUS_ID, so numbers say nothing where products differ.

    >>> cuda_order([("GPU-a", "T4"), ("GPU-b", "T4")], "1,0", None)
    ('GPU-b', 'GPU-a')
    >>> cuda_order([("GPU-a", "T4"), ("GPU-b", "L4")], "1", None) is None
    True
    >>> cuda_order([("GPU-a", "T4"), ("GPU-b", "L4")], "GPU-b", None)
    ('GPU-b',)
    """
    numbered = order == "PCI_BUS_ID" or len({name for _, name in devices}) == 1
    uuids = [uuid for uuid, _ in devices]
    if visible is None:
        return tuple(uuids) if numbered else None
    found: list[str] = []
    for entry in (part.strip() for part in visible.split(",")):
        if entry.startswith("MIG-") or (entry.isdigit() and not numbered):
            return None
        uuid = _named(entry, uuids)
        # CUDA too takes none from the first that it does not know.
        if uuid is None or uuid in found:
            break
        found.append(uuid)
    return tuple(found)


def _named(entry: str, uuids: Sequence[str]) -> str | None:
    """The device of a number, or of the beginning of a UUID if that fits only one."""
    if entry.isdigit():
        return uuids[int(entry)] if int(entry) < len(uuids) else None
    fitting = [uuid for uuid in uuids if entry.startswith("GPU-") and uuid.startswith(entry)]
    return fitting[0] if len(fitting) == 1 else None
