"""The policy file on disk: read at the start, and again whenever it has changed. A bad one leaves the one before in force."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pipeline import logs, metrics
from pipeline.errors import Misconfigured
from pipeline.healing.policy import Policies
from pipeline.healing.policy_file import policies_of
from pipeline.json5_file import parse_unique, read_text

LARGEST_FILE: Final = 256 * 1024
"""Bytes; no lab has so many pools."""

log = logs.get_logger()


def check_file(path: Path) -> None:
    """Raises `Misconfigured` when the watchdog would not begin with this file."""
    PolicySource(path)


class PolicySource:
    """One policy file, or none."""

    def __init__(self, path: Path | None) -> None:
        """Without a path self-healing is off. Raises `Misconfigured` when the file will not do."""
        self._path = path
        self._text = "" if path is None else read_text(path, max_bytes=LARGEST_FILE)
        self.policies = Policies() if path is None else _parsed(self._text, path)
        """Those in force."""
        self._complaint = ""

    def refresh(self) -> None:
        """Read the file anew if it has changed. What is wrong with it is said once, and shows in a metric."""
        if self._path is None:
            return
        try:
            text = read_text(self._path, max_bytes=LARGEST_FILE)
            is_new = text != self._text
            policies = _parsed(text, self._path) if is_new else self.policies
        except Misconfigured as error:
            self._complain(str(error))
            return
        is_mended = bool(self._complaint)
        self._text, self._complaint, self.policies = text, "", policies
        metrics.HEALING_POLICY_BAD.set(0)
        if is_new or is_mended:
            log.info("heal_policy_loaded", file=str(self._path), pools=sorted(policies.pools))

    def _complain(self, reason: str) -> None:
        metrics.HEALING_POLICY_BAD.set(1)
        if reason != self._complaint:
            self._complaint = reason
            log.warning("heal_policy_refused", reason=reason, kept="the one before stays in force")


def _parsed(text: str, path: Path) -> Policies:
    document = parse_unique(text, str(path))
    try:
        return policies_of(document, str(path))
    except ValueError as error:
        raise Misconfigured(str(error)) from error
