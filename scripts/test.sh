#!/usr/bin/env bash
# The whole suite, in two halves side by side: the tests with real clients mostly wait, the others mostly compute.
set -euo pipefail
python=$1
log=$(mktemp)
trap 'rm -f "$log"' EXIT

"$python" -m pytest tests/unit tests/wire >"$log" 2>&1 </dev/null &
other=$!
status=0
"$python" -m pytest tests/clients || status=$?
wait "$other" || status=$?
cat "$log"
exit "$status"
