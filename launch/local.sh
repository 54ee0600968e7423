#!/usr/bin/env bash
# Trains on this machine: launch/local.sh configs/quickstart.py [--set key=value ...]
# CONFIG is looked for below the current folder, then below the project. Sets up .venv first where needed.
set -euo pipefail
root=$(CDPATH= cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

if [ $# -eq 0 ] || [ "$1" = -h ] || [ "$1" = --help ]; then
    echo "usage: launch/local.sh CONFIG [arguments of: jaxsrl train]"
    echo "for example: launch/local.sh configs/quickstart.py"
    if [ $# -eq 0 ]; then exit 2; else exit 0; fi
fi
config=$1
shift
if [ ! -e "$config" ] && [ -e "$root/$config" ]; then config=$root/$config; fi

"$root/launch/setup.sh"
exec "$root/.venv/bin/python" -m jaxsrl train "$config" "$@"
