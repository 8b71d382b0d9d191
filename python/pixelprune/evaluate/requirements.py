"""What has to be installed for `pixelprune.evaluate`."""

from functools import partial

from ..requirements import need as _need

need = partial(_need, extra="eval")
"""`pixelprune.requirements.need`, for the packages of the extra ``eval``."""
