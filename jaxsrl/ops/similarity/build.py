"""Builds `host.cpp`: `python -m jaxsrl.ops.similarity.build`. Takes seconds; done already, it does nothing."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from jaxsrl.ops.similarity.host import SOURCE, library

COMPILERS = ("g++", "clang++", "c++")
# Nothing here depends on the CPU's model: a home folder, and with it the library, may serve several machines.
FLAGS = ("-std=c++17", "-O3", "-shared", "-fPIC", "-pthread", "-Wall", "-Wextra", "-Werror=return-type")


def compiler() -> str | None:
    """Path of the first compiler found; the variable CXX names another."""
    return next(filter(None, map(shutil.which, filter(None, (os.environ.get("CXX"), *COMPILERS)))), None)


def build() -> Path:
    """Path of the library, made unless it is there. It appears whole or not at all.

    Raises: RuntimeError if no compiler is found or it fails, with its messages.
    """
    target = library()
    if target.is_file():
        return target
    found = compiler()
    if found is None:
        raise RuntimeError(f"no C++ compiler found (looked for {', '.join(COMPILERS)}); install one or set CXX")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        done = subprocess.run([found, *FLAGS, str(SOURCE), "-o", str(made)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{found} could not build {SOURCE}:\n{done.stderr.strip()}")
        os.replace(made, target)
    return target


def main() -> int:
    try:
        print(build())
    except (OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
