"""D-Bus calls of one sensor, on a connection of its own that is made anew after any failure."""

from typing import Any

import jeepney
import trio
from jeepney.io.trio import DBusConnection, open_dbus_connection

from nexusnode.sensors.sensor import CannotTell

PROPERTIES = "org.freedesktop.DBus.Properties"
_ENDED = (trio.BrokenResourceError, trio.ClosedResourceError, trio.EndOfChannel)


class Bus:
    """The session's bus ("SESSION") or the system's ("SYSTEM"). One call at a time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._connection: DBusConnection | None = None

    async def call(
        self, service: str, path: str, interface: str, method: str, kinds: str = "", *values: object
    ) -> tuple[Any, ...]:
        """Return what a method answers.

        Args:
            kinds: D-Bus signature of `values`.

        Raises:
            CannotTell: no such bus, no such service, or it refuses.
        """
        address = jeepney.DBusAddress(path, service, interface)
        message = jeepney.new_method_call(address, method, kinds or None, values)
        try:
            reply = await self._ask(message)
        except (OSError, KeyError, RuntimeError, ExceptionGroup, *_ENDED) as error:
            raise CannotTell(f"This computer has no {self._name.lower()} bus.") from error
        if reply.header.message_type is jeepney.MessageType.error:
            raise CannotTell(f"{service} is not there, or does not say.")
        body: tuple[Any, ...] = reply.body
        return body

    async def properties(self, service: str, path: str, interface: str) -> dict[str, Any]:
        """Return all properties of an object by name; raises as `call`."""
        (found,) = await self.call(service, path, PROPERTIES, "GetAll", "s", interface)
        return {name: value for name, (_, value) in found.items()}

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()

    async def _ask(self, message: Any) -> Any:
        if self._connection is None:
            self._connection = await open_dbus_connection(self._name, enable_fds=True)
        serial = next(self._connection.outgoing_serial)
        await self._connection.send(message, serial=serial)
        while True:
            reply = await self._connection.receive()
            if reply.header.fields.get(jeepney.HeaderFields.reply_serial) == serial:
                return reply
