"""Codemods keep everything but what they name, and refuse what they cannot be sure of."""

from __future__ import annotations

import pytest

from greenline.rules.fixes.apply import apply, apply_all
from greenline.rules.fixes.fix import Fix, Refused

LAZY = "from __future__ import annotations\n\n"
FOR_TYPES, FOR_TYPES_3 = (Fix("type-checking", 14, "app/x.py", line, 14, "Old", "") for line in (1, 3))


def fixed(fix: Fix, source: str) -> str:
    (data,) = apply(fix, {fix.path: source.encode()}).values()
    assert data is not None
    return data.decode()


def refusal(fix: Fix, source: str) -> str:
    with pytest.raises(Refused) as refused:
        apply(fix, {fix.path: source.encode()})
    return refused.value.reason


def test_a_renamed_import_takes_its_uses_along() -> None:
    source = "from m import (\n    a,  # one\n    old,\n)\n\n\ndef f(x):\n    return old( x )  # two\n"
    fix = Fix("import", 1, "app/x.py", 3, 4, "old", "new", "m", "m")
    assert fixed(fix, source) == source.replace("old", "new")


def test_a_name_that_is_shadowed_stays() -> None:
    source = "from m import old\n\n\ndef f(old):\n    return old\n\n\nX = old\n"
    fix = Fix("import", 1, "app/x.py", 1, 14, "old", "new", "m", "m")
    assert fixed(fix, source) == "from m import new\n\n\ndef f(old):\n    return old\n\n\nX = new\n"


def test_a_taken_name_gets_an_alias() -> None:
    source = "from m import old\n\nnew = 1\nX = old\n"
    fix = Fix("import", 1, "app/x.py", 1, 14, "old", "new", "m", "m")
    assert fixed(fix, source) == "from m import new as old\n\nnew = 1\nX = old\n"


def test_one_of_several_names_moves() -> None:
    source = "from m import a, old, b\n\nX = old\n"
    fix = Fix("import", 2, "app/x.py", 1, 17, "old", "old", "m", "n.o")
    assert fixed(fix, source) == "from m import a, b\nfrom n.o import old\n\nX = old\n"


def test_a_moved_module_with_its_dotted_uses() -> None:
    source = "import a.old\n\nX = a.old.f(a.old.Y)\nZ = 'a.old'\n"
    fix = Fix("module", 2, "app/x.py", 1, 7, "a.old", "b.new")
    assert fixed(fix, source) == "import b.new\n\nX = b.new.f(b.new.Y)\nZ = 'a.old'\n"


def test_columns_count_bytes() -> None:
    source = "X = 'é' + f(ö.old)\n"
    column = len("X = 'é' + f(".encode())
    assert fixed(Fix("attribute", 1, "app/x.py", 1, column, "old", "new"), source) == source.replace("old", "new")


def test_windows_line_ends_stay() -> None:
    source = "from m import old\r\n\r\nX = old\r\n"
    fix = Fix("import", 1, "app/x.py", 1, 14, "old", "new", "m", "m")
    assert fixed(fix, source) == source.replace("old", "new")


def test_keywords_of_a_nested_call() -> None:
    source = "X = f(g(1, 2), 3)\n"
    fix = Fix("add-keywords", 6, "app/x.py", 1, 6, "g", "b", "1")
    assert fixed(fix, source) == "X = f(g(1, b=2), 3)\n"


@pytest.mark.parametrize(
    ("source", "after"),
    [
        ("X = f()\n", "X = f(new=2)\n"),
        ("X = f( 1 )  # one\n", "X = f( 1, new=2 )  # one\n"),
        ("X = f(1, *rest)\n", "X = f(1, *rest, new=2)\n"),
        ("X = f(\n    1,  # one\n    b=2,  # two\n)\n", "X = f(\n    1,  # one\n    b=2,  # two\n    new=2,\n)\n"),
        ("X = f(\n    1,\n)\n", "X = f(\n    1,\n    new=2,\n)\n"),
        ("X = f(\n    1, b=2\n)\n", "X = f(\n    1, b=2, new=2\n)\n"),
    ],
)
def test_an_argument_is_added_as_the_others_are_written(source: str, after: str) -> None:
    assert fixed(Fix("add-argument", 4, "app/x.py", 1, 4, "f", "new=2"), source) == after


def test_the_second_of_two_equal_definitions_goes() -> None:
    one = "@register('csv')  # a reader\ndef read(text):\n    return text  # as it is\n"
    source = f"A = 1\n\n\n{one}\n\nB = 2\n\n\n{one}\n\n# The last.\nC = 3\n"
    after = f"A = 1\n\n\n{one}\n\nB = 2\n\n\n# The last.\nC = 3\n"
    assert fixed(Fix("duplicate", 12, "app/x.py", 11, 0, "read", ""), source) == after


def test_the_second_of_two_equal_methods_goes() -> None:
    source = "class C:\n    def f(self):\n        pass\n\n    x = 1\n\n    def f(self):\n        pass\n"
    after = "class C:\n    def f(self):\n        pass\n\n    x = 1\n"
    assert fixed(Fix("duplicate", 12, "app/x.py", 7, 0, "C.f", ""), source) == after


