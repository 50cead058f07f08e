import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from nexusnode.control.client import ControlClient, open_client
from nexusnode.control.dialogue import ClientDialogue, Request
from nexusnode.control.endpoint import bound_socket, connect, hold_lock
from nexusnode.control.messages import (
    API,
    ChatEvent,
    ChatStart,
    ChatStarted,
    ChatToken,
    ChatTurn,
    Nothing,
    Pause,
    Settings,
    Topics,
    Welcome,
)
from nexusnode.control.server import HELLO_SECONDS, MAX_CLIENTS, Client, ControlServer
from p2p.errors import AlreadyRunning, ConfigError, ControlError, NoDaemon, ResourceError
from p2p.log import quiet_log

WELCOME = Welcome(API, "1.0", os.getpid(), "/data", (), "test")


class Behind:
    """A daemon that answers with what the test says."""

    def __init__(self) -> None:
        self.gone: list[Client] = []
        self.clients: list[Client] = []

    async def handle(self, client: Client, request: Request) -> Any:
        self.clients.append(client)
        match request.method:
            case "settings.get":
                return Settings(7, (), ())
            case "chat.start":
                for number in range(request.params.max_tokens):
                    client.publish("chat", ChatEvent(1, (ChatToken(str(number), ""),), None))
                return ChatStarted(1)
            case "pause":
                raise ConfigError("node.toml line 3: no")
            case "resume":
                raise RuntimeError("a bug")
        return Nothing()

    def departed(self, client: Client) -> None:
        self.gone.append(client)


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[Path, Behind, ControlServer]]:
    path = folder / "run" / "n.sock"
    behind = Behind()
    server = ControlServer(WELCOME, behind, quiet_log())
    with bound_socket(path) as listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run, listener)
            yield path, behind, server
            nursery.cancel_scope.cancel()


async def ask(path: Path, task: Callable[[ControlClient], Any]) -> Any:
    def blocking() -> Any:
        with open_client(path, "1.0") as client:
            return task(client)

    with trio.fail_after(10):
        return await trio.to_thread.run_sync(blocking)


async def test_a_call_is_answered_over_a_real_socket(tmp_path: Path) -> None:
    async with serving(tmp_path) as (path, _, _):
        answer = await ask(path, lambda client: client.call("settings.get"))

    assert answer == Settings(7, (), ())


async def test_the_socket_is_for_its_owner_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as (path, _, _):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    assert not path.exists()


async def test_a_refusal_is_raised_with_its_code_at_the_client(tmp_path: Path) -> None:
    async with serving(tmp_path) as (path, _, _):
        with pytest.raises(ControlError, match="line 3") as caught:
            await ask(path, lambda client: client.call("pause", Pause(None, None)))

    assert caught.value.refusal == "config"


async def test_a_bug_behind_one_client_ends_that_client_only(tmp_path: Path) -> None:
    async with serving(tmp_path) as (path, _, _):
        with pytest.raises(NoDaemon):
            await ask(path, lambda client: client.call("resume"))

        assert await ask(path, lambda client: client.call("settings.get")) == Settings(7, (), ())


async def test_the_daemon_hears_that_a_client_left(tmp_path: Path) -> None:
    async with serving(tmp_path) as (path, behind, _):
        await ask(path, lambda client: client.call("settings.get"))

        with trio.fail_after(5):
            while not behind.gone:
                await trio.lowlevel.checkpoint()
        assert behind.gone == behind.clients


async def test_events_come_in_order_and_only_to_those_who_asked(tmp_path: Path) -> None:
    def chat(client: ControlClient) -> list[str]:
        client.call("subscribe", Topics(("chat",)))
        client.call("chat.start", question(5))
        notices = [client.next_notice(5) for _ in range(5)]
        return [notice.data.tokens[0].text for notice in notices if notice is not None]

    def deaf(client: ControlClient) -> Any:
        client.call("subscribe", Topics(("chat",)))
        client.call("unsubscribe", Topics(("chat",)))
        client.call("chat.start", question(5))
        return client.next_notice(0.05)

    async with serving(tmp_path) as (path, _, _):
        assert await ask(path, chat) == ["0", "1", "2", "3", "4"]
        assert await ask(path, deaf) is None


