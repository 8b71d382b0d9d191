"""Reading callers' images, tensors and arrays as arrays that the core can borrow."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Iterator, Mapping, Set
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from . import _core
from .arguments import attribute, text_of
from .errors import PixelPruneError
from .images.decode import load_image

FILES = (str, os.PathLike, bytes, bytearray)
"""Types of images that have to be read and decoded."""

ARRAYS = ("__array_interface__", "__array__", "__dlpack__")
"""Attributes of arrays and tensors; each has at least one of them."""
_PIL_MODES = ("L", "RGB", "RGBA")
_LARGEST_REPETITION = 1 << 30
"""Size limit in bytes for copies of overlapping memory (broadcast arrays): about twice the largest RGB image that
Pillow opens."""


def as_pixels(image: Any, channels_first: bool = False) -> NDArray[np.uint8]:
    """Return ``image`` as uint8 (height, width) or (height, width, channels) with contiguous rows.

    Arrays whose rows are contiguous are not copied, whatever the row stride. PIL images and other layouts (channels
    first, steps along the width, negative strides, Fortran order) are copied once. Files are decoded as RGB, on white.

    Raises:
        TypeError: not an image, or its dtype is not uint8.
        PixelPruneError: the shape is not one of those above with 1, 3 or 4 channels; a file that can't be decoded.
        OSError: a file that can't be read.
    """
    if not channels_first and _core.is_plain_image(image):
        return cast("NDArray[np.uint8]", image)
    if isinstance(image, FILES):
        image = load_image(image, alpha="white")
    pixels = image if type(image) is np.ndarray else _as_array(image)
    if pixels.dtype != np.uint8:
        raise TypeError(
            f"image has dtype {text_of(pixels.dtype)}; expected uint8 values from 0 to 255 as the ViT will see them "
            f"(resized, not normalised){_dtype_hint(pixels)}"
        )
    if channels_first and attribute(image, "getbands") is None:  # PIL images have no axis order
        if pixels.ndim != 3:
            raise PixelPruneError(
                f"image has shape {pixels.shape}; expected (channels, height, width) with channels_first=True"
            )
        pixels = pixels.transpose(1, 2, 0)
    shape = pixels.shape
    channels = shape[2] if len(shape) == 3 else 1
    if not 2 <= len(shape) <= 3 or channels not in (1, 3, 4):
        hint = ""
        if len(shape) == 3 and shape[0] in (1, 3, 4):
            hint = "; for (channels, height, width) pass channels_first=True"
        elif len(shape) == 4:
            hint = "; for several images use prune_batch"
        raise PixelPruneError(
            f"image has shape {shape}; expected (height, width) or (height, width, 1, 3 or 4 channels){hint}"
        )
    strides = pixels.strides
    if strides[1] != channels or strides[-1] != 1 or strides[0] < shape[1] * channels:
        pixels = contiguous(pixels, "image")
    return pixels


def contiguous(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return an array that is C-contiguous, aligned and in native byte order: a copy if ``array`` is not.

    Raises:
        PixelPruneError: there is not enough memory for the copy, or ``array`` repeats its memory (as a broadcast array
            does) and the copy would take more than 1 GiB.
    """
    if array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative:
        return array
    extent = array.itemsize + sum(abs(step) * (side - 1) for step, side in zip(array.strides, array.shape, strict=True))
    if array.nbytes > max(extent, _LARGEST_REPETITION):
        raise PixelPruneError(
            f"{name} has shape {array.shape} and strides {array.strides}: its {array.nbytes} bytes are a repetition of "
            f"{extent} bytes, and at most {_LARGEST_REPETITION} are copied; expected an array without repeated memory"
        )
    try:
        return np.array(array, array.dtype.newbyteorder("="), order="C")
    except MemoryError:
        raise PixelPruneError(
            f"{name} has shape {array.shape} and strides {array.strides}, and there is not enough memory for the "
            "copy that this layout needs; expected a contiguous array, which needs none"
        ) from None


def read_array(value: Any, name: str, expected: str) -> NDArray[Any]:
    """Return ``value`` as an array; raise a `PixelPruneError` that names the argument if numpy can't convert it."""
    try:
        return np.asarray(value)
    except MemoryError:
        raise
    except Exception as error:  # also from the methods of the value
        raise PixelPruneError(f"{name} can't be read as an array: {text_of(error)}; expected {expected}") from None


def iterate_images(images: Any) -> Iterator[Any]:
    """Iterate over a collection of images, which may be one array (images, height, width, channels).

    Raises:
        TypeError: ``images`` is a single image, or unordered. A 3-d array is refused as well: it could be one
            image or a stack of grey images.
    """
    if attribute(images, "getbands") is not None:
        raise TypeError(
            "images is a single Pillow image; expected a sequence of images: put it in a list, or use prune"
        )
    images = np.asarray(images) if isinstance(images, np.ndarray) else images
    dimensions = attribute(images, "ndim")
    if dimensions is not None and dimensions != (1 if attribute(attribute(images, "dtype"), "kind") == "O" else 4):
        raise TypeError(
            f"images is one array of shape {text_of(attribute(images, 'shape'))}; expected a sequence of images, or an "
            "array (images, height, width, channels): put a single image in a list, or use prune; turn a stack of grey "
            "images into a list"
        )
    single = isinstance(images, (str, bytes, bytearray, memoryview, Mapping, Set))
    try:
        if single or attribute(images, "read") is not None or attribute(images, "__iter__") is None:
            raise TypeError
        return iter(images)
    except TypeError:
        raise TypeError(f"images is a {type(images).__name__}; expected a sequence of images") from None


