"""The scanner: import statements exactly as ``ast`` sees them, and a superset of what strings may name."""

from __future__ import annotations

import ast
import itertools
import random
import sysconfig
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenline.depgraph import scan as scanning
from greenline.depgraph.embedded import python_of
from greenline.depgraph.scan import Facts, import_lines, scan

KINDS = ("runtime", "function", "type_checking", "guarded")
Imports = dict[str, set[str]]


def imports_of(facts: Facts) -> Imports:
    return {kind: set(getattr(facts, kind).split()) for kind in KINDS if getattr(facts, kind)}


# -- the oracle: what ast says, by another way than the scanner's own ------------------------------------


def parsed(source: bytes | str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def oracle(tree: ast.Module) -> Imports:
    found: Imports = {}

    def visit(node: ast.AST, around: list[tuple[ast.AST, str]]) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            base = ""
            if isinstance(node, ast.ImportFrom):
                base = "." * node.level + (node.module + "." if node.module else "")
            found.setdefault(kind(around), set()).update(base + alias.name for alias in node.names)
        for field, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else ():
                if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
                    visit(child, [*around, (node, field)])

    visit(tree, [])
    return found


def kind(around: list[tuple[ast.AST, str]]) -> str:
    branches = [(node.test, field == "body") for node, field in around if isinstance(node, ast.If)]
    if any(only_while_type_checking(test, value) for test, value in branches):
        return "type_checking"
    if any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node, _ in around):
        return "function"
    if any(isinstance(node, ast.Try | ast.TryStar) for node, _ in around):
        return "guarded"
    return "guarded" if any(names_platform(test) for test, _ in branches) else "runtime"


def only_while_type_checking(test: ast.expr, value: bool) -> bool:
    """Whether no values of the other operands give the condition this value while TYPE_CHECKING is false."""
    operands: list[ast.expr] = []

    def collect(node: ast.expr) -> None:
        if isinstance(node, ast.BoolOp):
            for each in node.values:
                collect(each)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            collect(node.operand)
        elif getattr(node, "attr", getattr(node, "id", "")) != "TYPE_CHECKING":
            operands.append(node)

    def evaluate(node: ast.expr, values: dict[ast.expr, bool]) -> bool:
        if isinstance(node, ast.BoolOp):
            results = [evaluate(each, values) for each in node.values]
            return all(results) if isinstance(node.op, ast.And) else any(results)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return not evaluate(node.operand, values)
        return values.get(node, False)

    collect(test)
    return all(
        evaluate(test, dict(zip(operands, values, strict=True))) is not value
        for values in itertools.product((False, True), repeat=len(operands))
    )


def names_platform(node: ast.AST) -> bool:
    if isinstance(node, ast.JoinedStr):
        return False
    words = {getattr(node, field, None) for field in ("id", "attr", "arg")}
    if words & {"platform", "version_info", "hexversion"}:
        return True
    if isinstance(node, ast.Attribute) and ast.unparse(node).rpartition(".")[0].rpartition(".")[2] == "os":
        return node.attr == "name"
    return any(map(names_platform, ast.iter_child_nodes(node)))


def check(source: bytes, text: str | None = None) -> None:
    """The scanner agrees with ``ast`` about a file; ``text`` is its decoded form where that is known."""
    facts = scan(source)
    tree = parsed(source if text is None else text)
    if tree is not None:
        assert imports_of(facts) == oracle(tree)
        assert not facts.flags & Facts.BROKEN


# -- import statements -----------------------------------------------------------------------------------

