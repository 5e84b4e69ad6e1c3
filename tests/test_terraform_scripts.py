"""The scripts in the user data, run: with a cloud, a container engine and a disk that are not."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.terraform_runs import SOURCE, bare_environment, rendered
from tests.test_systemd_unit import UNIT as BARE
from tests.test_systemd_unit import verified

pytestmark = pytest.mark.skipif(
    shutil.which("terraform") is None, reason="terraform is not installed"
)

SERVER = SOURCE / "modules" / "voice_server" / "files"
LOAD = SOURCE / "modules" / "load_generators" / "files"
IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/rtvc:1.0.0"

START: dict[str, Any] = {
    "region": "us-east-1",
    "capacity": 24,
    "by_type": {"g6e.xlarge": 60},
    "publishes": True,
    "group": "voice",
    "drain": "drain",
    "secrets": {"RTVC_ACCESS_KEY": "/voice/access-key", "RTVC_LLM_API_KEY": "/voice/llm"},
    "image": IMAGE,
    "registry": IMAGE.split("/")[0],
    "registry_in": "eu-west-1",
    "installed_at": "",
    "gpu": True,
    "log_group": "/voice/server",
    "models_at": "/srv/rtvc/models",
}
IN_SERVICE = {
    "region": "us-east-1",
    "group": "voice",
    "hook": "ready",
    "url": "https://127.0.0.1:8000/readyz",
}
UNIT: dict[str, Any] = {
    "container": True,
    "models_at": "",
    "boot_s": 900,
    "stop_s": 60,
    "drain_s": 45,
}
LOADTEST: dict[str, Any] = {
    "region": "us-east-1",
    "image": IMAGE,
    "workers": 4,
    "processes": 2,
    "parameter": "/voice/load-key",
    "bucket": "",
    "name": "voice",
    "port": 5557,
}

FAKE = """#!/bin/bash
# Stands for a command: notes how it was called, and answers as the test's `answer` says.
name=$(basename "$0")
printf '%s %s\\n' "$name" "$*" >>"$FAKES/calls"
if [ "$name" = docker ] || [ "$name" = rtvc ]; then env >"$FAKES/$name.env"; fi
. "$FAKES/answer"
"""
ANSWER = """
case "$name $*" in
*latest/api/token*) echo token ;;
*meta-data/instance-id*) echo i-0123456789abcdef0 ;;
*meta-data/instance-type*) echo "$TYPE" ;;
*meta-data/local-ipv4*) echo 10.42.0.10 ;;
*target-lifecycle-state*) [ "${TARGET:-}" ] && echo "$TARGET" || exit 22 ;;
"aws autoscaling "*) exit "${COMPLETED:-0}" ;;
"aws ssm get-parameter "*--name\\ */missing*) exit 254 ;;
"aws ssm get-parameter "*) echo 'it is $ecret "and" quoted' ;;
"aws ecr get-login-password "*) echo password ;;
"docker login "*) cat >/dev/null ;;
"docker image inspect "*) exit "${PRESENT:-1}" ;;
"docker pull "*) exit "${PULLED:-0}" ;;
"docker run "*) exit "${DOCKER:-0}" ;;
*readyz)
  tries=$(grep -c readyz "$FAKES/calls")
  [ "$tries" -ge 3 ] || exit 22 ;;