def _as_array(image: Any) -> NDArray[Any]:
    mode = attribute(image, "mode")
    if isinstance(mode, str) and attribute(image, "getbands") is not None:  # a PIL image; PIL is not imported for this
        if mode not in _PIL_MODES:
            raise TypeError(
                f"image is a PIL image of mode {mode!r}; expected one of {', '.join(_PIL_MODES)}: "
                "use image.convert('RGB'), as the models' processors do"
            )
    elif not isinstance(image, np.ndarray) and all(attribute(image, name) is None for name in ARRAYS):
        raise TypeError(
            f"image is a {type(image).__name__}; expected a numpy array, a tensor, a PIL image, a path or the bytes of "
            "an image file"
        )
    only_dlpack = all(attribute(image, name) is None for name in ARRAYS[:2])
    try:
        return np.from_dlpack(image) if only_dlpack else np.asarray(image)
    except MemoryError:
        raise
    except Exception as error:  # also from the methods of the image
        raise TypeError(
            f"image is a {type(image).__name__} that can't be read as an array: {text_of(error)}; expected uint8 "
            "values from 0 to 255 in CPU memory"
        ) from None


def _dtype_hint(pixels: NDArray[Any]) -> str:
    if pixels.dtype == np.bool_:
        return ": multiply by 255 and use .astype(numpy.uint8)"
    if pixels.dtype.kind == "f":
        return ": scale to 0-255, round and use .astype(numpy.uint8); for a processor's output use prune_pixel_values"
    return ": use .astype(numpy.uint8)"


def as_pixel_values(pixel_values: Any) -> tuple[NDArray[Any], bool]:
    """Return ``pixel_values`` as a C-contiguous array (rows, values), and whether it holds bfloat16 bits.

    float16 and bfloat16 come back as their uint16 bits; a uint16 numpy array holds the bits of
    bfloat16, which numpy does not have. Contiguous arrays and CPU tensors are borrowed, not copied; no framework
    is imported.
    """
    values = _values_array(pixel_values)
    bfloat = values.dtype == np.uint16 or values.dtype.name == "bfloat16"
    if values.dtype not in (np.float32, np.float16, np.uint16, np.uint8) and not bfloat:
        raise TypeError(
            f"pixel_values has dtype {text_of(values.dtype)}; expected float32, float16, bfloat16 or uint8: "
            "use .astype(numpy.float32)"
        )
    if values.ndim < 2:
        raise PixelPruneError(f"pixel_values has shape {values.shape}; expected (patches, values of a patch)")
    values = contiguous(values, "pixel_values")
    if values.ndim > 2:
        values = values.reshape(values.shape[0], math.prod(values.shape[1:]))
    return (values.view(np.uint16) if values.dtype.itemsize == 2 else values), bfloat


def _values_array(source: Any) -> NDArray[Any]:
    """Return the values as a numpy array that shares the memory of ``source`` if possible."""
    if isinstance(source, np.ndarray):
        return np.asarray(source)
    tensor = attribute(source, "__dlpack__") is not None
    if not tensor and all(attribute(source, name) is None for name in ("__array_interface__", "__array__")):
        raise TypeError(
            f"pixel_values is a {type(source).__name__}; expected a numpy array or a CPU tensor of (patches, values)"
        )
    device = attribute(source, "device")
    if tensor and (attribute(device, "type") or "cpu") != "cpu":
        raise TypeError(f"pixel_values is on {text_of(device)}; expected CPU memory: use .cpu()")
    try:
        return _tensor_memory(source) if tensor else np.asarray(source)
    except MemoryError:
        raise
    except Exception as error:  # also from the methods of the tensor
        raise TypeError(
            f"pixel_values is a {type(source).__name__} of dtype {text_of(attribute(source, 'dtype'))} that "
            f"can't be borrowed: {text_of(error)}; expected a dense float32, float16, bfloat16 or uint8 tensor in CPU "
            "memory"
        ) from None


def _tensor_memory(tensor: Any) -> NDArray[Any]:
    if getattr(tensor, "requires_grad", False):
        tensor = tensor.detach()
    if "bfloat16" in str(getattr(tensor, "dtype", "")):
        return np.asarray(_Bfloat16Memory(tensor))
    return np.from_dlpack(tensor)


class _DLTensor(ctypes.Structure):
    """The tensor of the DLPack standard (dlpack.h)."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


_DL_CPU, _DL_BFLOAT = 1, 4

# A private prototype: the functions of ctypes.pythonapi are shared by the whole process.
_pointer_of_capsule = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


class _Bfloat16Memory:
    """The bits of a bfloat16 tensor, as an array interface that keeps the tensor's memory alive."""

    def __init__(self, tensor: Any) -> None:
        self._capsule = capsule = tensor.__dlpack__()
        dl = _DLTensor.from_address(_pointer_of_capsule(capsule, b"dltensor"))
        if (dl.device_type, dl.code, dl.bits, dl.lanes) != (_DL_CPU, _DL_BFLOAT, 16, 1):
            raise BufferError("it is not a bfloat16 tensor in CPU memory: use .cpu()")
        shape = tuple(dl.shape[i] for i in range(dl.ndim))
        strides = tuple(2 * dl.strides[i] for i in range(dl.ndim)) if dl.strides else None
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": "<u2",
            "data": ((dl.data or 0) + dl.byte_offset, True),
            "strides": strides,
        }
