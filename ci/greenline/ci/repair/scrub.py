"""Text from outside made safe to show: to a model, in a log, in a pull request.

Secrets are replaced by the name of what they look like, never by a part of themselves. What a person cannot see
(escape sequences, zero-width and direction marks, HTML comments) is removed: it could speak to a model behind the
reader's back.
"""

from __future__ import annotations

import base64
import math
import re
import unicodedata
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

SHORTEST = 8
"""Shorter values of variables are no secrets worth the name: ``PASSWORD=on`` would blot out every "on"."""
ENTROPY = 3.0
"""Bits a character from which the value of a secret-looking name counts as random. English words have about 2.5."""

# Every repetition is bounded: the text may be made to keep a regular expression busy for ever.
_SHAPES = (
    ("private key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"),
    ("github token", r"\b(?:gh[opsur]_[A-Za-z0-9]{16,255}|github_pat_[A-Za-z0-9_]{22,255})"),
    ("gitlab token", r"\bgl(?:pat|dt|rt|cbt|ptt|ft|oas|soat)-[A-Za-z0-9_.-]{16,4000}"),
    ("anthropic key", r"\bsk-ant-[A-Za-z0-9_-]{16,4000}"),
    ("openai key", r"\bsk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{20,4000}"),
    ("aws key id", r"\b(?:AKIA|ASIA|AGPA|AIDA|AROA|ANPA)[A-Z0-9]{16}\b"),
    ("google key", r"\bAIza[A-Za-z0-9_-]{35}"),
    ("google token", r"\bya29\.[A-Za-z0-9_-]{20,4000}"),
    ("slack token", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,4000}"),
    ("slack webhook", r"https://hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/_-]{20,4000}"),
    ("stripe key", r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,4000}"),
    ("npm token", r"\bnpm_[A-Za-z0-9]{36}"),
    ("pypi token", r"\bpypi-AgE[A-Za-z0-9_-]{30,4000}"),
    ("hugging face token", r"\bhf_[A-Za-z0-9]{30,4000}"),
    ("sendgrid key", r"\bSG\.[A-Za-z0-9_-]{16,4000}\.[A-Za-z0-9_-]{16,4000}"),
    ("vault token", r"\bhv[sb]\.[A-Za-z0-9_-]{24,4000}"),
    ("digitalocean token", r"\bdo[opr]_v1_[a-f0-9]{64}"),
    ("json web token", r"\beyJ[A-Za-z0-9_-]{8,4000}\.eyJ[A-Za-z0-9_-]{8,4000}\.[A-Za-z0-9_-]*"),
    (
        "authorization header",
        r"(?i:(?<=authorization)['\"]?\s{0,9}[:=]\s{0,9}['\"]?(?:bearer|basic|token) [\w+/=.~-]{8,4000})",
    ),
    ("password in a URL", r"(?<=://)[^\s/:@'\"<>]*:[^\s/@'\"<>]{3,4000}(?=@)"),
)
_SHAPE = re.compile("|".join(f"(?P<s{number}>{shape})" for number, (_, shape) in enumerate(_SHAPES)), re.A)
_NAME = r"(?:(?:api|access|private|auth)[_-]?key|secret|token|passwd|password|passphrase|credentials?|dsn)"
_ASSIGNED = re.compile(
    rf"(?i){_NAME}[\w-]{{0,40}}['\"]?\]?\s{{0,9}}(?::\s{{0,9}}\w{{1,40}}\s{{0,9}})?(?:=>|:=|[:=])\s{{0,9}}[rbfu]?['\"]?"
    rf"([^\s'\"`,;)\]}}]{{{SHORTEST},4000}})"
)
_SECRET_VARIABLE = re.compile(rf"(?i){_NAME}|_(?:pat|key|pass|pwd|cert|sas|jwt|cookie)$|^pgpassword$|_url$|webhook")
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x07|\x1b\\|$)|[@-Z\\-_]|[()*+][A-Za-z0-9])", re.M)
_HTML = re.compile(r"<!--[\s\S]*?(?:-->|\Z)|<(script|style|template)\b[\s\S]*?(?:</\1\s{0,9}>|\Z)", re.I)