STATEMENTS = {
    "import a": "a",
    "import a.b as x": "a.b",
    "import a, b as c, d.e": "a b d.e",
    "import\ta": "a",
    "import a . b": "a.b",
    "import \\\n  a.b, \\\n  c": "a.b c",
    "import a;": "a",
    "import a; import b": "a b",
    "x = 1; import b": "b",
    "import a # b": "a",
    "from a.b import c, d": "a.b.c a.b.d",
    "from a import b as c, d as e": "a.b a.d",
    "from ..x import y": "..x.y",
    "from . import y": ".y",
    "from.import a": ".a",
    "from . a import b": ".a.b",
    "from .. . import a": "...a",
    "from ....a.b import c": "....a.b.c",
    "from . import(a)": ".a",
    "from a import*": "a.*",
    "from . import *": ".*",
    "from .a import*": ".a.*",
    "from a import (b) ; import c": "a.b c",
    "from a import (b, c,)": "a.b a.c",
    "from a import (\n    b,  # it's (odd), really\n    # c,\n    d as\n e\n)": "a.b a.d",
    "from a import \\\n    b, \\\n    c": "a.b a.c",
    "from \\\n  a \\\n  import b": "a.b",
    "from a import b, \\\n  c; from d import e": "a.b a.c d.e",
    "from __future__ import annotations": "__future__.annotations",
    "'''doc'''; import a": "a",
    "x = '''\n''' ; import a": "a",
    "if x: import y": "y",
    "if x: pass\nelse: import y": "y",
    "with x: import a; import b": "a b",
    "for x in y:\n  import a\nelse:\n  import b": "a b",
    "while x:\n import a": "a",
    "class A:\n    import b": "b",
    "class A: import b": "b",
    "class A:\n\timport b\n\tif x:\n\t\timport c": "b c",
    "match x:\n case 1:\n  import a\n case _: import b": "a b",
    "@d\nclass A:\n  @e\n  class B: pass\n  import a": "a",
    "match = case = 1\nmatch[case]\nimport a": "a",
    "\fimport a": "a",
    "if x:\n  \f  import a": "a",
    "if x:\n    \\\n  import a": "a",
    "lambda: 0; import a": "a",
    "import \u00e9": "\u00e9",
    "import \ufb01n": "fin",  # a ligature, which Python takes apart
    "from \u00e9.a import b": "\u00e9.a.b",
    "im\u00e9port = importa = _import = import_ = 1; import a": "a",
    "async def f(): pass\nimport a": "a",
    "x = [\nif_ for if_ in y\nif z]; import a": "a",
    "import a # type: ignore\nimport b": "a b",
    "": "",
    "x = 1": "",
    "x = 'import a'": "",
    'x = "\\"import a"': "",
    "x = 'a\\\nimport b'": "",
    "x = r'\\\\'; y = 'import a'": "",
    "x = b'import a' rb'''\nimport b'''": "",
    "'''\nimport a\n'''": "",
    '"""\n>>> import a\n\\"""\nimport b\n"""': "",
    "# import a": "",
    "# '''\nx = 1\n# '''\nimport a": "a",
    "x = '#'; import a": "a",
    "x = '''a''' '''\nimport b''' ; import c": "c",
    "f'{x} import a'": "",
    "f'''\nimport {x}\nimport b\n'''": "",
    "f'{x!r:>{y}}' f'{{'; import a": "a",
    "rf'\\{x}'; import a": "a",
    "f'{x[\"a\"]}' f\"{x['#']}\"; import a": "a",
    "f'''{x['a'] + \"b\"}\nimport q\n'''; import a": "a",
    "f'{x:#x}'; import a": "a",
    "f'{ {1: {2: 3}}[1] }'; import a": "a",
    "f'\\N{DASH}' f'{{}}' f''; import a": "a",
    "(yield\n from x)\nimport a": "a",
    "raise A from b\nimport a": "a",
}


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("statement", STATEMENTS)
def test_statements(statement: str, newline: str) -> None:
    source = statement.replace("\n", newline).encode()
    names = STATEMENTS[statement].split()
    assert imports_of(scan(source)) == ({"runtime": set(names)} if names else {})
    check(source)
    check(source + newline.encode())


