"""Equal values of equal types have equal hashes, and nothing else has."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow import codec, identity
from reflow.errors import CodecError

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text().map(lambda text: f"é{text}\\{{")
)
values = st.recursive(
    scalars | st.binary() | st.dates(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=10,
)


def hash_of(value: Any, annotation: Any = Any) -> str:
    return identity.hash_value(codec.dumps(value, annotation))


@given(values)
def test_the_hash_of_a_text_is_the_sha256_of_its_canonical_form(value):
    assert hash_of(value) == hashlib.sha256(identity.canonical(codec.encode(value))).hexdigest()


@given(values)
def test_the_hash_does_not_depend_on_how_the_json_is_written(value):
    text = codec.dumps(value)

    assert identity.hash_value(json.dumps(json.loads(text), indent=1)) == identity.hash_value(text)


@given(values.filter(lambda value: "nan" not in repr(value)))
def test_the_canonical_form_still_says_which_value_it_is(value):
    canonical = identity.canonical(codec.encode(value))

    assert codec.loads(canonical.decode()) == value


@given(st.dictionaries(st.text() | st.integers() | st.tuples(st.integers()), values), st.randoms())
def test_the_order_of_keys_does_not_matter(mapping, random):
    shuffled = list(mapping.items())
    random.shuffle(shuffled)

    assert hash_of(dict(shuffled)) == hash_of(mapping)
    assert hash_of([{"inner": dict(shuffled)}]) == hash_of([{"inner": mapping}])


@given(
    st.lists(st.integers() | st.text() | st.tuples(st.text(), st.floats(allow_nan=False)), unique_by=repr), st.randoms()
)
def test_the_order_of_a_set_does_not_matter(items, random):
    shuffled = list(items)
    random.shuffle(shuffled)

    assert codec.dumps(set(shuffled)) == codec.dumps(set(items))
    assert hash_of(frozenset(shuffled)) == hash_of(frozenset(items))


def test_the_order_of_a_list_matters():
    assert hash_of([1, 2]) != hash_of([2, 1])


def test_values_of_different_types_differ_however_alike_they_look():
    alike = [
        1, 1.0, True, "1", Path("1"), PurePosixPath("1"), b"1", 1 + 0j, numpy.int64(1), numpy.float64(1),
        numpy.int32(1), [1], (1,), {1}, frozenset({1}), {1: 1}, {"1": 1}, [[1]], [1.0], [True], ["1"], range(1),
        numpy.array([1]), numpy.array(1),
        0.0, -0.0, False, 0, None, "None", "null", "", [], (), {}, set(), b"", "[]", "{}", float("nan"), "nan",
        {"~": "path", "v": "1"}, {"~": 1}, {"a": None},
    ]  # fmt: skip
    hashes = [hash_of(value) for value in alike]

    for (one, its_hash), (other, other_hash) in itertools.combinations(zip(alike, hashes, strict=True), 2):
        assert its_hash != other_hash, f"{one!r} and {other!r}"


def test_a_declared_float_has_one_hash_whether_it_was_returned_as_int_or_as_numpy_number():
    assert hash_of(1, float) == hash_of(1.0, float) == hash_of(numpy.float32(1), float)


def test_all_not_a_number_are_one_value():
    assert hash_of(float("nan")) == hash_of(-float("nan"))


def test_the_hash_is_the_same_in_every_release():
    assert hash_of(1) == hashlib.sha256(b"1").hexdigest()
    assert hash_of({"b": (1,), "a": "é"}) == hashlib.sha256('{"a":"é","b":{"v":[1],"~":"tuple"}}'.encode()).hexdigest()
    assert (
        identity.identity("task", "1", "code", "inputs", {"x": "hash"})
        == hashlib.sha256(b'["identity","task","1","code","inputs",{"x":"hash"}]').hexdigest()
    )


def test_a_file_that_changed_changes_the_hash_of_what_holds_its_path():
    text = codec.dumps({"inputs": [Path("a"), Path("b")], ("k",): {Path("c")}})
    size = dict.fromkeys("abc", "1")

    before = identity.hash_value(text, size.__getitem__)
    for name in "abc":
        assert identity.hash_value(text, {**size, name: "2"}.__getitem__) != before
    assert identity.hash_value(text, dict(size).__getitem__) == before
    assert identity.hash_value(text) not in (before, "")


def test_a_path_and_its_fingerprint_cannot_change_places():
    assert identity.hash_value(codec.dumps(Path("a")), lambda path: "b") != identity.hash_value(
        codec.dumps(Path("b")), lambda path: "a"
    )


def test_two_files_of_the_same_fingerprint_are_not_one():
    assert identity.hash_value(codec.dumps(Path("a")), lambda path: "1") != identity.hash_value(
        codec.dumps(Path("b")), lambda path: "1"
    )


def test_a_file_name_that_is_not_utf8_reaches_the_fingerprint_as_it_is():
    seen = []
    identity.hash_value(codec.dumps([Path("caf\udce9"), "~"]), lambda path: seen.append(path) or "")

    assert seen == ["caf\udce9"]


def test_a_text_that_is_no_json_has_no_hash():
    with pytest.raises(CodecError, match="is no encoded value"):
        identity.hash_value("[1, 2")


def test_inputs_hash_by_name_in_any_order():
    assert identity.input_hash({"a": "1", "b": "2"}) == identity.input_hash({"b": "2", "a": "1"})
    assert identity.input_hash({"a": "2", "b": "1"}) != identity.input_hash({"a": "1", "b": "2"})
    assert identity.input_hash({"ab": "c"}) != identity.input_hash({"a": "bc"})
    assert len(identity.input_hash({})) == 64


parts = st.tuples(
    st.text(min_size=1),
    st.text(),
    st.text(min_size=1),
    st.text(min_size=1),
    st.dictionaries(st.text(), st.text(min_size=1) | st.lists(st.text(min_size=1))),
)


@given(parts, parts)
def test_two_identities_are_equal_only_if_every_part_is(one, other):
    assert (identity.identity(*one) == identity.identity(*other)) == (one == other)


def test_words_cannot_move_from_one_part_to_its_neighbour():
    hashes = {
        identity.identity("ab", "c", "d", "e", {"f": "g"}),
        identity.identity("a", "bc", "d", "e", {"f": "g"}),
        identity.identity("ab", "c", "de", "e", {"f": "g"}),
        identity.identity("ab", "c", "d", "e", {"f": ["g"]}),
        identity.identity("ab", "c", "d", "e", {"f": ["g", "g"]}),
        identity.identity("ab", "c", "d", "e", {"f": "gg"}),
        identity.identity("ab", "c", "d", "e", {"f": []}),
        identity.identity("ab", "c", "d", "e", {}),
    }

    assert len(hashes) == 8


@pytest.mark.parametrize(
    ("code", "inputs", "upstream"), [("", "h", {}), ("c", "", {}), ("c", "h", {"x": ""}), ("c", "h", {"x": ["h", ""]})]
)
def test_what_is_not_known_is_never_found_in_the_cache(code, inputs, upstream):
    assert identity.identity("task", "1", code, inputs, upstream) == ""


def test_a_gather_of_nothing_is_known():
    assert identity.identity("task", "1", "code", "inputs", {"x": []}) != ""


HASHES = st.one_of(st.sampled_from(["a" * 64, "0" * 64, "0" * 63 + "1", "", 'no "hash', "é", "-"]), st.text(max_size=5))


@given(
    st.lists(HASHES, min_size=4, max_size=4),
    st.dictionaries(st.text(max_size=4), HASHES | st.lists(HASHES, max_size=3), max_size=3),
    st.lists(st.text(max_size=4), unique=True, max_size=3),
    st.data(),
)
def test_the_identities_of_an_array_are_those_of_its_elements_one_by_one(words, shared, varying, data):
    shared = {name: each for name, each in shared.items() if name not in varying}
    identity_of = identity.identities(*words, shared, varying)
    hashes = data.draw(st.lists(HASHES, min_size=len(varying), max_size=len(varying)))
    expected = identity.identity(*words, {**shared, **dict(zip(varying, hashes, strict=True))})
    assert identity_of(hashes) == expected


@given(st.lists(st.text(max_size=5)))
def test_the_hash_of_many_texts_is_that_of_their_list(texts):
    assert identity.hash_texts(iter(texts)) == identity.hash_value(json.dumps(texts))


def test_a_long_list_of_texts_has_the_hash_of_the_whole():
    texts = [f"{number:064x}" for number in range(10_001)]
    assert identity.hash_texts(iter(texts)) == identity.hash_value(json.dumps(texts))
