#!/usr/bin/env bash
# Tests, the files of which are shared out among processes: most of those with real clients wait more than they compute,
# so there are two processes more than processors. The clients come first, whose files take longest; what measures, or
# changes the machine, comes when all are done. What waits for long is for `make soak`, and what makes machines of its own
# for `make machines`.
set -euo pipefail
python=$1
which=$2
processes=$(($(nproc) + 2))

together() { "$python" -m pytest --numprocesses "$processes" --no-loadscope-reorder "$@"; }

case $which in
test)
    status=0
    together --dist loadfile -m "not alone and not soak and not machine" || status=$?
    "$python" -m pytest -m "alone and not soak and not machine" || status=$?
    exit "$status"
    ;;
soak) together --dist worksteal -m "soak and not machine" ;;
*)
    echo "usage: scripts/test.sh PYTHON test|soak" >&2
    exit 2
    ;;
esac
