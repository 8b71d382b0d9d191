"""The errors and warnings that pixelprune raises."""


class PixelPruneError(ValueError):
    """A value that pixelprune cannot work with; the message says what was found and what was expected."""


class PixelPruneWarning(UserWarning):
    """Something a caller should know about a result that is nevertheless right."""
