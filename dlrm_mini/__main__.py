"""`python -m dlrm_mini`."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (said before code an older Python cannot read)
    found = ".".join(map(str, sys.version_info[:3]))
    sys.exit("dlrm-mini needs Python 3.11 or newer; this is Python " + found + ".")

from dlrm_mini.cli import main

if __name__ == "__main__":
    sys.exit(main())
