"""A worker whose runs only wait: started as a process by the test of the queue, which kills and pauses some.

python toy_worker.py FOLDER CELLS SECONDS_A_CELL LEASE_SECONDS
"""

import sys
import time
from pathlib import Path

from jaxsrl.studies.queue import Queue, work, worker_name


def main(folder: Path, cells: int, seconds: float, lease_seconds: float) -> None:
    def perform(cell, lease, stopped):
        with (folder / "started").open("a") as file:
            file.write(f"{cell} {lease.token} {worker_name()}\n")
        (lease.folder / "part").write_text(worker_name())
        end = time.monotonic() + seconds
        while time.monotonic() < end and not stopped():
            time.sleep(seconds / 4)
        return {"cell": cell, "token": lease.token}

    queue = Queue(folder=folder / "cells", lease_seconds=lease_seconds, attempts=50)
    work(queue, [f"cell{i:02d}" for i in range(cells)], perform)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
