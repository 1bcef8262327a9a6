"""What classes of the standard library have, for classes of the repository that derive from them."""

from __future__ import annotations

import importlib
import inspect
import re
from functools import cache

KNOWN = frozenset(
    """abc argparse ast asyncio builtins cmd code codecs collections concurrent.futures configparser contextlib csv
    dataclasses datetime decimal email.message enum fractions html.parser http.client http.cookiejar http.cookies
    http.server io json json.decoder json.encoder logging logging.handlers multiprocessing optparse pathlib pickle queue
    random selectors socket socketserver ssl string subprocess tempfile threading types typing unittest unittest.mock
    urllib.parse urllib.request weakref xml.sax.handler xmlrpc.client zipfile""".split()  # noqa: SIM905
)
"""Modules whose import does nothing else. They are those of the Python that Greenline runs on."""


def library_class(module: str, name: str) -> object | None:
    """What ``name`` is in a module of the standard library; None if it is not known."""
    if module not in KNOWN:
        return None
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:  # left out of this Python
        return None


def may_have(base: object, name: str) -> bool:
    """Whether a class has an attribute, or its methods use it of ``self``."""
    return hasattr(base, name) or any(name in _on_self(each) for each in getattr(base, "__mro__", ()))


@cache
def _on_self(base: type) -> frozenset[str]:
    try:
        return frozenset(re.findall(r"\bself\.(\w+)", inspect.getsource(base)))
    except (OSError, TypeError):  # written in C
        return frozenset()
