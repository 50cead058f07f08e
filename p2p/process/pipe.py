"""The child's half of a parent-child pipe: frames on private descriptors, read by a thread.

A library's print cannot corrupt the pipe (stdout is pointed at stderr first), and a child whose
parent is gone leaves at once from the reader thread, whatever its loop is computing.
"""

import os
import queue
import signal
import sys
import threading
from typing import Any, NoReturn

from p2p.errors import PeerError
from p2p.wire.frame import FrameDecoder, frame
from p2p.wire.schema import Codec

EXIT_STOP = 0
EXIT_MODEL = 3
EXIT_FAULT = 4
_READ_BYTES = 1 << 16


class Pipe:
    """Messages from the parent, in order, and messages to it. One per child process."""

    def __init__(self, incoming: Codec, outgoing: Codec, read_fd: int, write_fd: int) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def start(self) -> None:
        """Begin to read. The process ends with `EXIT_STOP` when the parent's end closes."""
        threading.Thread(target=self._read, name="pipe", daemon=True).start()

    def receive(self, timeout_seconds: float | None = None) -> Any:
        """Return the next message; None when `timeout_seconds` pass first.

        A timeout of None waits for ever: the reader thread ends the process when there can be no
        message any more.
        """
        try:
            return self._inbox.get(timeout=timeout_seconds)
        except queue.Empty:
            return None

    def drain(self) -> list[Any]:
        """Return what has arrived, without waiting."""
        arrived = []
        while True:
            try:
                arrived.append(self._inbox.get_nowait())
            except queue.Empty:
                return arrived

    def send(self, *messages: object) -> None:
        """Write the messages in one go. A parent that does not read blocks the child."""
        data = memoryview(b"".join(frame(self._outgoing.pack(message)) for message in messages))
        try:
            while data:
                data = data[os.write(self._write_fd, data) :]
        except BrokenPipeError:
            leave(EXIT_STOP)

    def _read(self) -> None:
        # Whatever ends this thread ends the process: without it a dead parent goes unnoticed.
        status = EXIT_FAULT
        try:
            decoder = FrameDecoder()
            while data := os.read(self._read_fd, _READ_BYTES):
                for body in decoder.feed(data):
                    self._inbox.put(self._incoming.unpack(body))
            status = EXIT_STOP
        except PeerError as error:  # parent and child are of one version: a bug
            print(f"the parent's message cannot be read: {error}", file=sys.stderr, flush=True)
        finally:
            leave(status)


def open_pipe(incoming: Codec, outgoing: Codec) -> Pipe:
    """Take descriptors 0 and 1 for frames and give libraries /dev/null and stderr instead.

    Ctrl-C in a terminal reaches every process of its group; here it is left to the parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    read_fd, write_fd = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    pipe = Pipe(incoming, outgoing, read_fd, write_fd)
    pipe.start()
    return pipe


def leave(status: int) -> NoReturn:
    """End the process now, without destructors: a busy GPU or llama.cpp can hold them long."""
    os._exit(status)
