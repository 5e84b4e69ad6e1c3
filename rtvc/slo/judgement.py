"""The verdict on a run, in a sentence."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from rtvc.slo.answer import capacity
from rtvc.slo.grammar import DEFAULT
from rtvc.slo.objectives import Objective
from rtvc.slo.outcomes import EXIT_CODES, Outcome, Status
from rtvc.slo.verdicts import NOT_OBSERVABLE, Verdict, evaluate
from rtvc.slo.wording import begun, said_speakers, spoken
from rtvc.summary import Summary

TOLD = 2
"""Findings told in the verdict sentence; the table has them all."""

OFTEN = 0.05
"""Share of the transcripts above which it is told that they lack a word at an end."""

STORM = "connect-storm"
"""The scenario in which speakers only connect."""

TOO_FEW = ", too few samples"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of a run."""

    outcome: Outcome
    """"met", "missed", "undecided", "void" or "interrupted"; the later outweighs the former,
    but missed outweighs undecided."""
    sentence: str
    """The verdict, for a person."""
    verdicts: tuple[Verdict, ...]
    """One for each objective, in their order."""

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.outcome]


def judge(summary: Summary, objectives: Sequence[Objective] = DEFAULT) -> Judgement:
    """Verdicts, their sum and one sentence; of a search, its answer."""
    verdicts = evaluate(objectives, summary)
    if summary.steps:
        found = capacity(summary.steps)
        model = "on the self-test model: " if summary.self_test else ""
        if summary.interrupted:
            said = f"interrupted, not judged; so far: {model}{found.sentence}"
            return Judgement("interrupted", begun(said), verdicts)
        return Judgement(found.outcome, begun(model + found.sentence), verdicts)
    outcome = _outcome(summary, verdicts)
    return Judgement(outcome, _sentence(outcome, summary, verdicts), verdicts)


def _outcome(summary: Summary, verdicts: Iterable[Verdict]) -> Outcome:
    seen = {verdict.status for verdict in verdicts}
    if summary.interrupted:
        return "interrupted"
    if not summary.generator.valid:
        return "void"
    made = summary.connections
    if summary.aborted or (made.attempts and not made.ok):
        return "missed"
    if seen & {"failed", "no data"}:
        return "missed"
    return "undecided" if seen & {"undecided", NOT_OBSERVABLE} else "met"


def _sentence(outcome: Outcome, summary: Summary, verdicts: Sequence[Verdict]) -> str:
    if outcome == "interrupted":
        return f"Interrupted {_progress(summary)}: not judged."
    if outcome == "void":
        return f"Void: {summary.generator.reason}, so nothing follows about the server."
    if not summary.connections.usable and summary.connections.reasons:
        return f"Missed: no speaker could connect: {_who_said_no(summary)}."
    wanted: dict[Outcome, tuple[Status, ...]] = {
        "met": get_args(Status),
        "missed": ("failed", "no data"),
        "undecided": ("undecided", NOT_OBSERVABLE),
    }
    told = [verdict for verdict in verdicts if verdict.status in wanted[outcome]]
    # What people ask about first comes first.
    told.sort(key=_precedence)
    facts = _missed_facts(told, summary) if outcome == "missed" else _facts(told[:1], summary)
    if summary.aborted and not facts:
        facts = [summary.aborted]
    facts += _wrong_words(summary)
    opening = _opening(outcome, summary)
    if outcome == "undecided" and all(verdict.status == NOT_OBSERVABLE for verdict in told):
        opening = opening.replace(TOO_FEW, "")
    return f"{opening}: {'; '.join(facts)}." if facts else f"{opening}."


def _precedence(verdict: Verdict) -> tuple[bool, bool]:
    """What could be seen comes before what could not."""
    return verdict.status == NOT_OBSERVABLE, verdict.objective.metric != "transcription_delay"


def _wrong_words(summary: Summary) -> list[str]:
    """Told whatever was asked for: an answer counts for nothing if it is somebody else's."""
    heard, spoken_ = summary.accuracy, summary.utterances.spoken
    facts = []
    if heard.cross_talk_turns:
        facts.append(f"{heard.cross_talk_turns} of {spoken_} transcripts hold another's words")
    for end, times in (("first", heard.first_words_lost), ("last", heard.last_words_lost)):
        if times and times > OFTEN * spoken_:
            facts.append(f"{times} of {spoken_} transcripts lack the {end} word")
    return facts


def _progress(summary: Summary) -> str:
    done_s, planned_s = summary.measured_s, summary.planned_duration_s
    if not done_s:
        return "before anything was measured"
    planned = "" if planned_s is None else f"of {planned_s:g} "
    return f"after {done_s:.0f} {planned}s"


