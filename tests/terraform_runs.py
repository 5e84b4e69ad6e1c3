"""Terraform for tests: a copy of infra/terraform, the provider from a folder, and AWS from moto."""

import base64
import contextlib
import importlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from rtvc.config import child_environment, interface
from tests.servers import ROOT, free_port

SOURCE = ROOT / "infra" / "terraform"
MODULES = (
    "modules/network",
    "modules/voice_server",
    "modules/load_generators",
    "modules/observability",
)
COMPOSITIONS = ("single", "fleet")
PLUGINS = "RTVC_TERRAFORM_PLUGINS"
"""Names a folder that holds providers, as `terraform providers mirror` makes it."""
REGION = "us-east-1"

_USUAL = ("/opt", "/usr/share", "/usr/local/share", "~/.terraform.d", "~/.local/share/terraform")
_PROVIDER = "registry.terraform.io/hashicorp/aws"
_RUN_S = 900.0
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# Of what moto does not know: buckets as parts of host names, and machines that it does not run.
_OVERRIDE = """
provider "aws" {
  s3_use_path_style       = true
  skip_metadata_api_check = true
}
"""


@cache
def plugins() -> Path | None:
    """The folder with the AWS provider; None: there is none."""
    named = interface(PLUGINS)
    if named:
        return Path(named) if (Path(named) / _PROVIDER).is_dir() else None
    for usual in _USUAL:
        for found in sorted(Path(usual).expanduser().glob(f"*/{_PROVIDER}")):
            return found.parents[2]
    return None


def missing(*, emulator: bool = False) -> str | None:
    """Why Terraform can't be run here; None: it can."""
    if shutil.which("terraform") is None:
        return "terraform is not installed"
    if plugins() is None:
        return f"no AWS provider: name a folder that holds {_PROVIDER} by {PLUGINS}"
    for package in ("boto3", "moto") if emulator else ():
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed"
    return None


def bare_environment(**more: str) -> dict[str, str]:
    """Without settings of the user's own for Terraform and AWS."""
    kept = {
        name: value
        for name, value in child_environment().items()
        if not name.startswith(("AWS_", "TF_"))
    }
    return {**kept, "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1", **more}


class Terraform:
    """One folder of the copy."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.log: list[str] = []
        """What was run, and what it said."""
        self._environment = bare_environment(**(environment or {}))

    def init(self) -> None:
        found = plugins()
        assert found is not None, missing()
        self.run("init", "-backend=false", "-input=false", f"-plugin-dir={found}", quiet=True)

    def run(self, *arguments: str, quiet: bool = False) -> str:
        """What it says; fails with all of it unless it ends with 0."""
        code, said = self.try_run(*arguments, quiet=quiet)
        assert code == 0, f"terraform {' '.join(arguments)} in {self.folder.name}:\n{said}"
        return said

    def try_run(self, *arguments: str, quiet: bool = False) -> tuple[int, str]:
        """Its exit code and what it says; `quiet`: that stays out of the log."""
        done = self._call(*arguments)
        said = _COLOURS.sub("", done.stdout + done.stderr)
        if not quiet:
            self.log += [f"$ terraform {' '.join(arguments)}", said.rstrip(), ""]
        return done.returncode, said

    def _call(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["terraform", *arguments],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=_RUN_S,
            check=False,
        )

    def set_variables(self, variables: Mapping[str, Any]) -> None:
        (self.folder / "test.auto.tfvars.json").write_text(json.dumps(variables), "utf-8")

    def outputs(self) -> dict[str, Any]:
        told = json.loads(self._call("output", "-json").stdout)
        return {name: each["value"] for name, each in told.items()}


@contextlib.contextmanager
def copy_of_infra() -> Iterator[Path]:
    """A folder that holds what infra/terraform holds, and nothing that Terraform left there."""
    with tempfile.TemporaryDirectory(prefix="rtvc-terraform-") as folder:
        copy = Path(folder) / "terraform"
        left = shutil.ignore_patterns(".terraform*", "*.tfstate*", "terraform.tfvars", "*.auto.*")
        shutil.copytree(SOURCE, copy, ignore=left)
        yield copy


def rendered(template: Path, variables: Mapping[str, Any]) -> str:
    """What Terraform makes of a template; needs no provider."""
    asked = f"base64encode(templatefile({json.dumps(str(template))}, {json.dumps(variables)}))"
    with tempfile.TemporaryDirectory(prefix="rtvc-terraform-") as empty:
        done = subprocess.run(
            ["terraform", "console"],
            cwd=empty,
            env=bare_environment(),
            input=f"{asked}\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return base64.b64decode(done.stdout.strip().strip('"')).decode()


class Emulator:
    """moto's server, and clients that ask it what is there."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """boto3's."""
        if service not in self._clients:
            boto3 = importlib.import_module("boto3")
            self._clients[service] = boto3.client(
                service,
                region_name=REGION,
                endpoint_url=self.url,
                aws_access_key_id="testing",
                aws_secret_access_key="testing",
            )
        return self._clients[service]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def terraform(self, folder: Path) -> Terraform:
        """Terraform that takes the emulator for AWS."""
        (folder / "emulator_override.tf").write_text(_OVERRIDE, "utf-8")
        return Terraform(
            folder,
            {
                "AWS_ENDPOINT_URL": self.url,
                "AWS_ACCESS_KEY_ID": "testing",
                "AWS_SECRET_ACCESS_KEY": "testing",
                "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_MAX_ATTEMPTS": "3",
            },
        )


@contextlib.contextmanager
def emulator() -> Iterator[Emulator]:
    """An AWS account with nothing in it but what every account has."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            command, env=bare_environment(), stdout=log, stderr=subprocess.STDOUT
        )
        try:
            found = Emulator(f"http://127.0.0.1:{port}")
            _wait_for(found.url, child)
            with contextlib.closing(found):
                yield found
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace")[-4000:])
            raise
        finally:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _wait_for(url: str, child: "subprocess.Popen[bytes]") -> None:
    for _ in range(300):
        if child.poll() is not None:
            raise AssertionError(f"moto's server ended with {child.returncode}")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/moto-api/data.json", timeout=2).status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError("moto's server did not answer in time")