BLOCKS = {
    "def f():\n  import a": "function",
    "def f(): import a": "function",
    "async def f():\n  import a": "function",
    "async   def f():\n  if x:\n    import a": "function",
    "class A:\n  def f(self):\n    class B:\n      import a": "function",
    "def f(x=lambda: 0,\n      y={}):\n  import a": "function",
    "def f(\n    x,\n) -> y[\n  z\n]:\n    import a": "function",
    "def f():\n  try:\n    import a\n  except E: pass": "function",
    "def f():\n  x = [\na for a in b\nif a]\n  import a": "function",
    "def f():\n  x = (a\nif b\nelse c)\n  import a": "function",
    "def f():\n  x = '''\nclass A:\n'''\n  import a": "function",
    "def f():\n  # comment\n# at the margin\n  import a": "function",
    "def f():\n  x = 1 + \\\n2\n  import a": "function",
    "def f():\n  '''x''' if y else z\n  import a": "function",
    "def f():\n  async with x:\n    import a": "function",
    "def f():\n  match x:\n    case 1 if y:\n      import a": "function",
    "def f(): pass\nimport a": "runtime",
    "def f():\n  pass\nclass A:\n  import a": "runtime",
    "def f():\n  pass\nmatch x:\n case 1:\n  import a": "runtime",
    "class A:\n  x = [\ndef\u00e9,\n  ]\n  import a": "runtime",
    "if TYPE_CHECKING:\n  import a": "type_checking",
    "if TYPE_CHECKING: import a": "type_checking",
    "if TYPE_CHECKING:  # why\n  if x:\n    import a": "type_checking",
    "if (TYPE_CHECKING):\n  import a": "type_checking",
    "if (\n  TYPE_CHECKING\n):\n  import a": "type_checking",
    "if typing.TYPE_CHECKING:\n  import a": "type_checking",
    "if t.TYPE_CHECKING:\n  def f():\n    import a": "type_checking",
    "def f():\n  if TYPE_CHECKING:\n    import a": "type_checking",
    "if TYPE_CHECKING and x:\n  import a": "type_checking",
    "if not TYPE_CHECKING: pass\nelse:\n  import a": "type_checking",
    "if not t.TYPE_CHECKING:\n  pass\nelif x:\n  import a": "type_checking",
    "if not TYPE_CHECKING or x: pass\nelse:\n  import a": "type_checking",
    "if x: pass\nelif TYPE_CHECKING:\n  import a": "type_checking",
    "if TYPE_CHECKING:\n  try:\n    import a\n  except E: pass": "type_checking",
    "if TYPE_CHECKING:\n  x = [\n]\n  import a": "type_checking",
    "if TYPE_CHECKING:\n  pass\nimport a": "runtime",
    "if TYPE_CHECKING:\n  pass\nif x:\n  import a": "runtime",
    "if TYPE_CHECKING:\n  pass\nelse:\n  import a": "runtime",
    "if TYPE_CHECKING:\n  pass\nelif x:\n  import a": "runtime",
    "if TYPE_CHECKING:\n  for x in y: pass\n  else: pass\nelse:\n  import a": "runtime",
    "if not TYPE_CHECKING:\n  import a": "runtime",
    "if TYPE_CHECKING or x:\n  import a": "runtime",
    "if TYPE_CHECKING and x: pass\nelse:\n  import a": "runtime",
    "if not (TYPE_CHECKING and x):\n  import a": "runtime",
    "if TYPE_CHECKING == x:\n  import a": "runtime",
    "if 'TYPE_CHECKING':\n  import a": "runtime",
    "while TYPE_CHECKING:\n  import a": "runtime",
    "try:\n  import a\nexcept E:\n  a = None": "guarded",
    "try: import a\nexcept E: a = None": "guarded",
    "try: pass\nexcept E:\n  import a": "guarded",
    "try:\n  pass\nexcept* E:\n  import a": "guarded",
    "try:\n  pass\nexcept E:\n  pass\nelse:\n  import a": "guarded",
    "try:\n  pass\nfinally:\n  import a": "guarded",
    "class A:\n  try:\n    if x:\n      import a\n  finally: pass": "guarded",
    "if sys.platform == 'win32':\n  import a": "guarded",
    "if sys.version_info >= (3, 8):\n  pass\nelse:\n  import a": "guarded",
    "if sys.version_info >= (3, 8):\n  pass\nelif x:\n  import a": "guarded",
    "if os.name == 'nt' and x:\n  import a": "guarded",
    "if not platform.system():\n  import a": "guarded",
    "if x or (\n sys.platform):\n  import a": "guarded",
    "if x: pass\nelif sys.platform.startswith('w'):\n  import a": "guarded",
    "if os.path.name:\n  import a": "runtime",
    "if oss.name:\n  import a": "runtime",
    "if f'{sys.platform}':\n  import a": "runtime",
    "if sys.platform: pass\nimport a": "runtime",
    "try:\n  pass\nfinally:\n  pass\nimport a": "runtime",
    "try: pass\nexcept E: pass\nif x:\n  import a": "runtime",
}


@pytest.mark.parametrize("block", BLOCKS)
def test_kinds(block: str) -> None:
    assert imports_of(scan(block.encode())) == {BLOCKS[block]: {"a"}}
    check(block.encode())
    check(b"import zero\n" + block.encode() + b"\nimport last\n")


def test_a_name_keeps_every_kind_it_has() -> None:
    source = b"import a\ndef f(): import a\nif TYPE_CHECKING:\n import a\ntry:\n import a\nfinally: pass\n"
    assert imports_of(scan(source)) == {kind: {"a"} for kind in KINDS}


def test_names_are_sorted_unique_and_marshal_as_plain_fields() -> None:
    facts = scan(b"import b, a, b\nfrom a import z, y\n")
    assert facts.runtime == "a\na.y\na.z\nb"
    assert Facts(*tuple(facts)) == facts
    assert facts.runtime_names() == ["a", "a.y", "a.z", "b"]


@pytest.mark.parametrize(
    "source",
    [
        b"\xef\xbb\xbfimport a",
        b"\xef\xbb\xbf# coding: utf-8\nimport a",
        b"# -*- coding: latin-1 -*-\nx = '\xe9'; import a",
        b"#!/usr/bin/python\n# vim: set fileencoding=iso-8859-15 :\nx = '\xe9' # \xe9\nimport a",
        b"# coding: latin-1\n# coding: utf-8\nx = '\xe9'\nimport a",
        b"# coding: shift_jis\nx = '\x83\x5c'\nimport a",  # its second byte is a backslash
        b"# coding=utf8\nx = '\xc3\xa9'\nimport a",
        b"x = 1\n# coding: latin-1\nimport a",
    ],
)
def test_encodings(source: bytes) -> None:
    assert parsed(source) is not None
    assert scan(source).runtime == "a"
    assert not scan(source).flags & Facts.BROKEN


def test_identifiers_in_another_encoding() -> None:
    assert scan("# coding: latin-1\nimport \u00e9\n".encode("latin-1")).runtime == "\u00e9"


