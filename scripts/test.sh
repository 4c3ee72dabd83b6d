#!/usr/bin/env bash
# The whole suite, the files of which are shared out among processes: most tests with real clients wait more than they
# compute, so one process more than there are processors. The clients come first, whose files take longest; what measures,
# or changes the machine, comes when all are done. What makes machines of its own is for `make machines`.
set -euo pipefail
python=$1
processes=$(($(nproc) + 1))

status=0
"$python" -m pytest -m "not alone and not machine" --numprocesses "$processes" --dist loadfile --no-loadscope-reorder || status=$?
"$python" -m pytest -m "alone and not machine" || status=$?
exit "$status"
