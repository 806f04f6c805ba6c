"""Headers that say when a request is to be carried out: `If-Match`, and once only: `Idempotency-Key`."""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web

from consumers.facade.errors import invalid
from schemas.api import IDEMPOTENCY_KEY_PATTERN

_KEY: Final = "Idempotency-Key"

_version = re.compile(r"[0-9]{1,19}")
_key = re.compile(IDEMPOTENCY_KEY_PATTERN)


def expected_versions(request: web.Request) -> frozenset[int] | None:
    """The versions that `If-Match` names; None: any will do. Weak ones and what we never issued match nothing."""
    known = request.if_match
    if "If-Match" not in request.headers or (known and known[0].value == "*"):
        return None
    issued = [each.value for each in known or () if not each.is_weak and _version.fullmatch(each.value)]
    return frozenset(map(int, issued))


def idempotency_key_of(request: web.Request) -> str:
    """The key; empty without one. Raises `Refusal` when it is none."""
    keys = request.headers.getall(_KEY, [])
    if not keys:
        return ""
    if len(keys) > 1:
        raise invalid(_KEY, "given more than once")
    if _key.fullmatch(keys[0]) is None:
        raise invalid(_KEY, "expected 1 to 200 visible ASCII characters")
    return keys[0]
