"""`python -m jaxopt_study`: the command `jaxopt-study`, where that is not on the path."""

import sys

from jaxopt_study.cli import main

if __name__ == "__main__":
    sys.exit(main())
