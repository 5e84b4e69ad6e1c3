"""Rules for a Dockerfile, named as hadolint names them, for where there is no hadolint. Pure.

    python -m tools.image_rules infra/docker/Dockerfile

Exit code: 0 nothing found, 1 something. A comment `hadolint ignore=DL3008` above an instruction
excuses it. Only the rules listed here are looked at; hadolint knows more, ShellCheck's among them.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tools.dockerfile import Stage, Step, stages

Rule = Callable[[Step], bool]
"""Whether a step breaks it."""

_PIP = re.compile(r"\bpip3? (?:install|wheel)\b")
_WITH_VALUE = ("--find-links", "--index-url", "--only-binary", "--target", "--wheel-dir")
_PINNED_PIP = re.compile(r"(?:^|\s)(?:-c|-r|--constraint|--requirement|--no-index)(?:[\s=]|$)")
_PACKAGE = re.compile(r"""^["']?[A-Za-z][\w.-]*(?:\[[^\]]*\])?["']?$""")
_TAGGED = re.compile(r"[^\s:@]+(?::\d+/[^\s:@]+)?:(?P<tag>\w[\w.-]*)")
_DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
_IGNORED = re.compile(r"hadolint ignore=([A-Z0-9,]+)")


def _commands(step: Step, *programs: str) -> Iterator[str]:
    """The parts of a RUN that call one of these."""
    if step.word == "RUN":
        for part in re.split(r"&&|\|\||;|\|", step.text):
            # Before it may stand what a loop or `python3 -m` needs.
            if any(Path(word).name in programs for word in part.split()[:3]):
                yield part


def _apt_installs(step: Step) -> Iterator[str]:
    return (part for part in _commands(step, "apt-get") if " install " in f"{part} ")


def _pip(step: Step) -> Iterator[str]:
    return (part for part in _commands(step, "pip", "pip3") if _PIP.search(part))


def _unpinned_pip(step: Step) -> bool:
    return any(
        _PINNED_PIP.search(part) is None and any(map(_PACKAGE.match, _packages(part)))
        for part in _pip(step)
    )


def _packages(part: str) -> list[str]:
    """What a pip command names, flags and their values left out."""
    words = _PIP.split(part)[-1].split()
    return [
        word
        for word, before in zip(words, ["", *words], strict=False)
        if not word.startswith("-") and before not in _WITH_VALUE
    ]


def _caches_pip(step: Step) -> bool:
    if any("type=cache" in mount for mount in step.flag("mount")):
        return False
    return any("--no-cache-dir" not in part for part in _pip(step))


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), list)
    except ValueError:
        return False


def _versions_missing(part: str) -> bool:
    words = part.split(" install ", 1)[-1].split()
    return any("=" not in word for word in words if not word.startswith("-"))


RULES: dict[str, tuple[str, Rule]] = {
    "DL3000": (
        "WORKDIR is absolute",
        lambda step: step.word == "WORKDIR" and not step.text.startswith(("/", "$")),
    ),
    "DL3003": ("WORKDIR, not cd", lambda step: any(_commands(step, "cd"))),
    "DL3004": ("no sudo", lambda step: any(_commands(step, "sudo"))),
    "DL3008": (
        "versions of apt's packages are pinned",
        lambda step: any(map(_versions_missing, _apt_installs(step))),
    ),
    "DL3009": (
        "apt's lists are removed where they were fetched",
        lambda step: any(_apt_installs(step)) and "rm -rf /var/lib/apt/lists/*" not in step.text,
    ),
    "DL3013": ("versions of pip's packages are pinned", _unpinned_pip),
    "DL3014": (
        "apt-get install asks nothing",
        lambda step: any(
            re.search(r"\s(?:-\w*y\w*|--yes|--assume-yes)\b", part) is None
            for part in _apt_installs(step)
        ),
    ),
    "DL3015": (
        "apt-get installs no more than is asked for",
        lambda step: any("--no-install-recommends" not in part for part in _apt_installs(step)),
    ),
    "DL3020": ("COPY, not ADD", lambda step: step.word == "ADD"),
    "DL3025": (
        "CMD and ENTRYPOINT are JSON",
        lambda step: step.word in ("CMD", "ENTRYPOINT") and not _is_json(step.text),
    ),
    "DL3042": ("pip keeps no cache in a layer", _caches_pip),
    "DL4006": (
        "a pipe that breaks is noticed",
        lambda step: step.word == "RUN" and re.search(r"[^|]\|[^|]", step.text) is not None,
    ),
}
"""By a step alone."""

STAGE_RULES = {
    "DL3002": "the last USER is not root",
    "DL3006": "an image has a tag",
    "DL3007": "the tag is not latest",
    "DL3012": "one HEALTHCHECK at most",
    "DL3045": "a relative COPY has a WORKDIR",
    "DL3057": "a stage that starts something has a HEALTHCHECK",
}
"""By a whole stage."""


def findings(text: str) -> list[str]:
    """One line each, in the order of the file."""
    _, found = stages(text)
    names = {stage.name for stage in found}
    told = [one for stage in found for one in (*_of_stage(stage, names), *_of_steps(stage))]
    return [f"line {line}: {code}: {what}" for line, code, what in sorted(told)]


def _of_steps(stage: Stage) -> Iterator[tuple[int, str, str]]:
    for step in stage.steps:
        for code, (what, broken) in RULES.items():
            if code not in _excused(step) and broken(step):
                yield step.line, code, what


def _excused(step: Step) -> set[str]:
    found = (_IGNORED.search(note) for note in step.notes)
    return {code for one in found if one is not None for code in one[1].split(",")}


def _of_stage(stage: Stage, names: set[str]) -> Iterator[tuple[int, str, str]]:
    for code in (*_image(stage.base, names), *_started(stage), *_copies(stage)):
        yield stage.line, code, STAGE_RULES[code]


def _image(base: str, names: set[str]) -> Iterator[str]:
    if base in names or base == "scratch" or _DIGEST.fullmatch(base):
        return
    tagged = _TAGGED.fullmatch(base)
    if tagged is None:
        yield "DL3006"
    elif tagged["tag"] == "latest":
        yield "DL3007"


def _started(stage: Stage) -> Iterator[str]:
    words = [step.word for step in stage.steps]
    if not {"CMD", "ENTRYPOINT"} & set(words):
        return
    users = [step.text.split(":")[0] for step in stage.steps if step.word == "USER"]
    if not users or users[-1] in ("root", "0"):
        yield "DL3002"
    if words.count("HEALTHCHECK") != 1:
        yield "DL3012" if "HEALTHCHECK" in words else "DL3057"


def _copies(stage: Stage) -> Iterator[str]:
    there = False
    for step in stage.steps:
        there = there or step.word == "WORKDIR"
        if step.word == "COPY" and not there and not step.text.split()[-1].startswith(("/", "$")):
            yield "DL3045"


def main() -> int:
    code = 0
    for name in sys.argv[1:]:
        for line in findings(Path(name).read_text("utf-8")):
            sys.stdout.write(f"{name}: {line}\n")
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
