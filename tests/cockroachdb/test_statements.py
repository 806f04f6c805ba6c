"""Everything that the store says to a database, put before CockroachDB's own parser. No CockroachDB is needed."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import pipeline.store
from pipeline.store.migrations import our_migrations
from pipeline.store.schema import expected_schema
from pipeline.store.sql import SqlStore
from tests.cockroachdb.conftest import Parse
from tests.cockroachdb.differences import DIFFERENCES, Difference
from tests.cockroachdb.program import Answer
from tests.cockroachdb.tour import Tour

# The first test pays for the build of the parser, once on each machine: minutes of compiling.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

_VERB: Final = re.compile(
    r"(SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|ALTER|WITH|SET|BEGIN|LOCK|TRUNCATE|GRANT)\b"
)
_PAGE: Final = Path(__file__).parents[2] / "docs" / "cockroachdb.md"
_TABLE: Final = re.compile(r"(?:CREATE TABLE IF NOT EXISTS|ALTER TABLE) (\w+)")
_PLACEHOLDER: Final = re.compile(r"%s|%\(\w+\)s")
_PUT_TOGETHER: Final = {"listing.py"}
"""Modules whose statements differ from call to call; the tour calls them in every combination."""

FUNCTIONS: Final = {"current_schema", "left", "max", "now", "set_config", "strpos", "unnest", "version"}
"""Those that we call, all in https://www.cockroachlabs.com/docs/stable/functions-and-operators (`left` counts characters;
`unnest` takes several arrays)."""
OPERATORS: Final = {"=", "<>", "!=", "<", ">", "<=", ">=", "+", "-", "||", "@>", "ANY", "IN"}
"""`@>` of JSONB is what its inverted indexes serve."""
TYPES: Final = {
    "BYTES", "INT8", "INTERVAL", "JSONB", "STRING", "TIMESTAMPTZ", "BOOL", "BOOL[]", "INT8[]", "STRING[]", "TIMESTAMPTZ[]",
}  # fmt: skip
TAGS: Final = {
    "BEGIN", "COMMIT", "ROLLBACK", "SELECT", "INSERT", "UPDATE", "DELETE", "CREATE TABLE", "ALTER TABLE", "CREATE INDEX",
    "DROP INDEX",
}  # fmt: skip


# --- nothing escapes ---------------------------------------------------------------------------------------------------


def test_the_tour_calls_every_method_of_the_store(store_tour: Tour) -> None:
    methods = {name for name in dir(SqlStore) if not name.startswith("_")}

    assert store_tour.methods == methods
    assert len(store_tour.statements) > 100


def constants() -> Iterator[tuple[str, str]]:
    """Name and text of every statement that stands in a module of the store."""
    for each in pkgutil.iter_modules(pipeline.store.__path__):
        module = importlib.import_module(f"pipeline.store.{each.name}")
        for name, value in vars(module).items():
            if isinstance(value, str) and _VERB.match(value):
                yield f"{each.name}.{name}", value


def test_every_statement_of_the_store_was_said_on_the_tour(store_tour: Tour) -> None:
    silent = [
        name
        for name, sql in constants()
        if not any(
            re.fullmatch(".*".join(map(re.escape, _PLACEHOLDER.split(sql))), said, re.DOTALL)
            for said in store_tour.statements
        )
    ]

    assert len(list(constants())) > 30
    assert silent == []


def test_statements_stand_in_constants_where_they_are_found() -> None:
    """SQL inside a function would escape the test above."""
    hidden = {
        f"{path.name}: {literal}"
        for path in Path(pipeline.store.__path__[0]).glob("*.py")
        if path.name not in _PUT_TOGETHER
        for literal in _literals_in_functions(path)
        if _VERB.match(literal)
    }

    assert hidden == set()


def _literals_in_functions(path: Path) -> Iterator[str]:
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for node in ast.walk(function):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


# --- the parser --------------------------------------------------------------------------------------------------------


def test_cockroachdb_parses_everything(answers: list[Answer]) -> None:
    assert [(each.error, each.text) for each in answers if each.error] == []
    assert all(len(each.statements) == 1 for each in answers if each.text not in _whole_migrations())


def _whole_migrations() -> set[str]:
    return {each.sql for each in our_migrations()}


@pytest.mark.parametrize(
    "sql",
    [
        "LISTEN changes",
        "NOTIFY changes",
        "VACUUM descriptions",
        "LOCK TABLE descriptions",
        'DROP DATABASE "x" WITH (FORCE)',
        "MERGE INTO a USING b ON true WHEN MATCHED THEN DELETE",
        "SELECT FROM WHERE",
        "DO $$ BEGIN END $$",
    ],
)
def test_the_parser_can_say_no(parse: Parse, sql: str) -> None:
    """PostgreSQL takes most of these."""
    (answer,) = parse([sql])

    assert answer.error
    assert answer.statements == ()


def test_only_known_functions_operators_types_and_statements_are_used(answers: list[Answer]) -> None:
    """The parser knows no functions: a new one is looked up in CockroachDB's documentation and added above."""
    statements = [statement for answer in answers for statement in answer.statements]

    assert {name for each in statements for name in each.functions} == FUNCTIONS
    assert {name for each in statements for name in each.operators} <= OPERATORS
    assert {name for each in statements for name in each.types} == TYPES
    assert {each.tag for each in statements} == TAGS


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda each: each.name)
def test_nothing_relies_on(difference: Difference, answers: list[Answer]) -> None:
    """In CockroachDB's own spelling, with the constants hidden: what people wrote proves nothing."""
    found = [
        statement.sql
        for each in answers
        for statement in each.statements
        if difference.found_in(statement.sql)
    ]

    assert found == [], f"{difference.why}: {difference.link}"


def test_what_the_parser_takes_is_caught_in_its_spelling_too(parse: Parse) -> None:
    samples = parse([each.sample for each in DIFFERENCES])
    taken = [
        (difference, answer.statements[0].sql)
        for difference, answer in zip(DIFFERENCES, samples, strict=True)
        if not answer.error
    ]

    assert [each.name for each, sql in taken if not each.found_in(sql)] == []
    assert len(taken) > 15


def test_what_the_operators_page_tells_to_type_parses(parse: Parse) -> None:
    blocks = re.findall(r"```sql\n(.*?)```", _PAGE.read_text(), re.DOTALL)

    assert len(blocks) == 3
    assert [answer.error for answer in parse(blocks)] == [""] * 3


# --- migrations --------------------------------------------------------------------------------------------------------


def test_migrations_fall_apart_into_the_statements_that_the_parser_sees(parse: Parse) -> None:
    """On CockroachDB they are carried out one by one."""
    for migration in our_migrations():
        (whole,) = parse([migration.sql])
        parts = parse(migration.statements)

        assert [part.statements for part in parts] == [(statement,) for statement in whole.statements]


def test_cockroachdb_names_the_types_of_our_columns_as_postgresql_does(answers: list[Answer]) -> None:
    """So the check of a live schema holds there, too."""
    made: dict[str, dict[str, str]] = {}
    for each in answers:
        for statement in each.statements:
            if (table := _TABLE.match(statement.sql)) is not None:
                made.setdefault(table[1], {}).update(statement.columns)

    assert made == {table: parts["columns"] for table, parts in expected_schema().items()}
