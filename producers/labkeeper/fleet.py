"""`labkeeper fleet`: the group whose commands look at the fleet as a whole."""

from __future__ import annotations

from typing import Final

from producers.labkeeper.catalogue import FLEET_COMMANDS
from producers.labkeeper.umbrella import LazyGroup

_HELP: Final = """Say how the whole fleet does.

\b
  labkeeper fleet stats                         each pool, now
  labkeeper fleet stats --since 24h             the whole fleet, over the last day
  labkeeper fleet stats --since 2h --pool Skia  one pool
"""

command = LazyGroup(name="fleet", entries=FLEET_COMMANDS, help=_HELP)
