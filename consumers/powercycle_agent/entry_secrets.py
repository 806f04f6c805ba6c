"""Which texts of a configuration are secrets: judged by their keys, so that it also works for an entry that is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

MIN_LENGTH: Final = 3
"""Characters; blotting out shorter ones would spoil words by chance."""

_KEY = re.compile(r"passw|passphrase|secret|token|community|authorization|(?:^|[_-])key$", re.IGNORECASE)
_ELSEWHERE: Final = ("_file", "_variable", "_env", "host_key", "public_key")
"""Ends of keys that only say where a secret is, or name a public key."""
_IN_URL = re.compile(r"://[^/@:]*:([^/@]+)@")


def secrets_in(content: Any, *, inside: bool = False) -> Iterable[str]:
    """All texts that are secrets, or part of an URL that is; `inside`: the key above was a secret's."""
    if isinstance(content, str):
        yield from [content] if inside and content else _IN_URL.findall(content)
    elif isinstance(content, dict):
        for key, value in content.items():
            yield from secrets_in(value, inside=inside or _is_secret(key))
    elif isinstance(content, list):
        for value in content:
            yield from secrets_in(value, inside=inside)


def without_secrets(text: str, content: Any) -> str:
    """The text, with each secret of `content` blotted out."""
    for secret in sorted(secrets_in(content), key=len, reverse=True):
        if len(secret) >= MIN_LENGTH:
            text = text.replace(secret, "…")
    return text


def _is_secret(key: object) -> bool:
    return isinstance(key, str) and _KEY.search(key) is not None and not key.endswith(_ELSEWHERE)