async def test_a_topic_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as (path, _, _):
        with pytest.raises(ControlError, match="weather"):
            await ask(path, lambda client: client.call("subscribe", Topics(("weather",))))


async def test_garbage_ends_its_own_connection(tmp_path: Path) -> None:
    def shout() -> bytes:
        with connect(path, 5) as connection:
            connection.sendall(b"\xff\xff\xff\xff nonsense")
            return connection.recv(10)

    async with serving(tmp_path) as (path, _, _):
        with trio.fail_after(10):
            assert await trio.to_thread.run_sync(shout) == b""
        assert await ask(path, lambda client: client.call("quit")) == Nothing()


async def test_a_client_that_never_says_hello_is_cut_off(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(tmp_path) as (path, _, _):
        stream = await trio.open_unix_socket(str(path))
        started = trio.current_time()

        assert await stream.receive_some(1) == b""

    assert trio.current_time() - started == pytest.approx(HELLO_SECONDS, abs=0.5)


async def test_more_clients_than_the_limit_are_turned_away(tmp_path: Path) -> None:
    async with serving(tmp_path) as (path, _, _):
        streams = [await trio.open_unix_socket(str(path)) for _ in range(MAX_CLIENTS + 1)]

        with trio.fail_after(5):
            assert await streams[-1].receive_some(1) == b""
        _, data = ClientDialogue().hello("test", "1")
        await streams[0].send_all(data)
        with trio.fail_after(5):
            assert await streams[0].receive_some(1)
        for stream in streams:
            await stream.aclose()


@pytest.mark.slow
async def test_a_client_that_does_not_read_is_cut_off_and_holds_nobody_up(tmp_path: Path) -> None:
    async with serving(tmp_path) as (path, behind, server):
        stream = await trio.open_unix_socket(str(path))
        dialogue = ClientDialogue()
        await stream.send_all(
            dialogue.hello("test", "1")[1]
            + dialogue.call("subscribe", Topics(("chat",)))[1]
            + dialogue.call("settings.get")[1]
        )
        with trio.fail_after(5):
            while not behind.clients:
                await trio.lowlevel.checkpoint()
        big = ChatEvent(1, (ChatToken("x" * 60_000, ""),), None)
        with trio.fail_after(15):
            while not behind.gone:
                server.publish("chat", big)
                await trio.lowlevel.checkpoint()

        assert await ask(path, lambda client: client.call("quit")) == Nothing()


def test_without_a_daemon_the_client_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(NoDaemon, match="nexusnode run"):
        open_client(tmp_path / "none.sock", "1.0")


def test_a_daemon_that_hangs_up_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        connection = connect(path, 5)
        listener.accept()[0].close()

        with pytest.raises(NoDaemon):
            ControlClient(connection).greet("1.0")


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run" / "n.sock"
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    with bound_socket(path), connect(path, 1):
        pass

    assert not path.exists()


def test_a_runtime_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)

    with pytest.raises(ResourceError, match="chmod 700"), bound_socket(shared / "nexus" / "s"):
        pass


def test_a_runtime_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    with pytest.raises(ResourceError, match="link"), bound_socket(tmp_path / "link" / "s"):
        pass


def test_the_second_owner_of_a_data_folder_is_told_who_the_first_is(tmp_path: Path) -> None:
    lock = tmp_path / "lock"

    with hold_lock(lock):
        with pytest.raises(AlreadyRunning, match=str(os.getpid())), hold_lock(lock):
            pass
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    with hold_lock(lock):
        pass


def question(tokens: int) -> ChatStart:
    return ChatStart((ChatTurn("user", "?"),), "", tokens, 0.0, None, True)
