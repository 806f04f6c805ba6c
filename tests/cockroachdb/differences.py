"""Where CockroachDB differs from PostgreSQL: each difference with its name, its reason and a sample.

What its parser refuses needs no entry, but many of these it takes: they fail, do nothing or mean something else only when
they are executed. The patterns are looked for in our own text and in CockroachDB's spelling of it, without constants.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_DOCS: Final = "https://www.cockroachlabs.com/docs/stable/"
_ISSUES: Final = "https://github.com/cockroachdb/cockroach/issues/"
_GENERAL: Final = _DOCS + "postgresql-compatibility"


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that works in PostgreSQL and not, or not the same way, in CockroachDB."""

    name: str
    pattern: str
    """Would show that we rely on it."""
    sample: str
    """A statement that does."""
    why: str
    link: str = _GENERAL

    def found_in(self, sql: str) -> bool:
        """Whether the statement relies on it."""
        return re.search(self.pattern, re.sub(r"--.*", "", sql), re.IGNORECASE) is not None


DIFFERENCES: Final = (
    # --- messages and locks
    Difference(
        "listen-notify", r"\b(un)?listen\b|\bnotify\b|pg_notify", "LISTEN x", "refused", _ISSUES + "41522"
    ),
    Difference(
        "advisory-locks",
        r"advisory",
        "SELECT pg_advisory_xact_lock(1)",
        "the functions exist and lock nothing",
        _ISSUES + "13546",
    ),
    Difference("lock-table", r"\block table\b", "LOCK TABLE x IN SHARE MODE", "refused"),
    Difference(
        "row-locks-that-skip-or-share",
        r"skip locked|nowait|for share|for key|for no key",
        "SELECT a FROM x FOR UPDATE SKIP LOCKED",
        "weaker locks are taken for stronger ones, or for none when serializable",
        _DOCS + "select-for-update",
    ),
    Difference(
        "subtransactions",
        r"\bsavepoint\b",
        "SAVEPOINT s",
        "they hinder the automatic retries of the server",
        _DOCS + "savepoint",
    ),
    # --- keys
    Difference(
        "sequences",
        r"\b(big|small)?serial\d?\b|create sequence|nextval|currval|generated\b.*\bidentity|unique_rowid",
        "CREATE TABLE x (id BIGSERIAL PRIMARY KEY)",
        "ever-growing keys all land in one range, and rollbacks leave other gaps",
        _DOCS + "serial",
    ),
    Difference(
        "system-columns",
        r"\bctid\b|\bxmin\b|\bxmax\b|\boid\b|\btableoid\b",
        "SELECT ctid FROM x",
        "rows have no place and no transaction number",
    ),
    Difference(
        "deferred-constraints",
        r"deferrable|initially deferred",
        "SET CONSTRAINTS ALL DEFERRABLE",
        "refused",
        _ISSUES + "31632",
    ),
    Difference(
        "exclusion-constraints",
        r"exclude using",
        "ALTER TABLE x ADD EXCLUDE USING gist (a WITH =)",
        "refused",
        _ISSUES + "46657",
    ),
    Difference(
        "named-conflict-targets",
        r"on conflict on constraint",
        "INSERT INTO x VALUES (1) ON CONFLICT ON CONSTRAINT c DO NOTHING",
        "names of constraints differ with the version that made them",
        _DOCS + "insert",
    ),
    # --- tables and indexes
    Difference(
        "index-without-locking",
        r"concurrently",
        "CREATE INDEX CONCURRENTLY i ON x (a)",
        "ignored there, and impossible in a transaction here",
        _DOCS + "create-index",
    ),
    Difference(
        "operator-classes",
        r"_ops\b",
        "CREATE INDEX i ON x USING GIN (j jsonb_path_ops)",
        "only those of trigrams and plain inverted indexes exist",
        _DOCS + "inverted-indexes",
    ),
    Difference(
        "other-kinds-of-indexes",
        r"using (gist|spgist|brin|hash)\b",
        "CREATE INDEX i ON x USING BRIN (a)",
        "refused, or geometry only",
        _DOCS + "indexes",
    ),
    Difference(
        "storage-parameters",
        r"with \((?!'?fillfactor)[^)]*=",
        "CREATE TABLE x (a TEXT) WITH (toast_tuple_target = 128)",
        "fillfactor and autovacuum_enabled are ignored, all others of PostgreSQL's are refused",
        _DOCS + "with-storage-parameter",
    ),
    Difference(
        "tables-of-another-kind",
        r"\b(unlogged|temp|temporary) table|inherits|partition (of|by)|tablespace",
        "CREATE UNLOGGED TABLE x (a TEXT)",
        "ignored, experimental, or another thing of the same name",
        _DOCS + "temporary-tables",
    ),
    Difference(
        "upkeep-by-hand",
        r"^\s*(vacuum|reindex|cluster|checkpoint)\b",
        "VACUUM x",
        "there is nothing to vacuum",
    ),
    Difference(
        "emptying-a-table",
        r"\btruncate\b",
        "TRUNCATE x",
        "it is a schema change, and not undone with its transaction",
        _DOCS + "truncate",
    ),
    Difference(
        "dropping-a-database-by-force",
        r"drop database.*force",
        "DROP DATABASE x WITH (FORCE)",
        "refused; CASCADE is another thing",
    ),
    # --- types
    Difference(
        "arrays-of-jsonb",
        r"jsonb\s*\[\]|array\[[^]]*jsonb",
        "SELECT '{}'::JSONB[]",
        "refused",
        _ISSUES + "23468",
    ),
    Difference(
        "types-that-are-missing",
        r"\b(xml|money|hstore|cidr|macaddr|\w+range)\b",
        "CREATE TABLE x (a INT4RANGE)",
        "refused",
        _DOCS + "data-types",
    ),
    Difference(
        "collations",
        r"\bcollate\b",
        'SELECT a FROM x ORDER BY a COLLATE "C"',
        "other names; texts are ordered by their bytes without any, here by our choice of locale",
        _DOCS + "collate",
    ),
    # --- functions and operators
    Difference(
        "text-search",
        r"tsvector|tsquery|pg_trgm|to_ts|similarity\(|\bilike\b",
        "SELECT a FROM x WHERE to_tsvector(a) @@ to_tsquery('b')",
        "dictionaries and use of indexes differ",
        _DOCS + "full-text-search",
    ),
    Difference(
        "regular-expressions",
        r"~|similar to|regexp_",
        "SELECT a FROM x WHERE a ~* 'b'",
        "another dialect, RE2",
        _DOCS + "functions-and-operators",
    ),
    Difference(
        "patterns-with-an-escape",
        r"\bescape\b|like_escape",
        "SELECT a FROM x WHERE a LIKE 'b!%' ESCAPE '!'",
        "no index serves them",
        _DOCS + "functions-and-operators",
    ),
    Difference(
        "json-paths",
        r"jsonb_path|jsonpath|@\?|@@",
        "SELECT jsonb_path_exists(j, '$.a') FROM x",
        "there from 25.2, in part",
        _DOCS + "jsonpath",
    ),
    Difference(
        "json-that-becomes-rows",
        r"jsonb?_to_record|jsonb?_populate|jsonb?_table|jsonb?_array_elements|jsonb?_each",
        "SELECT * FROM jsonb_to_recordset('[]') AS x(a TEXT)",
        "planned as if each gave few rows; our batches travel as arrays",
        _DOCS + "jsonb",
    ),
    Difference(
        "grouping-sets",
        r"grouping sets|\brollup\b|\bcube\b",
        "SELECT a FROM x GROUP BY ROLLUP (a)",
        "refused",
        _ISSUES + "46280",
    ),
    Difference("merge", r"^\s*merge\b", "MERGE INTO x USING y ON true WHEN MATCHED THEN DELETE", "refused"),
    # --- programs and the server
    Difference(
        "programs-in-the-database",
        r"\bdo \$|plpgsql|create (or replace )?(function|procedure)",
        "CREATE FUNCTION f() RETURNS INT LANGUAGE SQL AS $$ SELECT 1 $$",
        "supported in part, differently by version",
        _DOCS + "user-defined-functions",
    ),
    Difference(
        "triggers",
        r"create (\w+ )*trigger",
        "CREATE TRIGGER t AFTER INSERT ON x FOR EACH ROW EXECUTE FUNCTION f()",
        "from 24.3 on, in part",
        _DOCS + "triggers",
    ),
    Difference("extensions", r"create extension", "CREATE EXTENSION pg_trgm", "ignored or refused, by name"),
    Difference(
        "cursors-in-the-database",
        r"\bdeclare\b.*\bcursor\b|\bfetch\b",
        "DECLARE c CURSOR FOR SELECT 1",
        "forward only, and within a transaction",
        _DOCS + "cursors",
    ),
    Difference(
        "copy", r"^\s*copy\b", "COPY x FROM STDIN", "its transactions and limits differ", _DOCS + "copy"
    ),
    Difference(
        "statistics-and-processes",
        r"pg_stat|pg_locks|pg_relation_size|pg_total_relation|pg_terminate|pg_cancel|gin_clean",
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity",
        "empty, or missing: ask crdb_internal and SHOW",
        _DOCS + "pg-catalog",
    ),
    Difference(
        "settings-of-the-operating-system",
        r"tcp_keepalives|tcp_user_timeout",
        "SET tcp_keepalives_idle = 10",
        "ignored by the server; ours are the client's own",
    ),
)
