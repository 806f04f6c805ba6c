"""Why a server of ours cannot be had. The texts are one sentence for the person who wanted it."""

from __future__ import annotations


class ServerUnavailable(Exception):
    """Something that the server is made of is missing here; the text says what to install."""


class ServerFailed(Exception):
    """The server is there but did not start, or ended by itself."""
