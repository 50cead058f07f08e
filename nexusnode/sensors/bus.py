"""D-Bus calls on a connection of their own: nothing stays open that could have died."""

from typing import Any

import jeepney
import trio
from jeepney.io.trio import open_dbus_router

from nexusnode.sensors.sensor import CannotTell

PROPERTIES = "org.freedesktop.DBus.Properties"


async def call(
    bus: str, service: str, path: str, interface: str, method: str, kinds: str = "", *values: object
) -> tuple[Any, ...]:
    """Return what a method answers.

    Args:
        bus: SESSION or SYSTEM.
        kinds: D-Bus signature of `values`.

    Raises:
        CannotTell: no such bus, no such service, or it refuses.
    """
    address = jeepney.DBusAddress(path, service, interface)
    message = jeepney.new_method_call(address, method, kinds or None, values)
    try:
        async with open_dbus_router(bus=bus) as router:
            reply = await router.send_and_get_reply(message)
    except (OSError, KeyError, RuntimeError, trio.BrokenResourceError) as error:
        raise CannotTell(f"This computer has no {bus.lower()} bus ({error}).") from error
    if reply.header.message_type is jeepney.MessageType.error:
        raise CannotTell(f"{service} is not there, or does not say.")
    body: tuple[Any, ...] = reply.body
    return body


async def properties(bus: str, service: str, path: str, interface: str) -> dict[str, Any]:
    """Return all properties of an object by name; raises as `call`."""
    (found,) = await call(bus, service, path, PROPERTIES, "GetAll", "s", interface)
    return {name: value for name, (_, value) in found.items()}
