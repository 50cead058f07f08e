"""The draft worker of `ring.py`: the real one, with stamps at the ends of its pipe."""

from typing import Any

from benchmarks.stamps import Stamps
from nexusnode.draft.messages import FROM_WORKER, TO_WORKER, Commit, Grown
from nexusnode.draft.worker import Worker, open_engine, yield_to_others
from p2p.process.pipe import Pipe, leave, open_pipe


class TimedPipe:
    """What the worker's loop sees of its pipe."""

    def __init__(self, pipe: Pipe, stamps: Stamps) -> None:
        self._pipe = pipe
        self._stamps = stamps

    def receive(self, timeout_seconds: float | None = None) -> Any:
        message = self._pipe.receive(timeout_seconds)
        self._note(message)
        return message

    def drain(self) -> list[Any]:
        messages = self._pipe.drain()
        for message in messages:
            self._note(message)
        return messages

    def send(self, *messages: object) -> None:
        for message in messages:
            if isinstance(message, Grown):
                self._stamps.at("worker-says", message.growths[0].pos)
        self._pipe.send(*messages)

    def _note(self, message: object) -> None:
        if isinstance(message, Commit):
            self._stamps.at("worker-hears", message.pos + len(message.tokens))


def main() -> None:
    pipe = open_pipe(TO_WORKER, FROM_WORKER)
    yield_to_others()
    leave(Worker(TimedPipe(pipe, Stamps("worker")), open_engine).run())


if __name__ == "__main__":
    main()
