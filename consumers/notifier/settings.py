"""Settings of the notifier."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

GROUP: Final = "notifier"
"""Its consumer group."""
NAME: Final = "notifier"
"""Of its lease and its checkpoint."""


@dataclass(frozen=True, slots=True)
class NotifierSettings:
    """How patient it is."""

    look_every: timedelta = timedelta(seconds=1)
    """How often it looks whether a group is to be sent, and whether its file has changed."""
    give_up_after: timedelta = timedelta(hours=24)
    """A message that no receiver has taken for so long is dropped, and that is logged as an error."""
    longest_pause: timedelta = timedelta(minutes=5)
    """Between two tries to send a message."""
    lease: timedelta = timedelta(seconds=15)
    """How soon another notifier takes over from one that was killed."""
