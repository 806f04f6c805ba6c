"""What CockroachDB says when it fails, in its words."""

from __future__ import annotations

from itertools import cycle
from typing import Final

from tests.integration.cockroach_proxy.wire import Message, error

_META: Final = (
    '"sql txn" meta={id=5dd63a3b key=/Table/106/1/"m1"/0 iso=Serializable pri=0.02 epo=0 ts=1767225600.1,2'
    " min=1767225600.1,0 seq=3} lock=true stat=PENDING rts=1767225600.1,0 wto=false gul=1767225600.6,0"
)
_REASONS: Final = (
    "TransactionRetryError: retry txn (RETRY_WRITE_TOO_OLD - WriteTooOld flag converted into WriteTooOldError)",
    'WriteTooOldError: write for key /Table/106/1/"m1"/0 at timestamp 1767225600.1,0 too old; must write at or above 1767225600.2,1',
    'TransactionRetryError: retry txn (RETRY_SERIALIZABLE - failed preemptive refresh due to conflict: committed value on key "m1")',
    "TransactionRetryError: retry txn (RETRY_ASYNC_WRITE_FAILURE - missing intent on record recovery)",
    "TransactionRetryError: retry txn (RETRY_COMMIT_DEADLINE_EXCEEDED - txn timestamp pushed too much)",
    "ReadWithinUncertaintyIntervalError: read at time 1767225600.1,0 encountered previous write with future timestamp 1767225600.3,0",
    "TransactionAbortedError(ABORT_REASON_ABORTED_RECORD_FOUND)",
    "TransactionAbortedError(ABORT_REASON_CLIENT_REJECT)",
    "TransactionAbortedError(ABORT_REASON_PUSHER_ABORTED)",
    "TransactionAbortedError(ABORT_REASON_ABORT_SPAN)",
    "TransactionAbortedError(ABORT_REASON_NEW_LEASE_PREVENTS_TXN)",
    "TransactionAbortedError(ABORT_REASON_TIMESTAMP_CACHE_REJECTED)",
)
_AMBIGUITIES: Final = (
    "result is ambiguous: error=rpc error: code = Unavailable desc = error reading from server: EOF [propagate]",
    "result is ambiguous: error=ba: EndTxn(parallel commit) RPC error: grpc: connection error [exhausted]",
    "result is ambiguous: server shutdown",
    "result is ambiguous: context done during DistSender.Send: context canceled",
)


class Complaints:
    """Errors, each time with another of the reasons there are."""

    def __init__(self) -> None:
        self._reasons = cycle(_REASONS)
        self._ambiguities = cycle(_AMBIGUITIES)

    def retry(self) -> Message:
        """A transaction that must be restarted."""
        reason = next(self._reasons)
        text = f"restart transaction: TransactionRetryWithProtoRefreshError: {reason}: {_META}"
        return error("40001", text)

    def ambiguous(self) -> Message:
        """A commit of which nobody knows how it ended."""
        return error("40003", next(self._ambiguities))

    def shutting_down(self) -> Message:
        """The end of a session on a node that is being drained."""
        return error("57P01", "server is shutting down", severity="FATAL")

    def not_accepting(self) -> Message:
        """The answer of a draining node to who connects."""
        return error("57P01", "server is not accepting clients, try another node", severity="FATAL")

    def starting(self) -> Message:
        """The answer of a node that is not up yet."""
        return error("57P03", "the database system is starting up", severity="FATAL")
