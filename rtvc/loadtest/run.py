"""One load test from the command line: ask the server, prepare, generate, judge, report."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import httpx
import typer
from rich.console import Console
from rich.status import Status

from rtvc.api_key import bearer
from rtvc.clock import Clock, SystemClock
from rtvc.errors import RtvcError, UsageError
from rtvc.invocation import invocation
from rtvc.loadtest.live_view import watching
from rtvc.loadtest.plan import (
    ANCHORS,
    Wish,
    default_folder,
    make_spec,
)
from rtvc.loadtest.preflight import (
    NobodyAnswers,
    ServerFacts,
    ask_server,
    ask_stranger,
    check_observable,
)
from rtvc.loadtest.progress import Tally
from rtvc.loadtest.runner import (
    INTERRUPTED,
    LOG_FILE,
    Ended,
    claim_folder,
    every,
    hand_over,
    hide_texts,
    keep_last_rows,
    not_there_yet,
    remove_empty,
    tell_progress,
    terminable,
    why_nothing_ran,
    work_folder,
)
from rtvc.loadtest.scale.spread import only, shares
from rtvc.loadtest.scale.starting import start_generators
from rtvc.loadtest.search.abort import AbortWatch
from rtvc.loadtest.search.driver import Search
from rtvc.loadtest.search.rules import StepRules
from rtvc.loadtest.speakers.clips import Corpus, builtin_corpus, recorded_corpus, save_clips
from rtvc.loadtest.spec import LoadSpec, http_url
from rtvc.loadtest.wire.detect import detect
from rtvc.loadtest.wire.wires import AUTO
from rtvc.record import (
    MANIFEST_FILE,
    Manifest,
    complete_manifest,
    new_manifest,
    without_secrets,
    write_parquet,
)
from rtvc.report.page import build_report
from rtvc.report.terminal import terminal_width, verdict_panel
from rtvc.slo import Judgement, Objective, capacity, judge, parse_objectives
from rtvc.summary import Summary, load_summary, to_json
from rtvc.transcript import NORMALISER

READY_PATIENCE_S = 300.0
"""A server may pull and warm a model first."""

LINE_EVERY_S = 5.0
"""Progress where there is no terminal."""

REDRAW_EVERY_S = 1.0
"""Progress on a terminal."""

SEARCH_EVERY_S = 1.0
"""How often a search looks at its step."""


class LoadTest:
    """One run from the command line."""

    def __init__(self, wish: Wish, out: Path | None, api_key: str | None, *, as_json: bool) -> None:
        self._wish = wish
        self._out = out
        self._api_key = api_key
        self._as_json = as_json
        self._clock: Clock = SystemClock()
        self._console = Console(stderr=True)
        self._objectives = parse_objectives(wish.judged_by)
        self._aborted: str | None = None

    def run(self) -> int:
        """The exit code."""
        with work_folder() as work_dir, terminable(), ExitStack() as leaving:
            # What was asked for is checked before a folder is made or the server is asked.
            make_spec(self._wish, work_dir, work_dir)
            facts = self._preflight()
            name = _name(make_spec(self._wish, work_dir, work_dir))
            if self._wish.find_capacity:
                check_observable(self._objectives, self._wish.not_observable)
            wanted = self._out or default_folder(name, self._clock.utc())
            leaving.callback(remove_empty, not_there_yet(wanted))
            folder = claim_folder(wanted)
            spec = make_spec(self._wish, folder, work_dir)
            spec = replace(spec, scored=facts.model_kind != "synthetic weights")
            corpus = self._prepare_clips(spec)
            hand_over(self._manifest(spec, facts, corpus), self._api_key, spec)
            ended = self._generate(spec, folder)
        if not (folder / MANIFEST_FILE).exists():
            raise why_nothing_ran(folder / LOG_FILE)
        if ended.interrupted:
            complete_manifest(folder, interrupted=True)
        elif self._aborted is not None:
            complete_manifest(folder, aborted=self._aborted)
        summary = _finish(folder, keep_text=spec.keep_text)
        judgement = judge(summary, self._objectives)
        self._tell(folder, summary, judgement)
        return self._exit_code(ended, summary, judgement)

    def _preflight(self) -> ServerFacts:
        try:
            facts = self._ask_server()
        except NobodyAnswers as error:
            # A search would only look for the edge of nothing.
            if self._wish.find_capacity:
                raise
            self._print(f"{error}; the speakers try all the same")
            facts = ServerFacts()
        limit = facts.max_sessions
        if limit is not None and limit < self._wish.speakers:
            self._console.print(
                f"[yellow]note:[/] the server admits {limit} sessions; of "
                f"{self._wish.speakers} speakers the others will be refused"
            )
        return facts

    def _ask_server(self) -> ServerFacts:
        readyz = http_url(self._wish.url, "/readyz")
        with (
            # It follows no redirection: the key is for this server alone.
            httpx.Client(
                verify=not self._wish.insecure, trust_env=False, headers=bearer(self._api_key)
            ) as client,
            self._status("asking the server") as status,
        ):
            facts = ask_server(
                readyz,
                client=client,
                clock=self._clock,
                sleep=time.sleep,
                patience_s=READY_PATIENCE_S,
                on_wait=status,
            )
            self._wish = replace(self._wish, protocol=self._protocol(client))
            return facts if facts.said else ask_stranger(self._wish.wire, self._wish.url, client)

    def _protocol(self, client: httpx.Client) -> str:
        """As asked for, or found out; a stranger is spoken to like OpenAI's server, and what comes
        of it is counted under its own name."""
        wish, key = self._wish, self._api_key
        if wish.protocol != AUTO:
            return wish.protocol
        try:
            return detect(
                wish.url, client=client, clock=self._clock, insecure=wish.insecure, api_key=key
            ).name
        except UsageError as error:
            if wish.find_capacity:
                raise
            self._print(f"{error}; the speakers try {wish.wire.name}")
            return wish.wire.name

    def _prepare_clips(self, spec: LoadSpec) -> Corpus | None:
        if spec.kind == "connect-storm":
            return None
        wish = self._wish
        with self._status("preparing what the speakers say"):
            if wish.speech is not None:
                corpus = recorded_corpus(wish.speech, spec.speakers, spec.behaviour, spec.seed)
            else:
                run_s = spec.warm_up_s + spec.duration_s
                corpus = builtin_corpus(spec.speakers, run_s, spec.seed, spec.behaviour)
            for each in shares(spec):
                mine = only(corpus.deal, each.numbers)
                save_clips(each.clips_file, mine, each, corpus.talk)
        return corpus

    def _manifest(self, spec: LoadSpec, facts: ServerFacts, corpus: Corpus | None) -> Manifest:
        settings = {
            "speakers": spec.speakers,
            "processes": spec.parts,
            "duration_s": spec.duration_s,
            "warm_up_s": spec.warm_up_s,
            "ramp_s": spec.ramp_s,
            "scenario": spec.scenario,
            "scenario_fields": spec.scenario_fields,
            "transcription": spec.transcription,
            "seed": spec.seed,
            "storm_rounds": spec.rounds,
            "connect_timeout_s": spec.connect_timeout_s,
            "grace_s": spec.grace_s,
            "frame_s": spec.frame_s,
            "normaliser": NORMALISER,
            "anchors": ANCHORS,
            **self._search_settings(),
        }
        return new_manifest(
            invocation(),
            self._clock,
            settings=settings,
            url=without_secrets(spec.url),
            protocol=spec.protocol,
            ready=self._wish.wire.ready,
            not_observable=tuple(sorted(self._wish.not_observable)),
            model=facts.model,
            model_kind=facts.model_kind,
            server=facts.said,
            corpus=corpus.kind if corpus else None,
            corpus_hash=corpus.digest if corpus else None,
            targets=[written(objective) for objective in self._objectives if self._wish.judged_by],
            colocated=self._wish.colocated,
            planned_duration_s=spec.duration_s if spec.kind == "calls" else None,
        )

    def _search_settings(self) -> dict[str, float]:
        wish = self._wish
        if not wish.find_capacity:
            return {}
        return {"start_speakers": wish.start_speakers, "step_s": wish.step_s}

    def _generate(self, spec: LoadSpec, folder: Path) -> Ended:
        if spec.kind == "search":
            return self._search(spec, folder)
        every_s = REDRAW_EVERY_S if self._console.is_terminal else LINE_EVERY_S
        with watching(self._console, spec, self._objectives) as say:
            generator = start_generators(spec, self._wish.spread, folder, self._clock, say)

            def show(seen: Tally) -> None:
                say(seen.line())

            progress = tell_progress(folder, self._clock, every_s, show)
            watch = AbortWatch(spec, self._objectives, self._clock)

            def look() -> None:
                progress()
                watch.poll()

            ended = generator.wait(look)
            self._aborted = watch.reason
            return ended

    def _search(self, spec: LoadSpec, folder: Path) -> Ended:
        wish = self._wish
        rules = StepRules(self._objectives, measure_s=wish.step_s, explicit=bool(wish.targets))
        with watching(self._console, spec, self._objectives) as say:
            search = Search(
                spec,
                rules,
                wish.start_speakers,
                on_step=self._print,
                on_progress=self._now_and_then(say),
            )
            generator = start_generators(spec, self._wish.spread, folder, self._clock, say)
            return generator.wait(every(self._clock, SEARCH_EVERY_S, search.poll))

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _now_and_then(self, say: Callable[[str], None]) -> Callable[[str], None]:
        """A terminal is redrawn every time; elsewhere a line now and then is enough."""
        if self._console.is_terminal:
            return say
        next_s = 0.0

        def tell(text: str) -> None:
            nonlocal next_s
            if self._clock.now() >= next_s:
                next_s = self._clock.now() + LINE_EVERY_S
                say(text)

        return tell

    @contextmanager
    def _status(self, first: str) -> Iterator[Callable[[str], None]]:
        """One line that changes on a terminal, lines that follow each other elsewhere."""
        if not self._console.is_terminal:
            yield lambda text: self._console.print(
                text, markup=False, highlight=False, soft_wrap=True
            )
            return
        with Status(first, console=self._console) as status:
            yield status.update

    def _tell(self, folder: Path, summary: Summary, judgement: Judgement) -> None:
        if self._as_json:
            shown = {**to_json(summary), "verdict": judgement.sentence, "folder": str(folder)}
            if summary.steps:
                shown["capacity"] = asdict(capacity(summary.steps))
            typer.echo(json.dumps(shown, indent=2, allow_nan=False))
            return
        console = Console(soft_wrap=True, highlight=False)
        console.print(verdict_panel(summary, judgement, terminal_width(console)))
        console.print(f"report: {folder / 'report.html'}", markup=False)

    def _exit_code(self, ended: Ended, summary: Summary, judgement: Judgement) -> int:
        if ended.interrupted:
            self._console.print("interrupted; what was measured is kept")
            return INTERRUPTED
        if not ended.in_order:
            self._console.print(
                f"rtvc: the load generator ended with status {ended.exit_status}; "
                "what it had measured is kept"
            )
            return RtvcError.exit_code
        if summary.connections.attempts and not summary.connections.usable:
            if self._as_json:
                self._console.print(f"rtvc: {judgement.sentence}", markup=False, soft_wrap=True)
            return RtvcError.exit_code
        return judgement.exit_code


def _name(spec: LoadSpec) -> str:
    what = "capacity" if spec.kind == "search" else spec.scenario
    return f"{what}-{spec.speakers}"


def written(objective: Objective) -> str:
    """As it would be typed, so that a run keeps its targets and not the name of a file.

    >>> [written(o) for o in parse_objectives(["connection_p95<3s", "wer <= 0.1", "cross_talk==0"])]
    ['connection_p95<3s', 'wer<=10%', 'cross_talk==0']
    """
    subject = "_".join(filter(None, (objective.metric, objective.aggregate)))
    number = objective.target * (100 if objective.unit == "%" else 1)
    return f"{subject}{objective.comparison}{number:g}{objective.unit}"


def _finish(folder: Path, *, keep_text: bool) -> Summary:
    """Report, summary and Parquet copies of what was recorded."""
    keep_last_rows(folder)
    if not keep_text:
        hide_texts(folder)
    build_report(folder, png=True)
    write_parquet(folder)
    return load_summary(folder)