BROKEN = {
    "import a\ndef f(:\n  if x: import b\n": "a b",
    "if x: import z\n<<<<<<< HEAD\nfrom b import c\n=======\n from .d import (e, # (no)\n f as g)\n": "z b.c .d.e .d.f",
    "import a\0\n": "a",
    "\0": "",
    "print 'x'\nif y:\n   import a, b as c; from d import *\n": "a b d.*",
    "x = '''\nimport a\nif y: import b\n": "a b",
    "try:\n  import a\nexcept E, e:\n  x; from a \\\n    import b\n": "a a.b",
    "if x: from a import (b,\n c": "a.b a.c",
    "lazy import a\nlazy from b import c\n  import d": "a b.c d",
}


@pytest.mark.parametrize("source", BROKEN)
def test_broken_files_give_a_superset(source: str) -> None:
    facts = scan(source.encode())
    assert facts.flags & Facts.BROKEN
    assert set(facts.runtime.split()) >= set(BROKEN[source].split())


def test_names_in_strings_of_a_broken_file() -> None:
    facts = scan(b"x = '''\nimport_module('a.b') + 'json'\ny = \"c.{}\" \"t.py\"")
    assert facts.flags & Facts.BROKEN
    assert {"a.b", "json"} <= set(facts.string.split())
    assert "c" in facts.prefix.split()
    assert "t.py" in facts.path.split()


NESTED_QUOTES = """
x = f"{d["import x"]}" + f'{'#'}'; import a
y = f"{'}' + z["q"]}"; import b
w = f"{"\\""}" + f"{d[""]}"; import c
v = f"{
    "import d" # "
}"; import e
u = f'''{"'''import f'''"}'''; import g
p = f'''{'''import q'''}'''; import r
s = f"{t:{"}"}}" ; from h import i
r = f"{'"'}" + f"{'"'}" ; import j
"""


def test_quotes_nested_in_f_strings() -> None:
    tree = parsed(NESTED_QUOTES)
    names = set(scan(NESTED_QUOTES.encode()).runtime.split())
    assert names >= {"a", "b", "c", "e", "g", "h.i", "j", "r"}
    if tree is not None:  # from Python 3.12 on
        assert {"runtime": names} == oracle(tree)
        for line in NESTED_QUOTES.replace("{\n", "{").replace(' # "\n', "").splitlines():
            check(line.encode())


# -- what strings name -----------------------------------------------------------------------------------

