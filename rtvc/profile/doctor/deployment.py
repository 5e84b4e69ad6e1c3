"""What the files that deploy a voice chat tell: versions, images, services, start commands."""

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtvc.profile.doctor.checkout import Checkout
from rtvc.profile.doctor.findings import Finding

Version = tuple[int, ...]

_NAME = re.compile(r"\s*([A-Za-z0-9][\w.-]*)\s*(?:\[[^\]]*\])?\s*(.*)")
_SPEC = re.compile(r"(===?|~=|<=|>=|!=|<|>|\^|~)\s*v?(\d{1,9}(?:\.\d{1,9})*)")
_PIP = re.compile(r"\b(?:pip3?|uv pip|uv)\s+(?:install|add)\b(.*)")
_TOKEN = re.compile(r"""["']?([A-Za-z][\w.-]*(?:\[[\w,]*\])?(?:[<>=~!^]+[\w.*,<>=~!]+)?)["']?""")
_IMAGE = re.compile(r"cuda[:-]?(\d{1,3})\.(\d{1,3})(?:\.\d+)?(?:-(cudnn)(\d{0,3}))?", re.IGNORECASE)
_BUILT_IN_CUDNN = 9
"""What tags of CUDA images carry that name cudnn without a number."""
_NO_CUDNN = 0
_WITHOUT_CUDNN = (4, 8)
"""From here on ctranslate2's wheels are built without it: its one layer that had used it, a
convolution, is CUDA's own (OpenNMT/CTranslate2#1949)."""
_FETCHES = re.compile(
    r"snapshot_download|huggingface-cli|hf download|download_model|from_pretrained|WhisperModel"
    r"|models? pull|(?:COPY|ADD)\s.*model",
    re.IGNORECASE,
)
_CACHES = re.compile(r"cache|model|huggingface|hf_home", re.IGNORECASE)
_SERVER = re.compile(r"\b(?:uvicorn|gunicorn|hypercorn|fastapi)\b.*", re.IGNORECASE)
_WORKERS = re.compile(r"(?:--workers|\s-w)[\s=]+(\d{1,6})")
_CONCURRENCY = re.compile(r"WEB_CONCURRENCY[\s=:]+(\d{1,6})")
_SERVICE = re.compile(r"\s*[\"']?([\w.-]+)[\"']?:(?:\s*&\w+)?")
_VOICE = re.compile(r"whisper|voice|speech|stt|tts|realtime", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pin:
    """One requirement, as one file states it."""

    name: str
    """Lower case, with dashes."""
    specs: tuple[tuple[str, Version], ...]
    """Operator and version of each condition."""
    where: str
    """File and line, and what stands there."""

    @property
    def below(self) -> Version | None:
        """It allows only what is below this; None: no end."""
        ends = [_end(operator, version) for operator, version in self.specs]
        return min((end for end in ends if end is not None), default=None)

    @property
    def least(self) -> Version | None:
        """It allows nothing below this; None: anything."""
        floors = ("==", "===", ">=", ">", "~=", "^", "~")
        least = (version for operator, version in self.specs if operator in floors)
        return max(least, default=None)


def _end(operator: str, version: Version) -> Version | None:
    if operator == "<":
        return version
    if operator in ("==", "===", "<="):
        return (*version, 0, 1)
    if operator == "^":
        return (version[0] + 1,)
    if operator in ("~=", "~"):
        kept = version[:-1] or version
        return (*kept[:-1], kept[-1] + 1)
    return None


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of a Dockerfile, its continued lines joined."""

    line: int
    """Where it begins."""
    word: str
    """Upper case, such as RUN."""
    rest: str
    """What follows."""


@dataclass(frozen=True, slots=True)
class Image:
    """A base image with CUDA."""

    where: str
    """File and line, and its name."""
    cuda: int
    """Major version."""
    cudnn: int | None
    """Major version; None: it carries none."""


def check_deployment(checkout: Checkout) -> list[Finding]:
    """All that requirements, Dockerfiles, compose files and scripts tell."""
    files = checkout.texts_like("*Dockerfile*", "Containerfile*")
    docker = {path: instructions(text) for path, text in files.items()}
    compose = checkout.texts_like("*compose*.y*ml")
    pins, findings = _pins(checkout, docker)
    images = [image for path, found in docker.items() for image in _images(path, found)]
    findings += _versions(pins, images, locked=checkout.locked)
    speech = bool({"ctranslate2", "faster-whisper", "realtimestt", "openai-whisper"} & set(pins))
    for path, found in docker.items():
        findings += _dockerfile(path, found, compose, speech=speech)
    for path, text in compose.items():
        findings += _compose(path, text, cuda=bool(images))
    return [*findings, *_started(checkout)]


def _pins(
    checkout: Checkout, docker: dict[str, list[Instruction]]
) -> tuple[dict[str, list[Pin]], list[Finding]]:
    unread: list[Finding] = []
    found: list[Pin] = []
    for path, text in checkout.texts_like("*requirements*.txt", "*constraints*.txt").items():
        lines = enumerate(text.splitlines(), 1)
        found += _read_pins((f"{path}:{number}", line) for number, line in lines)
    for path, text in checkout.texts_like("pyproject.toml").items():
        try:
            stated = _stated(tomllib.loads(text))
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            evidence = f"{path}: {' '.join(str(error).split())}"
            unread.append(Finding("not-read", "note", "a file is no valid TOML", evidence))
            continue
        found += _read_pins((path, line) for line in stated)
    for path, steps in docker.items():
        found += _installed(path, steps)
    pins: dict[str, list[Pin]] = {}
    for pin in found:
        pins.setdefault(pin.name, []).append(pin)
    return pins, unread


def _read_pins(lines: Iterable[tuple[str, str]]) -> Iterator[Pin]:
    for where, line in lines:
        bare = line.split("#")[0].split(";")[0].strip()
        named = _NAME.match(bare)
        if named is not None:
            name = re.sub(r"[-_.]+", "-", named[1]).lower()
            specs = tuple((op, _version(text)) for op, text in _SPEC.findall(named[2]))
            yield Pin(name, specs, f"{where} {bare}")


def _version(text: str) -> Version:
    """Its numbers, without zeros at the end: 4.5.0 is 4.5."""
    parts = [int(part) for part in text.split(".")[:4]]
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def _stated(project: dict[str, Any]) -> Iterator[str]:
    """Requirements of a pyproject.toml, poetry's too."""
    own = _table(project, "project")
    extras = _table(own, "optional-dependencies").values()
    for group in (own.get("dependencies"), *extras):
        yield from (line for line in group or () if isinstance(line, str))
    poetry = _table(_table(_table(project, "tool"), "poetry"), "dependencies")
    for name, said in poetry.items():
        version = said.get("version", "") if isinstance(said, dict) else said
        plain = str(version)
        yield f"{name}=={plain}" if plain[:1].isdigit() else f"{name}{plain}"


def _table(table: dict[str, Any], key: str) -> dict[str, Any]:
    found = table.get(key)
    return found if isinstance(found, dict) else {}


def _installed(path: str, steps: list[Instruction]) -> Iterator[Pin]:
    for step in steps:
        install = _PIP.search(step.rest) if step.word == "RUN" else None
        if install is not None:
            tokens = _TOKEN.findall(install[1].split("&&")[0])
            yield from _read_pins((f"{path}:{step.line}", token) for token in tokens)


def _versions(
    pins: dict[str, list[Pin]], images: list[Image], *, locked: bool
) -> Iterator[Finding]:
    runtime, whisper = pins.get("ctranslate2", []), pins.get("faster-whisper", [])
    yield from _old(runtime, whisper)
    if not runtime and not whisper:
        return
    if not locked and all(pin.below is None for pin in runtime):
        seen = (runtime or whisper)[0].where
        yield Finding("ctranslate2-unpinned", "note", "ctranslate2 is not pinned", seen)
    torch = pins.get("torch", [])
    if torch and not locked and not any(pin.specs for pin in torch):
        what = "torch is not pinned beside ctranslate2"
        yield Finding("torch-unpinned", "warning", what, torch[0].where)
    for image in images:
        yield from _pair(image, pins, locked=locked)


def _old(runtime: list[Pin], whisper: list[Pin]) -> Iterator[Finding]:
    for pin in whisper:
        if _is_below(pin, (1,)):
            yield Finding("faster-whisper-old", "warning", "faster-whisper is old", pin.where)
    for pin in runtime:
        if _is_below(pin, (4, 5)):
            what = "ctranslate2 is held below 4.5"
            yield Finding("ctranslate2-old", "warning", what, pin.where)


def _is_below(pin: Pin, version: Version) -> bool:
    return pin.below is not None and pin.below <= version


def _needs(runtime: list[Pin], *, locked: bool) -> tuple[int, int | None, str] | None:
    """CUDA, cuDNN (None: whatever its CUDA had) and who says so; None: can't be told."""
    for pin in runtime:
        if _is_below(pin, (4,)):
            return 11, None, pin.where
        if _is_below(pin, (4, 5)):
            return 12, 8, pin.where
        if pin.least is not None and pin.least >= (4, 5):
            return 12, _NO_CUDNN if pin.least >= _WITHOUT_CUDNN else 9, pin.where
    newest = "ctranslate2 is not pinned: the newest is installed"
    return None if locked else (12, _NO_CUDNN, newest)


def _pair(image: Image, pins: dict[str, list[Pin]], *, locked: bool) -> Iterator[Finding]:
    needs = _needs(pins.get("ctranslate2", []), locked=locked)
    if needs is None:
        return
    cuda, cudnn, who = needs
    carried, by_pip = _cudnn(image, pins)
    evidence = f"{image.where}; {who}"
    wanted = f"CUDA {cuda}" + (f" with cuDNN {cudnn}" if cudnn else "")
    if image.cuda != cuda or (cudnn and carried and carried != cudnn):
        has = f"CUDA {image.cuda}" + (f" with cuDNN {carried}" if carried else "")
        what = f"ctranslate2 wants {wanted}, the image has {has}"
        yield Finding("ctranslate2-cudnn", "bad", what, evidence)
    elif cudnn and carried is None and "torch" not in pins:
        what = f"ctranslate2 wants {wanted}, the image carries no cuDNN"
        yield Finding("ctranslate2-cudnn", "warning", what, evidence)
    elif cudnn and carried:
        by = " (by pip)" if by_pip else ""
        what = f"ctranslate2 finds CUDA {cuda} with cuDNN {cudnn}{by}"
        yield Finding("ctranslate2-match", "good", what, evidence)
    elif cudnn == _NO_CUDNN:
        what = f"ctranslate2 finds CUDA {cuda}, and wants no cuDNN"
        yield Finding("ctranslate2-match", "good", what, evidence)


def _cudnn(image: Image, pins: dict[str, list[Pin]]) -> tuple[int | None, bool]:
    """The major version that is there, and whether pip brings it."""
    for pin in (*pins.get("nvidia-cudnn-cu12", []), *pins.get("nvidia-cudnn-cu11", [])):
        if pin.least is not None:
            return pin.least[0], True
    return image.cudnn, False


def instructions(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile, defaults of ARG put in."""
    found: list[Instruction] = []
    defaults: dict[str, str] = {}
    begun, joined = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        begun = begun or number
        joined += f" {bare.removesuffix(chr(92))}"
        if bare.endswith(chr(92)):
            continue
        word, _, rest = joined.strip().partition(" ")
        filled = re.sub(r"\$\{?(\w+)(?::-[^}]*)?\}?", lambda m: defaults.get(m[1], m[0]), rest)
        found.append(Instruction(begun, word.upper(), filled.strip()))
        if word.upper() == "ARG" and "=" in rest:
            name, _, value = filled.partition("=")
            defaults[name.strip()] = value.strip().strip("\"'")
        begun, joined = 0, ""
    return found


def _images(path: str, steps: list[Instruction]) -> Iterator[Image]:
    """The CUDA image of the last stage, where it has one."""
    stages = [step for step in steps if step.word == "FROM"]
    for step in stages[-1:]:
        found = _IMAGE.search(step.rest)
        if found is not None:
            cudnn = int(found[4] or _BUILT_IN_CUDNN) if found[3] else None
            yield Image(f"{path}:{step.line} {step.rest.split()[0]}", int(found[1]), cudnn)


def _last_stage(steps: list[Instruction]) -> list[Instruction]:
    begins = [number for number, step in enumerate(steps) if step.word == "FROM"]
    return steps[begins[-1] :] if begins else []


def _dockerfile(
    path: str, steps: list[Instruction], compose: dict[str, str], *, speech: bool
) -> Iterator[Finding]:
    stage = _last_stage(steps)
    if not any(step.word in ("CMD", "ENTRYPOINT") for step in stage):
        return
    where = f"{path}:{stage[0].line}"
    checked = any(step.word == "HEALTHCHECK" and step.rest != "NONE" for step in stage)
    if not checked and not any("healthcheck:" in text for text in compose.values()):
        yield Finding("no-healthcheck", "warning", "the container has no health check", where)
    users = [step for step in stage if step.word == "USER"]
    if not users or users[-1].rest.split(":")[0] in ("root", "0"):
        at = f"{path}:{users[-1].line} USER {users[-1].rest}" if users else f"{where}: no USER"
        yield Finding("runs-as-root", "warning", "the server runs as root", at)
    if speech and not _keeps_models(steps, compose):
        what = "models are fetched anew by every container"
        yield Finding("no-model-cache", "warning", what, where)


def _keeps_models(steps: list[Instruction], compose: dict[str, str]) -> bool:
    for step in steps:
        if step.word == "VOLUME" or _FETCHES.search(f"{step.word} {step.rest}"):
            return True
    return any(
        _CACHES.search(line)
        for text in compose.values()
        for line in text.splitlines()
        if line.strip().startswith("-") and ":" in line
    )


def services(text: str) -> dict[str, tuple[int, str]]:
    """Service → its line and its block, by indentation alone."""
    found: dict[str, tuple[int, str]] = {}
    inside, depth, name = False, 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.split(" #")[0].rstrip()
        if not bare or bare.lstrip().startswith("#"):
            continue
        indent = len(bare) - len(bare.lstrip())
        if indent == 0:
            inside, depth, name = bare.startswith("services:"), 0, ""
        elif inside:
            depth = depth or indent
            named = _SERVICE.fullmatch(bare) if indent == depth else None
            if named is not None:
                name = named[1]
                found[name] = (number, "")
            elif name:
                found[name] = (found[name][0], f"{found[name][1]}{bare}\n")
    return found


def _compose(path: str, text: str, *, cuda: bool) -> Iterator[Finding]:
    for name, (line, block) in services(text).items():
        if "build:" not in block and not _VOICE.search(f"{name} {block}"):
            continue
        where = f"{path}:{line} {name}"
        if cuda and "build:" in block and not re.search(r"gpus:|nvidia", block):
            what = "a service of a CUDA image asks for no GPU"
            yield Finding("compose-no-gpu", "warning", what, where)
        if not re.search(r"shm_size:|ipc:", block):
            yield Finding("compose-shm", "note", "shared memory is left at 64 MB", where)
        if "nofile" not in block:
            yield Finding("compose-nofile", "note", "no limit of descriptors is set", where)


def _started(checkout: Checkout) -> Iterator[Finding]:
    for path, text in checkout.texts.items():
        if path.endswith((".txt", ".toml")):
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if line.lstrip().startswith("#"):
                continue
            # CMD ["uvicorn", "--workers", "4"] reads like a line of a shell.
            plain = re.sub(r"[\[\]\"',]+", " ", line)
            yield from _start_line(path, number, plain)


def _start_line(path: str, number: int, line: str) -> Iterator[Finding]:
    where = f"{path}:{number}"
    command = _SERVER.search(line)
    workers = _WORKERS.search(command[0]) if command else _CONCURRENCY.search(line)
    if workers is not None and int(workers[1]) > 1:
        what = f"{workers[1]} workers, each with models of its own"
        yield Finding("several-workers", "warning", what, where)
    if command is not None and "--reload" in command[0] and "dev" not in Path(path).name.lower():
        yield Finding("reload", "warning", "the server is started with --reload", where)
