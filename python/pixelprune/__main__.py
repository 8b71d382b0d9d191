"""Run the command line: ``python -m pixelprune``."""

import sys

from .cli.main import main

sys.exit(main())
