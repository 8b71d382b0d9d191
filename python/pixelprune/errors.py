"""The errors and warnings that pixelprune raises."""


class PixelPruneError(ValueError):
    """A value that pixelprune can't use; the message says what was found and what was expected."""


class PixelPruneWarning(UserWarning):
    """A caveat about a valid result."""


def about_image(i: int, error: Exception) -> Exception:
    """Return an error of the same type whose message names the image of a sequence that it is about."""
    return type(error)(f"images[{i}]: {error}")
