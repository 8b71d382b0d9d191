"""Files that scans and evaluations both read or write."""
