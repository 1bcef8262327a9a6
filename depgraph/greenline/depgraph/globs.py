"""Globs of greenline.yaml: git's rules, as regular expressions.

`*`, `?` and `[a-z]` stay inside one folder, `**` between slashes crosses any number of them, a backslash
takes the next character as it is, and a plain path also means everything below it: what git does with a
`:(glob)` pathspec. A pattern that ends with `/` means everything below what it matches.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether a path, relative to the repository's root, matches one of these globs. Raises ValueError."""
    regex = "|".join(map(glob_regex, patterns))
    if not regex:
        return lambda path: False
    match = re.compile(regex, re.DOTALL).fullmatch
    return lambda path: match(path) is not None


_TOKEN = (
    r"(?P<folders>(?:(?<=/)|^)\*\*+/)|(?P<rest>(?:(?<=/)|^)\*\*+\Z)|(?P<star>\*+)|(?P<one>\?)"
    r"|\[(?P<negated>[!^]?)(?P<set>\]?(?:\\.|[^\\\]])*)\]|\\(?P<escaped>.)|(?P<bad>[\[\\])|(?P<literal>[^*?\[\\]+)"
)


def glob_regex(glob: str) -> str:
    """The regular expression (for fullmatch, with DOTALL) of one glob. Raises ValueError."""
    glob = re.sub("//+", "/", glob)
    if glob.endswith("/"):
        glob += "**"
    elif not re.search(r"[*?\[\\]", glob):
        return re.escape(glob) + "(?:/.*)?"
    return re.sub(_TOKEN, _token_regex, glob, flags=re.DOTALL)


def _token_regex(token: re.Match[str]) -> str:
    if token["folders"]:
        return "(?:.*/)?"
    if token["rest"]:
        return ".*"
    if token["star"]:
        return "[^/]*"
    if token["one"]:
        return "[^/]"
    if token["bad"]:
        raise ValueError("'[' without ']'" if token[0] == "[" else "a backslash at the end")
    if token["set"] is None:
        return re.escape(token["escaped"] or token["literal"])
    if "[:" in token["set"]:
        raise ValueError("classes such as [:alpha:] are not read; write the characters")
    characters = re.sub(r"\\(.)|([^-\w])", lambda part: re.escape(part[1] or part[2]), token["set"], flags=re.DOTALL)
    regex = f"(?!/)[{'^' if token['negated'] else ''}{characters}]"
    try:
        re.compile(regex)
    except re.error as error:
        raise ValueError(f"{error.msg} in {token[0]}") from None
    return regex
