"""What a host cannot tell of itself: worth a line in the log once, not with every report."""

from __future__ import annotations

from pipeline import logs
from producers.machine_monitor.probes.protocol import ProbeFailed


class Doubts:
    """Logs why something cannot be told, and again only when the reason is another one."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def tell(self, what: str, error: ProbeFailed) -> None:
        """Log it, unless that was the last thing said about `what`. Not a warning: the report is sent all the same."""
        reason = str(error)
        if self._told.get(what) != reason:
            self._told[what] = reason
            logs.get_logger().info("cannot tell", what=what, reason=reason)
