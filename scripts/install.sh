#!/usr/bin/env bash
# Installs what is missing: Debian packages, .venv, the project. "install.sh test" adds the tools of
# make test and make lint. Where nothing is missing it needs neither root nor network.
set -euo pipefail
cd "$(dirname "$0")/.."

# Orthanc's Python plugin links Debian's libpython3.11 and the gateway shares modules with it: another
# python3 on PATH (pyenv, conda) must not become the environment's interpreter.
PYTHON=/usr/bin/python3.11
unset PYTHONHOME PYTHONPATH

packages=(orthanc orthanc-python orthanc-dicomweb dcmtk python3-venv)
target=.
if [ "${1:-}" = test ]; then
    packages+=(strace libgdcm-tools python3-odil openssl postgresql-15)
    target='.[test]'
fi

fail() {
    echo "install: $*" >&2
    exit 1
}

debian_packages() {
    # shellcheck disable=SC1091
    [ -r /etc/os-release ] && . /etc/os-release
    if [ "${ID:-}" != debian ] || [ "${VERSION_CODENAME:-}" != bookworm ]; then
        fail "this needs Debian 12 (bookworm); this system is ${PRETTY_NAME:-unknown}"
    fi
    local package missing=()
    for package in "${packages[@]}"; do
        case "$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true)" in
        ?i*) ;;
        *) missing+=("$package") ;;
        esac
    done
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" -eq 0 ]; then
        scripts/debian-packages.sh "${missing[@]}"
    elif command -v sudo >/dev/null; then
        echo "Installing ${missing[*]} needs root: sudo may ask for your password."
        sudo scripts/debian-packages.sh "${missing[@]}"
    else
        fail "missing packages; run as root: scripts/debian-packages.sh ${missing[*]}"
    fi
}

virtual_environment() {
    # A moved checkout breaks the environment's scripts, hence its place is part of the stamp.
    local wanted
    wanted="$(sha256sum <pyproject.toml | cut -d' ' -f1) $PWD"
    if [ -x .venv/bin/python ] && [ "$(cat .venv/installed-environment 2>/dev/null)" != "$PWD" ]; then
        rm -rf .venv
    fi
    if [ ! -x .venv/bin/python ]; then
        echo "Creating .venv with $PYTHON"
        rm -rf .venv
        "$PYTHON" -m venv .venv || fail "$PYTHON cannot create .venv"
        echo "$PWD" >.venv/installed-environment
    fi
    local stamp=.venv/installed-project
    [ "$target" = . ] || stamp=.venv/installed-test
    [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
    echo "Installing $target into .venv"
    .venv/bin/python -m pip install -qq --disable-pip-version-check --editable "$target" ||
        fail "pip could not install the project (see above)"
    echo "$wanted" >.venv/installed-project
    [ "$target" = . ] || echo "$wanted" >"$stamp"
}

debian_packages
virtual_environment
