"""Images that change during iteration: frames of one file, arrays that are refilled."""

from __future__ import annotations

import contextlib
import weakref

import numpy as np
from PIL import ImageFile

from .errors import PixelPruneError


def holds_all(images: object) -> bool:
    """Whether a collection holds all of its images at the same time, so that they can be borrowed.

    Any other iterable may reuse an array, a buffer or an image object that it has already yielded.
    """
    return isinstance(images, (list, tuple, np.ndarray))


class Frames:
    """Refuses an image object with several frames that occurs twice at the same frame.

    Its other frames are lost then, as in ``[*ImageSequence.Iterator(image)]``, or were never wanted.
    """

    def __init__(self) -> None:
        self._met: dict[int, tuple[weakref.ref[ImageFile.ImageFile], int]] = {}

    def meet(self, image: object) -> None:
        """Record the current frame of ``image`` if it is a Pillow image of a file.

        Raises:
            PixelPruneError: the object occurred at this frame before, and its file has several frames.
        """
        if not isinstance(image, ImageFile.ImageFile):
            return
        frame = image.tell()
        before = self._met.get(id(image))
        self._met[id(image)] = weakref.ref(image), frame
        if before is None or before[0]() is not image or before[1] != frame:
            return
        has_frames = frame > 0
        with contextlib.suppress(Exception):  # the file is closed, or damaged after the first frame
            has_frames = has_frames or getattr(image, "is_animated", False)
        if has_frames:
            raise PixelPruneError(
                f"the same image object was given before, at the same frame of its file ({frame}); expected an object "
                "for each frame: [frame.copy() for frame in ImageSequence.Iterator(image)]"
            )
