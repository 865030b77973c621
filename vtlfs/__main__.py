"""`python -m vtlfs` is `vtlfs`."""

import sys

from vtlfs.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
