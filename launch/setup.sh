#!/usr/bin/env bash
# Prepares .venv: the packages of launch/requirements.txt and the command `jaxsrl`. Does nothing when it is ready.
#
#   launch/setup.sh                  with the first Python 3.11 or newer that is found (JAXSRL_PYTHON=PATH names one)
#   launch/setup.sh FOLDER PYTHON    another environment: FOLDER below the project, made with PYTHON
set -euo pipefail
root=$(CDPATH= cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/${1:-.venv}
python=${2:-}
. "$root/launch/python.sh"

# What the environment was made from. The root is part of it, as an environment does not survive being moved or copied.
stamp() { echo "$root"; cat "$root/launch/requirements.txt" "$root/pyproject.toml" "$root/launch/setup.sh" | cksum; }

# The stamp is written last, so a set-up that was cut off is never ready. Python runs too: it may have been uninstalled.
ready() { [ "$(cat "$venv/.stamp" 2>/dev/null)" = "$(stamp)" ] && "$venv/bin/python" -c "" 2>/dev/null; }

no_python() {
    cat >&2 <<'TEXT'
jaxsrl needs Python 3.11 or newer (with its modules venv and ensurepip), and none was found. To get one, for example:
    Debian, Ubuntu    sudo apt-get install python3 python3-venv      (Debian 12, Ubuntu 24.04 or newer)
    macOS             brew install python@3.12
    with pyenv        pyenv install 3.12
    with uv           uv python install 3.12
Then run the same command again. JAXSRL_PYTHON=/path/to/python3 names one that lies elsewhere.
TEXT
    exit 1
}

# The pinned uv is ten times faster than pip; pip stays for networks that only pip is set up for. Both check every hash
# and build nothing: --only-binary.
install_packages() {
    awk '/^uv==/ { on = 1 } on { print } on && !/\\$/ { exit }' "$root/launch/requirements.txt" >"$venv/uv.txt"
    local pip=("$venv/bin/python" -m pip --disable-pip-version-check install --quiet)
    local locked=(--require-hashes --only-binary :all: -r "$root/launch/requirements.txt")
    "${pip[@]}" --no-deps --require-hashes --only-binary :all: -r "$venv/uv.txt"
    if ! "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" "${locked[@]}"; then
        echo "launch/setup.sh: uv did not get through; trying pip (about 2 min)" >&2
        "${pip[@]}" "${locked[@]}"
    fi
    # The project itself, editable; its build backend is among the packages above, so nothing is fetched.
    "${pip[@]}" --no-deps --no-build-isolation --editable "$root"
}

# Optional: rewards on a CPU are computed several times faster. A few seconds.
build_similarity() {
    "$venv/bin/python" -m jaxsrl.ops.similarity.build >/dev/null 2>"$venv/build.txt" ||
        echo "launch/setup.sh: going on without the compiled step similarity ($venv/build.txt says why)" >&2
}

make_environment() {
    [ -n "$python" ] || python=$(find_python 11) || no_python
    if [ -d "$venv" ] && [ ! -e "$venv/.made-by-jaxsrl" ] && [ -n "$(ls -A "$venv")" ]; then
        echo "launch/setup.sh: $venv is there but was not made by this script; move it away first" >&2
        exit 1
    fi
    echo "launch/setup.sh: preparing $venv with $python (about 30 s with a fast network)" >&2
    rm -f "$venv/.stamp"
    rm -rf "$venv"
    mkdir "$venv" && touch "$venv/.made-by-jaxsrl"
    "$python" -m venv "$venv"
    install_packages
    build_similarity
    stamp >"$venv/.stamp"
}

if ready; then exit 0; fi
mkdir -p "$root/.cache"
if command -v flock >/dev/null; then  # two at once: the second waits, then finds it ready
    exec 9>"$root/.cache/setup.lock"
    flock 9
    if ready; then exit 0; fi
fi
make_environment
