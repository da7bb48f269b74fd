# shellcheck shell=bash
# Sourced by the scripts beside it: makes .venv with everything that export, detection and the tests need, changes to
# the repository root and sets PYTHON to the interpreter of .venv. Nothing is installed while pyproject.toml and
# constraints.txt stay as they were. Works with bash 3.2, the one that macOS has.
#
# YOLOTRT_PYTHON names the Python to make .venv with; without it the first of python3, python3.14 ... python3.10 and
# python that is new enough is taken.

set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

_extras="export,rtx,openvino,video,supervision,track,metrics,loadgen,dev"

_fail() {
    echo "error: $*" >&2
    exit 1
}

# 0 where the command is a Python of at least 3.10. A version manager's shim may exist and still not run.
_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1
}

_find_python() {
    local candidate
    if [ -n "${YOLOTRT_PYTHON:-}" ]; then
        _new_enough "$YOLOTRT_PYTHON" || _fail "YOLOTRT_PYTHON=$YOLOTRT_PYTHON is not a Python 3.10 or later."
        echo "$YOLOTRT_PYTHON"
        return
    fi
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
        if _new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    if command -v python3 >/dev/null 2>&1; then
        _fail "yolotrt needs Python 3.10 or later, found $(python3 --version 2>&1). Name one with YOLOTRT_PYTHON=PATH."
    fi
    _fail "yolotrt needs Python 3.10 or later, found none. Install it, or name one with YOLOTRT_PYTHON=PATH."
}

# Sets PYTHON to the interpreter in .venv, if it has one that runs.
_venv_python() {
    local candidate
    for candidate in .venv/bin/python .venv/Scripts/python.exe; do
        if [ -x "$candidate" ] && _new_enough "$candidate"; then
            PYTHON="$PWD/$candidate"
            return 0
        fi
    done
    return 1
}

_make_venv() {
    local base
    base="$(_find_python)" || exit 1
    "$base" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
        _fail "$base has no venv or ensurepip. Install them (Debian and Ubuntu: apt install python3-venv)."
    echo "Making .venv with $("$base" --version) ..."
    "$base" -m venv --clear .venv || _fail "$base could not make the virtual environment .venv."
    _venv_python || _fail "the new virtual environment .venv does not run."
}

_install() {
    local wanted stamp=".venv/installed-from"
    wanted="$("$PYTHON" -c '
import hashlib, pathlib, sys
print(hashlib.sha256(b"".join(pathlib.Path(p).read_bytes() for p in sys.argv[1:])).hexdigest())
' pyproject.toml constraints.txt scripts/_environment.sh)"
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
        return
    fi
    rm -f "$stamp" # an interrupted installation is begun again
    echo "Installing yolotrt[$_extras] (the first time takes some minutes) ..."
    "$PYTHON" -m pip install -qq --disable-pip-version-check -e ".[$_extras]" -c constraints.txt ||
        _fail "pip could not install yolotrt[$_extras]; its own message stands above."
    # Ultralytics brings the OpenCV that needs desktop libraries, over the one that needs none.
    if ! "$PYTHON" -c 'import cv2' >/dev/null 2>&1; then
        "$PYTHON" -m pip install -qq --disable-pip-version-check --force-reinstall --no-deps \
            opencv-python-headless -c constraints.txt || _fail "pip could not install opencv-python-headless."
    fi
    echo "$wanted" >"$stamp"
}

_venv_python || _make_venv
_install
export PYTHON