def _who_said_no(summary: Summary) -> str:
    """The most frequent reason, and who gave it.

    A status is an answer of the server's; all else is said by whoever tried.
    """
    first, *others = summary.connections.reasons
    where = (summary.url or "the server").partition("?")[0]
    answered = " answered" if first.reason.startswith("HTTP ") else ":"
    hint = " (see --api-key-file)" if first.reason.startswith("HTTP 401") else ""
    said = f"{where}{answered} {first.reason.rstrip('.')}{hint}"
    if not others:
        return said
    second = others[0]
    more = f" and {len(others) - 1} more" if others[1:] else ""
    return f"{said} ({first.times} times; {second.reason.rstrip('.')}: {second.times}{more})"


def _missed_facts(told: Sequence[Verdict], summary: Summary) -> list[str]:
    """Figures that are too large; then answers that never came, with their cause."""
    causes = _causes(summary)
    explained = [verdict for verdict in told if causes and _is_loss(verdict)]
    others = [verdict for verdict in told if verdict not in explained]
    facts = _facts(others[:TOLD], summary)
    if others[TOLD:]:
        facts.append(f"and {len(others) - TOLD} more")
    if causes and (explained or not told):
        rate = [v for v in explained if v.objective.metric == "errors"]
        share = [f"errors {v.measured_text}, target {v.objective.target_text}" for v in rate]
        facts.append("; ".join(causes[:TOLD]) + "".join(f" ({text})" for text in share))
    return facts


def _is_loss(verdict: Verdict) -> bool:
    """Whether it was missed because an answer never came."""
    lost = verdict.objective.metric in ("errors", "finals_missing", "replies_missing")
    return lost or verdict.measured is None or math.isinf(verdict.measured)


def _causes(summary: Summary) -> list[str]:
    """What never came, connections first: they explain the rest."""
    made, spoken = summary.connections, summary.utterances
    causes = []
    for outcome in ("lost", "refused", "failed"):
        name = "sessions" if outcome == "lost" else "connections"
        count = sum(each.times for each in made.reasons if each.outcome == outcome)
        why = next((each.reason for each in made.reasons if each.outcome == outcome), None)
        if why is not None:
            causes.append(f"{count} of {made.attempts} {name} {outcome}: {why.rstrip('.')}")
    said = f"; server said: {made.complaint.rstrip('.')}" if made.complaint else ""
    if spoken.finals_missing:
        causes.append(f"{spoken.finals_missing} of {spoken.spoken} finals missing{said}")
        said = ""
    if spoken.replies_missing:
        missing = f"{spoken.replies_missing} of {spoken.replies_expected} replies missing"
        causes.append(f"{missing}{said}")
    return causes


def _facts(verdicts: Iterable[Verdict], summary: Summary) -> list[str]:
    return [_fact(verdict, summary) for verdict in verdicts]


def _fact(verdict: Verdict, summary: Summary) -> str:
    """One figure of the headline, as short as can be.

    >>> from rtvc.slo.grammar import parse_objective
    >>> _n_text(Verdict(parse_objective("connection_p95<3s"), "passed", 0.2, "max", 7))
    ' (n=7 connections)'
    """
    objective = verdict.objective
    target = f"target {objective.target_text}"
    if verdict.status == NOT_OBSERVABLE:
        where = f" with {summary.protocol}" if summary.protocol else ""
        return f"{objective.name} is not observable{where}"
    if verdict.measured is None:
        return f"no data for {objective.name}, {target}"
    subject = objective.name
    if verdict.judged == "max" and verdict.substituted:
        subject = spoken(objective.metric)
    if summary.scenario == STORM and objective.metric == "connection":
        # The opening has said what was counted, and how many.
        aggregate = None if verdict.judged == "max" else objective.aggregate
        return f"{' '.join(filter(None, (aggregate, verdict.bare_text)))}, {target}"
    n = _n_text(verdict) if verdict.substituted else ""
    return f"{subject} {verdict.bare_text}{n}, {target}"


def _n_text(verdict: Verdict) -> str:
    return f" (n={' '.join(filter(None, (str(verdict.n), verdict.objective.counted)))})"


def _opening(outcome: Outcome, summary: Summary) -> str:
    model = _named_model(summary)
    if summary.scenario == STORM:
        made = f"{summary.connections.attempts} connections, {summary.speakers} at once"
        return made if outcome == "met" else f"{_OPENINGS[outcome]} with {made}"
    if outcome == "met":
        held = f"{said_speakers(summary.connections.concurrent)} held"
        return f"{held} with {model}" if model else held
    began = f"Aborted {_progress(summary)}" if summary.aborted else _OPENINGS[outcome]
    said = f"{began} with {said_speakers(summary.speakers)}"
    return f"{said} on {model}" if model else said


_OPENINGS: dict[Outcome, str] = {"missed": "Missed", "undecided": f"Undecided{TOO_FEW}"}


def _named_model(summary: Summary) -> str | None:
    """A model that nobody talks to for its own sake is named wherever its numbers appear."""
    if summary.self_test:
        return "the self-test model"
    return summary.model_kind if summary.model_kind == "synthetic weights" else None
