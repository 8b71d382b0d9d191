"""What has to be installed for `pixelprune.scan`."""

from functools import partial

from ..requirements import need as _need

need = partial(_need, extra="scan")
"""`pixelprune.requirements.need`, for the packages of the extra ``scan``."""
