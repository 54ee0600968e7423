"""`jaxsrl`, looking often for what is to be stored: `python -m tests.stores.impatient train …`."""

import sys

from jaxsrl.__main__ import main
from jaxsrl.stores import keep

if __name__ == "__main__":
    keep.LOOK = 0.02
    sys.exit(main())
