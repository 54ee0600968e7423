#!/usr/bin/env bash
# Lints and tests: launch/test.sh [pytest arguments, paths from the project's root]
# Without arguments: everything on two processes, then the tests marked `fast` on a newer Python where one is found
# (JAXSRL_ONE_PYTHON=1 leaves that out). With arguments: only what they say. Sets up .venv first where needed.
set -euo pipefail
root=$(CDPATH= cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"
. launch/python.sh

launch/setup.sh
export JAX_PLATFORMS=${JAX_PLATFORMS:-cpu} MPLBACKEND=Agg
# Compiled programs are kept from run to run. A size limit also makes jax lock the folder, which two processes write to.
export JAX_COMPILATION_CACHE_DIR=$root/.cache/jax JAX_COMPILATION_CACHE_MAX_SIZE=2000000000
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.5 JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1

# So is the bytecode: a process that a test starts would else spend most of its start on the text of libraries.
unset PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX=$root/.cache/python

.venv/bin/ruff check --quiet
if [ $# -gt 0 ]; then exec .venv/bin/python -m pytest "$@"; fi
.venv/bin/python -m pytest -q -n 2

# The newest jax needs Python 3.12, so a machine whose `python3` is 3.11 would never see it.
if [ -n "${JAXSRL_ONE_PYTHON:-}" ]; then
    echo "launch/test.sh: JAXSRL_ONE_PYTHON is set: the fast tests are not run on a second Python"
elif .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 12))'; then
    echo "launch/test.sh: this was Python 3.12 or newer, which has the newest jax: no second Python is needed"
elif newer=$(JAXSRL_PYTHON='' find_python 12); then
    launch/setup.sh .venv-newer "$newer"
    versions='import jax, sys; print("Python", sys.version.split()[0], "with jax", jax.__version__)'
    echo "launch/test.sh: the fast tests on $(.venv-newer/bin/python -c "$versions")"
    .venv-newer/bin/python -m pytest -q -n 2 -m fast
else
    echo "launch/test.sh: no Python 3.12 or newer was found: the fast tests are not run on a second Python"
fi
