"""A run directory: what one run measured, appended row by row, read by every later step.

    run.json  connections.csv  turns.csv  server_turns.csv  samples.csv  generator.csv
    steps.csv  summary.json  report.html

Instants (`*_at_s`) are seconds since the run's start on the load generator's clock, except in
`server_turns.csv`, where they are durations only. `None` (an empty cell) is absent, never 0.

In the CSV files text is always quoted and nothing else is: an empty cell is None, a quoted
empty cell is empty text. Each row is flushed as it is written, so a run that is cut off keeps
all that it measured; a reader leaves out the row that was being written.
"""

from rtvc.hiding import without_secrets
from rtvc.record.files import check_version, read_json
from rtvc.record.manifest import MANIFEST_FILE, Machine, Manifest, new_manifest, this_machine
from rtvc.record.reading import RowTail, Run, load_manifest, load_run
from rtvc.record.rows import (
    FILES,
    ConnectionRow,
    GeneratorRow,
    Row,
    RowT,
    SampleRow,
    ServerTurnRow,
    StepRow,
    TurnRow,
)
from rtvc.record.shown import decode_shown, encode_shown
from rtvc.record.writing import RunWriter, append_rows, complete_manifest, write_parquet

__all__ = [
    "FILES",
    "MANIFEST_FILE",
    "ConnectionRow",
    "GeneratorRow",
    "Machine",
    "Manifest",
    "Row",
    "RowT",
    "RowTail",
    "Run",
    "RunWriter",
    "SampleRow",
    "ServerTurnRow",
    "StepRow",
    "TurnRow",
    "append_rows",
    "check_version",
    "complete_manifest",
    "decode_shown",
    "encode_shown",
    "load_manifest",
    "load_run",
    "new_manifest",
    "read_json",
    "this_machine",
    "without_secrets",
    "write_parquet",
]
