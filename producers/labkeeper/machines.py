"""`labkeeper machines`: the group whose commands ask the façade."""

from __future__ import annotations

from typing import Final

from producers.labkeeper.catalogue import MACHINE_COMMANDS
from producers.labkeeper.umbrella import LazyGroup

_HELP: Final = """List, watch and look after machines.

\b
  labkeeper machines list                           all of them, worst reasons included
  labkeeper machines list --where pool=Skia --down  those of a pool that fell silent
  labkeeper machines watch                          a line for everything that happens
  labkeeper machines maintenance on rack4-07 --reason "new fan"

Names from one command feed the next:

\b
  labkeeper machines list --down -o name | xargs labkeeper machines note -m "power cut"
"""

command = LazyGroup(name="machines", entries=MACHINE_COMMANDS, help=_HELP)
