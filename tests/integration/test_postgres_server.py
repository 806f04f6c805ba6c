"""The PostgreSQL server from the wheel: first start, later starts, and what a killed supervisor leaves behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from infra.servers import postgres_home
from infra.servers.postgres import PostgresServer, running_dsn
from infra.servers.postgres_home import PostgresFailed

pytestmark = pytest.mark.integration
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short and open to all, which pytest's own temporary folders are not."""
    path = Path(tempfile.mkdtemp(prefix="lk-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def ask(dsn: str, question: str) -> str:
    with contextlib.closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(question)
        row = cursor.fetchone()
    assert row is not None
    return str(row[0])


def test_a_new_folder_becomes_a_private_durable_database(folder: Path) -> None:
    with PostgresServer.start(folder / "data") as server:
        assert stat.S_IMODE((folder / "data").stat().st_mode) == 0o700
        assert ask(server.dsn, "SHOW server_encoding") == "UTF8"
        assert ask(server.dsn, "SHOW fsync") == "on"
        assert ask(server.dsn, "SHOW synchronous_commit") == "on"
        assert ask(server.dsn, "SHOW listen_addresses") == ""
        assert ask(server.dsn, "SELECT lower('ÄÖ') || ('Z' < 'a')") == "äötrue"
        assert running_dsn(folder / "data") == server.dsn
    assert running_dsn(folder / "data") is None


def test_a_database_survives_a_restart(folder: Path) -> None:
    with PostgresServer.start(folder) as server:
        ask(server.dsn, "CREATE TABLE kept (a int); INSERT INTO kept VALUES (7) RETURNING a")
    with PostgresServer.start(folder, durable=False) as server:
        assert ask(server.dsn, "SELECT a FROM kept") == "7"
        assert ask(server.dsn, "SHOW fsync") == "off"


@pytest.mark.parametrize("name", ["with space, comma and 'quote'", '"$(touch x)`\\n%41', "long" * 30])
def test_any_folder_name_will_do(folder: Path, name: str) -> None:
    with PostgresServer.start(folder / name, durable=False) as server:
        assert ask(server.dsn, "SELECT 1") == "1"
        assert running_dsn(folder / name) == server.dsn


def test_a_crashed_server_recovers_what_was_committed(folder: Path) -> None:
    with PostgresServer.start(folder) as server:
        ask(server.dsn, "CREATE TABLE kept (a int); INSERT INTO kept VALUES (7) RETURNING a")
        os.kill(int((folder / "cluster" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    with PostgresServer.start(folder) as server:
        assert ask(server.dsn, "SELECT a FROM kept") == "7"


def test_a_left_over_process_id_that_belongs_to_someone_else_is_harmless(folder: Path) -> None:
    with PostgresServer.start(folder, durable=False):
        left_over = (folder / "cluster" / "postmaster.pid").read_text().split("\n")
    (folder / "cluster" / "postmaster.pid").write_text("\n".join([str(os.getpid()), *left_over[1:]]))
    assert running_dsn(folder) is None
    with PostgresServer.start(folder, durable=False) as server:
        assert ask(server.dsn, "SELECT 1") == "1"


@pytest.fixture
def supervisor(folder: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "infra.servers.postgres", "--data", folder],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def test_the_server_of_a_killed_supervisor_is_taken_over(
    folder: Path, supervisor: subprocess.Popen[str]
) -> None:
    assert supervisor.stdout is not None
    dsn = supervisor.stdout.readline().strip()
    with contextlib.closing(psycopg2.connect(dsn)) as before:
        supervisor.kill()
        supervisor.wait()
        with PostgresServer.start(folder) as server:
            assert server.dsn == dsn
            with before.cursor() as cursor:
                cursor.execute("SELECT 1")  # never interrupted
    assert running_dsn(folder) is None


def test_an_interrupted_supervisor_stops_its_server(folder: Path, supervisor: subprocess.Popen[str]) -> None:
    assert supervisor.stdout is not None
    supervisor.stdout.readline()
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(timeout=120) == 0
    assert running_dsn(folder) is None


def test_a_second_supervisor_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.servers.postgres._PREDECESSOR_S", 0.1)
    with (
        PostgresServer.start(folder, durable=False),
        pytest.raises(PostgresFailed, match="another process already runs"),
    ):
        PostgresServer.start(folder)


def test_a_half_made_cluster_is_made_again(folder: Path) -> None:
    (folder / "cluster.new").mkdir()
    (folder / "cluster.new" / "PG_VERSION").write_text("18\n")
    with PostgresServer.start(folder, durable=False) as server:
        assert ask(server.dsn, "SELECT 1") == "1"


def test_a_folder_of_other_things_is_refused(folder: Path) -> None:
    (folder / "holiday.jpg").touch()
    with pytest.raises(PostgresFailed, match=r"holds other files \(holiday.jpg, …\)"):
        PostgresServer.start(folder)


def test_a_foreign_cluster_is_refused(folder: Path) -> None:
    (folder / "PG_VERSION").write_text("18\n")
    with pytest.raises(PostgresFailed, match="a PostgreSQL cluster that Labkeeper did not make"):
        PostgresServer.start(folder)


def test_a_cluster_of_another_version_is_refused_with_the_way_out(folder: Path) -> None:
    with PostgresServer.start(folder, durable=False):
        pass
    (folder / "cluster" / "PG_VERSION").write_text("13\n")
    with pytest.raises(PostgresFailed, match=r"written by PostgreSQL 13 .* `pg_dumpall`"):
        PostgresServer.start(folder)


def test_a_folder_that_cannot_be_made_is_named(folder: Path) -> None:
    (folder / "file").touch()
    with pytest.raises(
        PostgresFailed, match=r"cannot write to the data folder .*/file/data: Not a directory"
    ):
        PostgresServer.start(folder / "file" / "data")


def test_a_server_that_will_not_start_quotes_its_log(folder: Path) -> None:
    with PostgresServer.start(folder, durable=False):
        pass
    with (folder / "cluster" / "postgresql.conf").open("a") as file:
        file.write("max_conections = 7\n")
    with pytest.raises(PostgresFailed, match='unrecognized configuration parameter "max_conections"'):
        PostgresServer.start(folder)


def test_missing_programs_are_said_to_be_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PostgresFailed, match="no PostgreSQL programs for this platform"):
        PostgresServer.start(folder)


@as_root
def test_what_the_servers_user_cannot_reach_lives_elsewhere_and_no_folder_is_opened_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_home, "SYSTEM_FOLDER", folder / "system")
    # As in a checkout in root's home.
    monkeypatch.setattr(postgres_home.ServerUser, "can_read", lambda user, file: False)
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    for _ in range(2):
        with PostgresServer.start(closed / "data", durable=False) as server:
            assert running_dsn(closed / "data") == server.dsn
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert closed.stat().st_uid == 0
    homes = sorted(path.name.split("-")[0] for path in (folder / "system").iterdir())
    assert len(homes) == 2
    assert homes[1] == "postgresql"


def test_a_link_to_nowhere_is_explained(folder: Path) -> None:
    (folder / "cluster").symlink_to(folder / "gone" / "cluster")
    with pytest.raises(PostgresFailed, match="which is gone"):
        PostgresServer.start(folder)
