"""The verdict in a terminal: marks as k6 draws them, n beside each figure."""

import textwrap

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from rtvc.report.wording import HALF_LOST, MARKS, VOID_MARK, unbroken
from rtvc.slo import STORM, UNJUDGED, Judgement, Outcome, Status, Verdict, goodput_text, shown
from rtvc.summary import INFERRED, Accuracy, Summary

_STATUS_STYLES: dict[Status, str] = {
    "passed": "green",
    "failed": "red",
    "undecided": "yellow",
    "no data": "red",
    "not observable": "yellow",
}

_OUTCOME_STYLES: dict[Outcome, str] = {
    "met": "bold green",
    "missed": "bold red",
    "undecided": "bold yellow",
    "void": "bold yellow",
    "interrupted": "bold yellow",
}


def verdict_table(summary: Summary, judgement: Judgement) -> RenderableType:
    """One line an objective, then what was understood and with what it was measured."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column("objective", no_wrap=True)
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("target", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    for verdict in judgement.verdicts:
        table.add_row(*_cells(verdict, judged=judgement.outcome not in UNJUDGED))
    return Group(table, *_notes(summary))


def _cells(verdict: Verdict, *, judged: bool) -> list[Text]:
    style = _STATUS_STYLES[verdict.status] if judged else "dim"
    return [
        Text(MARKS[verdict.status] if judged else VOID_MARK, style),
        Text(verdict.objective.name),
        Text(verdict.bare_text, style),
        Text(verdict.objective.target_text),
        _n_cell(verdict, judged=judged),
    ]


def _n_cell(verdict: Verdict, *, judged: bool) -> Text:
    n = " ".join(filter(None, (f"n={verdict.n}", verdict.objective.counted)))
    return Text(f"few samples: {n}", "yellow") if judged and verdict.few else Text(n, "dim")


def _accuracy(summary: Summary) -> list[Text]:
    """Speed counts only beside accuracy, whatever the objectives ask for."""
    heard, spoken = summary.accuracy, summary.utterances
    if not spoken.spoken:
        return []
    parts = [_words(summary), f"{spoken.finals_missing} of {spoken.spoken} finals lost"]
    if spoken.cut_utterances is not None:
        parts.append(f"{spoken.cut_utterances} cut by a premature final")
    if heard.cross_talk_words is not None:
        parts.append(f"{heard.cross_talk_words} words of cross-talk")
    parts += _lost_ends(heard)
    lines = [Text("heard: " + ", ".join(parts))]
    if heard.wer is not None and heard.wer > HALF_LOST:
        doubt = "almost nothing was understood: is this the right model for this speech?"
        lines.append(Text(doubt, "bold black on yellow"))
    return lines


def _made_up(summary: Summary) -> list[Text]:
    """Text that came while nothing had been said; also that there was none, if that was all."""
    heard = summary.accuracy
    finals, partials = heard.hallucinated_finals, heard.hallucinated_partials
    if finals or partials:
        words = heard.hallucinated_words or 0
        made_up = f"{finals or 0} finals ({words} words), {partials or 0} partials"
        return [Text(f"made up while nothing was said: {made_up}", "yellow")]
    said = summary.utterances.spoken or summary.scenario == STORM
    silent = finals is not None and not said and summary.connections.usable
    return [Text("nothing was said, and no text came")] if silent else []


def _lost_ends(heard: Accuracy) -> list[str]:
    """Words cut at a turn's ends, where there were any."""
    counted = {"first": heard.first_words_lost, "last": heard.last_words_lost}
    return [
        f"{times} {end} word{'' if times == 1 else 's'} lost"
        for end, times in counted.items()
        if times
    ]


def _goodput(summary: Summary) -> list[Text]:
    """Beside the throughput; in a run that is void it would say nothing."""
    told = goodput_text(summary.goodput) if summary.goodput else None
    return [Text(told)] if told and summary.generator.valid else []


def _went_wrong(summary: Summary) -> list[Text]:
    """By the names that stand in the files."""
    named = [f"{times} × {name}" for name, times in summary.failures.items()]
    return [Text("went wrong: " + ", ".join(named), "yellow")] if named else []


def _words(summary: Summary) -> str:
    heard = summary.accuracy
    if heard.wer is None:
        return "WER not observable"
    kinds = f"{heard.substitutions} S, {heard.deletions} D, {heard.insertions} I"
    return f"WER {shown(heard.wer, '%')} ({kinds} of {heard.reference_words} words)"


def _notes(summary: Summary) -> list[Text]:
    notes = [*_accuracy(summary), *_made_up(summary), *_goodput(summary), *_went_wrong(summary)]
    if summary.ready == INFERRED:
        notes.append(Text("connection time: ready (inferred) from the first text", "dim"))
    if not summary.generator.valid:
        notes.append(Text(f"void: {summary.generator.reason}", "yellow"))
    if summary.self_test:
        notes.append(Text("measured with the self-test model", "yellow"))
    elif summary.model:
        kind = f" ({summary.model_kind})" if summary.model_kind else ""
        notes.append(Text(f"measured with {summary.model}{kind}", "dim"))
    return notes


def verdict_panel(
    summary: Summary, judgement: Judgement, width: int | None = None
) -> RenderableType:
    """The table and, last, where the eye ends up, the sentence; `width` None: on one line."""
    sentence = judgement.sentence
    if width is not None:
        # A number and its unit stay on one line.
        kept = "\n".join(textwrap.wrap(unbroken(sentence), width, break_long_words=False))
        sentence = kept.replace("\N{NO-BREAK SPACE}", " ")
    last = Text(sentence, _OUTCOME_STYLES[judgement.outcome])
    return Group(verdict_table(summary, judgement), Text(""), last)


def terminal_width(console: Console) -> int | None:
    """None where lines are read by a program, or by nobody yet."""
    return console.width if console.is_terminal else None
