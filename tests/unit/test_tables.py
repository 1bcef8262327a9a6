from __future__ import annotations

from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st

from greenline.depgraph.tables import Lists, StringTable, encode

texts = st.lists(st.text(alphabet=st.characters(codec="utf-8") | st.sampled_from("./_ab\udc80"), max_size=8))


def opened(strings: list[str]) -> tuple[list[str], StringTable]:
    ordered, blob, offsets = StringTable.pack(strings)
    return ordered, StringTable(memoryview(blob), memoryview(offsets))


@given(texts, st.text(max_size=8))
def test_a_table_finds_what_is_in_it_and_nothing_else(strings: list[str], other: str) -> None:
    ordered, table = opened(strings)
    assert [table[index] for index in range(len(table))] == ordered == sorted(set(strings), key=encode)
    for text in [*strings, other]:
        assert table.index(text) == (ordered.index(text) if text in ordered else -1)


@given(texts, st.text(alphabet="./_ab", max_size=4), st.text(alphabet="./_ab", max_size=4))
def test_between_is_a_slice_of_the_sorted_strings(strings: list[str], low: str, high: str) -> None:
    ordered, table = opened(strings)
    keys = [encode(text) for text in ordered]
    assert table.between(low, high) == range(bisect_left(keys, encode(low)), bisect_left(keys, encode(high)))


@given(st.lists(st.lists(st.integers(0, 2**32 - 1))))
def test_lists_come_back_as_they_were(lists: list[list[int]]) -> None:
    offsets, values = Lists.pack(lists)
    assert [list(numbers) for numbers in Lists(memoryview(offsets), memoryview(values))] == lists
