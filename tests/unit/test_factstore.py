from __future__ import annotations

from greenline.depgraph import factstore
from greenline.depgraph.scan import Facts


def test_the_bits_of_facts_are_distinct() -> None:
    bits = [value for name, value in vars(Facts).items() if name.isupper() and isinstance(value, int)]
    bits += [factstore.DOCTESTS, factstore.UNREADABLE]
    assert len(bits) > 8
    assert sum(bits) == sum(1 << at for at in {bit.bit_length() - 1 for bit in bits})


def test_what_cannot_be_read_is_unknown_not_empty() -> None:
    assert factstore.scan_version(None, "x.py").flags & factstore.UNREADABLE
    assert not factstore.scan_version(b"INSTALLED_APPS = ['shop']", "settings.py").flags & factstore.UNREADABLE
