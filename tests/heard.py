"""`jaxsrl` as one of several processes, with a list of what they tell each other: `python -m tests.heard FILE train …`.

A line of FILE for every message: the names of the functions that it is sent from, its dtype and its size in bytes.
What Python prints goes to FILE.said, apart from what native code of libraries writes to the process's own streams.
"""

import json
import sys

from jaxsrl.__main__ import main
from jaxsrl.processes import hearing


def callers() -> list[str]:
    frame, names = sys._getframe(2), []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names


if __name__ == "__main__":
    with open(sys.argv[1], "a") as file, open(f"{sys.argv[1]}.said", "a", buffering=1) as said_by_python:
        sys.stdout = sys.stderr = said_by_python

        def hear(values) -> None:
            said = {"from": callers(), "dtype": str(values.dtype), "bytes": int(values.nbytes)}
            file.write(json.dumps(said) + "\n")
            file.flush()

        with hearing(hear):
            code = main(sys.argv[2:])
    sys.exit(code)
