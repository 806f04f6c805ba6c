"""Google Compute Engine's metadata server, which tells a virtual machine about itself."""

from __future__ import annotations

from typing import Final

import aiohttp

from producers.machine_monitor.probes.protocol import ProbeFailed

DEFAULT_HOST: Final = "169.254.169.254"
_FLAVOR: Final = "Metadata-Flavor"
_ANSWER_TIME = aiohttp.ClientTimeout(total=2)
_ANSWER_LIMIT: Final = 4096


class GceMetadata:
    """Asks the metadata server. Off GCE nobody answers, or somebody who does not know the protocol."""

    def __init__(self, *, host: str = DEFAULT_HOST) -> None:
        self._root = f"http://{host}/computeMetadata/v1/"

    async def is_here(self) -> bool:
        """Whether this host is a GCE machine."""
        try:
            await self._get("")
        except ProbeFailed:
            return False
        return True

    async def machine_type(self) -> str:
        """Such as `n1-standard-16`. Raises `ProbeFailed`."""
        return (await self._get("instance/machine-type")).rpartition("/")[2]

    async def cpu_platform(self) -> str:
        """Such as `Intel Haswell`. Raises `ProbeFailed`."""
        return await self._get("instance/cpu-platform")

    async def _get(self, path: str) -> str:
        url = self._root + path
        try:
            async with (
                aiohttp.ClientSession(timeout=_ANSWER_TIME) as session,
                session.get(url, headers={_FLAVOR: "Google"}, allow_redirects=False) as answer,
            ):
                if answer.status != 200 or answer.headers.get(_FLAVOR) != "Google":
                    raise ProbeFailed(f"{url} answered {answer.status}, and not as GCE does")
                content = await answer.content.read(_ANSWER_LIMIT)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ProbeFailed(f"{url} did not answer: {type(error).__name__}") from error
        return content.decode("utf-8", "replace").replace("\x00", "\ufffd").strip()
