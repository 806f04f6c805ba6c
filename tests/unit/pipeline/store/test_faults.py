"""What an error of the database means to us."""

from __future__ import annotations

import psycopg2
import psycopg2.errors
import pytest

from pipeline.store.faults import CONNECTION, reason_to_retry, spoils_connection


@pytest.mark.parametrize("kind", [psycopg2.OperationalError, psycopg2.InterfaceError, psycopg2.DatabaseError])
def test_a_server_that_dies_in_mid_sentence_is_tried_again_on_a_new_connection(
    kind: type[psycopg2.Error],
) -> None:
    error = kind("server closed the connection unexpectedly")
    assert reason_to_retry(error) == CONNECTION
    assert spoils_connection(error)


@pytest.mark.parametrize("kind", [psycopg2.ProgrammingError, psycopg2.DataError, psycopg2.NotSupportedError])
def test_a_mistake_of_ours_is_not_tried_again(kind: type[psycopg2.Error]) -> None:
    error = kind("no results to fetch")
    assert reason_to_retry(error) is None
    assert not spoils_connection(error)
