"""What was read of the GPUs, as lines for a person."""

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rtvc.instruments.gpu import GpuSample
from rtvc.profile.gpu.history import (
    MODEL_BYTES,
    DeviceHistory,
    GpuHistory,
    ProcessPeak,
    holds_model,
    model_holders,
)

_BLOCKS = "▁▂▃▄▅▆▇█"
SPARKLINE_WIDTH = 24
MOST_PROCESSES = 12
"""Listed by name; the rest is counted."""

BUSY_NOTE = "GPU busy: share of a sample period in which any kernel ran; not how full the GPU is."
HOLDER_NOTE = f"● holds a model: more than {MODEL_BYTES / 1e6:.0f} MB of device memory."


def sparkline(values: Sequence[float | None], top: float | None, width: int) -> str:
    """The last `width` values between 0 and `top`; a gap where one is absent.

    >>> sparkline([0.0, 0.5, None, 1.0], 1.0, 3)
    '▅ █'
    >>> sparkline([1.0], None, 3)
    ''
    """
    if not top:
        return ""
    return "".join(_block(value, top) for value in values[-width:])


def _block(value: float | None, top: float) -> str:
    if value is None:
        return " "
    share = min(max(value / top, 0.0), 1.0)
    return _BLOCKS[min(int(share * len(_BLOCKS)), len(_BLOCKS) - 1)]


def reading_line(sample: GpuSample, at_s: float) -> str:
    """One device at one instant, on one line; what is not known is left out."""
    parts = [
        f"{at_s:.1f} s",
        f"GPU {sample.index}",
        _percent("busy {}", sample.busy_ratio),
        _of("memory {} of {} GB", sample.memory_used_bytes, sample.memory_total_bytes, 1e9, 1),
        _of("{} of {} W", sample.power_w, sample.power_limit_w, 1.0, 0),
        "" if sample.sm_clock_mhz is None else f"SM {sample.sm_clock_mhz} MHz",
        "" if sample.temperature_c is None else f"{sample.temperature_c} °C",
        _throttling_now(sample),
        _holders_now(sample),
        sample.trouble or "",
    ]
    return " · ".join(filter(None, parts))


def _percent(text: str, ratio: float | None) -> str:
    return "" if ratio is None else text.format(f"{100 * ratio:.0f} %")


def _of(text: str, now: float | None, most: float | None, unit: float, digits: int) -> str:
    if now is None:
        return ""
    shown = "?" if most is None else f"{most / unit:.{digits}f}"
    return text.format(f"{now / unit:.{digits}f}", shown)


def _throttling_now(sample: GpuSample) -> str:
    if sample.throttle_reasons is None:
        return ""
    return f"throttled: {', '.join(sample.throttled_by)}" if sample.throttled_by else ""


def _holders_now(sample: GpuSample) -> str:
    count = model_holders(sample)
    if count is None:
        return ""
    return f"{count} {'process holds' if count == 1 else 'processes hold'} a model"


def screen(history: GpuHistory) -> RenderableType:
    """All devices with their history; what is not readable is said to be so."""
    parts: list[RenderableType] = []
    for device in history.devices:
        parts.extend((heading(device), _table(describe(device)), Text("")))
    parts.append(Text(f"{BUSY_NOTE} {HOLDER_NOTE}", "dim"))
    return Group(*parts)


def heading(device: DeviceHistory) -> Text:
    last = device.last
    text = Text(f"GPU {last.index}  {last.name or 'name not readable'}", "bold")
    about = [
        last.uuid,
        None if last.cuda_index is None else f"CUDA {last.cuda_index}",
        "split into instances (MIG): their use and processes are not read" if last.mig else None,
        f"{device.readings} readings in {last.at_s - device.first.at_s:.0f} s",
    ]
    return text.append("  " + " · ".join(filter(None, about)), "dim")


