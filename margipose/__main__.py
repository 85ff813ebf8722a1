"""`python -m margipose`: the same as `margipose`."""

import sys

from margipose.cli import main

sys.exit(main())