DYNAMIC = "from importlib import import_module\n"
LITERALS = [
    # source, field, names that it must have, names that it must not have
    ("x = 'a.b'", "string", "a.b", ""),
    ("x = 'a.b.C', \"a.b:C\", 'a.b.c:D.e', 'x_1.Y2'", "string", "a.b.C a.b.c.D.e x_1.Y2", ""),
    ("x = 'a.b:create()', 'a.b:c [extra]', f'a.b:{x}'", "string", "a.b.create a.b.c a.b", ""),
    ("x = r'a.b', b'a.c', u'a.d', f'a.e', '''a.f''', \"\"\"a.g\"\"\"", "string", "a.b a.c a.d a.e a.f a.g", ""),
    ("x = '\u00e9.b', 'a.\u00fc'", "string", "\u00e9.b a.\u00fc", ""),
    ("x = ('a.b' '.c' \"d\")", "string", "a.b.cd", ""),
    ("x = ('a.'  # part\n  '''b'''\n  r'.c')", "string", "a.b.c", ""),
    ("x = 'a.b' \\\n '.c'", "string", "a.b.c", ""),
    ("x = 'a.b'  # why\n'''doc'''", "string", "a.b", ""),
    ("x = f\"{call('a.b')}\" f'{d[\"c.d\"]}'", "string", "a.b c.d", ""),
    ("x = {'a.b': 1}['c.d']", "string", "a.b c.d", ""),
    ("x = 'word', '.word', '1.2', 'a b.c', 'a-b.c', 'a..b', 'a.b.'", "string", "", "word .word 1.2 a b.c c a.b"),
    ("# 'a.b'\nx = 1", "string", "", "a.b"),
    ("'''\nsee 'a.b' and c.d\n'''", "string", "", "a.b c.d"),
    ("run('python -m a.b --c')", "string", "a.b", ""),
    ("run('python -m tool')", "string", "tool", ""),
    ("run('python -mtool.x')", "string", "tool.x", ""),
    ("run(f'{exe} -m a.b')", "string", "a.b", ""),
    ("run('''\n  python -m a.b \\\n  x\n''')", "string", "a.b", ""),
    ("run(exe, '-m', 'tool')", "string", "tool", ""),
    ("run('cat some-mode')", "string", "", "ode"),
    ("run('-c', 'import a.b as c; d()')", "string", "a.b", ""),
    ("run('-c', f'x = 1; from a import b, c')", "string", "a.b a.c", ""),
    ("x = 'print(1)\\nimport a\\nfrom b import (c,\\n d)'", "string", "a b.c b.d", ""),
    ("write(dedent(\n    '''\n    from a import b\n    '''\n))", "string", "a.b", ""),
    ("CODE = '''\nif x:\n  import a\n'''", "string", "a", ""),
    ("x = {1:\n'''import a'''\n}", "string", "a", ""),
    ("x = 'cannot import a', 'import'", "string", "", "a"),
    ("# '''\n'''\nimport a\n'''\nx = 1", "string", "", "a"),
    ("def f():\n  # c\n  r'''\n  import a\n  '''\n  return 1", "string", "", "a"),
    ("class A:\n  '''\n  import a\n  '''", "string", "", "a"),
    (DYNAMIC + "import_module('json')", "string", "json", ""),
    (DYNAMIC + "import_module('.plugins', 'a')", "string", ".plugins a", ""),
    (DYNAMIC + "import_module('..x.y', __package__)", "string", "..x.y", ""),
    ("__import__('json')", "string", "json", ""),
    ("import importlib\nimportlib.util.find_spec('tool')", "string", "tool", ""),
    ("import runpy\nrunpy.run_module('tool')", "string", "tool", ""),
    ("from pydoc import locate\nlocate('tool')", "string", "tool", ""),
    ("import pkgutil\npkgutil.resolve_name('tool')", "string", "tool", ""),
    ("import pytest\npytest.importorskip('tool')", "string", "tool", ""),
    ("pytest_plugins = ['plugin1', \"a.b\"]", "string", "plugin1 a.b", ""),
    ("pytest_plugins = 'plugin1'", "string", "plugin1", ""),
    ("INSTALLED_APPS = [\n 'shop',\n]", "string", "shop", ""),
    ("from django.utils.module_loading import import_string\nimport_string('tool')", "string", "tool", ""),
    ("np = lazy_import('numpy')", "string", "numpy", ""),
    ("loader.load_module('tool')", "string", "tool", ""),
    ("x = f'a.b.{x}'", "prefix", "a.b", ""),
    ("x = 'a.b.' + x, 'a.c.%s' % x, 'a.d.{}'.format(x), 'a.' + x", "prefix", "a a.b a.c a.d", ""),
    ("x = f'a.b.c_{x}', 'a.d.e_%s', f'a.f.{x}.g'", "prefix", "a.b a.d a.f", ""),
    ("x = f'''a.b.{x}''', f\"{f('a.c.' + y)}\"", "prefix", "a.b a.c", ""),
    ("x = ('a.b.'\n     'c')", "prefix", "a.b", ""),
    ("x = '.' + x, f'.{x}', f'{__name__}.{x}'", "prefix", "", ". .x"),
    ("x = 'a. ', 'see a.', 'a.b'", "prefix", "", "a"),
    (DYNAMIC + "import_module(f'.{x}', __package__)", "prefix", ".", ""),
    (DYNAMIC + "import_module('.' + x, 'a')", "prefix", ".", ""),
    (DYNAMIC + "import_module(__name__ + '.' + x)", "prefix", ".", ""),
    (DYNAMIC + "import_module(f'{__name__}.{x}')", "prefix", ".", ""),
    (DYNAMIC + "import_module(f'{__package__}.{x}')", "prefix", ".", ""),
    (DYNAMIC + "import_module('%s.%s' % (__name__, x))", "prefix", ".", ""),
    (DYNAMIC + "import_module('{}.{}'.format(__name__, x))", "prefix", ".", ""),
    (DYNAMIC + "import_module('.'.join([__name__, x]))", "prefix", ".", ""),
    (DYNAMIC + "import_module(f'..plugins.{x}')", "prefix", "..plugins", "."),
    (DYNAMIC + "import_module('..plugins.' + x)", "prefix", "..plugins", "."),
    (DYNAMIC + "import_module(f'..{x}')", "prefix", "..", ""),
    (DYNAMIC + "import_module(f'.plug_{x}', __name__)", "prefix", ".", ""),
    (DYNAMIC + "module, _, name = path.rpartition('.')", "prefix", "", "."),
    ("import pkgutil\npkgutil.iter_modules(['x'])", "prefix", ".", ""),
    ("from pkgutil import walk_packages\nwalk_packages(__path__)", "prefix", ".", ""),
    ("from glob import glob\nglob(dirname(__file__) + '/*.py')", "prefix", ".", ""),
    ("[f for f in listdir(dirname(__file__)) if f.endswith('.py')]", "prefix", ".", ""),
    ("[f for f in Path('x').glob('*.py')]", "prefix", "", "."),
    ("import a.b\nimport pkgutil\npkgutil.iter_modules(a.b.__path__)", "prefix", "a.b", ""),
    ("import a\nimport pkgutil\npkgutil.iter_modules(a.b.__path__)", "prefix", "a.b", ""),
    ("from a import plugins\nx(plugins.__path__)", "prefix", "a.plugins", ""),
    ("from . import plugins\nx(plugins.__path__, plugins.__name__ + '.')", "prefix", ".plugins", ""),
    ("import a.b as c\nx(c.__path__)", "prefix", "a.b", "c"),
    ("from a import (\n  b as c,\n)\nx(c.__path__)", "prefix", "a.b", "c"),
    (DYNAMIC + "x(import_module('a.b').__path__)", "prefix", "a.b", ""),
    ("x = 's/run.py', \"run.py\", 'a/b.ipynb', './x-y/z.py'", "path", "s/run.py run.py a/b.ipynb ./x-y/z.py", ""),
    ("x = f'{d}/scripts/run.py', 'python run.py', 't/x.py::test'", "path", "/scripts/run.py run.py t/x.py", ""),
    ("x = Path('a').rglob('*.py')", "path", "*.py", ""),
    ("x = '.py', 'run.pyc', 'run.py.txt'", "path", "", ".py run.py run.pyc"),
    ("from importlib.metadata import entry_points\nentry_points(group='x.y')", "entry_point", "x.y", "*"),
    ("import importlib.metadata as m\nm.entry_points(\n group=\"x\")", "entry_point", "x", "*"),
    ("from importlib.metadata import entry_points\nentry_points()['x']", "entry_point", "x", "*"),
    ("from importlib.metadata import entry_points\nentry_points().select(group='x')", "entry_point", "x", "*"),
    ("from importlib.metadata import entry_points\nentry_points(group=x)", "entry_point", "*", ""),
    ("from importlib.metadata import entry_points\nfor e in entry_points(): pass", "entry_point", "*", ""),
    ("import pkg_resources\npkg_resources.iter_entry_points('x')", "entry_point", "x", "*"),
    ("import stevedore\nstevedore.ExtensionManager(namespace='x')", "entry_point", "x", "*"),
    ("def entry_points(): pass", "entry_point", "", "*"),
    ("import subprocess\nsubprocess.run(['run-tool', '-x'])", "command", "run-tool", ""),
    ("import subprocess\nsubprocess.run('run-tool -x', shell=True)", "command", "run-tool", ""),
    ("import os\nos.system('run-tool')", "command", "run-tool", ""),
    ("import asyncio\nasyncio.create_subprocess_exec('tool')", "command", "tool", ""),
    ("x = 'run-tool'", "command", "", "run-tool"),
    ("import pytest\n@pytest.mark.slow\ndef f(): pass", "mark", "slow", ""),
    ("from pytest import mark\npytestmark = [mark.a, mark.b(1)]", "mark", "a b", ""),
    ("def __getattr__(name):\n  return LAZY[name]\nLAZY = {'one': 'a.two'}", "relative_string", "one a.two", ""),
    ("def __getattr__(name: str) -> object: return 'one'", "relative_string", "one", ""),
    ("class A:\n  def __getattr__(self, name): return 'one'", "relative_string", "", "one"),
    ("import lazy_loader as lazy\n__getattr__, _, _ = lazy.attach(__name__, ['one'])", "relative_string", "one", ""),
    ("_import_structure = {'one': ['Two']}", "relative_string", "one Two", ""),
    ("x = 'one'", "relative_string", "", "one"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "field", "wanted", "unwanted"), LITERALS)
