#!/usr/bin/env bash
# Run the tests, with the files shared out among processes: most tests with real clients wait more than they compute, so
# there are two processes more than processors. The files with real clients come first, because they take longest. Tests
# that measure, or that change the machine, run when all others are done. Tests that wait for long are in `make soak`, and
# tests that make machines of their own in `make machines`.
set -euo pipefail
python=$1
which=$2
# Python has to keep what it has compiled: each process collects all tests, which takes three times as long otherwise.
unset PYTHONDONTWRITEBYTECODE

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
