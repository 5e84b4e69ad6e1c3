"""The doctor reads what deploys: images, compose files, start scripts, versions."""

from pathlib import Path

import pytest

from rtvc.profile.doctor.deployment import Pin, instructions, services
from tests.doctor_folders import SickAndWell, examined, kinds, told_apart

_IMAGE = "FROM x\nRUN pip install faster-whisper==1.2.1\nCMD serve\n"
_WEB = "services:\n  web:\n    build: .\n    environment:\n      - WEB_CONCURRENCY={}\n"

PAIRS: dict[str, SickAndWell] = {
    "several-workers": (
        "warning",
        {"a.py": "import uvicorn\nuvicorn.run('a:app', workers=4)\n"},
        {"a.py": "import uvicorn\nuvicorn.run('a:app', workers=1)\n"},
    ),
    "several-workers of an image": (
        "warning",
        {"Dockerfile": 'FROM x\nCMD ["uvicorn", "a:app", "--workers", "4"]\n'},
        {"Dockerfile": 'FROM x\nCMD ["uvicorn", "a:app"]\n'},
    ),
    "several-workers of a service": (
        "warning",
        {"docker-compose.yml": _WEB.format(3)},
        {"docker-compose.yml": _WEB.format(1)},
    ),
    "reload": (
        "warning",
        {"start.sh": "uvicorn a:app --reload\n"},
        {
            "start.sh": "uvicorn a:app\n# uvicorn a:app --reload\n",
            "dev.sh": "uvicorn a:app --reload",
        },
    ),
    "ctranslate2-old": (
        "warning",
        {"requirements.txt": "ctranslate2<4.5.0\n"},
        {"requirements.txt": "ctranslate2==4.6.0\n"},
    ),
    "faster-whisper-old": (
        "warning",
        {"requirements.txt": "faster-whisper==0.10.1\n"},
        {"requirements.txt": "faster_whisper==1.2.1\n"},
    ),
    "ctranslate2-unpinned": (
        "note",
        {"pyproject.toml": '[project]\ndependencies = ["faster-whisper>=1.2"]\n'},
        {"pyproject.toml": '[project]\ndependencies = ["faster-whisper>=1.2"]\n', "uv.lock": ""},
    ),
    "torch-unpinned": (
        "warning",
        {"requirements.txt": "ctranslate2==4.6.0\ntorch\n"},
        {"requirements.txt": "ctranslate2==4.6.0\ntorch==2.8.0\n"},
    ),
    "ctranslate2-cudnn": (
        "bad",
        {
            "Dockerfile": "ARG CUDA=12.1.1\nFROM nvidia/cuda:${CUDA}-cudnn8-runtime-ubuntu22.04\n",
            "requirements.txt": "ctranslate2==4.6.0\n",
        },
        {
            "Dockerfile": "FROM nvidia/cuda:12.4.1-cudnn-runtime-ubuntu22.04\n",
            "requirements.txt": "ctranslate2==4.6.0\n",
        },
    ),
    "ctranslate2-cudnn the other way": (
        "bad",
        {
            "Dockerfile": "FROM nvidia/cuda:12.3.2-cudnn9-runtime-ubuntu22.04\n"
            "RUN pip install torch==2.3 \\\n    'ctranslate2<4.5.0'\n"
        },
        {
            "Dockerfile": "FROM nvidia/cuda:12.1.1-cudnn8-runtime-ubuntu22.04\n"
            "RUN pip install torch==2.3 \\\n    'ctranslate2<4.5.0'\n"
        },
    ),
    "ctranslate2-cudnn of CUDA 11": (
        "bad",
        {
            "Dockerfile": "FROM nvidia/cuda:11.8.0-cudnn8-runtime-ubuntu22.04\n"
            "RUN pip install faster-whisper\n"
        },
        {
            "Dockerfile": "FROM nvidia/cuda:11.8.0-cudnn8-runtime-ubuntu22.04\n"
            "RUN pip install faster-whisper ctranslate2==3.24.0\n"
        },
    ),
    "ctranslate2-cudnn missing": (
        "warning",
        {
            "Dockerfile": "FROM nvidia/cuda:12.4.1-base-ubuntu22.04\n"
            "RUN pip install ctranslate2==4.6.0\n"
        },
        {
            "Dockerfile": "FROM nvidia/cuda:12.4.1-base-ubuntu22.04\n"
            "RUN pip install ctranslate2==4.6.0 nvidia-cudnn-cu12==9.1.0.70\n"
        },
    ),
    "ctranslate2-cudnn missing, which later ones do not want": (
        "warning",
        {
            "Dockerfile": "FROM nvidia/cuda:12.8.1-runtime-ubuntu24.04\n"
            "RUN pip install ctranslate2==4.7.1\n"
        },
        {
            "Dockerfile": "FROM nvidia/cuda:12.8.1-runtime-ubuntu24.04\n"
            "RUN pip install ctranslate2==4.8.5\n"
        },
    ),
    "ctranslate2-cudnn of another CUDA": (
        "bad",
        {
            "Dockerfile": "FROM nvidia/cuda:13.0.1-runtime-ubuntu24.04\n"
            "RUN pip install ctranslate2==4.8.5\n"
        },
        {
            "Dockerfile": "FROM nvidia/cuda:12.8.1-cudnn-runtime-ubuntu24.04\n"
            "RUN pip install ctranslate2==4.8.5\n"
        },
    ),
    "no-healthcheck": (
        "warning",
        {"Dockerfile": "FROM x\nCMD serve\n"},
        {"Dockerfile": "FROM x\nHEALTHCHECK CMD curl -f localhost/readyz\nCMD serve\n"},
    ),
    "no-healthcheck but in compose": (
        "warning",
        {"Dockerfile": "FROM x\nHEALTHCHECK NONE\nCMD serve\n"},
        {
            "Dockerfile": "FROM x\nCMD serve\n",
            "compose.yaml": "services:\n  a:\n    build: .\n    healthcheck:\n      test: x\n",
        },
    ),
    "runs-as-root": (
        "warning",
        {"Dockerfile": "FROM x AS build\nUSER app\nFROM y\nCMD serve\n"},
        {"Dockerfile": "FROM x AS build\nFROM y\nUSER app\nCMD serve\n"},
    ),
    "no-model-cache": (
        "warning",
        {"Dockerfile": _IMAGE},
        {"Dockerfile": _IMAGE.replace("CMD", "VOLUME /models\nCMD")},
    ),
    "no-model-cache but in compose": (
        "warning",
        {"Dockerfile": _IMAGE, "compose.yml": "services:\n  a:\n    build: .\n"},
        {
            "Dockerfile": _IMAGE,
            "compose.yml": "services:\n  a:\n    build: .\n"
            "    volumes:\n      - hf-cache:/home/a/.cache\n",
        },
    ),
    "compose-no-gpu": (
        "warning",
        {
            "Dockerfile": "FROM nvidia/cuda:12.4.1-cudnn-runtime\n",
            "compose.yml": "services:\n  web:\n    build: .\n",
        },
        {
            "Dockerfile": "FROM nvidia/cuda:12.4.1-cudnn-runtime\n",
            "compose.yml": "services:\n  web:\n    build: .\n    gpus: all\n",
        },
    ),
    "compose-shm": (
        "note",
        {"compose.yml": "services:\n  web:\n    build: .\n"},
        {"compose.yml": "services:\n  web:\n    build: .\n    shm_size: 1gb\n"},
    ),
    "compose-nofile": (
        "note",
        {"compose.yml": "services:\n  stt:\n    image: whisper\n  db:\n    image: postgres\n"},
        {
            "compose.yml": "services:\n  stt:\n    image: whisper\n"
            "    ulimits:\n      nofile: 65536\n"
            "  db:\n    image: postgres\n"
        },
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_found_where_it_is_and_not_where_it_is_not(tmp_path: Path, name: str) -> None:
    told_apart(tmp_path, name, PAIRS[name])


@pytest.mark.parametrize(
    ("operator", "version", "below", "least"),
    [
        ("==", (4, 4), (4, 4, 0, 1), (4, 4)),
        ("<", (4, 5), (4, 5), None),
        (">=", (4, 6), None, (4, 6)),
        ("~=", (4, 4, 1), (4, 5), (4, 4, 1)),
        ("^", (3, 24), (4,), (3, 24)),
        ("!=", (4, 4), None, None),
    ],
)
def test_what_a_pin_allows(
    operator: str, version: tuple[int, ...], below: tuple[int, ...], least: tuple[int, ...]
) -> None:
    pin = Pin("ctranslate2", ((operator, version),), "here")
    assert (pin.below, pin.least) == (below, least)


def test_a_dockerfile_is_read_with_its_continued_lines() -> None:
    text = "# syntax\nARG V=12\nFROM cuda:$V\nRUN a \\\n  # why\n  && b\nCMD x\n"
    steps = [(step.line, step.word, step.rest) for step in instructions(text)]
    assert steps == [
        (2, "ARG", "V=12"),
        (3, "FROM", "cuda:12"),
        (4, "RUN", "a  && b"),
        (7, "CMD", "x"),
    ]


def test_services_are_told_apart_by_indentation() -> None:
    text = (
        "x-a: &a\n  k: v\nservices:\n  # one\n  web: &w\n    build: .\n"
        "  'db':\n    image: x\nvolumes:\n  v:\n"
    )
    assert services(text) == {"web": (5, "    build: .\n"), "db": (7, "    image: x\n")}


@pytest.mark.parametrize(
    ("tag", "version"),
    [
        ("12.4.1-cudnn-runtime-ubuntu22.04", "==4.6.0"),
        ("12.8.1-runtime-ubuntu24.04", "==4.8.5"),
        ("12.8.1-cudnn-runtime-ubuntu24.04", "==4.8.5"),
        ("12.8.1-runtime-ubuntu24.04", ""),
    ],
)
def test_an_image_that_fits_ctranslate2_is_praised(tmp_path: Path, tag: str, version: str) -> None:
    image = {
        "Dockerfile": f"FROM nvidia/cuda:{tag}\n",
        "requirements.txt": f"ctranslate2{version}\n",
    }
    assert ("ctranslate2-match", "good") in kinds(examined(tmp_path, image))
