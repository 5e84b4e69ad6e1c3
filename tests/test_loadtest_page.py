"""Locust's page beside a run: our metrics by their names, on this machine only, gone afterwards."""

import json
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from rtvc.loadtest.locust_process import users_flags
from rtvc.loadtest.plan import Wish, make_spec
from rtvc.loadtest.scale.spread import Spread
from rtvc.record import load_run
from tests.servers import free_port, sink
from tests.test_loadtest_run import finish, loadtest, told, until

NAMED = {"connection", "first partial", "transcription delay", "response latency"}


def test_the_page_is_on_this_machine_only_and_shows_no_secret(tmp_path: Path) -> None:
    wish = Wish("ws://box:8000/v1/realtime?token=secret", spread=Spread(web_port=8123))
    flags = users_flags(make_spec(wish, tmp_path, tmp_path), 10)
    assert flags[flags.index("--web-host") + 1] == "127.0.0.1"
    assert flags[flags.index("--web-port") + 1] == "8123"
    assert "--headless" not in flags
    assert "secret" not in " ".join(flags)
    alone = make_spec(Wish("ws://box:8000"), tmp_path, tmp_path)
    assert "--headless" in users_flags(alone, 10)


def stats(page: str) -> dict[str, Any]:
    with suppress(httpx.HTTPError, ValueError):
        found: dict[str, Any] = httpx.get(f"{page}/stats/requests", timeout=5).json()
        return found
    return {}


def names(page: str) -> set[str]:
    return {entry["name"] for entry in stats(page).get("stats", [])}


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_the_page_shows_our_metrics_and_its_button_ends_the_run(tmp_path: Path) -> None:
    folder, port_of_page = tmp_path / "run", free_port()
    page = f"http://127.0.0.1:{port_of_page}"
    with sink("--delay", "0.3") as port:
        flags = ("--speakers", "2", "--duration", "120", "--web", "--web-port", str(port_of_page))
        process: subprocess.Popen[str] = loadtest(port, folder, *flags)
        try:
            until(lambda: names(page) >= NAMED)
            assert httpx.get(page, timeout=5).status_code == 200
            assert stats(page)["user_count"] == 2
            until(lambda: told(folder) >= 2)
            httpx.post(f"{page}/stop", timeout=60)
        except BaseException:
            process.send_signal(signal.SIGINT)
            finish(process)
            raise
        code, out, err = finish(process)
    assert code == 130, err
    assert f"Locust's page: {page}" in err
    assert json.loads(out)["verdict"].startswith("Interrupted after ")
    assert {row.outcome for row in load_run(folder).attempts} == {"ok"}
    assert stats(page) == {}, "the page is gone"