def secrets_of(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The values of the variables whose names look like secrets, longest first, so that no half is left over."""
    found = {
        value.strip()
        for name, value in environment.items()
        if _SECRET_VARIABLE.search(name) and len(value.strip()) >= SHORTEST and _is_secret_url(name, value)
    }
    return tuple(sorted(found, key=lambda value: (-len(value), value)))


def find_secrets(text: str, secrets: Iterable[str] = ()) -> tuple[str, ...]:
    """What kinds of secrets are in a text, sorted; never the secrets. ``secrets``: values that must not occur."""
    return tuple(sorted({kind for kind, _, _ in _spans(text, tuple(secrets))}))


def scrub(text: str, secrets: Iterable[str] = (), limit: int | None = None) -> str:
    """The text without secrets and without what cannot be seen, at most ``limit`` characters of it.

    Shapes are sought before and after hidden characters are removed, so that neither hides the other.
    """
    values = tuple(secrets)
    if limit is not None and len(text) > 20 * limit:  # what is cut in half here is far from what is kept below
        text = shorten(text, 20 * limit)
    text = _without_secrets(visible(_without_secrets(text, values)), values)
    return text if limit is None else shorten(text, limit)


def visible(text: str) -> str:
    """The text as a person would see it: no escape sequences, HTML comments, control or format characters."""
    text = _HTML.sub("", _ANSI.sub("", text))
    text = text.replace("\r\n", "\n")
    return "".join(char for char in text if char in "\n\t" or not is_hidden(char))


def is_hidden(char: str) -> bool:
    """Whether a character is a control, format (zero-width, direction), private, surrogate or tag character."""
    if char < "\x7f":
        return char < " "
    return (
        unicodedata.category(char) in ("Cc", "Cf", "Co", "Cs", "Cn") or char in "\u2028\u2029\u115f\u1160\u3164\uffa0"
    )


def shorten(text: str, limit: int) -> str:
    """The first and last characters, the middle cut out and counted: errors stand at both ends of a log."""
    if len(text) <= limit:
        return text
    gap = f"\n[… {len(text) - limit} characters cut …]\n"
    head = max(limit - len(gap), 0) // 3
    tail = max(limit - len(gap) - head, 0)
    return (text[:head] + gap + text[len(text) - tail :])[:limit]


def _without_secrets(text: str, secrets: tuple[str, ...]) -> str:
    parts = []
    end = 0
    for kind, start, stop in _merged(_spans(text, secrets)):
        parts += [text[end:start], f"[removed: {kind}]"]
        end = stop
    return "".join((*parts, text[end:]))


def _spans(text: str, secrets: tuple[str, ...]) -> Iterator[tuple[str, int, int]]:
    """Kind, start and end of everything in a text that looks like a secret; they may overlap."""
    for value in secrets:
        for form in _forms(value):
            at = text.find(form)
            while at >= 0:
                yield "value of an environment variable", at, at + len(form)
                at = text.find(form, at + len(form))
    for match in _SHAPE.finditer(text):
        assert match.lastgroup
        yield _SHAPES[int(match.lastgroup[1:])][0], *match.span()
    for match in _ASSIGNED.finditer(text):
        if _is_random(match[1]):
            yield "value of a secret", *match.span(1)


def _forms(value: str) -> Iterator[str]:
    """A secret as itself and as it looks in URLs, headers and dumps."""
    data = value.encode("utf-8", "surrogateescape")
    forms = {value, urllib.parse.quote(value, safe=""), urllib.parse.quote_plus(value), data.hex(), value[::-1]}
    # In base64 the same bytes look different at each of three offsets; the characters they share with neighbours go.
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + data).decode("ascii")
        core = encoded[(0, 2, 3)[offset] :].rstrip("=")
        core = core[:-1] if (offset + len(data)) % 3 else core
        forms |= {core, core.replace("+", "-").replace("/", "_")}
    return (form for form in sorted(forms, key=lambda form: (-len(form), form)) if len(form) >= SHORTEST)


def _merged(spans: Iterable[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    merged: list[tuple[str, int, int]] = []
    for kind, start, stop in sorted(spans, key=lambda span: (span[1], -span[2])):
        if merged and start < merged[-1][2]:
            merged[-1] = (merged[-1][0], merged[-1][1], max(stop, merged[-1][2]))
        else:
            merged.append((kind, start, stop))
    return merged


def _is_random(value: str) -> bool:
    """Whether a value looks made by chance: digits and letters mixed, many different ones; no call, path or name."""
    if not re.search(r"\d", value) or not re.search(r"[A-Za-z]", value) or re.search(r"[(<{$]|^\[removed", value):
        return False
    counts = Counter(value)
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts.values()) >= ENTROPY


def _is_secret_url(name: str, value: str) -> bool:
    """A variable ending in _URL is a secret only with a password in it."""
    return not name.lower().endswith("_url") or bool(re.search(r"://[^/\s]*:[^/\s]+@", value))
