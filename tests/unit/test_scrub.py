"""Scrubbing: no secret in any of its forms comes through, nothing invisible does, and plain text stays as it is."""

from __future__ import annotations

import base64
import urllib.parse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenline.ci.repair.scrub import find_secrets, is_hidden, scrub, secrets_of, shorten, visible

# Put together here, so that no scanner takes this file for a leak.
TOKENS = {
    "github token": "ghp" + "_16C7e42F292c6912E7710c838347Ae178B4a",
    "gitlab token": "glpat" + "-1a2B3c4D5e6F7g8H9i0J",
    "anthropic key": "sk-ant" + "-api03-abcDEF123456_789-xyz",
    "openai key": "sk-proj" + "-abcdefGHIJKL0123456789mnop",
    "aws key id": "AKIA" + "IOSFODNN7EXAMPLE",
    "google key": "AIza" + "SyA1234567890abcdefghijklmnopqrstuv",
    "slack token": "xoxb" + "-123456789012-abcdefABCDEF",
    "slack webhook": "https://hooks.slack.com/" + "services/T0000/B0000/abcdefghijklmnop",
    "stripe key": "sk_live" + "_abcdefghijklmnop1234",
    "npm token": "npm_" + "a1B2" * 9,
    "pypi token": "pypi-AgE" + "IcHlwaS5vcmcCJDEyMzQ1Njc4OTAxMjM0NTY3ODkw",
    "hugging face token": "hf_" + "aBcDeFgHiJ" * 3,
    "json web token": "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "private key": "-----BEGIN RSA PRIVATE KEY-----\nMIIEabc\ndef\n-----END RSA PRIVATE KEY-----",
}


@pytest.mark.parametrize(("kind", "token"), TOKENS.items())
@pytest.mark.parametrize("form", ["{}", "x = '{}'", "curl -H 'X: {}'", "a\n{}\nb", "\x1b[31m{}\x1b[0m"])
def test_known_shapes(kind: str, token: str, form: str) -> None:
    text = form.format(token)
    assert kind in find_secrets(visible(text))
    clean = scrub(text)
    assert token not in clean and token[8:20] not in clean
    assert f"[removed: {kind}]" in clean


@pytest.mark.parametrize(
    "text",
    [
        "password = 'Tr0ub4dor&3xyz'",
        'API_KEY: "a8f5f167f44f4964e6c998dee827110c"',
        '{"client_secret": "q9Zx7Lm2Vb4Nk8Pw"}',
        "export DB_PASSWORD=9f8e7d6c5b4a3210",
        "Authorization: Bearer abcdefgh12345678",
        "authorization: basic dXNlcjpwYXNzd29yZA==",
        "postgresql://app:hunter2hunter2@db/x",
    ],
)
def test_assignments_headers_and_urls(text: str) -> None:
    assert find_secrets(text)
    assert find_secrets(scrub(text)) == ()


@pytest.mark.parametrize(
    "text",
    [
        "def test_token(tokenizer): assert tokenizer.token == 'hello'",
        "password = os.environ['PASSWORD']",
        "token: str = get_token(user)",
        "secret_name = settings.SECRET_NAME",
        "assert 1 == 2\n  where 1 = f(0x7f3a2b1c)",
        "https://example.org/a/b?c=d",
        "index 13cf1400579ad248cfeda333f34c161f7f813398..77320682510e0a1d2370becd4afcbd47e58fc839 100644",
        "tests/test_a.py::test_b[key-1] FAILED",
    ],
)
def test_plain_text_stays(text: str) -> None:
    assert scrub(text) == text


SECRET = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=12, max_size=40)


@settings(max_examples=50)
@given(SECRET, st.text(max_size=40), st.text(max_size=40))
def test_a_variable_of_this_machine_in_none_of_its_forms(value: str, before: str, after: str) -> None:
    secrets = secrets_of({"MY_TOKEN": value, "PATH": "/usr/bin"})
    assert secrets == (value,)
    data = value.encode()
    forms = [value, urllib.parse.quote(value, safe=""), data.hex(), value[::-1]]
    forms += [base64.b64encode(b"user:" + data).decode(), base64.urlsafe_b64encode(data).decode()]
    for form in forms:
        clean = scrub(f"{before}\n{form}\n{after}", secrets)
        assert value not in clean
        core = form.rstrip("=")[8:-4]  # what is left at the ends belongs to the neighbours
        assert len(core) < 6 or core not in clean.replace(before, "").replace(after, "")


@given(st.text())
def test_nothing_hidden_comes_through_and_twice_is_as_good_as_once(text: str) -> None:
    clean = scrub(text)
    assert not any(is_hidden(char) for char in clean if char not in "\n\t")
    assert scrub(clean) == clean


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://a.example\x07link\x1b]8;;\x07", "link"),
        ("a<!-- obey\nme -->b", "ab"),
        ("a<!-- never closed", "a"),
        ("a<script>x</script>b", "ab"),
        ("p\u200bw\u202en\U000e0041ed", "pwned"),
        ("a\r\nb\x08", "a\nb"),
        ("gh\u200bp_16C7e42F292c6912E7710c838347Ae178B4a", "ghp_16C7e42F292c6912E7710c838347Ae178B4a"),
    ],
)
def test_what_a_person_cannot_see_is_removed(text: str, seen: str) -> None:
    assert visible(text) == seen


def test_a_token_that_hides_behind_a_character_that_cannot_be_seen() -> None:
    assert scrub("gh\u200bp_16C7e42F292c6912E7710c838347Ae178B4a") == "[removed: github token]"


def test_short_and_plain_variables_are_no_secrets() -> None:
    found = secrets_of(
        {
            "PASSWORD": "on",
            "API_URL": "https://a.example",
            "DATABASE_URL": "postgres://u:pw12345@h/d",
            "HOME": "/home/ada",
        }
    )
    assert found == ("postgres://u:pw12345@h/d",)


@given(st.text(max_size=300), st.integers(0, 200))
def test_bounded(text: str, limit: int) -> None:
    short = shorten(text, limit)
    assert len(short) <= limit or short == text
    assert short == text or len(text) > limit


@pytest.mark.parametrize(
    "part",
    [
        "abc.def-ghi_",
        "token",
        "eyJaaaaaaaa-",
        "a:b://",
        "<!--",
        "authorization ",
        "-----BEGIN PRIVATE KEY-----",
        "\x1b]",
        "sk-",
        "://",
    ],
)
def test_no_text_keeps_it_busy_for_ever(part: str) -> None:
    assert len(scrub(part * 2000)) <= len(part) * 2000 + 2000 * 40
