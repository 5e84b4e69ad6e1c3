"""The dashboard and the alert rules ask only for what /metrics has, and in a way that tells."""

import json
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rtvc.server.measuring.metrics import METRICS, Metric
from tests.grafana_model import COLUMNS, Dashboard
from tests.promql import PromqlError, Sample, Vector, check

FOLDER = Path(__file__).parent.parent / "infra" / "observability"
DASHBOARD = json.loads((FOLDER / "grafana-dashboard.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ADDED_BY_PROMETHEUS = {"instance", "job"}


def alert_rules() -> list[dict[str, Any]]:
    yaml = pytest.importorskip("yaml")
    document = yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def dashboard_expressions() -> list[str]:
    return [target["expr"] for panel in PANELS for target in panel["targets"]]


# What may be asked.


def metric_of(sample: str) -> Metric:
    """The row of the table that has such samples."""
    for suffix in ("_bucket", "_sum", "_count"):
        row = METRICS.get(sample.removesuffix(suffix))
        if sample.endswith(suffix) and row is not None and row.kind == "histogram":
            return row
    row = METRICS[sample]
    assert row.kind != "histogram", f"{sample} has only _bucket, _sum and _count"
    return row


def samples_in(expression: str) -> list[str]:
    return re.findall(r"\brtvc_\w+", expression)


def _samples() -> dict[str, Sample]:
    """Everything that can be selected, with what Prometheus adds to it."""
    found = {}
    for row in METRICS.values():
        labels = frozenset(row.labels) | ADDED_BY_PROMETHEUS
        if row.kind == "histogram":
            found[f"{row.name}_bucket"] = Sample("counter", labels | {"le"}, bucket=True)
            found[f"{row.name}_sum"] = found[f"{row.name}_count"] = Sample("counter", labels)
        else:
            found[row.name] = Sample(row.kind, labels)
    return found


SAMPLES = _samples()


def fault_of(expression: str) -> str | None:
    """What Prometheus, or somebody who reads the result, would stumble over; None: nothing."""
    try:
        check(expression, SAMPLES)
    except PromqlError as fault:
        return str(fault)
    return None


DELAYS = "rtvc_transcription_delay_seconds"


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("sum(rate(rtvc_engine_jobs_total[5m]))", None),
        ("rtvc_headroom_sessions < 1", None),
        (f"histogram_quantile(0.9, sum by (le) (rate({DELAYS}_bucket[5m])))", None),
        (f"rate({DELAYS}_sum[5m]) / rate({DELAYS}_count[5m])", None),
        ("absent(rtvc_ready)", None),
        ("-sum(rtvc_open_sessions) * 2", None),
        ("rtvc_headroom < 1", "no such metric: rtvc_headroom"),
        (f"{DELAYS} > 1", f"no such metric: {DELAYS}"),
        ("up == 0", "no such metric: up"),
        ("sum(rtvc_open_sessions", "expected ), got 'the end'"),
        ("sum(rtvc_open_sessions))", "expected the end, got ')'"),
        ("rtvc_ready # comment", "cannot read '# comment'"),
        ('rtvc_ready{stage="decode"}', "rtvc_ready has no label stage"),
        ("rtvc_ready{instance=1}", "expected a value of instance in quotes"),
        ("sum by (outcome) (rtvc_ready)", "grouped by ['outcome'], which the series do not have"),
        ("rtvc_engine_jobs_total > 3", "a counter without rate or increase"),
        ("sum(rtvc_engine_jobs_total)", "a counter without rate or increase"),
        ("rate(rtvc_open_sessions[5m])", "rate of a gauge"),
        ("rate(rtvc_engine_jobs_total)", "rate without a [range]"),
        ("deriv(rtvc_engine_jobs_total[5m])", "deriv of a counter"),
        ("rtvc_open_sessions[5m]", "expected series, got matrix"),
        ("rtvc_open_sessions[5m] > 1", "> of series over a stretch of time"),
        ("3 + 4", "expected series, got scalar"),
        ("median(rtvc_open_sessions)", "no such function: median"),
        (
            f"histogram_quantile(0.9, sum by (job) (rate({DELAYS}_bucket[5m])))",
            "histogram_quantile of what are no rated buckets by le",
        ),
        (
            f"histogram_quantile(0.9, max by (le) (rate({DELAYS}_bucket[5m])))",
            "histogram_quantile of what are no rated buckets by le",
        ),
        (
            f"histogram_quantile(0.9, sum by (instance) (rate({DELAYS}_sum[5m])))",
            "histogram_quantile of what are no rated buckets by le",
        ),
        (
            f"histogram_quantile(95, sum by (le) (rate({DELAYS}_bucket[5m])))",
            "histogram_quantile wants a share between 0 and 1 first",
        ),
        (
            "sum by (kind) (rate(rtvc_engine_batch_jobs_sum[5m])) / sum(rtvc_open_sessions)",
            "sides of / are labelled differently: nothing matches",
        ),
        ("scalar(rtvc_ready)", "scalar of series that are told apart by ['instance', 'job']"),
        ("rtvc_ready and on (kind) rtvc_ready", "and on ['kind'], which a side does not have"),
        ("rtvc_ready or 1", "or wants series on both sides"),
    ],
)
def test_a_faulty_expression_is_found(expression: str, fault: str | None) -> None:
    assert fault_of(expression) == fault


def test_a_rate_keeps_its_labels() -> None:
    yielded = check("sum by (le, stage) (rate(rtvc_turn_stage_seconds_bucket[5m]))", SAMPLES)
    assert yielded == Vector("buckets", frozenset({"le", "stage"}))


