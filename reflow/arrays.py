"""The encoded payload of numpy scalars and small arrays: type, shape and the bytes in C order.

Import it only where numpy is loaded already or a value needs it: numpy costs a worker 100 ms.
"""

from __future__ import annotations

import math
import re
from binascii import a2b_base64, b2a_base64
from typing import Any

import numpy

from .tags import Misfit, tag

#: Largest array that travels inside the manifest, in bytes; a larger one belongs in a file.
LARGEST_ARRAY = 1_000_000

# What `dtype.str` says of booleans, numbers, texts and times. A type name from a text must match before numpy sees it.
_KNOWN_TYPE = re.compile(r"[<>|=][biufcSUmM]\d+(\[\d*\w+\])?")


def write_scalar(value: numpy.generic) -> dict[str, Any]:
    """Return the tagged form of a numpy scalar."""
    return tag("scalar", [_type_name(value.dtype), _to_text(value)])


def write_array(value: numpy.ndarray[Any, Any]) -> dict[str, Any]:
    """Return the tagged form of an array; raises `Misfit` over `LARGEST_ARRAY` and for Python objects and records."""
    name = _type_name(value.dtype)
    if value.nbytes > LARGEST_ARRAY:
        raise Misfit(
            f"is an array of {value.nbytes:,} bytes, over the limit of {LARGEST_ARRAY:,}: "
            "write it to a file and return its Path"
        )
    return tag("array", [name, list(value.shape), _to_text(value)])


def scalar_types(declared: type[numpy.generic]) -> set[type]:
    """Return `declared` and its subclasses among numpy's scalar types."""
    return {declared}.union(*(scalar_types(each) for each in declared.__subclasses__()))


def read_scalar(payload: Any) -> Any:
    """Return the numpy scalar."""
    name, text = payload
    return _from_text(name, (1,), text)[0]


def read_array(payload: Any) -> numpy.ndarray[Any, Any]:
    """Return a writable array of its own."""
    name, shape, text = payload
    return _from_text(name, tuple(shape), text)


def _type_name(dtype: numpy.dtype[Any]) -> str:
    name: str = dtype.str
    # Padding inside a long double is not part of the value but of its bytes: equal values would differ.
    if not _KNOWN_TYPE.fullmatch(name) or dtype.char in "gG":
        raise Misfit(
            f"has the numpy type {dtype}, which has no JSON form: use numbers of 64 bits (complex: 128), text or "
            "times, or write it to a file and return its Path"
        )
    return name


def _to_text(value: numpy.generic | numpy.ndarray[Any, Any]) -> str:
    return b2a_base64(value.tobytes(), newline=False).decode("ascii")


def _from_text(name: str, shape: tuple[int, ...], text: str) -> numpy.ndarray[Any, Any]:
    if not _KNOWN_TYPE.fullmatch(name):
        raise ValueError(f"unknown numpy type {name!r}")
    dtype = numpy.dtype(name)
    content = a2b_base64(text)
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(content)} bytes do not make the shape {shape} of {dtype}")
    # ndarray, not frombuffer: that one refuses arrays and texts of no bytes. A bytearray makes it writable.
    array: numpy.ndarray[Any, Any] = numpy.ndarray(shape, dtype, bytearray(content))
    return array
