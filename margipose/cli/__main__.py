"""`python -m margipose.cli`: the same as `margipose`."""

import sys

from margipose.cli import main

sys.exit(main())
