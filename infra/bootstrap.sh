#!/bin/sh
# Makes `.venv` and installs the project with exactly the packages that are locked. Does nothing when that is done already.
# Usage: sh infra/bootstrap.sh run|test      PYTHON=… chooses the interpreter.

set -eu

cd "$(dirname "$0")/.."
kind=${1:-}
lock="requirements/$kind.txt"
stamp=".venv/.labkeeper-$kind"
home=".venv/.labkeeper-home"
unfinished=".venv/.labkeeper-unfinished"

fail() {
    echo "bootstrap: $*" >&2
    exit 1
}

say() {
    echo "bootstrap: $*" >&2
}

# What the installation depends on. A virtual environment knows its own path, so a tree that was moved needs a new one.
state() {
    pwd
    cat "$lock" pyproject.toml | cksum
}

is_python() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_python "$PYTHON" || fail "PYTHON=$PYTHON is not Python 3.11 or newer: name another interpreter"
        echo "$PYTHON"
        return
    fi
    for name in python3.13 python3.12 python3.11 python3.14 python3 python; do
        if is_python "$name"; then
            echo "$name"
            return
        fi
    done
    fail "Python 3.11 or newer is needed and was not found: install one (Debian: apt-get install python3 python3-venv)," \
        "or name it, as in: PYTHON=/opt/python/bin/python3 make $kind"
}

is_usable() {
    [ -x .venv/bin/python ] && [ ! -e "$unfinished" ] &&
        { [ ! -e "$home" ] || [ "$(cat "$home")" = "$(pwd)" ]; } && .venv/bin/python -c '' >/dev/null 2>&1
}

# Debian cuts ensurepip out of its Python. Then the pip that is installed beside it stands in.
pip() {
    if .venv/bin/python -c 'import pip' >/dev/null 2>&1; then
        .venv/bin/python -m pip --quiet --disable-pip-version-check --no-input "$@"
    else
        "$(find_python)" -m pip --quiet --disable-pip-version-check --no-input --python .venv/bin/python "$@"
    fi
}

make_environment() {
    python=$(find_python)
    say "making .venv with $("$python" --version)"
    rm -rf .venv
    mkdir .venv
    : >"$unfinished"
    if "$python" -c 'import ensurepip' >/dev/null 2>&1; then
        "$python" -m venv .venv || fail "$python cannot make .venv: see above"
    elif "$python" -m pip --version >/dev/null 2>&1; then
        "$python" -m venv --without-pip .venv || fail "$python cannot make .venv: see above"
    else
        rm -rf .venv
        fail "$python comes without venv and pip: apt-get install python3-venv, then run this again"
    fi
    pwd >"$home"
}

# uv takes a tenth of pip's time. It does not know the mirrors that pip is told of, and not every platform has it.
# pip installs it first, so that it, too, is what is locked.
install_with_uv() {
    pinned=".venv/.labkeeper-uv.txt"
    awk '/^[^ ]/ { is_uv = /^uv==/ } is_uv' "$lock" >"$pinned"
    [ -s "$pinned" ] && ! pip --verbose config list | grep -q index &&
        pip install --no-deps --require-hashes --requirement "$pinned" &&
        .venv/bin/uv pip install --quiet --python .venv/bin/python --compile-bytecode --require-hashes --requirement "$lock"
}

install() {
    say "installing the packages of $lock (once; half a minute or so)"
    : >"$unfinished"
    install_with_uv 2>/dev/null ||
        pip install --require-hashes --requirement "$lock" ||
        fail "pip could not install the packages (see above): is the package index reachable?"
    pip install --no-index --no-deps --no-build-isolation --editable . ||
        fail "pip could not install the project: see above"
    state >"$stamp"
    rm -f "$unfinished"
}

case $kind in
run | test) ;;
*) fail "usage: sh infra/bootstrap.sh run|test" ;;
esac

if [ -x .venv/bin/python ] && [ ! -e "$unfinished" ] && [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$(state)" ]; then
    exit 0
fi
is_usable || make_environment
install
say "ready"
