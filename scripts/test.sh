#!/usr/bin/env bash
# The whole suite, in two halves side by side: most tests with real clients wait more than they compute.
set -euo pipefail
python=$1
log=$(mktemp)
trap 'rm -f "$log"' EXIT

(
    failed=0
    "$python" -m pytest tests/unit tests/wire || failed=$?
    "$python" -m pytest tests/clients -m slow || failed=$?
    exit "$failed"
) >"$log" 2>&1 </dev/null &
other=$!
status=0
"$python" -m pytest tests/clients -m "not slow" || status=$?
wait "$other" || status=$?
cat "$log"
exit "$status"
