"""What the database's errors mean to us: try again, park the message, mend the configuration, or a bug of ours.

The names of the states: https://www.postgresql.org/docs/current/errcodes-appendix.html. CockroachDB uses the same ones,
with two of its own under 58 (a range is out of reach, a connection between its nodes failed).
"""

from __future__ import annotations

from typing import Final

import psycopg2

from pipeline.errors import Misconfigured, Rejected

CONNECTION: Final = "connection"
"""Reason of a retry when the connection broke or could not be made."""

_CONFLICTS: Final = ("40001", "40P01")
"""Serialization failure and deadlock: the one class 40 states after which the transaction is known to have failed."""

_TRY_AGAIN_CLASSES: Final = (
    "08",  # connection exception
    "40",  # transaction rollback; CockroachDB's ambiguous result is 40003
    "53",  # insufficient resources: too many connections, disk full
    "57",  # operator intervention: shutting down, draining, starting up, statement took too long
    "58",  # system error
)
_TRY_AGAIN: Final = (
    "25006",  # read-only: the server has just become a standby; a new connection finds the other one
    "55P03",  # a lock is not available
    "23505",  # ours is the only unique key that can be hit, and only by an earlier attempt still being committed
)
_BAD_DATA_CLASSES: Final = (
    "22",  # data exception: not representable, out of range, a NUL inside JSON
    "54",  # program limit exceeded: nested too deeply, too large for an index
)
_NEW_CONNECTION_CLASSES: Final = ("08", "57", "58")
_READ_ONLY: Final = "25006"
_MISSING_TABLE: Final = "42P01"
_NO_PRIVILEGE: Final = "42501"


def reason_to_retry(error: psycopg2.Error) -> str | None:
    """The SQLSTATE, or `connection`, if trying again may help; None if it will not."""
    code: str | None = error.pgcode
    if code is None:  # never reached the server, or the answer never reached us
        return CONNECTION if _is_of_the_connection(error) else None
    return code if code[:2] in _TRY_AGAIN_CLASSES or code in _TRY_AGAIN else None


def _is_of_the_connection(error: psycopg2.Error) -> bool:
    if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        return True
    return (
        type(error) is psycopg2.DatabaseError
    )  # cut off in mid-sentence: psycopg2 knows no better name for it


def leaves_doubt(error: psycopg2.Error) -> bool:
    """Whether a transaction may have been committed although committing it ended with this error."""
    return error.pgcode not in _CONFLICTS


def spoils_connection(error: psycopg2.Error) -> bool:
    """Whether trying again had better use a new connection: the server is going, or is no longer the one that writes."""
    code: str | None = error.pgcode
    if code is None:
        return _is_of_the_connection(error)
    return code[:2] in _NEW_CONNECTION_CLASSES or code == _READ_ONLY


def translated(error: psycopg2.Error) -> Exception:
    """What to raise for an error that trying again does not mend; a mistake of ours stays what it is."""
    code: str = error.pgcode or ""
    if code[:2] in _BAD_DATA_CLASSES:
        return Rejected(f"the database does not take it: {explained(error)}")
    if code == _MISSING_TABLE:
        return Misconfigured(
            f"the database lacks our tables ({explained(error)}): run `labkeeper db migrate` against it first"
        )
    if code == _NO_PRIVILEGE:
        return Misconfigured(f"the database user may not do this: {explained(error)}")
    ours: Exception = error
    return ours


def explained(error: psycopg2.Error) -> str:
    """The fault in one line, for people."""
    primary = error.diag.message_primary if error.pgcode is not None else None
    return " ".join((primary or str(error)).split())
