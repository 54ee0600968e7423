"""A worker whose runs wait for the file `go`: a process of the test of the queue, which kills and pauses some before.

python toy_worker.py FOLDER CELLS LEASE_SECONDS
"""

import sys
import time
from pathlib import Path

from jaxsrl.studies.queue import Queue, work, worker_name


def main(folder: Path, cells: int, lease_seconds: float) -> None:
    def perform(cell, lease, stopped):
        with (folder / "started").open("a") as file:
            file.write(f"{cell} {lease.token} {worker_name()}\n")
        (lease.folder / "part").write_text(worker_name())
        while not (folder / "go").exists() and not stopped():
            time.sleep(0.05)
        return {"cell": cell, "token": lease.token}

    queue = Queue(folder=folder / "cells", lease_seconds=lease_seconds, attempts=50)
    work(queue, [f"cell{i:02d}" for i in range(cells)], perform)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
