"""The part of Grafana's classic dashboard model that our dashboard uses, to be checked against.

After Grafana's page "Dashboard JSON model" (docs of v9 to v13) and its schema of panels. Strict: a
field that is not here, or has another type, is refused, so that what Grafana would silently ignore
shows.
"""

import re
from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

COLUMNS = 24
"""Of the grid."""

Text = Annotated[str, StringConstraints(min_length=1)]
Color = Annotated[str, StringConstraints(pattern=r"^(#[0-9a-fA-F]{6}|[a-z-]+)$")]
Duration = Annotated[str, StringConstraints(pattern=r"^\d+[smhd]$")]
RelativeTime = Annotated[str, StringConstraints(pattern=r"^now(-\d+[smhdwMy])?(/[smhdwMy])?$")]
Calculation = Literal["lastNotNull", "last", "mean", "max", "min", "sum", "range"]
Unit = (
    Literal["none", "short", "s", "ms", "percentunit", "bytes", "Bps", "cps"]
    | (Annotated[str, StringConstraints(pattern=r"^suffix:.+$")])
)


class Model(BaseModel):
    """Nothing is converted, nothing is let pass."""

    model_config = ConfigDict(extra="forbid", strict=True)


class DataSource(Model):
    """Which Prometheus: the one that the variable names."""

    type: Literal["prometheus"]
    uid: Literal["${datasource}"]


class GridPosition(Model):
    """Where a panel is, in cells."""

    h: int = Field(gt=0)
    w: int = Field(gt=0, le=COLUMNS)
    x: int = Field(ge=0, lt=COLUMNS)
    y: int = Field(ge=0)

    @model_validator(mode="after")
    def _within_the_grid(self) -> "GridPosition":
        if self.x + self.w > COLUMNS:
            raise ValueError(f"expected no column beyond {COLUMNS}, got {self.x + self.w}")
        return self

    @property
    def cells(self) -> set[tuple[int, int]]:
        columns = range(self.x, self.x + self.w)
        return {(x, y) for x in columns for y in range(self.y, self.y + self.h)}


class Target(Model):
    """One query."""

    refId: Annotated[str, StringConstraints(pattern=r"^[A-Z]$")]  # noqa: N815 (Grafana's name)
    datasource: DataSource
    expr: Text
    legendFormat: str  # noqa: N815
    format: Literal["time_series", "heatmap", "table"] = "time_series"
    instant: bool = False


class Threshold(Model):
    """From a value on."""

    color: Color
    value: float | int | None


class Thresholds(Model):
    """Rising; the first has no value."""

    mode: Literal["absolute", "percentage"]
    steps: list[Threshold] = Field(min_length=1)

    @model_validator(mode="after")
    def _rising(self) -> "Thresholds":
        first, *rest = (step.value for step in self.steps)
        if first is not None or None in rest:
            raise ValueError("expected no value in the first step, and one in every other")
        values = [value for value in rest if value is not None]
        if any(one >= other for one, other in pairwise(values)):
            raise ValueError(f"expected rising thresholds, got {values}")
        return self


class Stacking(Model):
    mode: Literal["none", "normal", "percent"]
    group: str


class ThresholdsStyle(Model):
    mode: Literal["off", "line", "area", "dashed", "line+area"]


class CurveStyle(Model):
    """How a time series is drawn."""

    drawStyle: Literal["line", "bars", "points"]  # noqa: N815
    lineWidth: int = Field(ge=0, le=10)  # noqa: N815
    fillOpacity: int = Field(ge=0, le=100)  # noqa: N815
    showPoints: Literal["never", "auto", "always"]  # noqa: N815
    stacking: Stacking | None = None
    thresholdsStyle: ThresholdsStyle | None = None  # noqa: N815


class Defaults(Model):
    """Of the fields of a panel."""

    unit: Unit
    thresholds: Thresholds
    decimals: int | None = Field(default=None, ge=0)
    min: float | int | None = None
    max: float | int | None = None
    custom: CurveStyle | None = None


class FieldConfig(Model):
    defaults: Defaults
    overrides: list[Any] = Field(max_length=0)


class ReduceOptions(Model):
    calcs: list[Calculation] = Field(min_length=1)
    fields: str
    values: bool


class StatOptions(Model):
    reduceOptions: ReduceOptions  # noqa: N815
    colorMode: Literal["none", "value", "background"]  # noqa: N815
    graphMode: Literal["none", "area"]  # noqa: N815
    textMode: Literal["auto", "value", "name", "value_and_name", "none"]  # noqa: N815


class Legend(Model):
    displayMode: Literal["list", "table", "hidden"]  # noqa: N815
    placement: Literal["bottom", "right"]
    calcs: list[Calculation]


class Tooltip(Model):
    mode: Literal["single", "multi", "none"]
    sort: Literal["none", "asc", "desc"]


class SeriesOptions(Model):
    legend: Legend
    tooltip: Tooltip


class HeatmapAxis(Model):
    unit: Unit


class HeatmapColor(Model):
    mode: Literal["scheme", "opacity"]
    scheme: Text
    steps: int = Field(ge=2, le=128)


class HeatmapOptions(Model):
    calculate: Literal[False]
    """The buckets are Prometheus's."""
    yAxis: HeatmapAxis  # noqa: N815
    color: HeatmapColor


