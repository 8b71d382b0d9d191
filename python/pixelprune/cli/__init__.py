"""The command line: ``pixelprune show``, ``bench`` and ``info``."""

from .main import main

__all__ = ["main"]
