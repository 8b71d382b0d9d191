"""The report of a scan: one HTML file that shows what pruning saves, and where it does not pay."""

from .writing import write

__all__ = ["write"]
