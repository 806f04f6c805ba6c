"""The folder and the port of `labkeeper up`."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.command import CommandFailed
from producers.labkeeper.premises import Premises, check_port, occupied

URL = "http://127.0.0.1:8000"


@contextmanager
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_folder_is_made_with_all_above_it(tmp_path: Path) -> None:
    with occupied(tmp_path / "a" / "b", url=URL) as premises:
        assert premises.database.parent.is_dir()
        assert premises.log_of("writer").parent.is_dir()


def test_strips_of_the_run_before_are_forgotten(tmp_path: Path) -> None:
    with occupied(tmp_path, url=URL) as premises:
        premises.prepare_demo_power()
        premises.demo_power.write_text('{tasmota: {"rack1-shelf1": {address: "http://127.0.0.1:37185"}}}')
        premises.prepare_demo_power()
        assert premises.demo_power.read_text() == "{}\n"


def test_a_second_lab_is_told_who_lives_there(tmp_path: Path) -> None:
    with (
        occupied(tmp_path, url=URL),
        pytest.raises(CommandFailed, match=rf"already runs.*process {os.getpid()}, {URL}.*--data"),
        occupied(tmp_path, url="http://127.0.0.1:9999"),
    ):
        pass


def test_a_folder_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with occupied(tmp_path, url=URL) as premises:
            assert not premises.crashed_predecessor


def test_a_lab_that_failed_to_start_is_not_taken_for_one_that_was_killed(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="port"), occupied(tmp_path, url=URL):
        raise CommandFailed("port taken")

    with occupied(tmp_path, url=URL) as premises:
        assert not premises.crashed_predecessor


def test_a_lab_that_was_killed_is_noticed_and_does_not_lock(tmp_path: Path) -> None:
    text = f"""
import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path
from producers.labkeeper.premises import occupied
with occupied(Path({str(tmp_path)!r}), url="http://127.0.0.1:1"):
    os.kill(os.getpid(), 9)
"""
    assert (
        subprocess.run(
            [sys.executable, "-c", text], check=False, env={**os.environ, "PYTHONPATH": "."}
        ).returncode
        == -9
    )

    with occupied(tmp_path, url=URL) as premises:
        assert premises.crashed_predecessor


def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")

    with (
        pytest.raises(CommandFailed, match=r"cannot write to the data folder .*data.*--data"),
        occupied(tmp_path / "data", url=URL),
    ):
        pass


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """Root may write anywhere, so it becomes nobody for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    yield
    os.seteuid(user)


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder that everybody may enter and nobody may write to; pytest's own folders are closed to other users."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        yield Path(folder)


@pytest.mark.usefixtures("ordinary_user")
def test_a_read_only_folder_is_told(read_only_folder: Path) -> None:
    with (
        pytest.raises(CommandFailed, match="Permission denied"),
        occupied(read_only_folder / "data", url=URL),
    ):
        pass


def test_a_large_log_is_put_aside_and_only_a_few_are_kept(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    premises = Premises(tmp_path, crashed_predecessor=False)
    for age in range(6):
        log = premises.fresh_log_of("writer")
        assert not log.exists()
        with log.open("wb") as file:
            file.write(str(age).encode())
            file.truncate(6_000_000)

    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == [
        "writer.log",
        "writer.log.1",
        "writer.log.2",
        "writer.log.3",
    ]
    with (tmp_path / "logs" / "writer.log.1").open("rb") as file:
        assert file.read(1) == b"4"


def test_a_small_log_is_continued(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    premises = Premises(tmp_path, crashed_predecessor=False)
    premises.log_of("writer").write_text("yesterday\n")

    assert premises.fresh_log_of("writer").read_text() == "yesterday\n"


def test_a_taken_port_is_told() -> None:
    with (
        listening() as port,
        pytest.raises(CommandFailed, match=f"port {port} of 127.0.0.1 is taken.*--port"),
    ):
        check_port("127.0.0.1", port, patient=False)


def test_a_free_port_is_fine() -> None:
    with listening() as port:
        pass

    check_port("127.0.0.1", port, patient=True)


def test_an_address_of_another_computer_is_told() -> None:
    with pytest.raises(CommandFailed, match=r"cannot listen on 192\.0\.2\.1 .*--host"):
        check_port("192.0.2.1", 18_000, patient=False)
