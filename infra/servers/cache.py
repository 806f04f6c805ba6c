"""Where downloaded and built server programs are kept between runs: outside the tree, each made once."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import platformdirs

CACHE_VARIABLE: Final = "LABKEEPER_CACHE"


def cache_folder() -> Path:
    """The folder named in the environment, else the user's cache folder."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else platformdirs.user_cache_path("labkeeper")


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache. If it is missing, `make` fills an empty folder, which then gets that name.

    Safe when several processes want it at once: one makes it, the others wait. A folder half made is never seen.
    """
    folder = cache_folder() / name
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.parent / ".lock"):
        if not folder.exists():
            unfinished = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=folder.parent))
            try:
                make(unfinished)
                unfinished.rename(folder)
            except BaseException:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise
    return folder


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """A lock that ends with this process, however it ends."""
    with file.open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