# The dashboard.


@pytest.mark.parametrize("expression", dashboard_expressions())
def test_the_dashboard_asks_for_what_there_is(expression: str) -> None:
    assert fault_of(expression) is None
    assert expression.count('instance=~"$instance"') == len(samples_in(expression))


@pytest.mark.parametrize(
    "target",
    [target for panel in PANELS for target in panel["targets"]],
    ids=lambda one: one["expr"],
)
def test_a_legend_names_what_tells_the_curves_apart(target: dict[str, Any]) -> None:
    named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
    assert named == check(target["expr"], SAMPLES).labels - {"job"}


def test_the_dashboard_is_one_that_grafana_reads() -> None:
    dashboard = Dashboard.model_validate(DASHBOARD)
    assert "id" not in DASHBOARD  # a number of the Grafana that exported it
    names = [variable.name for variable in dashboard.templating.list_]
    assert names == ["datasource", "instance"]
    queries = [one.query for one in dashboard.templating.list_ if one.type == "query"]
    assert {name for query in queries for name in samples_in(query)} <= set(METRICS)
    assert max(panel.gridPos.x + panel.gridPos.w for panel in dashboard.panels) == COLUMNS


def _panel(dashboard: Any, number: int = 9) -> Any:
    return next(panel for panel in dashboard["panels"] if panel["id"] == number)


Change = Callable[[Any], object]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda d: d.update(uid="x"), "uid"),
        (lambda d: d.pop("time"), "time"),
        (lambda d: d["time"].update({"from": "yesterday"}), "from"),
        (lambda d: d.update(graph_tooltip=1), "Extra inputs"),
        (lambda d: d.update(refresh="often"), "refresh"),
        (lambda d: d["templating"]["list"][1].pop("datasource"), "expected a datasource"),
        (lambda d: _panel(d).update(type="graph"), "graph"),
        (lambda d: _panel(d).pop("targets"), "targets"),
        (lambda d: _panel(d)["targets"][0].update(datasource={"type": "loki", "uid": "x"}), "loki"),
        (lambda d: _panel(d)["targets"][0].update(refId="B"), "expected references"),
        (lambda d: _panel(d)["targets"][0].update(expr=""), "expr"),
        (lambda d: _panel(d)["targets"][0].update(expr="rtvc_ready{a=~$who}"), "uses $who"),
        (lambda d: _panel(d)["gridPos"].update(w=25), "w"),
        (lambda d: _panel(d)["gridPos"].update(x=13), "expected no column beyond 24"),
        (lambda d: _panel(d)["gridPos"].update(h=9), "overlap"),
        (lambda d: _panel(d)["gridPos"].update(y=100), "rests on nothing"),
        (lambda d: _panel(d).update(id=10), "the same id"),
        (lambda d: _panel(d)["fieldConfig"]["defaults"].update(unit="seconds"), "unit"),
        (lambda d: _panel(d)["fieldConfig"]["defaults"].pop("custom"), "expected custom"),
        (
            lambda d: _panel(d)["fieldConfig"]["defaults"]["thresholds"]["steps"].reverse(),
            "expected no value in the first step",
        ),
        (lambda d: _panel(d, 13)["targets"][0].pop("format"), "expected format heatmap"),
    ],
)
def test_what_grafana_would_not_understand_is_refused(change: Change, complaint: str) -> None:
    changed = deepcopy(DASHBOARD)
    change(changed)
    with pytest.raises(ValidationError, match=re.escape(complaint)):
        Dashboard.model_validate(changed)


def test_nothing_that_is_measured_is_left_out_without_need() -> None:
    """What is on no panel and in no alert is a constant of the server."""
    expressions = [*dashboard_expressions(), *(rule["expr"] for rule in alert_rules())]
    shown = {metric_of(sample).name for text in expressions for sample in samples_in(text)}
    assert set(METRICS) - shown == {
        "rtvc_boot_to_ready_seconds",
        "rtvc_build_info",
        "rtvc_engine_info",
        "rtvc_engine_processes",
        "rtvc_engine_state",
        "rtvc_engine_submitted_jobs_total",
        "rtvc_engine_worker_threads",
        "rtvc_engine_workers",
        "rtvc_model_load_seconds",
        "rtvc_model_warm_up_seconds",
        "rtvc_traces_total",
        "rtvc_websocket_messages_total",
        "rtvc_websocket_opens_total",
    }


# The alerts.


def test_the_alerts_ask_for_what_there_is() -> None:
    assert {rule["alert"]: fault_of(rule["expr"]) for rule in alert_rules()} == {
        rule["alert"]: None for rule in alert_rules()
    }


def test_each_alert_says_what_is_wrong_and_how_urgent_it_is() -> None:
    rules = alert_rules()
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert re.fullmatch(r"Rtvc[A-Z]\w+", rule["alert"])
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert re.fullmatch(r"\d+[sm]", rule.get("for", "0s"))


def test_the_causes_of_late_transcripts_have_an_alert() -> None:
    asked = {
        metric_of(sample).name for rule in alert_rules() for sample in samples_in(rule["expr"])
    }
    assert asked >= {
        "rtvc_transcription_delay_seconds",
        "rtvc_headroom_sessions",
        "rtvc_event_loop_lag_max_seconds",
        "rtvc_engine_restarts_total",
        "rtvc_engine_backlog_seconds",
        "rtvc_refused_sessions_total",
        "rtvc_degradation_step",
    }
