"""What a task's declared types look like, as parts of its fingerprint.

A dataclass of an installed package has no source in the fingerprint. When it gains a field, a result that was stored
before could not be read any more; an enum whose members have changed could be read as another one.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import codec
from .digests import sha256
from .signature import ParameterKind, Signature

#: The part that says what the result looks like.
RESULT = "result (type)"


def type_parts(signature: Signature) -> dict[str, str]:
    """Return by name the form of each type that the function takes and of what it returns; all of them can travel."""
    parts = {
        f"parameter '{each.name}' (type)": codec.form(each.annotation)
        for each in signature.parameters.values()
        if each.kind in (ParameterKind.PARAMETER, ParameterKind.RESULT)
    }
    return {**parts, RESULT: codec.form(signature.returns)}


def version_code(workflow: str, parts: Mapping[str, str]) -> str:
    """Return what stands for the code of a task with ``cache="version"``.

    The workflow's name, because two may have a task of the same name and version, and what the result looks like,
    because what is stored must be read as that.
    """
    return f"version only: {workflow}, {sha256(parts[RESULT].encode('utf-8', 'surrogatepass')).hexdigest()}"