def test_an_import_for_annotations_only() -> None:
    source = LAZY + "import os\n\nfrom a.b import Old\n\nX = os.sep  # one\n\n\ndef f(x: Old) -> None:\n    pass\n"
    after = (
        LAZY + "import os\nfrom typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from a.b import Old\n\n"
        "X = os.sep  # one\n\n\ndef f(x: Old) -> None:\n    pass\n"
    )
    assert fixed(Fix("type-checking", 14, "app/x.py", 5, 16, "Old", ""), source) == after


def test_an_import_joins_the_others_for_annotations() -> None:
    head = LAZY + "from typing import TYPE_CHECKING\n"
    rest = "\nif TYPE_CHECKING:\n    from a import B  # one\n{}\n\ndef f(x: Old | B) -> None:\n    pass\n"
    source = head + "from .b import Old\n" + rest.format("")
    after = head + rest.format("    from .b import Old\n")
    assert fixed(Fix("type-checking", 14, "app/x.py", 4, 15, "Old", ""), source) == after


def test_await_gets_brackets_where_it_needs_them() -> None:
    source = "async def f():\n    return g().x\n"
    assert fixed(Fix("await", 7, "app/x.py", 2, 11, "g", ""), source) == "async def f():\n    return (await g()).x\n"


@pytest.mark.parametrize(
    ("fix", "source", "reason"),
    [
        (FOR_TYPES, "from a import Old\n\n\ndef f(x: Old): ...\n", "the file's annotations are evaluated"),
        (FOR_TYPES_3, LAZY + "from a import Old\n\nX = Old()\n", "it is used as the program runs"),
        (FOR_TYPES_3, LAZY + "from a import Old\n\n\nclass C:\n    x: Old\n", "it is used as the program runs"),
        (FOR_TYPES_3, LAZY + "from a import Old\n\n\n@app.get\ndef f(x: Old): ...\n", "it is used as the program runs"),
        (FOR_TYPES_3, LAZY + "from a import Old, B\n", "the import does not stand alone"),
        (FOR_TYPES_3, LAZY + "from a import Old  # why\n", "a comment belongs to it"),
        (Fix("add-argument", 4, "app/x.py", 1, 4, "f", "new=2"), "X = f(**all)\n", "the call may pass new= already"),
        (Fix("add-argument", 4, "app/x.py", 1, 4, "f", "new=2"), "X = f(new=1)\n", "the call may pass new= already"),
        (
            Fix("add-argument", 4, "tests/test_x.py", 1, 4, "f", "new=2"),
            "X = f()\n",
            "in tests only references are rewritten",
        ),
        (
            Fix("duplicate", 12, "app/x.py", 3, 0, "f", ""),
            "def f(): pass  # one\n\ndef f(): pass  # two\n",
            "the two are not equal to the letter",
        ),
        (
            Fix("duplicate", 12, "app/x.py", 2, 0, "X", ""),
            "X = 1\nX = 1\nX = 1\n",
            "X does not stand there exactly twice",
        ),
        (Fix("await", 7, "app/x.py", 2, 11, "g", ""), "def f():\n    return g()\n", "its caller is not async"),
        (
            Fix("await", 7, "tests/test_x.py", 2, 4, "g", ""),
            "async def test_f():\n    g()\n",
            "in tests only references are rewritten",
        ),
        (Fix("keyword", 5, "app/x.py", 1, 0, "a", "b"), "f(a=1, b=2)\n", "the call passes b= already"),
        (Fix("add-keywords", 6, "app/x.py", 1, 0, "f", "b", "1"), "f(*x, 2)\n", "its arguments cannot be told apart"),
        (Fix("attribute", 1, "app/x.py", 1, 0, "old", "new"), "x.other\n", "the line does not hold what was expected"),
        (
            Fix("string", 28, "tests/test_x.py", 2, 16, "a.old", "a.new"),
            "def test_x():\n    assert x == 'a.old'\n",
            "an assertion would change",
        ),
        (Fix("name", 1, "app/x.py", 1, 0, "old", "new"), "def f(:\n", "it does not parse: "),
    ],
)
def test_refusals(fix: Fix, source: str, reason: str) -> None:
    assert refusal(fix, source).startswith(reason)


def test_a_mock_target_in_a_test_is_a_reference() -> None:
    source = "def test_x(monkeypatch):\n    monkeypatch.setattr('a.old', 1)\n    assert f() == 1\n"
    fix = Fix("string", 26, "tests/test_x.py", 2, 24, "a.old", "a.new")
    assert fixed(fix, source) == source.replace("a.old", "a.new")


def test_a_reference_in_an_assertion_may_change_its_name_only() -> None:
    source = "from m import old\n\n\ndef test_x():\n    assert old(1) == 'old'\n"
    fix = Fix("import", 1, "tests/test_x.py", 1, 14, "old", "new", "m", "m")
    assert fixed(fix, source) == "from m import new\n\n\ndef test_x():\n    assert new(1) == 'old'\n"


def test_several_fixes_of_one_file() -> None:
    source = b"from m import old\nfrom n import f\n\nX = f(a=old)\n"
    fixes = [
        Fix("import", 1, "x.py", 1, 14, "old", "newer", "m", "m"),
        Fix("keyword", 5, "x.py", 4, 4, "a", "b"),
        Fix("await", 7, "x.py", 4, 4, "f", ""),
    ]
    changed, refused = apply_all(fixes, {"x.py": source})
    assert changed == {"x.py": b"from m import newer\nfrom n import f\n\nX = f(b=newer)\n"}
    assert refused == ["x.py:4: await it: its caller is not async"]
