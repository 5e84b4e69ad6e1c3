"""The image and the services: pinned, without root, and agreed with the server's settings."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rtvc.config import Settings, child_environment
from rtvc.profile.doctor.checkout import Checkout
from rtvc.profile.doctor.deployment import check_deployment
from tests.servers import ROOT
from tools.dockerfile import Stage, ignored, stages
from tools.image_rules import findings
from tools.image_steps import DOCKERFILE

INFRA = ROOT / "infra"
TEXT = DOCKERFILE.read_text("utf-8")


def stage(name: str) -> Stage:
    return next(each for each in stages(TEXT)[1] if each.name == name)


# The Dockerfile.


def test_the_dockerfile_breaks_no_rule() -> None:
    assert findings(TEXT) == []


def test_hadolint_finds_nothing_either() -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_both_images_are_made_by_the_same_steps() -> None:
    """But for the Python that the CUDA image lacks."""
    cuda, cpu = ([(s.word, s.flags, s.text) for s in stage(name).steps] for name in ("cuda", "cpu"))
    assert cuda[0][2].startswith("apt-get update")
    assert cuda[1:] == cpu


def test_both_images_have_the_python_that_the_wheels_are_made_for() -> None:
    """Of Ubuntu's releases 24.04 has Python 3.12; Debian's slim image says so itself."""
    known, _ = stages(TEXT)
    assert known["PYTHON_IMAGE"].startswith("python:3.12.")
    assert known["CUDA_IMAGE"].endswith("-ubuntu24.04")


def test_the_doctor_finds_both_images_sound() -> None:
    def severities(dockerfile: str) -> dict[str, str]:
        texts = {name: (ROOT / name).read_text("utf-8") for name in DEPLOYED}
        found = check_deployment(Checkout(texts={**texts, "Dockerfile": dockerfile}))
        return {finding.id: finding.severity for finding in found}

    cuda = TEXT[: TEXT.index("FROM ${PYTHON_IMAGE} AS cpu")]
    assert set(severities(TEXT).values()) <= {"good"}
    told = severities(cuda)
    assert told.pop("ctranslate2-match") == "good"
    # It looks at services one by one: the one without a GPU is built from the other image.
    assert told.pop("compose-no-gpu") == "warning"
    assert set(told.values()) <= {"good"}


DEPLOYED = ("constraints.txt", "pyproject.toml", "infra/compose.yaml")


@pytest.mark.parametrize(
    ("path", "out"),
    [
        ("rtvc/cli.py", False),
        ("rtvc/stt/selftest/model.bin", False),
        ("infra/docker/health.py", False),
        ("README.md", False),
        ("rtvc/__pycache__/cli.cpython-312.pyc", True),
        ("keys.toml", True),
        ("rtvc.toml", True),
        ("infra/.env", True),
        (".git/config", True),
        (".venv/bin/python", True),
        ("reports/runs/one/turns.csv", True),
        ("tests/test_cli.py", True),
    ],
)
def test_what_gets_into_the_context_of_a_build(path: str, out: bool) -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert ignored(path, lines) is out


def test_the_key_file_of_compose_is_not_committed() -> None:
    asked = subprocess.run(
        ["git", "check-ignore", "infra/.env"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if asked.returncode == 128:
        pytest.skip("not a git checkout")
    assert asked.stdout.strip() == "infra/.env"


# Services.

KNOWN = {
    *("build", "cap_drop", "command", "depends_on", "deploy", "entrypoint", "environment"),
    *("healthcheck", "image", "init", "logging", "networks", "ports", "profiles", "read_only"),
    *("restart", "secrets", "security_opt", "shm_size", "stop_grace_period", "tmpfs", "ulimits"),
    "volumes",
}
"""Of the keys that the compose specification gives a service, those that we use."""


def of_yaml(name: str) -> Any:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((INFRA / name).read_text("utf-8"))


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = of_yaml("compose.yaml")["services"]
    return found


def test_services_have_known_keys_only() -> None:
    known = {"name", "x-needed", "x-server", "services", "secrets", "volumes"}
    assert set(of_yaml("compose.yaml")) == known
    for name, service in services().items():
        assert not set(service) - KNOWN, name


def test_every_image_is_built_here_or_pinned() -> None:
    for name, service in services().items():
        image, _, tag = service["image"].partition(":")
        if "build" in service:
            assert stage(service["build"]["target"]).name == service["build"]["target"]
            assert (INFRA / service["build"]["context"]).resolve() == ROOT.resolve()
            assert (ROOT / service["build"]["dockerfile"]) == DOCKERFILE
        else:
            assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag), f"{name}: {image}"


def test_nothing_listens_beyond_this_machine() -> None:
    ports = [port for service in services().values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_service_can_gain_rights() -> None:
    for name, service in services().items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
    for name in ("rtvc", "rtvc-gpu"):
        assert services()[name]["read_only"] is True
        assert services()[name]["cap_drop"] == ["ALL"]


def test_what_is_mounted_is_there() -> None:
    named = of_yaml("compose.yaml")["volumes"]
    for service in services().values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert (INFRA / source).exists() if source.startswith(".") else source in named


def test_one_server_at_a_time_and_either_is_found_by_prometheus() -> None:
    found = services()
    (scrape,) = of_yaml("observability/prometheus.yaml")["scrape_configs"]
    (target,) = scrape["static_configs"][0]["targets"]
    assert (found["rtvc"]["profiles"], found["rtvc-gpu"]["profiles"]) == (["cpu"], ["gpu"])
    for name in ("rtvc", "rtvc-gpu"):
        (alias,) = found[name]["networks"]["default"]["aliases"]
        assert target == f"{alias}:8000"
    devices = found["rtvc-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"]
    assert "deploy" not in found["rtvc"]


def test_prometheus_shows_the_servers_own_key() -> None:
    whole = of_yaml("compose.yaml")
    (secret,) = services()["prometheus"]["secrets"]
    (scrape,) = of_yaml("observability/prometheus.yaml")["scrape_configs"]
    assert scrape["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    assert whole["secrets"][secret] == {"environment": "RTVC_ACCESS_KEY"}


def test_grafana_reads_its_password_from_a_file_that_is_never_empty() -> None:
    """Empty, it would be admin, as everybody knows."""
    whole = of_yaml("compose.yaml")
    grafana = services()["grafana"]
    (secret,) = grafana["secrets"]
    assert grafana["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"] == f"/run/secrets/{secret}"
    variable = whole["secrets"][secret]["environment"]
    assert whole["x-needed"].startswith(f"${{{variable}:?")


def test_no_secret_is_in_the_environment_of_who_can_read_a_file() -> None:
    """Compose has no files for services whose root is read-only; the server is one of them."""
    secret = {about["environment"] for about in of_yaml("compose.yaml")["secrets"].values()}
    for name, service in services().items():
        values = [f"{value}" for value in service.get("environment", {}).values()]
        shown = {variable for variable in secret for value in values if variable in value}
        assert shown == ({"RTVC_ACCESS_KEY"} if name.startswith("rtvc") else set()), name
        assert not (service.get("read_only") and service.get("secrets")), name


def mounts(service: str) -> dict[str, str]:
    """Where in the container each file of ours is."""
    pairs = (mount.split(":") for mount in services()[service]["volumes"])
    return {pair[0]: pair[1] for pair in pairs}


def test_prometheus_and_grafana_find_what_ships() -> None:
    (rules,) = of_yaml("observability/prometheus.yaml")["rule_files"]
    assert mounts("prometheus")["./observability/alerts.yaml"] == rules
    (source,) = of_yaml("observability/grafana/datasources/prometheus.yaml")["datasources"]
    port = services()["prometheus"]["ports"][0].split(":")[-1]
    assert (source["type"], source["url"]) == ("prometheus", f"http://prometheus:{port}")
    (provider,) = of_yaml("observability/grafana/dashboards/rtvc.yaml")["providers"]
    dashboard = Path(mounts("grafana")["./observability/grafana-dashboard.json"])
    assert provider["options"]["path"] == dashboard.parent.as_posix()
    home = services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == dashboard.as_posix()
    drawn = json.loads((INFRA / "observability" / "grafana-dashboard.json").read_text("utf-8"))
    chosen = [each for each in drawn["templating"]["list"] if each["type"] == "datasource"]
    # No panel names a source: all take the chosen one, which is the default until somebody chooses.
    assert ([each["query"] for each in chosen], source["isDefault"]) == ([source["type"]], True)


def settings_in_environment() -> set[str]:
    return {
        f"RTVC_{section}_{key}".upper()
        for section, about in Settings.model_fields.items()
        for key in getattr(about.annotation, "model_fields", {})
    }


def test_services_and_images_name_settings_that_there_are() -> None:
    named = set(re.findall(r"\b(RTVC_[A-Z_]+)=", TEXT))
    for name in ("rtvc", "rtvc-gpu"):
        named |= set(services()[name]["environment"])
    assert named
    assert not named - settings_in_environment()


def test_the_example_has_every_variable_that_compose_asks_for() -> None:
    text = (INFRA / "compose.yaml").read_text("utf-8")
    asked = set(re.findall(r"\$\{(\w+)", text))
    passed = {name for name, value in services()["rtvc"]["environment"].items() if value is None}
    example = (INFRA / ".env.example").read_text("utf-8")
    there = set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE))
    assert asked | passed | {"COMPOSE_PROFILES"} == there
    secret = re.findall(r"^(?:RTVC_ACCESS_KEY|GRAFANA_PASSWORD)=(.*)$", example, re.MULTILINE)
    assert secret == ["", ""]


def test_docker_compose_takes_it() -> None:
    docker = shutil.which("docker")
    version = [docker or "docker", "compose", "version"]
    if docker is None or subprocess.run(version, capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed")
    profiles = [part for name in ("cpu", "gpu", "ollama") for part in ("--profile", name)]
    done = subprocess.run(
        [docker, "compose", "-f", str(INFRA / "compose.yaml"), *profiles, "config", "--quiet"],
        env=child_environment(RTVC_ACCESS_KEY="k" * 16, GRAFANA_PASSWORD="p"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
