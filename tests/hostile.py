"""Events that nobody should send, and the field that the refusal must name."""

from __future__ import annotations

import json
from typing import Any

GOOD = {"type": "raw_state", "host": {"name": "rack4-07"}}


def event(**parts: Any) -> bytes:
    return json.dumps({**GOOD, **parts}).encode()


HOSTILE_EVENTS = {
    "malformed": (b'{"type": "raw_state", "host": {"name": "a"', "body"),
    "empty": (b"", "body"),
    "not utf-8": (b'{"host": {"name": "\xff\xfe"}}', "body"),
    "a list": (b"[]", "body"),
    "just null": (b"null", "body"),
    "trailing garbage": (event() + b"}", "body"),
    "nested deeply": (b'{"host":{"name":"a"},"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "body"),
    "wrong type": (event(android={"uptime": "long"}), "android.uptime"),
    "number in quotes": (event(standalone={"cores": "4"}), "standalone.cores"),
    "host is a list": (event(host=[]), "host"),
    "list of numbers": (event(standalone={"cpus": [1, 2]}), "standalone.cpus.0"),
    "NaN": (b'{"host":{"name":"a"},"sequence":NaN}', "sequence"),
    "infinity": (b'{"host":{"name":"a"},"ios":{"battery":Infinity}}', "ios.battery"),
    "65 bits": (event(sequence=2**64), "sequence"),
    "negative sequence": (event(sequence=-1), "sequence"),
    "many digits": (b'{"host":{"name":"a"},"sequence":' + b"9" * 5000 + b"}", "body"),
    "year 0": (event(host={"name": "a", "start_time": "0000-01-01T00:00:00Z"}), "host.start_time"),
    "year 9999": (event(host={"name": "a", "start_time": "9999-12-31T23:59:59Z"}), "host.start_time"),
    "time without zone": (event(host={"name": "a", "start_time": "2026-01-01T00:00:00"}), "host.start_time"),
    "no host": (b'{"type":"raw_state"}', "host.name"),
    "no name": (event(host={}), "host.name"),
    "empty name": (event(host={"name": ""}), "host.name"),
    "path as name": (event(host={"name": "../x"}), "host.name"),
    "quotes in name": (event(host={"name": 'a"b'}), "host.name"),
    "SQL in name": (event(host={"name": "a'; DROP TABLE descriptions;--"}), "host.name"),
    "newline after name": (event(host={"name": "a\n"}), "host.name"),
    "long name": (event(host={"name": "a" * 10_000}), "host.name"),
    "NUL in name": (event(host={"name": "a\0"}), "host.name"),
    "NUL in getprop": (event(android={"getprop": "a\0"}), "android.getprop"),
    "lone surrogate in name": (b'{"host":{"name":"\\ud800"}}', "host.name"),
    "lone surrogate in text": (b'{"host":{"name":"a","version":"\\udfff"}}', "host.version"),
}
