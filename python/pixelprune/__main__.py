"""Run the command line: ``python -m pixelprune``."""

import sys

from .cli import main

sys.exit(main())
