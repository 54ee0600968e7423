#!/usr/bin/env bash
# Writes launch/requirements.txt anew from pyproject.toml: versions pinned, files hashed, with markers for each Python.
# Versions already pinned stay where they still fit; `launch/lock.sh --upgrade` takes the newest. Needs the network.
set -euo pipefail
CDPATH= cd "$(dirname "${BASH_SOURCE[0]}")/.."

launch/setup.sh
# Neither an index address nor a folder of files may get into the result.
.venv/bin/uv pip compile pyproject.toml --extra test --group setup --output-file launch/requirements.txt \
    --universal --python-version 3.11 --generate-hashes --only-binary :all: \
    --no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command launch/lock.sh --quiet "$@"
launch/setup.sh
