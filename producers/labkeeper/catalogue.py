"""Which commands there are, by name: a table of strings, so that asking for help loads none of them.

The services are strangers to this package and to one another; only the process that is asked for is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Entry:
    """A command, and where it lives."""

    name: str
    module: str
    help: str
    """One line for the list of commands."""
    section: str = "Commands"
    attribute: str = "command"


EVERYDAY: Final = "Everyday"
MACHINES: Final = "Machines"
SERVICES: Final = "Services"
UPKEEP: Final = "Upkeep"

COMMANDS: Final = (
    Entry("up", "producers.labkeeper.up", "Run a whole lab on this computer.", EVERYDAY),
    Entry("status", "producers.labkeeper.status", "Say whether the lab is up, and how it is.", EVERYDAY),
    Entry("machines", "producers.labkeeper.machines", "List, watch and look after machines.", EVERYDAY),
    Entry("power", "producers.labkeeper.power", "Cycle power, and see what became of it.", EVERYDAY),
    Entry("silences", "producers.labkeeper.silences", "Keep quiet about machines for a while.", EVERYDAY),
    Entry("fleet", "producers.labkeeper.fleet", "Say how the whole fleet does.", EVERYDAY),
    Entry("heal", "producers.labkeeper.heal", "Say what self-healing would do, and why.", EVERYDAY),
    Entry("monitor", "producers.machine_monitor.__main__", "Report this host and its device.", MACHINES),
    Entry("simulator", "producers.simulator.__main__", "Pretend to be a fleet of machines.", MACHINES),
    Entry("facade", "consumers.facade.__main__", "Serve the web page and the HTTP API.", SERVICES),
    Entry("writer", "consumers.description_writer.__main__", "Turn events into rows and changes.", SERVICES),
    Entry("relay", "consumers.outbox_relay.__main__", "Publish what operators changed.", SERVICES),
    Entry("watchdog", "consumers.watchdog.__main__", "Find machines that fell silent.", SERVICES),
    Entry(
        "powercycle-agent",
        "consumers.powercycle_agent.__main__",
        "Drive the power of a rack's machines.",
        SERVICES,
    ),
    Entry("fleet-stats", "consumers.fleet_stats.__main__", "Tell how the fleet does over time.", SERVICES),
    Entry("notifier", "consumers.notifier.__main__", "Tell people by webhook, Slack and mail.", SERVICES),
    Entry(
        "swarming-poller",
        "producers.swarming_poller.__main__",
        "Learn from Swarming which bots are dead.",
        SERVICES,
    ),
    Entry("db", "producers.labkeeper.database", "Prepare the database, or upgrade it.", UPKEEP),
    Entry("topics", "producers.labkeeper.topics", "Make the topics on Kafka or Pub/Sub.", UPKEEP),
    Entry(
        "token",
        "consumers.facade.tokens",
        "Make, list and revoke API tokens.",
        UPKEEP,
        attribute="token_command",
    ),
    Entry("dead", "producers.labkeeper.dead", "Look after messages nobody could process.", UPKEEP),
    Entry("schemas", "producers.labkeeper.schemas", "Write the messages' JSON Schemas.", UPKEEP),
    Entry("completion", "producers.labkeeper.completion", "Teach your shell to complete commands.", UPKEEP),
)

_LOOKING: Final = "producers.labkeeper.machine_listing"
_ACTING: Final = "producers.labkeeper.machine_actions"

MACHINE_COMMANDS: Final = (
    Entry("list", _LOOKING, "List machines, filtered and sorted.", "Look", "list_command"),
    Entry("show", _LOOKING, "Show all that is known about a machine.", "Look", "show_command"),
    Entry("history", _LOOKING, "Say what happened to a machine, and who did it.", "Look", "history_command"),
    Entry("watch", "producers.labkeeper.machine_watch", "Follow changes as they happen.", "Look"),
    Entry("maintenance", _ACTING, "Take machines out of service, or give them back.", "Act", "maintenance"),
    Entry("note", _ACTING, "Leave a note on machines for others to read.", "Act", "note_command"),
    Entry(
        "set-device", _ACTING, "Say what kind of device is attached.", "Act", attribute="set_device_command"
    ),
    Entry("clear-quarantine", _ACTING, "Lift a forced quarantine.", "Act", "clear_quarantine_command"),
    Entry("delete", _ACTING, "Forget machines that are gone for good.", "Act", "delete_command"),
)

_ORDERING: Final = "producers.labkeeper.power_orders"
_POWER: Final = "producers.labkeeper.power_looks"
_RACK: Final = "consumers.powercycle_agent"

POWER_COMMANDS: Final = (
    Entry("cycle", _ORDERING, "Switch machines off and on again.", "Act", "cycle_command"),
    Entry("on", _ORDERING, "Switch machines on.", "Act", "on_command"),
    Entry("off", _ORDERING, "Switch machines off.", "Act", "off_command"),
    Entry("cancel", _ORDERING, "Withdraw what no agent has begun.", "Act", "cancel_command"),
    Entry("get", _POWER, "Say where a machine's power comes from.", "Look", "get_command"),
    Entry("list", _POWER, "List machines, their controllers and ports.", "Look", "list_command"),
    Entry("history", _POWER, "List commands and what became of them.", "Look", "history_command"),
    Entry("check", f"{_RACK}.check", "Check a rack's configuration.", "In the rack", "check_command"),
    Entry("trust", f"{_RACK}.trust", "Learn the switches' SSH host keys.", "In the rack", "trust_command"),
    Entry(
        "drivers",
        f"{_RACK}.driver_listing",
        "List the kinds of controllers.",
        "In the rack",
        "drivers_command",
    ),
)

HEAL_COMMANDS: Final = (
    Entry(
        "explain",
        "producers.labkeeper.heal",
        "Say what would be done with a machine.",
        "Look",
        "explain_command",
    ),
    Entry("check", "consumers.watchdog.check", "Check a policy file.", "Policy", "check_command"),
)

FILE_CHECKS: Final = {
    "powercycle_config": "consumers.powercycle_agent.check",
    "heal_policy": "consumers.watchdog.policy_source",
    "notifier_config": "consumers.notifier.configuration",
}
"""By setting of the lab: whose `check_file` raises `Misconfigured` when the service would not begin with a file."""

FLEET_COMMANDS: Final = (
    Entry(
        "stats",
        "producers.labkeeper.fleet_stats",
        "Show availability and recoveries, now or over time.",
        "Look",
    ),
)
