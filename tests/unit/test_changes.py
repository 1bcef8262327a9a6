"""Which kind of change lies between two versions of a file: the rows of the evidence table."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenline.depgraph.changes import is_inert, kinds


def found(old: str, new: str) -> list[tuple[str, str]]:
    return [(change.kind, change.name) for change in kinds(ast.parse(old), ast.parse(new))]


CLASS = "class C(B):\n    x = 1\n    def m(self): return 1\n"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("def f(): return 1", "def f(): return 2", [("body", "f")]),
        ("def f(): return 1", "def f():\n    # why\n    return (1)", []),
        ("def f(a=1): pass", "def f(a=2): pass", [("default", "f")]),
        ("def f(a=X): pass", "def f(a=Y): pass", [("signature", "f")]),
        ("def f(a): pass", "def f(b): pass", [("signature", "f")]),
        ("def f(a): pass", "def f(a: int): pass", [("signature", "f")]),
        ("def f(): return []", "def f(): yield 1", [("signature", "f"), ("body", "f")]),
        ("def f(): pass", "async def f(): pass", [("signature", "f")]),
        ("@cache\ndef f(): pass", "def f(): pass", [("signature", "f")]),
        ("@app.route('/')\ndef f(): pass", "@app.route('/x')\ndef f(): pass", [("decorator", "f")]),
        ("@jit\ndef f(): return 1", "@jit\ndef f(): return 2", [("body", "f"), ("body under a decorator", "f")]),
        ("def f(): 'a'", "def f(): 'b'", [("docstring", "f")]),
        ("'a'", "'b'", [("docstring", "")]),
        ("def f(): pass\ndef g(): pass", "def g(): pass", [("removed", "f")]),
        ("def g(): pass", "def f(): pass\ndef g(): pass", [("added", "f")]),
        ("X = 1", "X = 2", [("constant", "X")]),
        ("X = 1", "X = connect()", [("effect", "X")]),
        ("go(1)", "go(2)", [("effect", ""), ("effect", "")]),
        ("if A:\n    def f(): return 1", "if A:\n    def f(): return 2", [("body", "f")]),
        ("if A:\n    def f(): return 1", "if B:\n    def f(): return 2", [("effect", ""), ("effect", "")]),
        ("if A:\n    def f(a): pass", "if A:\n    def f(b): pass", [("effect", ""), ("effect", "")]),
        ("try: a()\nexcept E:\n    def f(): 'a'", "try: a()\nexcept E:\n    def f(): 'b'", [("docstring", "f")]),
        (
            "if A:\n    def f(): return 1\nelse:\n    def f(): return 2",
            "if A:\n    def f(): return 1\nelse:\n    def f(): return 3",
            [("body", "f")],
        ),
        ("import a", "import a\nimport b", [("import added", "b")]),
        ("from m import a, b", "from m import a", [("import removed", "b")]),
        ("from m import a", "from n import a", [("import removed", "a"), ("import added", "a")]),
        ("if TYPE_CHECKING:\n    import a", "if TYPE_CHECKING:\n    import b", []),
        ("__all__ = ['a']", "__all__ = ['b']", [("constant", "__all__")] * 2),
        (CLASS, CLASS.replace("return 1", "return 2"), [("body", "C.m")]),
        (CLASS, CLASS.replace("x = 1", "x = 2"), [("member", "C.x")]),
        (CLASS, CLASS.replace("C(B)", "C(A)"), [("member", "C.")]),
        (CLASS, CLASS + "    def n(self): pass\n", [("added", "C.n")]),
        (CLASS, CLASS.replace("    def m(self): return 1\n", ""), [("member", "C.m")]),
        (CLASS, CLASS.replace("    x = 1", "    __slots__ = ()\n    x = 1"), [("member", "C.__slots__")]),
        (CLASS, CLASS.replace("    x = 1", "    register()\n    x = 1"), [("effect", "C")]),
        ("def f(x): return (lambda: x)", "def f(x): return (lambda: 1)", [("body", "f")]),
    ],
)
def test_kinds(old: str, new: str, expected: list[tuple[str, str]]) -> None:
    assert found(old, new) == expected


PARTS = [
    "import a", "from m import b as c", "X = 1", "Y: int = X", "go()", "def f(a, b=1):\n    'doc'\n    return a",
    "@deco\ndef g():\n    yield 1", "class C(B):\n    x = 1\n    def m(self): return super().m()",
    "if A:\n    import z", "try:\n    import q\nexcept ImportError:\n    q = None",
]  # fmt: skip


@given(st.lists(st.sampled_from(PARTS), unique=True), st.lists(st.sampled_from(PARTS), unique=True))
def test_versions_that_differ_have_a_kind_and_equal_ones_have_none(old: list[str], new: list[str]) -> None:
    before, after = "\n".join(old), "\n".join(new)
    differs = ast.dump(ast.parse(before)) != ast.dump(ast.parse(after))
    reordered = sorted(old) == sorted(new)
    assert bool(found(before, after)) == differs or (reordered and not found(before, after))


@pytest.mark.parametrize(
    ("source", "inert"),
    [
        ("import a\nX = 1\ndef f(): pass\nclass C:\n    y = 2", True),
        ("X = connect()", False),
        ("print('hello')", False),
        ("@app.task\ndef f(): pass", False),
        ("class C(metaclass=M): pass", False),
    ],
)
def test_importing_a_module_of_plain_bindings_has_no_effect(source: str, inert: bool) -> None:
    assert is_inert(ast.parse(source)) is inert
