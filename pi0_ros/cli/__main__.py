"""`python -m pi0_ros.cli`: the `pi0` command where its script is not on the PATH."""

import sys

from pi0_ros.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
