"""Real fleets for the system tests: bootstrap peer, verifier host and draft nodes as processes."""

from collections.abc import Callable, Iterator

import pytest

from benchmarks.fleet import Fleet

READY_SECONDS = 120.0
OpenFleet = Callable[[int, str], Fleet]


@pytest.fixture(scope="module")
def open_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenFleet]:
    """Open fleets of so many nodes and a dtype; they end with the module."""
    opened: list[Fleet] = []

    def open_one(nodes: int, dtype: str) -> Fleet:
        # Drafts must flow on a busy machine too: from nodes alone, and in bf16 beside the host's.
        environment = {
            "NEXUS_DRAFTING_ALWAYS": "true",
            "NEXUS_DRAFTING_NGRAM": "true" if dtype == "bf16" else "false",
        }
        folder = tmp_path_factory.mktemp("fleet")
        fleet = Fleet(folder, nodes, dtype=dtype, environment=environment)
        fleet.__enter__()
        opened.append(fleet)
        fleet.start()
        fleet.wait_ready(READY_SECONDS)
        return fleet

    yield open_one
    for fleet in opened:
        fleet.__exit__(None, None, None)
