"""`python -m bowerbird.cli`, for where the console script is not on the path."""

import sys

from bowerbird.cli.app import main

sys.exit(main())
