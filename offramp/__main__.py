"""`python -m offramp` is `offramp`."""

import sys

from offramp.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