def test_strings(source: str, field: str, wanted: str, unwanted: str) -> None:
    found = set(getattr(scan(source.encode()), field).split())
    assert set(wanted.split()) <= found
    assert not set(unwanted.split()) & found


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("__all__ = ['a', \"b\"]  # all\nx = 'c'", "a b"),
        ("__all__: list[str] = [\n  'a',  # b]\n  'b',\n]\nx = 'c'", "a b"),
        ("__all__ = ('a',)\n__all__ += ['b']\n__all__.append('c')\n__all__.extend(['d'])", "a b c d"),
        ("__all__ = ['a', *more]\nx = 'c'", "a c"),
        ("__all__ = ['a'] + x.__all__\nx = 'c'", "a c"),
        ("__all__ = []\nfor x in 'a', 'b': __all__.append(x)", "a b"),
        ("x = 'c'", ""),
    ],
)
def test_exported_names_of_a_package(source: str, names: str) -> None:
    assert scan(source.encode(), is_package_init=True).relative_strings() == names.split()
    assert scan(source.encode()).relative_strings() == []


@pytest.mark.parametrize(
    ("source", "flags"),
    [
        ("x = 1", 0),
        (DYNAMIC + "import_module('a.b')", 0),
        (DYNAMIC + "import_module(name='a.b')", 0),
        (DYNAMIC + "import_module(\n  'a.b.' + x)", 0),
        (DYNAMIC + "import_module(f'a.b.{x}')", 0),
        (DYNAMIC + "import_module('.' + x, __name__)", 0),
        (DYNAMIC + "import_module(f'{__name__}.{x}')", 0),
        (DYNAMIC + "import_module(x)", Facts.UNKNOWN_DYNAMIC),
        (DYNAMIC + "import_module( name=x)", Facts.UNKNOWN_DYNAMIC),
        (DYNAMIC + "import_module(f'{x}.y')", Facts.UNKNOWN_DYNAMIC),
        (DYNAMIC + "import_module('%s.y' % x)", Facts.UNKNOWN_DYNAMIC),
        (DYNAMIC + "import_module('a' + x)", Facts.UNKNOWN_DYNAMIC),
        (DYNAMIC + "list(map(import_module, x))", Facts.UNKNOWN_DYNAMIC),
        ("__import__(x)", Facts.UNKNOWN_DYNAMIC),
        ("import runpy\nrunpy.run_path(x)", Facts.UNKNOWN_DYNAMIC),
        ("import runpy\nrunpy.run_path('x.py')", 0),
        ("import importlib.util as u\nu.spec_from_file_location('x', y)", Facts.UNKNOWN_DYNAMIC),
        ("for m in iter_modules(x.__path__): pass", Facts.UNKNOWN_DYNAMIC),
        ("import a as x\nfor m in iter_modules(x.__path__): pass", 0),
        ("import inspect\ninspect.getsource(x)", Facts.READS_SOURCE),
        ("from inspect import getsourcelines", Facts.READS_SOURCE),
        ("import linecache", Facts.READS_SOURCE),
        ("import inspect\ninspect.signature(x)", 0),
        ("print(f.__doc__)", Facts.READS_DOCS),
        ("import doctest", Facts.READS_DOCS),
        ("from inspect import getdoc\ngetdoc(x)", Facts.READS_DOCS),
        ("import pytest\npytestmark = pytest.mark.always_run", Facts.ALWAYS_RUN),
        ("x = '__doc__' # __doc__", 0),
        ("def f(: import a", Facts.BROKEN),
    ],
)
def test_flags(source: str, flags: int) -> None:
    assert scan(source.encode()).flags == flags