esac
"""


class Box:
    """A machine on which curl, aws, docker and the rest are fakes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("curl", "aws", "docker", "rtvc", "sleep", "install", "pull"):
            path = self.bin / name
            path.write_text(FAKE)
            path.chmod(0o755)
        (folder / "answer").write_text(ANSWER)

    def run(
        self, template: Path, variables: Mapping[str, Any], *arguments: str, **more: str
    ) -> "subprocess.CompletedProcess[str]":
        script = self.folder / "script"
        script.write_text(rendered(template, variables))
        environment = bare_environment(
            PATH=f"{self.bin}{os.pathsep}/usr/bin{os.pathsep}/bin", FAKES=str(self.folder)
        )
        return subprocess.run(
            ["bash", str(script), *arguments],
            env={**environment, "TYPE": "g6.xlarge", **more},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    def environment(self, name: str) -> dict[str, str]:
        """That the last call of a command had."""
        lines = (self.folder / f"{name}.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def call(self, beginning: str) -> str:
        """The one call that begins so."""
        (found,) = [call for call in self.calls if call.startswith(beginning)]
        return found


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_a_container_is_started_with_secrets_that_no_command_line_shows(box: Box) -> None:
    done = box.run(SERVER / "start.sh.tftpl", START)
    assert done.returncode == 0, done.stderr
    call = box.call("docker run ")
    assert call.endswith(f" {IMAGE} serve")
    for part in (
        "--gpus all",
        "--network host",
        "--env RTVC_ACCESS_KEY --env RTVC_LLM_API_KEY",
        "--volume /srv/rtvc/models:/srv/rtvc/models:ro",
        "--log-opt awslogs-stream=i-0123456789abcdef0",
    ):
        assert part in call
    assert box.environment("docker")["RTVC_ACCESS_KEY"] == 'it is $ecret "and" quoted'
    assert not any("$ecret" in call for call in box.calls)
    assert "$ecret" not in done.stdout + done.stderr


@pytest.mark.parametrize(("kind", "sessions"), [("g6.xlarge", "24"), ("g6e.xlarge", "60")])
def test_a_server_holds_what_its_type_holds(box: Box, kind: str, sessions: str) -> None:
    assert box.run(SERVER / "start.sh.tftpl", START, TYPE=kind).returncode == 0
    found = box.environment("docker")
    assert (found["RTVC_SERVE_MAX_SESSIONS"], found["RTVC_CLOUD_CAPACITY"]) == (sessions, sessions)
    assert "--env RTVC_SERVE_MAX_SESSIONS --env RTVC_CLOUD_CAPACITY" in box.call("docker run ")


def test_metadata_is_asked_with_a_token(box: Box) -> None:
    box.run(SERVER / "start.sh.tftpl", START)
    asked = [call for call in box.calls if "meta-data/" in call]
    assert asked
    assert all("X-aws-ec2-metadata-token: token" in call for call in asked)


def test_an_image_that_is_there_is_not_fetched_and_needs_no_registry(box: Box) -> None:
    assert box.run(SERVER / "start.sh.tftpl", START, PRESENT="0").returncode == 0
    asked = ("docker pull", "docker login", "aws ecr")
    assert not [call for call in box.calls if call.startswith(asked)]


def test_a_token_of_the_registry_stays_in_memory(box: Box) -> None:
    assert box.run(SERVER / "start.sh.tftpl", START).returncode == 0
    assert box.environment("docker")["DOCKER_CONFIG"] == "/run/rtvc"


def test_an_image_that_can_not_be_had_starts_nothing(box: Box) -> None:
    done = box.run(SERVER / "start.sh.tftpl", START, PULLED="1")
    assert done.returncode != 0
    assert not [call for call in box.calls if call.startswith("docker run")]


# A machine that is to end, and has no rtvc that says so.


@pytest.mark.parametrize("target", ["", "InService", "Standby"])
def test_a_server_that_stays_starts(box: Box, target: str) -> None:
    assert box.run(SERVER / "start.sh.tftpl", START, TARGET=target).returncode == 0
    assert box.call("docker run ")
    assert not [call for call in box.calls if call.startswith("aws autoscaling")]


@pytest.mark.parametrize("code", ["0", "254"])
def test_one_that_is_to_end_says_that_nobody_is_there(box: Box, code: str) -> None:
    done = box.run(SERVER / "start.sh.tftpl", START, TARGET="Terminated", COMPLETED=code)
    # While the hook has not begun AWS says no, and systemd tries again.
    assert str(done.returncode) == code
    call = box.call("aws autoscaling complete-lifecycle-action ")
    assert "--auto-scaling-group-name voice --lifecycle-hook-name drain" in call
    assert "--instance-id i-0123456789abcdef0 --lifecycle-action-result CONTINUE" in call
    assert not [call for call in box.calls if call.startswith(("docker", "aws ssm"))]


# The unit.


def test_a_container_that_is_gone_already_is_no_failure() -> None:
    unit = rendered(SERVER / "rtvc.service.tftpl", UNIT).splitlines()
    assert "ExecStop=-/usr/bin/docker stop -t 45 rtvc" in unit
    assert "Restart=on-failure" in unit
    assert "TimeoutStopSec=60" in unit
    assert "StartLimitIntervalSec=0" in unit


def test_an_engine_that_ran_out_of_memory_is_the_servers_business() -> None:
    unit = rendered(SERVER / "rtvc.service.tftpl", {**UNIT, "container": False}).splitlines()
    assert "OOMPolicy=continue" in unit
    assert "KillMode=mixed" in unit


@pytest.mark.parametrize("container", [True, False])
def test_an_installed_server_finds_the_gpus_devices_as_docker_does(container: bool) -> None:
    unit = rendered(SERVER / "rtvc.service.tftpl", {**UNIT, "container": container})
    before = re.findall(r"(?m)^ExecStartPre=.*nvidia-modprobe.*$", unit)
    of_a_bare_machine = re.findall(r"(?m)^ExecStartPre=.*$", BARE.read_text("utf-8"))
    assert before == ([] if container else of_a_bare_machine)


@pytest.mark.parametrize("container", [True, False])
def test_systemd_takes_the_unit(tmp_path: Path, container: bool) -> None:
    unit = rendered(SERVER / "rtvc.service.tftpl", {**UNIT, "container": container})
    # Neither the programs nor the units of the machine that it is written for are here.
    for program in ("/usr/bin/docker", "/usr/bin/nvidia-modprobe", "/usr/local/lib/rtvc/start"):
        unit = unit.replace(program, "/bin/true")
    lines = [line for line in unit.splitlines(keepends=True) if "docker.service" not in line]
    assert verified("".join(lines), tmp_path) == ""


def test_an_image_that_is_not_there_is(box: Box) -> None:
    assert box.run(SERVER / "start.sh.tftpl", START).returncode == 0
    assert box.call("docker pull") == f"docker pull --quiet {IMAGE}"
    assert "--region eu-west-1" in box.call("aws ecr")


def test_without_its_secrets_a_server_does_not_start(box: Box) -> None:
    wanting = {**START, "secrets": {"RTVC_ACCESS_KEY": "/voice/missing"}}
    assert box.run(SERVER / "start.sh.tftpl", wanting).returncode != 0
    assert not [call for call in box.calls if call.startswith("docker run")]


def test_an_installed_server_gets_the_same(box: Box) -> None:
    wheel = {**START, "image": "", "registry": "", "installed_at": str(box.bin / "rtvc")}
    done = box.run(SERVER / "start.sh.tftpl", wheel)
    assert done.returncode == 0, done.stderr
    assert box.call("rtvc ") == "rtvc serve"
    found = box.environment("rtvc")
    assert found["RTVC_ACCESS_KEY"] == 'it is $ecret "and" quoted'
    assert found["RTVC_CLOUD_CAPACITY"] == "24"
    assert not [call for call in box.calls if call.startswith("docker")]


def test_a_server_alone_is_told_of_no_cloud(box: Box) -> None:
    alone = {
        **START,
        "publishes": False,
        "group": "",
        "gpu": False,
        "log_group": "",
        "models_at": "",
    }
    assert box.run(SERVER / "start.sh.tftpl", alone, TARGET="Terminated").returncode == 0
    call = box.call("docker run ")
    assert "RTVC_CLOUD" not in call
    assert "--gpus" not in call
    assert "--volume" not in call
    assert "--log-driver journald" in call


def test_a_server_alone_may_publish(box: Box) -> None:
    assert box.run(SERVER / "start.sh.tftpl", {**START, "group": ""}).returncode == 0
    assert box.environment("docker")["RTVC_CLOUD_CAPACITY"] == "24"
    assert not [call for call in box.calls if "target-lifecycle-state" in call]


def test_a_server_is_in_service_once_it_is_ready(box: Box) -> None:
    done = box.run(SERVER / "in-service.sh.tftpl", IN_SERVICE)
    assert done.returncode == 0, done.stderr
    looks = [number for number, call in enumerate(box.calls) if "readyz" in call]
    said = [number for number, call in enumerate(box.calls) if "complete-lifecycle" in call]
    assert len(looks) == 3
    assert said == [looks[-1] + 1]
    call = box.calls[said[0]]
    assert "--lifecycle-hook-name ready --instance-id i-0123456789abcdef0" in call
    assert "--auto-scaling-group-name voice" in call


@pytest.mark.parametrize("code", ["0", "99"])
def test_a_load_test_says_what_came_of_it(box: Box, code: str) -> None:
    variables = {**LOADTEST, "pull": str(box.bin / "pull"), "runs": str(box.folder / "runs")}
    done = box.run(
        LOAD / "rtvc-loadtest.sh.tftpl",
        variables,
        "wss://v.example",
        "--speakers",
        "9",
        DOCKER=code,
    )
    assert str(done.returncode) == code
    call = box.call("docker run ")
    assert f" {IMAGE} loadtest wss://v.example --speakers 9 --master" in call
    assert "--bind-host 10.42.0.10 --bind-port 5557 --expect-workers 4" in call
    assert "--env RTVC_API_KEY" in call
    assert "$ecret" not in call
    assert box.environment("docker")["RTVC_API_KEY"] == 'it is $ecret "and" quoted'


def test_without_a_url_a_load_test_says_how_it_is_used(box: Box) -> None:
    variables = {**LOADTEST, "pull": str(box.bin / "pull"), "runs": str(box.folder / "runs")}
    done = box.run(LOAD / "rtvc-loadtest.sh.tftpl", variables)
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert not (box.folder / "calls").exists()


def test_generators_fetch_their_image_once(box: Box) -> None:
    pull = {"image": IMAGE, "registry": IMAGE.split("/")[0], "registry_in": "eu-west-1"}
    assert box.run(LOAD / "pull.sh.tftpl", pull, PRESENT="0").returncode == 0
    assert not [call for call in box.calls if call.startswith(("docker login", "docker pull"))]
    assert box.run(LOAD / "pull.sh.tftpl", pull).returncode == 0
    assert box.call("docker pull") == f"docker pull --quiet {IMAGE}"
    assert box.environment("docker")["DOCKER_CONFIG"] == "/run/rtvc"


def test_what_is_rendered_is_what_terraform_would_write() -> None:
    text = rendered(LOAD / "pull.sh.tftpl", {"image": IMAGE, "registry": "", "registry_in": ""})
    assert text.startswith("#!/bin/bash\n")
    assert "%{" not in text
    assert "${" not in text
    assert json.dumps(text).isascii()