class Panel(Model):
    """What all panels with queries have."""

    id: int = Field(gt=0)
    title: Text
    description: Text
    datasource: DataSource
    gridPos: GridPosition  # noqa: N815
    fieldConfig: FieldConfig  # noqa: N815
    targets: list[Target] = Field(min_length=1)

    @model_validator(mode="after")
    def _references_in_order(self) -> "Panel":
        references = [target.refId for target in self.targets]
        if references != sorted(set(references)):
            raise ValueError(f"expected references A, B, … once each, got {references}")
        return self


class Stat(Panel):
    type: Literal["stat"]
    options: StatOptions


class TimeSeries(Panel):
    type: Literal["timeseries"]
    options: SeriesOptions

    @model_validator(mode="after")
    def _drawn(self) -> "TimeSeries":
        if self.fieldConfig.defaults.custom is None:
            raise ValueError("expected custom, which says how the curves are drawn")
        return self


class Heatmap(Panel):
    type: Literal["heatmap"]
    options: HeatmapOptions

    @model_validator(mode="after")
    def _of_buckets(self) -> "Heatmap":
        if any(target.format != "heatmap" for target in self.targets):
            raise ValueError("expected format heatmap, or buckets are drawn as curves")
        return self


class Row(Model):
    """A heading; its panels are those below it."""

    id: int = Field(gt=0)
    type: Literal["row"]
    title: Text
    collapsed: Literal[False]
    gridPos: GridPosition  # noqa: N815
    panels: list[Any] = Field(max_length=0)


class Current(Model):
    text: list[str] | str | None = None
    value: list[str] | str | None = None


class Variable(Model):
    """What one can choose above the panels."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z_]+$")]
    label: Text
    type: Literal["datasource", "query"]
    query: Text
    definition: str | None = None
    datasource: DataSource | None = None
    refresh: Literal[0, 1, 2]
    sort: int = Field(default=0, ge=0, le=8)
    hide: Literal[0, 1, 2]
    includeAll: bool  # noqa: N815
    allValue: str | None = None  # noqa: N815
    multi: bool
    current: Current
    options: list[Any]

    @model_validator(mode="after")
    def _asks_somebody(self) -> "Variable":
        if (self.type == "query") != (self.datasource is not None):
            raise ValueError("expected a datasource for a query, and for nothing else")
        return self


class Listed(Model):
    list_: list[Any] = Field(alias="list", max_length=0)


class Templating(Model):
    list_: list[Variable] = Field(alias="list")


class Time(Model):
    from_: RelativeTime = Field(alias="from")
    to: RelativeTime


class Dashboard(Model):
    """The whole file."""

    title: Text
    uid: Annotated[str, StringConstraints(pattern=r"^[\w-]{8,40}$")]
    description: Text
    tags: list[Text]
    schemaVersion: int = Field(ge=36)  # noqa: N815
    version: int = Field(ge=0)
    editable: bool
    graphTooltip: Literal[0, 1, 2]  # noqa: N815
    timezone: Literal["", "browser", "utc"]
    time: Time
    refresh: Duration
    annotations: Listed
    links: list[Any] = Field(max_length=0)
    templating: Templating
    panels: list[Annotated[Stat | TimeSeries | Heatmap | Row, Field(discriminator="type")]]

    @model_validator(mode="after")
    def _laid_out(self) -> "Dashboard":
        faults = [*_repeated(self), *_overlaps(self), *_floating(self), *_unknown_variables(self)]
        if faults:
            raise ValueError("; ".join(faults))
        return self


def _repeated(dashboard: Dashboard) -> Iterator[str]:
    ids = [panel.id for panel in dashboard.panels]
    if len(set(ids)) < len(ids):
        yield "two panels have the same id"
    titles = [panel.title for panel in dashboard.panels if not isinstance(panel, Row)]
    yield from (
        f"two panels are called {title!r}" for title in {*titles} if titles.count(title) > 1
    )


def _overlaps(dashboard: Dashboard) -> Iterator[str]:
    for one, other in combinations(dashboard.panels, 2):
        if one.gridPos.cells & other.gridPos.cells:
            yield f"{one.title!r} and {other.title!r} overlap"


def _floating(dashboard: Dashboard) -> Iterator[str]:
    """Grafana lets panels fall until they rest on another: then rows are not where they say."""
    taken = {cell for panel in dashboard.panels for cell in panel.gridPos.cells}
    for panel in dashboard.panels:
        at = panel.gridPos
        below = {(x, at.y - 1) for x in range(at.x, at.x + at.w)}
        if at.y and not below & taken:
            yield f"{panel.title!r} rests on nothing"
        if isinstance(panel, Row) and (at.w, at.h) != (COLUMNS, 1):
            yield f"row {panel.title!r} is not one line over all columns"


def _unknown_variables(dashboard: Dashboard) -> Iterator[str]:
    known = {variable.name for variable in dashboard.templating.list_} | {"__rate_interval"}
    for panel in dashboard.panels:
        for target in () if isinstance(panel, Row) else panel.targets:
            used = set(re.findall(r"\$\{?(\w+)", target.expr))
            yield from (f"{panel.title!r} uses ${name}" for name in sorted(used - known))
