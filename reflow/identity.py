"""The hashes that decide whether a result may be used again: SHA-256, in full, over one canonical form.

Two values have the same hash if they are of the same types and equal, whatever the order of their keys and set items:
``1``, ``1.0``, ``True``, ``"1"`` and ``Path("1")`` all differ, ``[1]`` and ``(1,)`` do, and so do ``0.0`` and ``-0.0``,
because a function can tell them apart. All NaN are one value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from . import tags
from .digests import sha256
from .errors import CodecError

# Their payload is a list whose order means nothing.
_UNORDERED = ("dict", "set", "frozenset")

#: Stands for the identity of a result whose input files changed while the function ran: which state of them it saw,
#: nobody knows. No hash, so the cache never finds it.
CHANGED = "changed while it ran"

# Where one of these occurs in a JSON text, the same value could also be spelled otherwise.
_SPELLINGS = re.compile(r"[{\[\\]")

#: Stands in every JSON text that has a path inside: each is tagged with a kind that ends so.
PATH_MARK = 'path"'

# surrogatepass, because a foreign JSON text may hold half a surrogate pair.
_writer = json.JSONEncoder(ensure_ascii=False, sort_keys=True, check_circular=False, separators=(",", ":"))


def canonical(encoded: Any) -> bytes:
    """Return the one spelling of an encoded value (`codec.encode`): keys, pairs and set items sorted, UTF-8."""
    return _spell(_ordered(encoded, None))


class _Untellable(Exception):
    """A path inside a value has no fingerprint."""


def may_hold_paths(text: str) -> bool:
    """Return False for the JSON text of a value that has no path inside; True may be wrong."""
    return PATH_MARK in text


def hash_value(text: str, fingerprint: Callable[[str], str | None] | None = None) -> str:
    """Return the hash of the value with this JSON text (`codec.dumps`); texts of the same value have the same hash.

    With `fingerprint`, each path inside counts as its text and as what `fingerprint` returns for it: size and time of
    change of the file, or its content; where it returns None the hash is '', not known. `CodecError` if the text is
    no JSON.
    """
    if _SPELLINGS.search(text) is None:
        return sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest()
    try:
        return sha256(_spell(_ordered(json.loads(text), fingerprint))).hexdigest()
    except ValueError:
        raise CodecError(f"the text {text[:40]!r} is no encoded value: it was cut short or changed") from None
    except tags.Misfit as misfit:
        raise CodecError(misfit.message) from None
    except _Untellable:
        return ""


def hash_texts(texts: Iterable[str]) -> str:
    """Return the hash of the list of these texts, as `hash_value` would, without having them all in memory."""
    digest = sha256(b"[")
    waiting, comma = iter(texts), b""
    while some := list(islice(waiting, 10_000)):
        digest.update(comma + _spell(some)[1:-1])
        comma = b","
    digest.update(b"]")
    return digest.hexdigest()


def input_hash(inputs: Mapping[str, str]) -> str:
    """Return the hash of all direct inputs, from the hash (or text) of each by parameter name, in any order.

    One hash that is not known ('') makes the whole unknown.
    """
    if "" in inputs.values():
        return ""
    return sha256(_spell(["inputs", dict(inputs)])).hexdigest()


def identity(
    task_name: str,
    version: str,
    code: str,
    input_hash: str,
    upstream_hashes: Mapping[str, str | Sequence[str]],
) -> str:
    """Return the identity of one instance: equal only if every argument is.

    `upstream_hashes` has, by parameter, the output hash of the value that reaches the instance, or one hash for each
    of several values; one hash and a list of that hash differ. Returns '', which the cache never finds, when the code,
    the inputs or an upstream output are unknown (''): when in doubt, recompute.
    """
    upstreams = {name: each if isinstance(each, str) else list(each) for name, each in upstream_hashes.items()}
    if "" in (code, input_hash) or any(
        each == "" or (type(each) is list and "" in each) for each in upstreams.values()
    ):
        return ""
    return sha256(_spell(["identity", task_name, version, code, input_hash, upstreams])).hexdigest()


def identities(
    task_name: str,
    version: str,
    code: str,
    input_hash: str,
    upstream_hashes: Mapping[str, str | Sequence[str]],
    varying: Sequence[str],
) -> Callable[[Sequence[str]], str]:
    """Return a function from the hashes of the `varying` parameters, in that order, to the `identity` of an element.

    What the elements have in common is spelled once, and hashed once up to the first of their own: a quarter of the
    time for each.
    """
    places = {parameter: f"{number:064d}" for number, parameter in enumerate(varying)}
    while any(place in f"{task_name}{version}{code}{input_hash}{upstream_hashes}" for place in places.values()):
        places = {parameter: f"-{place}" for parameter, place in places.items()}

    def one(hashes: Sequence[str]) -> str:
        upstreams = {**upstream_hashes, **dict(zip(varying, hashes, strict=True))}
        return identity(task_name, version, code, input_hash, upstreams)

    if not one(list(places.values())):
        return lambda hashes: ""
    common = {**upstream_hashes, **places}
    text = _spell(["identity", task_name, version, code, input_hash, common]).decode("utf-8", "surrogatepass")
    # Sorted by name, as the spelling is.
    order = sorted(range(len(varying)), key=lambda number: varying[number])
    pieces = re.split("|".join(places.values()), text) if places else [text]

    begun = sha256(pieces[0].encode("utf-8", "surrogatepass"))
    rest = list(zip(pieces[1:], order, strict=True))

    def quick(hashes: Sequence[str]) -> str:
        spelled = ""
        for piece, number in rest:
            if not hashes[number].isalnum():  # '' or no hash of ours, which the spelling may have to escape
                return one(hashes)
            spelled += hashes[number] + piece
        digest = begun.copy()
        digest.update(spelled.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    return quick


def _spell(value: Any) -> bytes:
    return _writer.encode(value).encode("utf-8", "surrogatepass")


def _ordered(encoded: Any, fingerprint: Callable[[str], str | None] | None) -> Any:
    """Return the encoded value with what has no order sorted, and each path with its fingerprint."""
    if type(encoded) is list:
        return [_ordered(item, fingerprint) for item in encoded]
    if type(encoded) is not dict:
        return encoded
    if tags.TAG not in encoded:
        return {key: _ordered(item, fingerprint) for key, item in encoded.items()}
    kind, payload = tags.untag(encoded)
    if kind in tags.PATH_KINDS and fingerprint is not None:
        state = fingerprint(tags.read_path(payload))
        if state is None:
            raise _Untellable
        return tags.tag(kind, [payload, state])
    ordered = _ordered(payload, fingerprint)
    if kind in _UNORDERED and type(ordered) is list:
        ordered.sort(key=_spell)
    return tags.tag(kind, ordered)
