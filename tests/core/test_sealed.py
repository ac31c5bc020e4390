"""Sealed values: whole, or refused in one line that says what to do."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.core.errors import ConfigError
from dolphin.core.sealed import pack, seal, unpack, unseal


class Head(msgspec.Struct):
    name: str


@given(st.text(max_size=20), st.lists(st.binary(max_size=30), max_size=4))
def test_what_was_packed_comes_back(name: str, blocks: list[bytes]) -> None:
    head, state = unpack(pack(Head(name), blocks), "engine", "start anew")
    assert msgspec.json.decode(head, type=Head).name == name
    assert bytes(state) == b"".join(blocks)


@given(st.binary(max_size=40), st.data())
def test_any_changed_byte_and_any_cut_are_refused(body: bytes, data: st.DataObject) -> None:
    value = bytearray(seal(body))
    assert unseal(bytes(value), "engine", "start anew") == body
    cut = data.draw(st.integers(0, len(value) - 1))
    value[data.draw(st.integers(0, len(value) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for torn in (bytes(value), seal(body)[:cut]):
        with pytest.raises(ConfigError, match=r"^engine snapshot: \d+ bytes that do not match.*: start anew$"):
            unseal(torn, "engine", "start anew")


def test_a_sealed_value_without_a_head_is_refused() -> None:
    with pytest.raises(ConfigError, match="too few for a head; start anew"):
        unpack(seal(b"short"), "engine", "start anew")
