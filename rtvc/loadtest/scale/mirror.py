"""A part's files on a worker → the same bytes on the master, as they are appended.

Every chunk says where it belongs, so a chunk that comes twice does no harm, and one that never
came is asked for again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rtvc.record import FILES, MANIFEST_FILE

CHUNK_BYTES = 1 << 18
"""Of one message at most."""

NAMES = frozenset({*FILES.values(), MANIFEST_FILE})
"""Files that are shipped; nothing else is ever written."""

Chunk = dict[str, Any]
"""file, offset, data."""


class Shipper:
    """The worker's side."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets = dict.fromkeys(FILES.values(), 0)

    def fresh(self) -> Iterator[Chunk]:
        """What was appended since. A chunk counts as shipped; the master asks again for one that
        never came, even while others are on their way."""
        for name in self._offsets:
            while data := self._read(name):
                offset = self._offsets[name]
                self._offsets[name] += len(data)
                yield {"file": name, "offset": offset, "data": data}

    def _read(self, name: str) -> bytes:
        try:
            with (self._folder / name).open("rb") as file:
                file.seek(self._offsets[name])
                return file.read(CHUNK_BYTES)
        except FileNotFoundError:
            return b""

    def rewind(self, name: str, offset: int) -> None:
        """The master has only so much of it."""
        if name in self._offsets:
            self._offsets[name] = min(self._offsets[name], offset)

    def manifest(self) -> Chunk:
        """The part's run.json, which is written anew and not appended to."""
        path = self._folder / MANIFEST_FILE
        return {"file": MANIFEST_FILE, "offset": 0, "data": path.read_bytes()}

    def sizes(self) -> dict[str, int]:
        """Bytes of each file that there is."""
        return {
            name: (self._folder / name).stat().st_size
            for name in self._offsets
            if (self._folder / name).exists()
        }


class Mirror:
    """The master's side: one part's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, chunk: Chunk) -> int | None:
        """Take a chunk; returns from where on something is missing, None if nothing is."""
        name, offset, data = str(chunk["file"]), int(chunk["offset"]), bytes(chunk["data"])
        if name not in NAMES:
            return None
        if name == MANIFEST_FILE:
            self._replace(name, data)
            return None
        size = self.size(name)
        if offset > size:
            return size
        with (self._folder / name).open("ab") as file:
            file.write(data[size - offset :])
        return None

    def size(self, name: str) -> int:
        """Bytes there are."""
        path = self._folder / name
        return path.stat().st_size if path.exists() else 0

    def missing(self, sizes: dict[str, int]) -> dict[str, int]:
        """Files that are not complete, and from where on."""
        return {
            name: self.size(name)
            for name, wanted in sizes.items()
            if name in NAMES and self.size(name) < wanted
        }

    def _replace(self, name: str, data: bytes) -> None:
        draft = self._folder / f"{name}.part"
        draft.write_bytes(data)
        draft.replace(self._folder / name)
