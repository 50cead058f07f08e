"""The engine of `ring.py`: no model. Commits one token nobody guessed, waits for a guess behind it.

So each commit takes the longest way round: the node's tree is of no use, and its draft must decode.
"""

import random
import time

from benchmarks.stamps import Stamps
from p2p.process.pipe import EXIT_STOP, Pipe, leave, open_pipe
from verifier_host.messages import (
    FROM_ENGINE,
    TO_ENGINE,
    Committed,
    Guesses,
    Load,
    Loaded,
    Ping,
    Pong,
    Start,
    Stop,
)

TARGET_STEP_SECONDS = (0.04, 0.08)  # between a first guess and the next commit
TOKENS = (1000, 40_000)  # ids that commits are drawn from: the bundled draft knows them all


class Engine:
    """One session, from `Start` on."""

    def __init__(self, pipe: Pipe, stamps: Stamps) -> None:
        self._pipe = pipe
        self._stamps = stamps
        self._length = 0
        self._random = random.Random(1)

    def run(self, commits: int) -> None:
        for number in range(commits + 1):
            self._hear_until(Guesses if number else Start)
            self._rest(self._random.uniform(*TARGET_STEP_SECONDS))
            if number < commits:
                self._commit()
        self._stamps.at("engine-ends")
        self._hear_until(Stop)

    def _commit(self) -> None:
        token = self._random.randrange(*TOKENS)
        self._length += 1
        said = Committed(1, self._length - 1, (token,), (0,), (), 0, ())
        self._stamps.at("engine-says", self._length)
        self._pipe.send(said)

    def _hear_until(self, kind: type) -> None:
        while not self._take(self._pipe.receive(), kind):
            pass

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._take(self._pipe.receive(left), Start)

    def _take(self, message: object, awaited: type) -> bool:
        match message:
            case Ping(n):
                self._pipe.send(Pong(n))
            case Stop():
                leave(EXIT_STOP)
            case Start():
                self._length = len(message.prompt)
            case Guesses() if awaited is Guesses:
                if message.pos < self._length:
                    return False
                self._stamps.at("engine-hears", message.pos)
            case _:
                pass
        return isinstance(message, awaited)


def main() -> None:
    pipe = open_pipe(TO_ENGINE, FROM_ENGINE)
    load = pipe.receive()
    assert isinstance(load, Load)
    pipe.send(Loaded(False, "0" * 16, 1, load.max_context, 1 << 20, (), 0.0, "none", 0))
    Engine(pipe, Stamps("engine")).run(int(load.path))
    leave(EXIT_STOP)


if __name__ == "__main__":
    main()
