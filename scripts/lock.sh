#!/usr/bin/env bash
# Write requirements/*.txt anew from pyproject.toml: every version pinned, every file hashed, for Python 3.11 to 3.13 on Linux.
# Run it after changing a dependency; `scripts/lock.sh --upgrade` takes newer versions of everything.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"${PYTHON:-python3}" -m venv "$tools"
"$tools/bin/pip" install --quiet --disable-pip-version-check 'uv>=0.8'

# No index address in the files: a lock is valid wherever its packages are fetched from, and the hashes ensure that they
# are the same.
compile() {
    local name=$1
    shift
    "$tools/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --custom-compile-command "make lock" --output-file "requirements/$name.txt" "$@"
}

# The later files are used together with the earlier ones, so they may not pin other versions of the same packages.
compile runtime "$@" --extra audit pyproject.toml
compile dev "$@" --group dev --constraint requirements/runtime.txt
compile lint "$@" --group lint --constraint requirements/dev.txt
compile node "$@" --group node --constraint requirements/dev.txt
compile build "$@" --group build --constraint requirements/dev.txt
compile fuzz "$@" --group fuzz --constraint requirements/dev.txt