def _table(lines: Iterable[tuple[str, str]]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for label, text in lines:
        table.add_row(label, Text(text))
    return table


UNREADABLE = "not readable"


def describe(device: DeviceHistory) -> Iterator[tuple[str, str]]:
    """Label and text, line by line: now, and over the watch."""
    yield "GPU busy", _busy(device)
    yield "memory", _memory(device)
    yield from (("", line) for line in _rise(device))
    yield "power", _power(device)
    yield "energy", _energy(device)
    yield "clocks", _clocks(device)
    yield "throttled", _throttled(device)
    yield "temperature", _temperature(device)
    yield "processes", _holders(device)
    yield from (("", line) for line in _process_lines(device))
    if device.last.trouble:
        yield "note", device.last.trouble


def _busy(device: DeviceHistory) -> str:
    figures = device.busy.figures()
    if figures is None:
        return UNREADABLE
    line = sparkline([one.busy_ratio for one in device.recent], 1.0, SPARKLINE_WIDTH)
    now = _percent("{} now", device.last.busy_ratio) or UNREADABLE
    return f"{now}, mean {100 * figures.mean:.0f} %, max {100 * figures.most:.0f} %  {line}"


def _memory(device: DeviceHistory) -> str:
    last, figures = device.last, device.used.figures()
    if figures is None:
        return UNREADABLE
    used = _of("{} of {} GB now", last.memory_used_bytes, last.memory_total_bytes, 1e9, 2)
    total = last.memory_total_bytes
    line = sparkline([one.memory_used_bytes for one in device.recent], total, SPARKLINE_WIDTH)
    return f"{used or UNREADABLE}, peak {figures.most / 1e9:.2f} GB  {line}"


def _rise(device: DeviceHistory) -> Iterator[str]:
    """Named for what it is: everybody's, not one process's."""
    above = device.above.figures()
    if above is not None and above.most >= 1e6:
        yield f"at most {above.most / 1e6:.0f} MB above the first reading, all processes together"


def _power(device: DeviceHistory) -> str:
    figures = device.power.figures()
    if figures is None:
        return UNREADABLE
    now = _of("{} of {} W now", device.last.power_w, device.last.power_limit_w, 1.0, 0)
    return f"{now or UNREADABLE}, mean {figures.mean:.0f} W, max {figures.most:.0f} W"


def _energy(device: DeviceHistory) -> str:
    energy_j, source = device.energy()
    if energy_j is None:
        return "from two readings on" if device.readings < 2 else UNREADABLE
    by = "by the device's own counter" if source == "counter" else "from the power of the readings"
    return f"{_joules(energy_j)} ({by})"


def _joules(joules: float) -> str:
    """
    >>> _joules(950.4), _joules(18_600.0)
    ('950 J', '18.6 kJ')
    """
    return f"{joules:.0f} J" if joules < 10_000 else f"{joules / 1000:.1f} kJ"


def _clocks(device: DeviceHistory) -> str:
    figures, last = device.clock.figures(), device.last
    if figures is None:
        return UNREADABLE
    most = "" if last.sm_clock_max_mhz is None else f" of at most {last.sm_clock_max_mhz}"
    memory = "" if last.memory_clock_mhz is None else f"; memory {last.memory_clock_mhz} MHz"
    return f"SM {figures.least:.0f} to {figures.most:.0f}{most} MHz{memory}"


def _throttled(device: DeviceHistory) -> str:
    if device.throttled_s is None:
        return UNREADABLE
    told = [f"{reason} {seconds:.1f} s" for reason, seconds in device.throttled_s.items()]
    now = ", ".join(device.last.throttled_by)
    return ", ".join(told) + (f" (now: {now})" if now else "") if told else "no"


def _temperature(device: DeviceHistory) -> str:
    figures = device.celsius.figures()
    if figures is None:
        return UNREADABLE
    now = device.last.temperature_c
    return f"{UNREADABLE if now is None else f'{now} °C'} now, max {figures.most:.0f} °C"


def _holders(device: DeviceHistory) -> str:
    now, figures = _holders_now(device.last), device.holders.figures()
    if device.last.processes is None or figures is None:
        return "not to be known: see memory for the rise above the first reading"
    most = f", at most {figures.most:.0f} at once" if device.readings > 1 else ""
    return f"{now or 'unknown now'}{most}"


def _process_lines(device: DeviceHistory) -> Iterator[str]:
    now = {process.pid: process for process in device.last.processes or ()}
    peaks = device.processes()
    for peak in peaks[:MOST_PROCESSES]:
        process = now.get(peak.pid)
        mark = "●" if process is not None and holds_model(process) else " "
        name = peak.name or "(host's number)"
        held = "gone" if process is None else _megabytes(process.memory_bytes)
        yield f"{mark} {peak.pid}  {name}  {held}{_peak(peak)}"
    if len(peaks) > MOST_PROCESSES:
        yield f"  and {len(peaks) - MOST_PROCESSES} more"


def _peak(peak: ProcessPeak) -> str:
    return "" if peak.peak_bytes is None else f", peak {_megabytes(peak.peak_bytes)}"


def _megabytes(size: int | None) -> str:
    return "memory not told" if size is None else f"{size / 1e6:.0f} MB"
