"""Installed as the top-level module `labkeeper`, so that `python -m labkeeper` works where scripts are not on the path."""

from __future__ import annotations

from producers.labkeeper.__main__ import main

if __name__ == "__main__":
    main()
