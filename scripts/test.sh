#!/usr/bin/env bash
# The whole suite, in two halves side by side that take as long as each other: most tests with real clients wait more than
# they compute.
set -euo pipefail
python=$1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# It changes the account that all others log in to, and closes the machine to everybody: nothing may run beside it.
alone=tests/clients/test_machine_rules.py
matrix=tests/clients/test_matrix.py

(
    failed=0
    "$python" -m pytest tests/unit tests/wire || failed=$?
    "$python" -m pytest tests/clients -m slow --ignore "$alone" --ignore "$matrix" || failed=$?
    exit "$failed"
) >"$log" 2>&1 </dev/null &
other=$!
status=0
"$python" -m pytest tests/clients -m "not slow" --ignore "$alone" || status=$?
"$python" -m pytest "$matrix" || status=$?
wait "$other" || status=$?
cat "$log"
"$python" -m pytest "$alone" || status=$?
exit "$status"
