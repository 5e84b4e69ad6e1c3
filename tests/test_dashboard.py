"""The dashboard and the alert rules ask only for what /metrics has, and in a way that tells."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from rtvc.server.metrics import METRICS, Metric

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


def faults_of(expression: str) -> list[str]:
    """What Prometheus, or somebody who reads the result, would stumble over."""
    samples = samples_in(expression)
    unknown = [sample for sample in samples if not _is_known(sample)]
    if unknown or not samples:
        return [f"unknown: {unknown}"]
    checks = {
        "brackets": _balanced(expression),
        "labels": _labels_in(expression) <= _labels_of(samples),
        "rates": all(_rated_if_it_counts(expression, sample) for sample in samples),
        "quantiles": all("le" in by.split(", ") for by in _quantile_groups(expression)),
    }
    return [name for name, holds in checks.items() if not holds]


def _is_known(sample: str) -> bool:
    try:
        metric_of(sample)
    except (KeyError, AssertionError):
        return False
    return True


def _balanced(expression: str) -> bool:
    bare = re.sub(r'"[^"]*"', "", expression)
    return all(bare.count(left) == bare.count(right) for left, right in ("()", "{}", "[]"))


def _labels_in(expression: str) -> set[str]:
    matched = re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', expression)
    grouped = re.findall(r"\b(?:by|without|on)\s*\(([^)]*)\)", expression)
    return {*matched, *(name.strip() for names in grouped for name in names.split(",") if name)}


def _labels_of(samples: list[str]) -> set[str]:
    own = {label for sample in samples for label in metric_of(sample).labels}
    return own | ADDED_BY_PROMETHEUS | {"le" for sample in samples if sample.endswith("_bucket")}


def _rated_if_it_counts(expression: str, sample: str) -> bool:
    """A counter means nothing by itself, and a gauge has no rate."""
    rated = re.search(rf"\b(?:rate|increase)\({sample}\b[^()]*\[", expression) is not None
    return rated == (metric_of(sample).kind != "gauge")


def _quantile_groups(expression: str) -> list[str]:
    groups = re.findall(r"histogram_quantile\([\d.]+, sum by \(([^)]*)\)", expression)
    assert len(groups) == expression.count("histogram_quantile")
    return groups


@pytest.mark.parametrize(
    ("expression", "faults"),
    [
        ("sum(rate(rtvc_engine_jobs_total[5m]))", []),
        ("rtvc_headroom_sessions < 1", []),
        ("rtvc_headroom < 1", ["unknown: ['rtvc_headroom']"]),
        ("rtvc_turn_stage_seconds > 1", ["unknown: ['rtvc_turn_stage_seconds']"]),
        ("up == 0", ["unknown: []"]),
        ("sum(rtvc_open_sessions", ["brackets"]),
        ('rtvc_ready{stage="decode"}', ["labels"]),
        ("sum by (outcome) (rtvc_ready)", ["labels"]),
        ("rtvc_engine_jobs_total > 3", ["rates"]),
        ("rate(rtvc_open_sessions[5m])", ["rates"]),
        ("histogram_quantile(0.9, sum by (job) (rate(rtvc_turn_stage_seconds_bucket[5m])))",
         ["quantiles"]),
    ],
)  # fmt: skip
def test_a_faulty_expression_is_found(expression: str, faults: list[str]) -> None:
    assert faults_of(expression) == faults


# The dashboard.


@pytest.mark.parametrize("expression", dashboard_expressions())
def test_the_dashboard_asks_for_what_there_is(expression: str) -> None:
    assert faults_of(expression) == []
    assert expression.count('instance=~"$instance"') == len(samples_in(expression))


def test_the_dashboard_has_what_grafana_wants() -> None:
    assert DASHBOARD["schemaVersion"] >= 36
    assert isinstance(DASHBOARD["title"], str)
    assert re.fullmatch(r"[\w-]{1,40}", DASHBOARD["uid"])
    assert set(DASHBOARD["time"]) == {"from", "to"}
    assert isinstance(DASHBOARD["annotations"]["list"], list)
    assert "id" not in DASHBOARD  # a number of the Grafana that exported it
    names = [variable["name"] for variable in DASHBOARD["templating"]["list"]]
    assert names == ["datasource", "instance"]
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD)))
    assert used - {"__rate_interval", "__all"} == set(names)
    queries = [v["query"] for v in DASHBOARD["templating"]["list"] if v["type"] == "query"]
    assert {name for query in queries for name in samples_in(query)} <= set(METRICS)


def test_each_panel_can_be_drawn() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in PANELS]
    assert len(set(titles)) == len(titles)
    for panel in PANELS:
        assert panel["type"] in {"stat", "timeseries", "heatmap"}
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["description"]
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"]
        assert defaults["thresholds"]["steps"][0]["value"] is None
        references = [target["refId"] for target in panel["targets"]]
        assert references == sorted(set(references))


def test_the_panels_do_not_overlap() -> None:
    cells = [
        {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        for at in (panel["gridPos"] for panel in DASHBOARD["panels"])
    ]
    assert all(not (one & other) for one, other in combinations(cells, 2))
    assert max(x for cell in cells for x, _ in cell) == 23


def test_nothing_that_is_measured_is_left_out_without_need() -> None:
    """What is on no panel and in no alert is a constant of the server."""
    expressions = [*dashboard_expressions(), *(rule["expr"] for rule in alert_rules())]
    shown = {metric_of(sample).name for text in expressions for sample in samples_in(text)}
    assert set(METRICS) - shown == {
        "rtvc_build_info",
        "rtvc_engine_info",
        "rtvc_engine_processes",
        "rtvc_engine_state",
        "rtvc_engine_submitted_jobs_total",
        "rtvc_engine_worker_threads",
        "rtvc_engine_workers",
        "rtvc_model_load_seconds",
        "rtvc_model_warm_up_seconds",
        "rtvc_websocket_messages_total",
        "rtvc_websocket_opens_total",
    }


# The alerts.


def test_the_alerts_ask_for_what_there_is() -> None:
    assert {rule["alert"]: faults_of(rule["expr"]) for rule in alert_rules()} == {
        rule["alert"]: [] for rule in alert_rules()
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
    }
