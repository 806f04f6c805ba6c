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
