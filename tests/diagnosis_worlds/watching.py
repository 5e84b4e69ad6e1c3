"""What is read once a second beside a phase: the server's `/metrics`, and the machine."""

from rtvc.record import SampleRow
from tests.diagnosis_worlds.caller import CallCenter
from tests.diagnosis_worlds.figures import Readings
from tests.diagnosis_worlds.kernel import Signal, Task
from tests.diagnosis_worlds.machine import Lane
from tests.diagnosis_worlds.server import Server
from tests.diagnosis_worlds.world import GB

EVERY_S = 1.0
SCRAPE_PATIENCE_S = 2.0
PAGE_PATIENCE_S = 5.0
GENERATOR_BYTES = 150_000_000
GPU_BYTES = 24 * GB
GPU_HZ = 1_980e6


class Watch:
    """Both readers of one phase."""

    def __init__(self, server: Server, center: CallCenter) -> None:
        self._server, self._center = server, center
        self._kernel = server.kernel
        self._apart_s = server.random.uniform(-0.2, 0.8)
        self.samples: list[SampleRow] = []
        """Of the server."""
        self.host: list[SampleRow] = []
        """Of the machine; its zero is not quite the run's."""
        self._kernel.spawn(self._scrape())
        self._kernel.spawn(self._look())
        # It has only just been started.
        server.cores.spent("starting", server.random.uniform(0.3, 1.2))

    # The server.

    def _scrape(self) -> Task:
        up, down = self._lanes()
        while not self._center.over.done:
            asked_s = self._kernel.now
            yield up.arrival_s() - self._kernel.now
            yield self._server.loop.finish_s(0.002) - self._kernel.now
            found = self._server.readings()
            yield self._server.cores.work("server", 0.008)
            yield self._server.loop.finish_s(0.0005) - self._kernel.now
            yield down.arrival_s() - self._kernel.now
            yield self._center.thread.finish_s(0.003) - self._kernel.now
            if self._kernel.now - asked_s <= SCRAPE_PATIENCE_S:
                self._note_server(found)
            yield EVERY_S * self._server.random.uniform(1.0, 1.005)

    def _note_server(self, found: Readings) -> None:
        at_s = self._center.since_s(self._kernel.now)
        self.samples += [SampleRow(at_s, "server", name, value) for name, value in found]

    # The machine.

    def _look(self) -> Task:
        up, down = self._lanes()
        before = self._used()
        due_s = self._kernel.now
        while not self._center.over.done:
            # On a grid: what waits for an answer must not fall into step with what it waits for.
            due_s = max(due_s + EVERY_S, self._kernel.now + EVERY_S / 2)
            wake_s = self._server.random.uniform(0.0, 0.02)
            yield due_s + wake_s - self._kernel.now
            now = self._used()
            self._note_host(before, now)
            before = now
            at_s = self._kernel.now
            self._kernel.spawn(self._connect(at_s))
            answered = Signal()
            self._kernel.spawn(self._ask(up, down, at_s, answered))
            self._kernel.after(PAGE_PATIENCE_S, answered.fire)
            yield answered

    def _used(self) -> dict[str, float]:
        server, cores = self._server, self._server.cores
        used = {owner: cores.used_s(owner) for owner in ("generator", "neighbour", "other")}
        used["generator"] += cores.used_s("starting")
        used["server"] = server.cpu_s
        if server.faults.neighbour_is_child:
            used["neighbour"] = 0.0
        used["device"] = server.device.busy_s if server.device else 0.0
        used["at"] = self._kernel.now
        return used

    def _note_host(self, before: dict[str, float], now: dict[str, float]) -> None:
        server, world, rng = self._server, self._server.world, self._server.random
        passed_s = now["at"] - before["at"]
        cores = {name: max(now[name] - before[name], 0.0) / passed_s for name in now}
        others = cores["neighbour"] + cores["other"] * rng.uniform(0.5, 1.5)
        busy = (cores["server"] + cores["generator"] + others) / world.cpus
        used = server.used_bytes * rng.uniform(0.99, 1.01) + server.memory_bytes + GENERATOR_BYTES
        available = max(world.memory_bytes - used, 0.02 * world.memory_bytes)
        processes = 1 + len(server.engines) + server.faults.neighbour_is_child
        readings = {
            "host_cpus": float(world.cpus),
            "host_cpu_ratio": min(busy, 1.0),
            "host_memory_available_bytes": available,
            "host_swap_used_bytes": 0.0,
            "server_cpu_cores": cores["server"],
            "server_memory_bytes": server.memory_bytes,
            "server_processes": float(processes),
            "server_threads": 10.0 + 4.0 * len(server.engines),
            "server_open_files": 24.0 + len(server.sessions),
            "generator_cpu_cores": cores["generator"] + rng.uniform(0.0, 0.02),
            "other_cpu_cores": others,
        }
        self._note(now["at"], readings, "host")
        if server.device is not None:
            self._note(now["at"], self._card(min(cores["device"], 1.0)), "gpu")

    def _card(self, busy: float) -> dict[str, float]:
        server, rng = self._server, self._server.random
        met = server.faults.neighbour > 0 and server.active()
        others = 2.5 * GB * met
        model = sum(engine.model_bytes for engine in server.engines) + 0.4 * GB
        slow = server.throttled
        hertz = GPU_HZ / slow * (1 if busy > 0.02 else 0.6) * rng.uniform(0.99, 1.0)
        return {
            "gpu0_utilisation_ratio": round(busy, 2),
            "gpu0_memory_used_bytes": model + others + 0.2 * GB,
            "gpu0_memory_total_bytes": float(GPU_BYTES),
            "gpu0_other_memory_bytes": others,
            "gpu0_sm_clock_hz": hertz,
            "gpu0_max_sm_clock_hz": GPU_HZ,
            "gpu0_throttled": float(slow > 1.05 and busy > 0.02),
            "gpu0_temperature_c": round(45 + 25 * busy + 12 * (slow > 1.05) + rng.uniform(-1, 1)),
        }

    def _connect(self, at_s: float) -> Task:
        began_s = self._kernel.now
        yield self._server.random.uniform(0.00005, 0.0004) + 2 * self._center.tcp_way_s()
        self._note(at_s, {"tcp_connect_s": self._kernel.now - began_s}, "host")

    def _ask(self, up: Lane, down: Lane, at_s: float, answered: Signal) -> Task:
        began_s = self._kernel.now
        yield self._server.random.uniform(0.0003, 0.0012)
        yield up.arrival_s() - self._kernel.now
        yield self._server.loop.finish_s(0.0006) - self._kernel.now
        yield down.arrival_s() - self._kernel.now
        took_s = self._kernel.now - began_s
        if took_s <= PAGE_PATIENCE_S:
            self._note(at_s, {"http_round_trip_s": took_s}, "host")
        answered.fire()

    def _note(self, at_s: float, readings: dict[str, float], source: str) -> None:
        since_s = max(self._center.since_s(at_s) + self._apart_s, 0.0)
        self.host += [SampleRow(since_s, source, name, value) for name, value in readings.items()]

    def _lanes(self) -> tuple[Lane, Lane]:
        way_s = self._server.way_s
        return Lane(self._kernel, way_s), Lane(self._kernel, way_s)
