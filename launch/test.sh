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
# Compiled programs are kept from run to run, small ones too: most are, and the two processes below share them. With a
# size limit jax would look at every file whenever it adds one; so a folder that has grown large is begun anew instead.
programs=$root/.cache/jax
if [ -d "$programs" ] && [ "$(du -sm "$programs" | cut -f 1)" -gt 2000 ]; then rm -rf "$programs"; fi
export JAX_COMPILATION_CACHE_DIR=$programs
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1

# So is the bytecode: a process that a test starts would else spend most of its start on the text of libraries.
unset PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX=$root/.cache/python

.venv/bin/ruff check --quiet
if [ $# -gt 0 ]; then exec .venv/bin/python -m pytest "$@"; fi
.venv/bin/python -m pytest -q -n 2 --dist worksteal

# The newest jax needs Python 3.12, so a machine whose `python3` is 3.11 would never see it.
if [ -n "${JAXSRL_ONE_PYTHON:-}" ]; then
    echo "launch/test.sh: JAXSRL_ONE_PYTHON is set: the fast tests are not run on a second Python"
elif .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 12))'; then
    echo "launch/test.sh: this was Python 3.12 or newer, which has the newest jax: no second Python is needed"
elif newer=$(JAXSRL_PYTHON='' find_python 12); then
    launch/setup.sh .venv-newer "$newer"
    versions='import jax, sys; print("Python", sys.version.split()[0], "with jax", jax.__version__)'
    echo "launch/test.sh: the fast tests on $(.venv-newer/bin/python -c "$versions")"
    .venv-newer/bin/python -m pytest -q -n 2 --dist worksteal -m fast
else
    echo "launch/test.sh: no Python 3.12 or newer was found: the fast tests are not run on a second Python"
fi
