"""What is installed here, as a CycloneDX 1.5 bill of materials.

    python -m tools.sbom build/sbom.json

Format: https://cyclonedx.org/docs/1.5/json/. The same environment gives the same file. The hash of
a component is that of the paths and hashes in its RECORD: the files as they were installed.
"""

import argparse
import csv
import hashlib
import json
import sys
import uuid
from email.message import Message
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, cast

from packaging.utils import canonicalize_name

from tools.closure import PROJECT, closure, needs

_LONGEST_LICENCE = 100
"""Characters; some projects put the whole text into the field of its name."""


def bill(found: dict[str, Distribution], required: set[str]) -> dict[str, Any]:
    """Of these distributions, by canonical name; `required`: what rtvc cannot do without."""
    components = [
        _component(name, each, required=name in required)
        for name, each in sorted(found.items())
        if name != PROJECT
    ]
    told = found.get(PROJECT)
    content: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": PROJECT,
                "name": PROJECT,
                "version": told.version if told else "0",
            }
        },
        "components": components,
        "dependencies": [
            {"ref": _ref(name, each), "dependsOn": _depends_on(each, found)}
            for name, each in sorted(found.items())
        ],
    }
    name = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return {**content, "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, name)}"}


def environment() -> dict[str, Distribution]:
    """By canonical name; of two of one name the one that Python imports."""
    found: dict[str, Distribution] = {}
    for each in distributions():
        name = each.metadata["Name"]
        if name:
            found.setdefault(canonicalize_name(name), each)
    return found


def _component(name: str, found: Distribution, *, required: bool) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": _ref(name, found),
        "name": name,
        "version": found.version,
        "scope": "required" if required else "optional",
        "purl": _ref(name, found),
    }
    licences, digest = _licences(found), _digest(found)
    if licences:
        component["licenses"] = licences
    if digest:
        component["hashes"] = [{"alg": "SHA-256", "content": digest}]
        component["properties"] = [
            {"name": "rtvc:hash-of", "value": "sorted path,hash lines of RECORD"}
        ]
    return component


def _ref(name: str, found: Distribution) -> str:
    return PROJECT if name == PROJECT else f"pkg:pypi/{name}@{found.version}"


def _licences(found: Distribution) -> list[dict[str, Any]]:
    # A message, as email has them; its type promises less than it does.
    told = cast(Message, found.metadata)
    expression = told.get("License-Expression")
    if expression:
        return [{"expression": expression}]
    named = [
        line.rpartition(" :: ")[2]
        for line in told.get_all("Classifier") or []
        if line.startswith("License :: ") and line != "License :: OSI Approved"
    ]
    written = (told.get("License") or "").strip()
    if not named and written and len(written) <= _LONGEST_LICENCE and "\n" not in written:
        named = [written]
    return [{"license": {"name": name}} for name in sorted(set(named))]


def _digest(found: Distribution) -> str | None:
    record = found.read_text("RECORD")
    rows = csv.reader((record or "").splitlines())
    lines = sorted(f"{row[0]},{row[1]}" for row in rows if len(row) > 1 and row[1])
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else None


def _depends_on(found: Distribution, here: dict[str, Distribution]) -> list[str]:
    names = {canonicalize_name(each.name) for each in needs(found)}
    return sorted(_ref(name, here[name]) for name in names if name in here)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a CycloneDX 1.5 bill of materials.")
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    told = bill(environment(), set(closure()))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", "utf-8")
    sys.stdout.write(f"{out}: {len(told['components'])} components\n")


if __name__ == "__main__":
    main()
