"""A line for a Slack channel, by an incoming webhook."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

_SECONDS = 10


def send(url: str, text: str) -> str:
    """Post a message; gives why it could not be sent, or "". Nothing depends on it, and the URL is never shown."""
    data = json.dumps({"text": text}).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        return f"Slack answered {error.code}"
    except (OSError, ValueError) as error:
        return f"Slack cannot be reached: {type(error).__name__}"
