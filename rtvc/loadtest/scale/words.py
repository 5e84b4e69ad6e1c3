"""What master and workers of a distributed load test say to each other, on Locust's connection.

    worker                                    master
    hello {version, machine}            →     is it one of ours, and is there still a place?
                                        ←     refused {reason}
                                        ←     file {name, offset, data} …   its clips
                                        ←     draft {spec, manifest, key?}
    ready {digest}                      →     the same as here?
                                        ←     start {}          to all, when all are ready
    started {}                          →     how long it took at most
    rows {chunks}                       →     every second, also if there are none
                                        ←     order {…} · stop {} · resend {file, offset}
    done {sizes}                        →     is all of it here?
                                        ←     bye {}

No instant is ever sent: each worker's clock starts at its own start message.
"""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rtvc.loadtest.spec import LoadSpec

PREFIX = "rtvc_"
"""Of the names of our messages among Locust's."""

FROM_WORKER = ("hello", "ready", "started", "rows", "done", "failed")
FROM_MASTER = ("refused", "file", "draft", "start", "order", "stop", "resend", "bye")

LANGUAGE = 1
"""Raised when a message changes its meaning."""

Data = dict[str, Any]

BEAT_S = 1.0
"""How often a worker says what is new."""


def digest(spec: LoadSpec, clips: Path) -> str:
    """Of all that decides what a worker does; folders and pages, which differ, left out."""
    fields = asdict(replace(spec, run_dir="", work_dir="", web_port=None))
    told = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    with clips.open("rb") as file:
        told.update(hashlib.file_digest(file, "sha256").digest())
    return told.hexdigest()
