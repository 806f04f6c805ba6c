"""`labkeeper power`: the group whose commands look after machines' power."""

from __future__ import annotations

from typing import Final

from producers.labkeeper.catalogue import POWER_COMMANDS
from producers.labkeeper.umbrella import LazyGroup

_HELP: Final = """Cycle machines' power, and look after the switches that do it.

\b
  labkeeper power cycle rack4-07 --wait             and say how it goes
  labkeeper power cycle --where pool=Skia --down    all that fell silent, after a question
  labkeeper power list                              where each machine's power comes from
  labkeeper power check /etc/powercycle.json5       is a rack's configuration right?

An agent in each rack drives the switches: see `labkeeper powercycle-agent --help`.
"""

command = LazyGroup(name="power", entries=POWER_COMMANDS, help=_HELP)
