"""What one user makes in the state directory, whoever else the directory is for can use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from consumers.powercycle_agent.locks import Locks
from consumers.powercycle_agent.sharing import make_directory, share
from pipeline.errors import Misconfigured

AGENT = 12_345


@pytest.mark.parametrize(("directory", "file"), [(0o700, 0o600), (0o750, 0o640), (0o2775, 0o660)])
def test_a_file_is_as_open_to_the_group_as_its_directory_and_never_to_others(
    tmp_path: Path, directory: int, file: int
) -> None:
    tmp_path.chmod(directory)
    made = tmp_path / "file"
    descriptor = os.open(made, os.O_CREAT | os.O_RDWR, 0o600)
    share(descriptor, tmp_path)
    os.close(descriptor)
    assert made.stat().st_mode & 0o777 == file


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_what_root_makes_belongs_to_the_directorys_owner(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o750)
    os.chown(state, AGENT, AGENT)
    async with Locks(state / "locks").hold("mpower/rack4"):
        pass
    [lock] = (state / "locks").iterdir()
    for made in (state / "locks", lock):
        assert (made.stat().st_uid, made.stat().st_gid) == (AGENT, AGENT)


async def test_a_link_that_somebody_put_there_leads_to_no_file_of_others(tmp_path: Path) -> None:
    """Whoever may write into the agent's directory could else have root give them any file."""
    precious = tmp_path / "shadow"
    precious.write_text("root:*:19000:0:99999:7:::")
    precious.chmod(0o600)
    locks = tmp_path / "locks"
    locks.mkdir(mode=0o770)
    (locks / "mpower%2Frack4.lock").symlink_to(precious)
    with pytest.raises(Misconfigured, match="symbolic links"):
        async with Locks(locks).hold("mpower/rack4"):
            pass
    assert precious.read_text().startswith("root:")
    assert precious.stat().st_mode & 0o777 == 0o600


def test_a_directory_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o705)
    make_directory(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o705
