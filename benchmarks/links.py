"""A link around another one, for benchmarks that look at what passes."""

from p2p.network.transport import Link
from p2p.wire.identity import PeerId


class PassingLink:
    """A `Link` that hands everything on."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def peer(self) -> PeerId:
        return self._link.peer

    @property
    def address(self) -> str | None:
        return self._link.address

    @property
    def relayed(self) -> bool:
        return self._link.relayed

    async def send(self, data: bytes) -> None:
        await self._link.send(data)

    async def receive(self, max_bytes: int) -> bytes:
        return await self._link.receive(max_bytes)

    async def abort(self, reason: str) -> None:
        await self._link.abort(reason)