def test_notebooks() -> None:
    notebook = rb"""{"cells": [
        {"cell_type": "markdown", "source": ["import no\n"]},
        {"cell_type": "code", "source": ["%matplotlib inline\n", "import a\n", "x = (1\n", "  % 2)"]},
        {"cell_type": "code", "source": "%%time\nfrom b import c\n!python -m d.e\nx = !ls\nc?"},
        {"cell_type": "code", "source": ["%%bash\n", "python run.py; import no"]},
        {"cell_type": "code", "source": "def f():\n    %run scripts/x.py\n    import g"}
    ]}"""
    facts = scan(python_of("x.ipynb", notebook))
    assert imports_of(facts) == {"runtime": {"a", "b.c"}, "function": {"g"}}
    assert "d.e" in facts.string.split()
    assert "scripts/x.py" in facts.path.split()
    assert not facts.flags & Facts.BROKEN
    assert "a" in scan(python_of("x.ipynb", notebook[:-80])).runtime.split()


def test_lines_of_names() -> None:
    source = (
        b"import a\n\nif TYPE_CHECKING:\n    from b import (\n        c,\n    )\ndef f():\n    import d\n"
        b"try: import e\nfinally: pass\nx = 'f.g'\ny = ['f:g', 'i.j.%s', 'k.py']\n"
    )
    assert import_lines(source) == [
        (1, scanning.RUNTIME, "a"),
        (4, scanning.TYPE_CHECKING, "b.c"),
        (8, scanning.FUNCTION, "d"),
        (9, scanning.GUARDED, "e"),
        (11, scanning.STRING, "f.g"),
        (12, scanning.STRING, "f.g"),
        (12, scanning.STRING, "k.py"),
        (12, scanning.PREFIX, "i.j"),
        (12, scanning.PATH, "k.py"),
    ]
    assert (2, scanning.RUNTIME, "a.b") in import_lines(b"def f(:\n  from a import b\n")
    assert (3, scanning.PREFIX, ".") in import_lines(b"import pkgutil\nx\npkgutil.iter_modules(__path__)")


# -- against ast: the standard library, and generated files ----------------------------------------------


def test_standard_library() -> None:
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    files = [file for file in files if "site-packages" not in file.parts]
    for file in random.Random(1).sample(files, min(len(files), 100)):
        check(file.read_bytes())


