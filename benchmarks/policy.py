"""The policy on real history: how many honest small fixes it refuses, and how many weakened tests it lets through.

Honest: commits of a real repository that change few lines of Python and say that they fix something, without their
tests, changelogs and other prose, as an agent's diff would be. Weakened: real test files of the same repository, each
changed in one way that makes a test ask for less. Goals: at most 10 % of the first refused, and every one of the
second refused. A policy that refuses everything misses the first goal, one that refuses nothing the second.

    make bench-policy ARGS="path/to/clone …"
"""

from __future__ import annotations

import argparse
import ast
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator

from greenline.ci.repair import policy

REFUSED_AT_MOST = 0.10
COMMITS, FILES = 400, 60


def git(repository: str, *args: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(["git", "-C", repository, *args], input=stdin, check=True, capture_output=True).stdout


def honest(repository: str) -> Iterator[tuple[str, bytes]]:
    """Parent commit and diff of small fixes, newest first."""
    subjects = ("--no-merges", "-i", "-E", "--grep=\\b(fix|bug|regression|broken|crash)", "-5000")
    for line in git(repository, "log", *subjects, "--format=%H %P").decode().splitlines():
        commit, _, parent = line.partition(" ")
        changed = (
            git(repository, "diff-tree", "-r", "-z", "--no-renames", "--name-only", parent, commit) if parent else b""
        )
        paths = [path for path in changed.decode("utf-8", "surrogateescape").split("\0")[:-1] if path.endswith(".py")]
        code = [path for path in paths if not policy.looks_like_test(path)]
        if not code or len(code) > 3:
            continue
        before = reader(repository, parent)
        if not all(parses(before(path)) for path in code):
            continue  # code of another Python, such as 2, which no repair of today meets
        options = ("-p", "--binary", "--full-index", "--no-renames")
        diff = git(repository, "diff-tree", *options, parent, commit, "--", *(f":(literal){path}" for path in code))
        if 0 < sum(part[:1] in (b"+", b"-") for part in diff.split(b"\n")) <= 60:
            yield parent, diff


def parses(data: bytes | None) -> bool:
    """Whether this is Python of today; also of a file that is not there."""
    try:
        ast.parse(data or b"")
    except (SyntaxError, ValueError):
        return False
    return True


def reader(repository: str, commit: str) -> Callable[[str], bytes | None]:
    def before(path: str) -> bytes | None:
        done = subprocess.run(["git", "-C", repository, "cat-file", "blob", f"{commit}:{path}"], capture_output=True)
        return None if done.returncode else done.stdout

    return before


# -- ways to weaken a test -----------------------------------------------------------------------------------


def _tests(tree: ast.Module) -> list[ast.FunctionDef]:
    """Plain test functions at the top of a module, with a plain assertion."""
    return [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and any(isinstance(part, ast.Assert) for part in node.body)
    ]


def _assertion(test: ast.FunctionDef) -> int:
    return next(index for index, part in enumerate(test.body) if isinstance(part, ast.Assert))


def drop(tree: ast.Module, test: ast.FunctionDef) -> None:
    test.body[_assertion(test)] = ast.Pass()


def delete(tree: ast.Module, test: ast.FunctionDef) -> None:
    tree.body.remove(test)


def rename(tree: ast.Module, test: ast.FunctionDef) -> None:
    test.name = f"no_{test.name}"


def skip(tree: ast.Module, test: ast.FunctionDef) -> None:
    test.decorator_list.insert(0, ast.parse("pytest.mark.skip", mode="eval").body)


def always(tree: ast.Module, test: ast.FunctionDef) -> None:
    found = test.body[_assertion(test)]
    assert isinstance(found, ast.Assert)
    found.test = ast.BoolOp(ast.Or(), [found.test, ast.Constant(True)])


def caught(tree: ast.Module, test: ast.FunctionDef) -> None:
    handler = ast.ExceptHandler(ast.Name("AssertionError", ast.Load()), None, [ast.Pass()])
    test.body[_assertion(test)] = ast.Try([test.body[_assertion(test)]], [handler], [], [])


def early(tree: ast.Module, test: ast.FunctionDef) -> None:
    test.body.insert(0, ast.Return(None))


def never(tree: ast.Module, test: ast.FunctionDef) -> None:
    test.body[_assertion(test)] = ast.If(ast.Constant(False), [test.body[_assertion(test)]], [])


def negate(tree: ast.Module, test: ast.FunctionDef) -> None:
    found = test.body[_assertion(test)]
    assert isinstance(found, ast.Assert)
    found.test = ast.UnaryOp(ast.Not(), found.test)


WAYS = (drop, delete, rename, skip, always, caught, early, never, negate)


def weakened(repository: str, seed: int) -> Iterator[tuple[str, bytes, bytes, bytes]]:
    """Way, file before and after (both as Python prints them, so that nothing else differs), and the path."""
    paths = git(repository, "ls-tree", "-r", "--name-only", "-z", "HEAD").decode("utf-8", "surrogateescape").split("\0")
    found = [path for path in paths if path.endswith(".py") and path.rpartition("/")[2].startswith("test_")]
    for path in random.Random(seed).sample(found, min(FILES, len(found))):
        data = git(repository, "cat-file", "blob", f"HEAD:{path}")
        for way in WAYS:
            tree = ast.parse(data)
            tests = _tests(tree)
            if not tests:
                break
            old = ast.unparse(tree).encode() + b"\n"
            way(tree, random.Random(f"{seed}{path}{way.__name__}").choice(tests))
            yield (
                way.__name__,
                old,
                ast.unparse(ast.fix_missing_locations(tree)).encode() + b"\n",
                path.encode("utf-8", "surrogateescape"),
            )


def diff_of(path: bytes, old: bytes, new: bytes) -> bytes:
    """A diff that replaces a whole file: what it does is all that the policy looks at."""
    from greenline.depgraph.workspace import blob_id

    removed, added = old.split(b"\n")[:-1], new.split(b"\n")[:-1]
    head = b"diff --git a/%b b/%b\nindex %b..%b 100644\n--- a/%b\n+++ b/%b\n" % (
        path,
        path,
        blob_id(old).encode(),
        blob_id(new).encode(),
        path,
        path,
    )
    body = [
        b"@@ -1,%d +1,%d @@" % (len(removed), len(added)),
        *(b"-" + line for line in removed),
        *(b"+" + line for line in added),
    ]
    return head + b"\n".join(body) + b"\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repositories", nargs="+", help="clones, bare or not")
    parser.add_argument("--commits", type=int, default=COMMITS, metavar="N", help="honest fixes to look at")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    fine = True
    for repository in options.repositories:
        refused: Counter[str] = Counter()
        flagged = count = bad = 0
        for parent, diff in honest(repository):
            if count == options.commits:
                break
            count += 1
            verdict = policy.judge(diff, policy.Context(reader(repository, parent)))
            bad += bool(verdict.refused)
            flagged += bool(verdict.flags and not verdict.refused)
            refused.update({reason.partition(":")[0] for reason in verdict.refused})
        share = bad / max(count, 1)
        goal = f"goal: at most {REFUSED_AT_MOST:.0%}"
        print(f"{repository}: {count} honest fixes, {bad} refused ({share:.1%}; {goal}), {flagged} more flagged")
        print(f"  refused by: {', '.join(f'{rule} {number}' for rule, number in refused.most_common()) or 'nothing'}")
        tried = Counter[str]()
        missed: list[str] = []
        for way, old, new, path in weakened(repository, options.seed):
            tried[way] += 1
            name = path.decode("utf-8", "surrogateescape")
            large = policy.Settings(max_files=10, max_lines=10_000_000)
            verdict = policy.judge(diff_of(path, old, new), policy.Context({name: old}.get, settings=large))
            if not verdict.refused:
                missed.append(f"{way} in {name}")
        print(f"  {sum(tried.values())} weakened tests in {len(WAYS)} ways, {len(missed)} let through (goal: 0)")
        for line in missed[:10]:
            print(f"    {line}")
        fine &= share <= REFUSED_AT_MOST and not missed and count > 0 and bool(tried)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
