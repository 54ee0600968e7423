# Sourced by setup.sh and test.sh: finds a Python by running the candidates, as a name on the PATH may be a dead shim.

# find_python MINOR: prints the first Python that runs, is 3.MINOR or newer and can make a venv; fails where none is.
# JAXSRL_PYTHON names the one to take; else `python3` comes first, then other names, then what pyenv and uv installed.
find_python() {
    local minor=$1 candidate candidates
    local check="import ensurepip, sys, venv; print(sys.executable) if sys.version_info >= (3, $minor) else sys.exit(1)"
    if [ -n "${JAXSRL_PYTHON:-}" ]; then
        candidates=("$JAXSRL_PYTHON")
    else
        candidates=(
            python3 python3.12 python3.13 python3.11 python3.14
            "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.*/bin/python3
            "${XDG_DATA_HOME:-${HOME:-}/.local/share}"/uv/python/*/bin/python3
        )
    fi
    for candidate in "${candidates[@]}"; do
        if command -v "$candidate" >/dev/null && "$candidate" -c "$check" 2>/dev/null; then return 0; fi
    done
    return 1
}