NAMES = st.sampled_from(["a", "b.c", "TYPE_CHECKING", "importlib", "x.import_", "_from.if_"])
IMPORTS = st.one_of(
    st.builds("import {}".format, NAMES),
    st.builds("import {} as y, {}".format, NAMES, NAMES),
    st.builds(
        "from {}{} import {}".format,
        st.sampled_from(["", ".", ".. "]),
        NAMES,
        st.sampled_from(["p", "p, q as r", "(p)", "(p,\n q, # '\n)", "p,\\\n q", "(\n\n  p as\n r\n)"]),
    ),
    st.sampled_from(["from . import a", "from.import(a)", "import a; import b", "z = 1; import c;", "import\\\n d"]),
)
QUOTES = ["'", '"', "'''", '"""']
STRINGS = st.builds(
    lambda prefix, quote, body: prefix + quote + body.replace(quote[0], "") + quote,
    st.sampled_from(["", "r", "b", "f", "rf"]),
    st.sampled_from(QUOTES),
    st.lists(
        st.sampled_from(["import s", "#", "x.y", "{{", "{z}", "{z:#x}", "\\\n", "\\'", '\\"', "'", '"', "{z['k']}"])
    ).map("".join),
).filter(lambda string: parsed(string) is not None)
OTHERS = st.one_of(
    st.builds("v = {}".format, STRINGS),
    st.builds("v = {}, {}  # {}".format, STRINGS, STRINGS, st.text("import \"'#(", max_size=8)),
    st.builds("v = [\n{}\nfor for_ in w\n if for_]".format, STRINGS),
    st.builds("{} if w else (\nw\n if v\nelse {} )".format, STRINGS, STRINGS),
    st.sampled_from(
        [
            "pass",
            "# import c",
            "v = '''\nimport d\nif x:\n'''",
            "v = w + \\\n  1",
            "match = {\ncase: (\n)}",
            "\f",
            "",
            "f(lambda: {1: 2},\n  if_=3)",
            "importlib.import_module(v)",
            "from_ = import_ = 1",
            "raise v from w",
        ]
    ),
)
CONDITIONS = st.sampled_from(
    [
        "x",
        "TYPE_CHECKING",
        "t.TYPE_CHECKING",
        "not TYPE_CHECKING",
        "TYPE_CHECKING and x",
        "TYPE_CHECKING or x",
        "not (x or TYPE_CHECKING)",
        "(\n TYPE_CHECKING)",
        "(x and\n sys.platform)",
        "sys.platform == 'x'",
        "x and os.name",
        "x[\n1]",
        "sys.version_info > (3,)",
        "platform.system() and TYPE_CHECKING",
        "x.platform",
        "os.path.name",
        "f(name=os)",
        "f'{x}'",
    ]
)


def suites(statements: st.SearchStrategy[list[str]]) -> st.SearchStrategy[list[str]]:
    """Lines of compound statements around given statements."""

    def indented(header: str, body: list[str], space: str) -> list[str]:
        return [header, *(space + line for line in body)]

    body = statements.map(lambda lines: [*lines, "pass"])
    space = st.sampled_from([" ", "    ", "\t"])
    simple = st.builds(
        indented,
        st.sampled_from(
            [
                "def f(x,\n  y=[]):",
                "async def f():",
                "class A:",
                "class A(\nB):",
                "for x in y:",
                "while x:",
                "with x:",
                "if x:  # import y",
                "async def f(): # '",
                "def f(x='''\ndef g():''') :",
            ]
        ),
        body,
        space,
    )
    branches = st.builds(
        lambda condition, first, other, second, last, space: [
            *indented(f"if {condition}:", first, space),
            *indented(f"elif {other}:", second, space),
            *indented("else:", last, space),
        ],
        CONDITIONS, body, CONDITIONS, body, body, space,
    )  # fmt: skip
    attempts = st.builds(
        lambda first, second, last, end, space: [
            *indented("try:", first, space),
            *indented("except E as e:", second, space),
            *indented("else:", last, space),
            *indented("finally :", end, space),
        ],
        body, body, body, body, space,
    )  # fmt: skip
    matches = st.builds(
        lambda body, space: ["match x:", *indented(f"{space}case [\ny]:", body, 2 * space)], body, space
    )
    inline = st.builds(
        "{} {}".format,
        st.sampled_from(["if TYPE_CHECKING:", "def f():", "class A:", "with x:", "if sys.platform:"]),
        st.sampled_from(["import a", "from . import b; import c", "pass; from d import(e)"]),
    ).map(lambda line: [line])
    return st.lists(st.one_of(simple, branches, attempts, matches, inline, statements), max_size=3).map(
        lambda groups: [line for group in groups for line in group]
    )


PLAIN = st.lists(st.one_of(IMPORTS, OTHERS), max_size=3)
FILES = st.recursive(PLAIN, suites, max_leaves=8)


@settings(max_examples=80, deadline=None)
@given(FILES, st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(["", "\n", "  # end"]))
def test_generated_files(lines: list[str], newline: str, end: str) -> None:
    source = ("\n".join(lines) + end).replace("\n", newline).encode()
    check(source)
    where = [(kind, name) for _, kind, name in import_lines(source) if kind < len(KINDS)]
    assert {(KINDS.index(kind), name) for kind, names in imports_of(scan(source)).items() for name in names} == set(
        where
    )


@settings(max_examples=80, deadline=None)
@given(
    FILES,
    st.lists(
        st.tuples(
            st.integers(0, 10_000),
            st.integers(0, 3),
            st.sampled_from([*"'\"#\\\n\t ()[]{}:;,=f\f\r\0\x01", "import a", "'''", '"""', "if x:", "\u00e9", "from"]),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_mutated_files(lines: list[str], edits: list[tuple[int, int, str]]) -> None:
    source = "\n".join(lines).encode()
    for at, gone, new in edits:
        at %= len(source) + 1
        source = source[:at] + new.encode() + source[at + gone :]
    check(source)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    check(data)
    import_lines(data)
