#!/usr/bin/env bash
# Writes launch/requirements.txt anew from pyproject.toml: versions pinned, files hashed, with markers for each Python.
# Beside it requirements-gpu.txt and requirements-tpu.txt, for Linux: what a run needs there, at the same versions.
# Versions already pinned stay where they still fit; `launch/lock.sh --upgrade` takes the newest. Needs the network.
set -euo pipefail
CDPATH= cd "$(dirname "${BASH_SOURCE[0]}")/.."

launch/setup.sh
# Neither an index address nor a folder of files may get into the result.
locked=(--universal --python-version 3.11 --generate-hashes --only-binary :all: --no-annotate --no-emit-index-url
    --no-emit-find-links --custom-compile-command launch/lock.sh --quiet)
.venv/bin/uv pip compile pyproject.toml --extra test --group setup --output-file launch/requirements.txt "${locked[@]}" "$@"
for accelerator in gpu tpu; do
    .venv/bin/uv pip compile pyproject.toml --extra "$accelerator" --extra grade --group setup \
        --constraint launch/requirements.txt --output-file "launch/requirements-$accelerator.txt" "${locked[@]}"
done
launch/setup.sh
