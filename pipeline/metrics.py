"""Every metric's name, in one place. Dashboards and alerts use only these.

Names of the machine server are kept where they mean the same (Prometheus adds `_total` to counters). What that server
counted per machine while it processed an event (battery, temperature, quarantine, recovery time) is instead read off the
fleet by the façade when it is scraped: right after a restart, gone with the machine, and free of charge on the hot path.

Each block below has a registry, and a process shows the blocks that it sets: a zero means "none so far", never "not here".
The default registry holds what every process has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_RECORDS: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500)

WRITER: Final = CollectorRegistry(auto_describe=True)
CONSUMER: Final = CollectorRegistry(auto_describe=True)
RELAY: Final = CollectorRegistry(auto_describe=True)
FACADE: Final = CollectorRegistry(auto_describe=True)
WATCHDOG: Final = CollectorRegistry(auto_describe=True)
ORDERING: Final = CollectorRegistry(auto_describe=True)
STATISTICS: Final = CollectorRegistry(auto_describe=True)
MONITOR: Final = CollectorRegistry(auto_describe=True)
POWERCYCLE_AGENT: Final = CollectorRegistry(auto_describe=True)
SWARMING: Final = CollectorRegistry(auto_describe=True)
NOTIFIER: Final = CollectorRegistry(auto_describe=True)

_BLOCKS: Final[Mapping[str, tuple[CollectorRegistry, ...]]] = {
    "writer": (WRITER, CONSUMER),
    "relay": (RELAY, CONSUMER),
    "facade": (FACADE, ORDERING),
    "watchdog": (WATCHDOG, ORDERING),
    "fleet-stats": (STATISTICS, CONSUMER),
    "monitor": (MONITOR,),
    "powercycle-agent": (POWERCYCLE_AGENT,),
    "swarming-poller": (SWARMING,),
    "notifier": (NOTIFIER,),
}


def registry_of(process: str) -> CollectorRegistry:
    """A new registry of what this process sets: the common metrics, and the blocks of its own if it has any."""
    registry = CollectorRegistry(auto_describe=True)
    for block in (REGISTRY, *_BLOCKS.get(process, ())):
        registry.register(block)
    return registry


# --- every process -----------------------------------------------------------------------------------------------------
LOOP_SILENCE: Final = Gauge(
    "labkeeper_event_loop_silence_seconds",
    "Since the event loop last turned: up to 1 when all is well, more and more while the process hangs.",
)

# --- description writer ------------------------------------------------------------------------------------------------
EVENTS_PROCESSED: Final = Counter(
    "machineserver_processor_events_processed", "Events read, of any kind.", registry=WRITER
)
EVENTS_UNKNOWN_TYPE: Final = Counter(
    "machineserver_processor_unknown_event_type",
    "Events that are not raw_state: taken, without effect.",
    registry=WRITER,
)
EVENTS_REPLAYED: Final = Counter(
    "labkeeper_events_replayed", "Events that had been applied before: without effect.", registry=WRITER
)
CHANGES_SENT: Final = Counter(
    "machine_change_send_success", "Changes published, by sender.", ["type"], registry=WRITER
)

POWER_STEPS: Final = Counter(
    "labkeeper_power_steps",
    "Steps of power commands that agents told, by status.",
    ["status"],
    registry=WRITER,
)
POWER_REPORTS: Final = Counter(
    "labkeeper_power_reports",
    "What agents told of machines' power controllers, by agent and state. It goes on every few minutes, machine by machine.",
    ["agent", "state"],
    registry=WRITER,
)

POWER_OUTLETS_CLAIMED_TWICE: Final = Counter(
    "labkeeper_power_outlets_claimed_twice",
    "Machines of which an agent told while another agent, or another of its controllers, had told of them just before.",
    ["agent"],
    registry=WRITER,
)

# --- whoever reads a topic or parks messages ---------------------------------------------------------------------------
BATCH_RECORDS: Final = Histogram(
    "labkeeper_batch_records", "Messages in a batch.", ["group"], buckets=_RECORDS, registry=CONSUMER
)
BATCH_SECONDS: Final = Histogram(
    "labkeeper_batch_seconds",
    "From a batch in hand to its acknowledgement.",
    ["group"],
    buckets=_SECONDS,
    registry=CONSUMER,
)
CONSUMER_LAG: Final = Gauge(
    "labkeeper_consumer_lag",
    "Messages not yet acknowledged.",
    ["group", "topic", "partition"],
    registry=CONSUMER,
)
CONSUMER_LAG_SECONDS: Final = Gauge(
    "labkeeper_consumer_lag_seconds",
    "Age of the oldest message not yet acknowledged.",
    ["group", "topic"],
    registry=CONSUMER,
)
DEAD_LETTERS: Final = Counter(
    "labkeeper_dead_letters",
    "Messages parked because they cannot be processed.",
    ["topic"],
    registry=CONSUMER,
)

# --- store and outbox: the writer's, everybody's, the relay's ----------------------------------------------------------
STORE_UPDATE_FAIL: Final = Counter(
    "machineserver_store_update_fail",
    "Updates that failed for good; those that were retried with success do not count.",
    registry=WRITER,
)
TRANSACTION_RETRIES: Final = Counter(
    "labkeeper_transaction_retries", "Transactions run again, by SQLSTATE or `connection`.", ["reason"]
)
OUTBOX_PUBLISHED: Final = Counter(
    "labkeeper_outbox_published", "Messages that left the outbox.", registry=RELAY
)
OUTBOX_AGE_SECONDS: Final = Gauge(
    "labkeeper_outbox_age_seconds",
    "Age of the oldest message in the outbox; 0 when it is empty.",
    registry=RELAY,
)

# --- façade ------------------------------------------------------------------------------------------------------------
EVENTS_RECEIVED: Final = Counter(
    "machine_source_receive_success", "Events accepted over HTTP.", ["type"], registry=FACADE
)
EVENTS_REFUSED: Final = Counter(
    "machine_source_receive_failure", "Events refused over HTTP.", ["type"], registry=FACADE
)
REQUEST_SECONDS: Final = Histogram(
    "labkeeper_http_request_seconds",
    "Requests answered.",
    ["method", "route", "status"],
    buckets=_SECONDS,
    registry=FACADE,
)
SSE_CLIENTS: Final = Gauge(
    "sser_server_client_connections", "Open event streams, by kind of stream.", ["stream"], registry=FACADE
)
SSE_DROPPED: Final = Counter(
    "labkeeper_sse_dropped",
    "Clients cut off because they read too slowly; they resume on reconnect.",
    ["stream"],
    registry=FACADE,
)
CHANGES_RECEIVED: Final = Counter(
    "machine_change_receive_success", "Changes taken into the façade's view.", ["type"], registry=FACADE
)

# --- façade: gauges of each machine, read off the fleet ----------------------------------------------------------------
MACHINE_BATTERY: Final = "machine_processor_device_battery_level"
MACHINE_TEMPERATURE: Final = "machine_processor_device_temperature_c"
MACHINE_QUARANTINE_STATE: Final = "machine_processor_device_quarantine_state"
MACHINE_RECOVERING: Final = "machine_processor_device_maintenance"
"""The old name: it never told of maintenance mode."""
MACHINE_RECOVERY_SECONDS: Final = "machine_processor_device_time_in_recovery_mode_s"
MACHINE_RUNNING_TASK: Final = "machine_processor_running_swarming_task"
MACHINE_MAINTENANCE_MODE: Final = "labkeeper_machine_maintenance_mode"
MACHINE_DOWN: Final = "labkeeper_machine_down"

# --- who orders power: façade and watchdog -------------------------------------------------------------------------------
POWER_GIVEN_UP: Final = Counter(
    "labkeeper_power_given_up",
    "Power commands that no agent ended, by what became of them.",
    ["status"],
    registry=ORDERING,
)

# --- watchdog ----------------------------------------------------------------------------------------------------------
MARKED_DOWN: Final = Counter("labkeeper_machines_marked_down", "Machines found silent.", registry=WATCHDOG)
WATCHDOG_HELD: Final = Counter(
    "labkeeper_watchdog_held",
    "Rounds in which nothing was marked because we cannot tell silence from our own lag.",
    ["why"],
    registry=WATCHDOG,
)

HEALING_MACHINES: Final = Gauge(
    "labkeeper_healing_machines",
    "Machines that self-healing decided about in its latest round, by state.",
    ["state"],
    registry=WATCHDOG,
)
HEALING_ORDERS: Final = Counter(
    "labkeeper_healing_orders",
    "Power cycles that self-healing asked for: `ordered`, or `refused` by what holds for everybody.",
    ["outcome"],
    registry=WATCHDOG,
)
HEALING_GAVE_UP: Final = Counter(
    "labkeeper_healing_gave_up", "Machines that self-healing gave up: a person must look.", registry=WATCHDOG
)
HEALING_POLICY_BAD: Final = Gauge(
    "labkeeper_healing_policy_bad",
    "1 while the policy file cannot be used as it is, so that an older state of it is in force.",
    registry=WATCHDOG,
)

# --- fleet statistics --------------------------------------------------------------------------------------------------
STATS_CHANGES: Final = Counter(
    "labkeeper_fleet_stats_changes",
    "Changes read: `counted`, `repeated` (without effect), or `late` (its window was told; counts for the state only).",
    ["outcome"],
    registry=STATISTICS,
)
STATS_WINDOWS: Final = Counter("labkeeper_fleet_stats_windows", "Windows told.", registry=STATISTICS)
STATS_TOLD_UNTIL: Final = Gauge(
    "labkeeper_fleet_stats_told_until_seconds",
    "End of the latest window told, in seconds since 1970; 0 while another process tells.",
    registry=STATISTICS,
)
STATS_WINDOW: Final = Gauge(
    "labkeeper_fleet_stats_window_seconds", "Length of a window, as configured.", registry=STATISTICS
)
STATS_MACHINES: Final = Gauge(
    "labkeeper_fleet_stats_machines", "Machines that are remembered, deleted ones too.", registry=STATISTICS
)

# --- powercycle agent --------------------------------------------------------------------------------------------------
POWER_COMMANDS_ENDED: Final = Counter(
    "labkeeper_power_commands_ended",
    "Power commands that this agent ended, by how: `done`, `failed`, `expired`, `refused`, `cancelled`.",
    ["outcome"],
    registry=POWERCYCLE_AGENT,
)
POWER_STEP_SECONDS: Final = Histogram(
    "labkeeper_power_step_seconds",
    "From the step before to this one: `accepted` is since the request, `off`, `on` and the ends since the previous step.",
    ["step"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
    registry=POWERCYCLE_AGENT,
)
POWER_CONTROLLERS_IN_ERROR: Final = Gauge(
    "labkeeper_power_controllers_in_error",
    "Controllers that do not answer, cannot be used as they are configured, or keep a port off against our will.",
    registry=POWERCYCLE_AGENT,
)
POWER_PORTS_OWED: Final = Gauge(
    "labkeeper_power_ports_owed",
    "Ports that may be off and should be on: the agent tries until they are. Anything but 0 for minutes wants a person.",
    registry=POWERCYCLE_AGENT,
)
POWER_RESULTS_WAITING: Final = Gauge(
    "labkeeper_power_results_waiting",
    "Steps and reports that the lab has not taken yet.",
    registry=POWERCYCLE_AGENT,
)
POWER_RELOADS_FAILED: Final = Counter(
    "labkeeper_power_reloads_failed",
    "New configurations that could not be used; the one before them stays in force.",
    registry=POWERCYCLE_AGENT,
)
POWER_LEASE_HELD: Final = Gauge(
    "labkeeper_power_lease_held",
    "1 while this process is the one that drives its agent's ports; 0 while it stands by.",
    registry=POWERCYCLE_AGENT,
)

# --- machine monitor ---------------------------------------------------------------------------------------------------
MONITOR_INTERROGATE_TIMER: Final = Histogram(
    "test_machine_monitor_interrogate_timer",
    "Seconds that asking the machine or its device took.",
    ["machine"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40),
    registry=MONITOR,
)
MONITOR_INTERROGATIONS: Final = Counter(
    "test_machine_monitor_interrogate_device_type",
    "Attempts to ask, by kind of device.",
    ["machine", "type"],
    registry=MONITOR,
)
MONITOR_ERRORS: Final = Counter(
    "test_machine_monitor_interrogate_and_send_errors",
    "Attempts that found no device.",
    ["machine"],
    registry=MONITOR,
)
MONITOR_DESCRIPTION_ARRIVALS: Final = Counter(
    "test_machine_monitor_description_watch_arrival",
    "Descriptions that arrived.",
    ["machine"],
    registry=MONITOR,
)
MONITOR_AVAILABLE: Final = Gauge(
    "test_machine_monitor_available",
    "1 while tasks may run: not in maintenance, quarantined or recovering.",
    ["machine"],
    registry=MONITOR,
)
MONITOR_SENT: Final = Counter(
    "machine_sink_send_success", "Events accepted by the other side.", ["type"], registry=MONITOR
)
MONITOR_SEND_FAILED: Final = Counter(
    "machine_sink_send_failure", "Attempts to hand an event over that failed.", ["type"], registry=MONITOR
)
MONITOR_WAITING: Final = Gauge(
    "test_machine_monitor_spool_events", "Events on disk that wait to be sent.", ["machine"], registry=MONITOR
)
MONITOR_DROPPED: Final = Counter(
    "test_machine_monitor_spool_dropped",
    "Oldest events given up because too many waited.",
    ["machine"],
    registry=MONITOR,
)
MONITOR_PARKED: Final = Counter(
    "test_machine_monitor_spool_parked",
    "Events that the other side refused for good.",
    ["machine"],
    registry=MONITOR,
)
BOT_REQUESTS: Final = {
    name: Counter(
        f"bot_config_server_{name}_requests",
        f"Requests of the Swarming bot to /{name}.",
        ["machine"],
        registry=MONITOR,
    )
    for name in ("get_state", "get_settings", "get_dimensions")
}
BOT_REQUESTS_SUCCEEDED: Final = {
    name: Counter(
        f"bot_config_server_{name}_requests_success",
        f"Requests to /{name} that were answered.",
        ["machine"],
        registry=MONITOR,
    )
    for name in ("get_state", "get_settings", "get_dimensions", "on_before_task", "on_after_task")
}
SWARMING_ALIVE: Final = Gauge(
    "bot_config_swarming_sub_process",
    "1 while the Swarming bot's process runs.",
    ["machine"],
    registry=MONITOR,
)

# --- Swarming poller ---------------------------------------------------------------------------------------------------
SWARMING_POLLS: Final = Counter(
    "labkeeper_swarming_polls",
    "Times that a pool was asked for: `done` or `failed`.",
    ["server", "pool", "outcome"],
    registry=SWARMING,
)
SWARMING_BOTS: Final = Gauge(
    "labkeeper_swarming_bots",
    "Bots at the last successful poll: `alive`, `dead` or `quarantined`.",
    ["server", "pool", "state"],
    registry=SWARMING,
)
SWARMING_POLLED_AT: Final = Gauge(
    "labkeeper_swarming_polled_timestamp_seconds",
    "When a pool was last polled successfully, seconds since 1970.",
    ["server", "pool"],
    registry=SWARMING,
)

# --- notifier ----------------------------------------------------------------------------------------------------------
NOTICES: Final = Counter(
    "labkeeper_notices", "What there was to tell, machine by machine, by kind.", ["kind"], registry=NOTIFIER
)
NOTIFICATIONS: Final = Counter(
    "labkeeper_notifications",
    "Messages by what became of them: `sent`, `silenced`, `failed` (it is tried again), `given_up`, `no_channel`, "
    "`merged` (into one that waits for a channel that takes none).",
    ["channel", "outcome"],
    registry=NOTIFIER,
)
NOTIFIER_CONFIGURATION_BAD: Final = Gauge(
    "labkeeper_notifier_configuration_bad",
    "1 while the file cannot be used as it is, so that an older state of it is in force.",
    registry=NOTIFIER,
)
