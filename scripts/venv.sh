#!/usr/bin/env bash
# Make a part of .venv that `make` needs: "runtime" to serve, "dev" to test as well, "lint" and "fuzz" for tools that are
# kept in directories of their own. The makefile calls it when a lock has changed. The part is then made from scratch, so
# that nothing old is left in it.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv

die() {
    echo "$*" >&2
    exit 1
}

# The first of these that is 3.11 or newer. Each is run, because a version manager has commands that do not work.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

can_make_venvs() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null
}

create() {
    local python version
    python=$(find_python) || die "pyssh-gateway needs Python 3.11 or newer; ${PYTHON:-python3} here is" \
        "$("${PYTHON:-python3}" --version 2>/dev/null || echo missing). Install one" \
        "(Debian, Ubuntu: sudo apt-get install python3.11 python3.11-venv) and run make again, with PYTHON=<path to it>" \
        "if it is not on the PATH."
    version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')

    # Debian and Ubuntu keep ensurepip, without which a virtual environment has no pip, in a package of its own.
    if ! can_make_venvs "$python"; then
        scripts/apt.sh "$version-venv" || true
        can_make_venvs "$python" || die "$python cannot make virtual environments. Install its venv module" \
            "(Debian, Ubuntu: sudo apt-get install $version-venv) and run make again."
    fi
    echo "Making $venv with $python." >&2
    rm -rf "$venv"
    "$python" -m venv "$venv"
}

# Every file must have the hash that the lock names. --require-virtualenv: never install into the system's packages.
install() {
    "$venv/bin/python" -m pip --require-virtualenv --disable-pip-version-check --no-input install --quiet "$@"
}

# The project itself, as a link to this checkout. Its build tools are fetched into a temporary directory.
install_project() {
    local tools
    tools=$(mktemp -d)
    # shellcheck disable=SC2064 # the directory's name is meant to be fixed now
    trap "rm -rf '$tools'" EXIT
    install --require-hashes --no-compile --target "$tools" -r requirements/build.txt
    PYTHONPATH=$tools install --no-deps --no-build-isolation --editable .
    # Compiled now, not by the first start.
    "$venv/bin/python" -m compileall -q pyssh_gateway || die "The code does not compile; see above."
}

# These settings would make pip or the interpreter use other directories.
unset PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_USER PIP_REQUIRE_HASHES

case ${1:?runtime, dev, lint or fuzz} in
runtime)
    create
    install --require-hashes -r requirements/runtime.txt
    install_project
    touch "$venv/.runtime"
    ;;
dev)
    # It has packages of an earlier lock: start from scratch.
    if [ -e "$venv/.dev" ]; then
        scripts/venv.sh runtime
    fi
    install --require-hashes -r requirements/runtime.txt -r requirements/dev.txt
    touch "$venv/.dev"
    ;;
lint | fuzz)
    rm -rf "${venv:?}/$1"
    install --require-hashes --target "$venv/$1" -r "requirements/$1.txt"
    touch "$venv/.$1"
    ;;
*) die "$0: runtime, dev, lint or fuzz, not $1" ;;
esac
