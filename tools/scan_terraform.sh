#!/usr/bin/env bash
# Scans infra/terraform with checkov: 0 if all that it finds is explained (infra/terraform/.checkov.yaml, and
# "checkov:skip" beside what it is about), 1 if not, 2 if there is no checkov.
#
#   tools/scan_terraform.sh [FILE]      FILE: where to write the result, too
set -euo pipefail
cd "$(dirname "$0")/.."

checkov=$(command -v checkov || true)
[ -x .venv/bin/checkov ] && checkov=.venv/bin/checkov
if [ -z "$checkov" ]; then
    echo "scan_terraform: no checkov; pipx install checkov, or pip install it into a venv of its own" >&2
    exit 2
fi

result=$(mktemp)
trap 'rm -f "$result"' EXIT
code=0
# Without its own account: nothing is sent anywhere.
"$checkov" --directory infra/terraform --config-file infra/terraform/.checkov.yaml \
    --skip-path '\.terraform' --skip-download >"$result" 2>&1 || code=$?
cat "$result"
[ $# -eq 0 ] || cp "$result" "$1"
# What it can't read it doesn't scan, and is content.
! grep -q 'Parsing errors: [1-9]' "$result" || code=1
exit "$code"
