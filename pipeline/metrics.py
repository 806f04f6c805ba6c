"""Every metric's name, in one place. Dashboards and alerts use only these.

Names of the machine server are kept where they mean the same (Prometheus adds `_total` to counters). What that server
counted per machine while it processed an event (battery, temperature, quarantine, recovery time) is instead read off the
fleet by the façade when it is scraped: right after a restart, gone with the machine, and free of charge on the hot path.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_RECORDS: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500)

# --- description writer ------------------------------------------------------------------------------------------------
EVENTS_PROCESSED: Final = Counter("machineserver_processor_events_processed", "Events read, of any kind.")
EVENTS_UNKNOWN_TYPE: Final = Counter(
    "machineserver_processor_unknown_event_type", "Events that are not raw_state: taken, without effect."
)
EVENTS_REPLAYED: Final = Counter(
    "labkeeper_events_replayed", "Events that had been applied before: without effect."
)
CHANGES_SENT: Final = Counter("machine_change_send_success", "Changes published, by sender.", ["type"])

# --- every consumer ----------------------------------------------------------------------------------------------------
BATCH_RECORDS: Final = Histogram(
    "labkeeper_batch_records", "Messages in a batch.", ["group"], buckets=_RECORDS
)
BATCH_SECONDS: Final = Histogram(
    "labkeeper_batch_seconds", "From a batch in hand to its acknowledgement.", ["group"], buckets=_SECONDS
)
CONSUMER_LAG: Final = Gauge(
    "labkeeper_consumer_lag", "Messages not yet acknowledged.", ["group", "topic", "partition"]
)
CONSUMER_LAG_SECONDS: Final = Gauge(
    "labkeeper_consumer_lag_seconds", "Age of the oldest message not yet acknowledged.", ["group", "topic"]
)
DEAD_LETTERS: Final = Counter(
    "labkeeper_dead_letters", "Messages parked because they cannot be processed.", ["topic"]
)

# --- store and outbox --------------------------------------------------------------------------------------------------
STORE_UPDATE_FAIL: Final = Counter(
    "machineserver_store_update_fail",
    "Updates that failed for good; those that were retried with success do not count.",
)
TRANSACTION_RETRIES: Final = Counter(
    "labkeeper_transaction_retries", "Transactions run again, by SQLSTATE or `connection`.", ["reason"]
)
OUTBOX_PUBLISHED: Final = Counter("labkeeper_outbox_published", "Messages that left the outbox.")
OUTBOX_AGE_SECONDS: Final = Gauge(
    "labkeeper_outbox_age_seconds", "Age of the oldest message in the outbox; 0 when it is empty."
)

# --- façade ------------------------------------------------------------------------------------------------------------
EVENTS_RECEIVED: Final = Counter("machine_source_receive_success", "Events accepted over HTTP.", ["type"])
EVENTS_REFUSED: Final = Counter("machine_source_receive_failure", "Events refused over HTTP.", ["type"])
REQUEST_SECONDS: Final = Histogram(
    "labkeeper_http_request_seconds", "Requests answered.", ["method", "route", "status"], buckets=_SECONDS
)
SSE_CLIENTS: Final = Gauge(
    "sser_server_client_connections", "Open event streams, by kind of stream.", ["stream"]
)
SSE_DROPPED: Final = Counter(
    "labkeeper_sse_dropped",
    "Clients cut off because they read too slowly; they resume on reconnect.",
    ["stream"],
)
CHANGES_RECEIVED: Final = Counter(
    "machine_change_receive_success", "Changes taken into the façade's view.", ["type"]
)

# --- watchdog ----------------------------------------------------------------------------------------------------------
MARKED_DOWN: Final = Counter("labkeeper_machines_marked_down", "Machines found silent.")
WATCHDOG_HELD: Final = Counter(
    "labkeeper_watchdog_held",
    "Rounds in which nothing was marked because we cannot tell silence from our own lag.",
    ["why"],
)

# --- machine monitor ---------------------------------------------------------------------------------------------------
MONITOR_INTERROGATE_TIMER: Final = Histogram(
    "test_machine_monitor_interrogate_timer",
    "Seconds that asking the machine or its device took.",
    ["machine"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40),
)
MONITOR_INTERROGATIONS: Final = Counter(
    "test_machine_monitor_interrogate_device_type", "Attempts to ask, by kind of device.", ["machine", "type"]
)
MONITOR_ERRORS: Final = Counter(
    "test_machine_monitor_interrogate_and_send_errors", "Attempts that found no device.", ["machine"]
)
MONITOR_DESCRIPTION_ARRIVALS: Final = Counter(
    "test_machine_monitor_description_watch_arrival", "Descriptions that arrived.", ["machine"]
)
MONITOR_AVAILABLE: Final = Gauge(
    "test_machine_monitor_available",
    "1 while tasks may run: not in maintenance, quarantined or recovering.",
    ["machine"],
)
MONITOR_SENT: Final = Counter("machine_sink_send_success", "Events accepted by the other side.", ["type"])
MONITOR_SEND_FAILED: Final = Counter(
    "machine_sink_send_failure", "Attempts to hand an event over that failed.", ["type"]
)
MONITOR_WAITING: Final = Gauge(
    "test_machine_monitor_spool_events", "Events on disk that wait to be sent.", ["machine"]
)
MONITOR_DROPPED: Final = Counter(
    "test_machine_monitor_spool_dropped", "Oldest events given up because too many waited.", ["machine"]
)
MONITOR_PARKED: Final = Counter(
    "test_machine_monitor_spool_parked", "Events that the other side refused for good.", ["machine"]
)
BOT_REQUESTS: Final = {
    name: Counter(
        f"bot_config_server_{name}_requests", f"Requests of the Swarming bot to /{name}.", ["machine"]
    )
    for name in ("get_state", "get_settings", "get_dimensions")
}
BOT_REQUESTS_SUCCEEDED: Final = {
    name: Counter(
        f"bot_config_server_{name}_requests_success", f"Requests to /{name} that were answered.", ["machine"]
    )
    for name in ("get_state", "get_settings", "get_dimensions", "on_before_task", "on_after_task")
}
SWARMING_ALIVE: Final = Gauge(
    "bot_config_swarming_sub_process", "1 while the Swarming bot's process runs.", ["machine"]
)
