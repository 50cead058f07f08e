"""A draft worker without a model: the real loop on the fake engine, in a real process."""

from nexusnode.draft.fake import FakeEngine
from nexusnode.draft.messages import FROM_WORKER, TO_WORKER
from nexusnode.draft.worker import Worker
from p2p.process.pipe import open_pipe

if __name__ == "__main__":
    Worker(open_pipe(TO_WORKER, FROM_WORKER), lambda load: FakeEngine()).run()
