"""The command line: `main`, and a module for each command."""

from .main import main

__all__ = ["main"]
