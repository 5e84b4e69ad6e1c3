"""`rtvc loadtest`: its flags."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rtvc.api_key import ApiKeyFile, find_api_key
from rtvc.duration import parse_duration
from rtvc.loadtest.locust_process import LOOPBACK
from rtvc.loadtest.plan import (
    CONNECT_TIMEOUT_S,
    GRACE_S,
    Wish,
    usual_size,
)
from rtvc.loadtest.run import LoadTest
from rtvc.loadtest.scale.flags import (
    PATIENCE_S,
    BindHost,
    BindPort,
    ExpectWorkers,
    IsWorker,
    Join,
    Master,
    MaxWait,
    Processes,
    Web,
    WebPort,
    check_roles,
    spread_of,
)
from rtvc.loadtest.scale.spread import BIND_PORT, WEB_PORT
from rtvc.loadtest.scale.worker import work_for
from rtvc.loadtest.spec import with_scheme
from rtvc.loadtest.wire.wires import AUTO, WIRES
from rtvc.speech.scenario import BUILTIN_SCENARIOS


def _flag(name: str, text: str, **more: Any) -> Any:
    # Brackets hold defaults here, not markup.
    return typer.Option(name, help=text.replace("[", r"\["), show_default=False, **more)


SLO_HELP = (
    "Objective such as 'transcription_delay_p95<500ms' or, as k6 has it, 'connection: p(95)<3000', "
    "with abort_on_fail if it is to end the run; or a TOML file that says "
    '[slo] objectives = ["errors<1%", "wer<10%"]; repeatable '
    "[connection_p95<3s, transcription_delay_p95<500ms, errors<1%]"
)


def loadtest(
    url: Annotated[
        str | None,
        typer.Argument(metavar="URL", help="Server: localhost:8000, wss://box/v1/realtime?model=…"),
    ] = None,
    speakers: Annotated[
        int | None,
        _flag("--speakers", "Concurrent simulated speakers [10, or the scenario's]", metavar="N"),
    ] = None,
    duration: Annotated[
        str | None,
        _flag(
            "--duration",
            "Measured time: 90s, 2m, 1h30m, after the warm-up [60, or the scenario's]",
            metavar="TIME",
        ),
    ] = None,
    scenario: Annotated[
        str | None,
        _flag(
            "--scenario",
            f"{', '.join(BUILTIN_SCENARIOS)}, or a FILE.toml [conversation]",
            metavar="NAME",
        ),
    ] = None,
    speech: Annotated[
        Path | None,
        _flag(
            "--speech",
            "Folder of WAV or FLAC with a .txt beside each [synthetic speakers]",
            metavar="FOLDER",
        ),
    ] = None,
    slo: Annotated[
        list[str] | None,
        _flag("--slo", SLO_HELP, metavar="OBJECTIVE"),
    ] = None,
    out: Annotated[
        Path | None,
        _flag("--out", "New folder of the run [reports/runs/<time>-<name>]", metavar="FOLDER"),
    ] = None,
    as_json: Annotated[bool, _flag("--json", "Only the summary as JSON on stdout")] = False,
    seed: Annotated[int, _flag("--seed", "Of texts, voices and moments [0]", metavar="N")] = 0,
    warm_up: Annotated[
        float | None,
        _flag("--warm-up", "Recorded but not judged [as long as the ramp]", metavar="SECONDS"),
    ] = None,
    ramp: Annotated[
        float | None,
        _flag("--ramp", "Time in which speakers arrive [0.2 each, at most 5]", metavar="SECONDS"),
    ] = None,
    transcription: Annotated[
        bool, _flag("--transcription", "Transcription sessions: nobody replies")
    ] = False,
    protocol: Annotated[
        str,
        _flag(
            "--protocol", f"auto, {', '.join(WIRES)} [auto: the server is asked]", metavar="NAME"
        ),
    ] = AUTO,
    keep_text: Annotated[
        bool,
        _flag("--keep-text", "Record the words of --speech and what was heard of them, too"),
    ] = False,
    connect_storm: Annotated[
        int,
        _flag(
            "--connect-storm",
            "Only connect: so many rounds of all speakers at once",
            metavar="ROUNDS",
        ),
    ] = 0,
    api_key: Annotated[
        str | None,
        _flag(
            "--api-key",
            "A key, for all users of this machine to see: rather --api-key-file",
            metavar="KEY",
        ),
    ] = None,
    api_key_file: ApiKeyFile = None,
    connect_timeout: Annotated[
        float,
        _flag(
            "--connect-timeout",
            "A session that is not usable by then has failed [15]",
            metavar="SECONDS",
        ),
    ] = CONNECT_TIMEOUT_S,
    grace: Annotated[
        float,
        _flag("--grace", "A final or reply later than this is missing [10]", metavar="SECONDS"),
    ] = GRACE_S,
    frame_ms: Annotated[
        float | None,
        _flag("--frame-ms", "Audio in one message [20, or as the protocol has it]", metavar="MS"),
    ] = None,
    find_capacity: Annotated[
        bool, _flag("--find-capacity", "Search for the most speakers that meet the targets")
    ] = False,
    max_speakers: Annotated[
        int, _flag("--max-speakers", "Of the search: the most to try [128]", metavar="N")
    ] = 128,
    start_speakers: Annotated[
        int, _flag("--start-speakers", "Of the search: where it begins [1]", metavar="N")
    ] = 1,
    step_duration: Annotated[
        str,
        _flag(
            "--step-duration",
            "Of the search: least measured time of a step [30]",
            metavar="TIME",
        ),
    ] = "30",
    processes: Processes = 1,
    master: Master = False,
    expect_workers: ExpectWorkers = 1,
    expect_workers_max_wait: MaxWait = PATIENCE_S,
    bind_host: BindHost = LOOPBACK,
    bind_port: BindPort = BIND_PORT,
    worker: IsWorker = False,
    join: Join = None,
    web: Web = False,
    web_port: WebPort = WEB_PORT,
    insecure: Annotated[
        bool, _flag("--insecure", "Accept a self-signed certificate (wss)")
    ] = False,
) -> None:
    """Let simulated speakers talk to a voice server; judge it and write a report.

    With --find-capacity, speakers are added and removed until it is known how many the server
    holds.

    Exit code: 0 targets met or a capacity found, 99 missed, 3 void or undecided, 130 interrupted
    (what was measured is kept, and not judged), 2 wrong usage, 1 anything else.
    """
    check_roles(url=url, master=master, worker=worker, join=join, processes=processes)
    if join is not None:
        raise typer.Exit(work_for(join, processes, lambda line: typer.echo(line, err=True)))
    usual_speakers, usual_s = usual_size(scenario)
    wish = Wish(
        url=with_scheme(url or ""),
        speakers=max_speakers if find_capacity else speakers or usual_speakers,
        duration_s=usual_s if duration is None else parse_duration(duration),
        scenario=scenario,
        speech=speech,
        keep_text=keep_text,
        targets=tuple(slo or ()),
        seed=seed,
        warm_up_s=warm_up,
        ramp_s=ramp,
        transcription=transcription,
        protocol=protocol,
        storm_rounds=connect_storm,
        insecure=insecure,
        connect_timeout_s=connect_timeout,
        grace_s=grace,
        frame_ms=frame_ms,
        find_capacity=find_capacity,
        start_speakers=start_speakers,
        step_s=parse_duration(step_duration),
        spread=spread_of(
            processes=processes,
            master=master,
            expect_workers=expect_workers,
            max_wait_s=expect_workers_max_wait,
            bind_host=bind_host,
            bind_port=bind_port,
            web_port=web_port if web else None,
        ),
    )
    key = find_api_key(api_key_file, api_key)
    raise typer.Exit(LoadTest(wish, out, key, as_json=as_json).run())
