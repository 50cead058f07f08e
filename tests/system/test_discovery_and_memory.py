"""A fleet over time: nodes find a host that moves, and sessions leave nothing behind."""

import time
from collections.abc import Callable

import psutil
import pytest

from benchmarks.asking import Question, complete, complete_all
from benchmarks.fleet import Fleet

pytestmark = [pytest.mark.system, pytest.mark.slow]
CONNECT_SECONDS = 5.0


@pytest.fixture(scope="module")
def fleet(open_fleet: Callable[[int, str], Fleet]) -> Fleet:
    return open_fleet(1, "fp32")


def test_two_hundred_sessions_leave_nothing_behind(fleet: Fleet) -> None:
    node = fleet.nodes[0]
    assert node.process is not None
    assert fleet.host.process is not None
    processes = {
        "front": psutil.Process(fleet.host.process.pid),
        "engine": fleet.host.child("verifier_host.engine.worker"),
        "daemon": psutil.Process(node.process.pid),
        "draft worker": node.child("nexusnode.draft.worker"),
    }

    def run_sessions(first: int, count: int) -> None:
        for number in range(first, first + count, 4):
            texts = [f"Say the number {number + i}." for i in range(4)]
            complete_all(fleet, [Question(text, max_tokens=6) for text in texts])

    run_sessions(0, 52)
    early = {name: process.memory_info().rss for name, process in processes.items()}
    run_sessions(52, 148)
    late = {name: process.memory_info().rss for name, process in processes.items()}

    grown = {name: late[name] / early[name] for name in early}
    assert all(ratio <= 1.05 for ratio in grown.values()), grown
    # What is neither free nor cached belongs to nobody: every session is over.
    assert fleet.metric("vllm:num_requests_running") == 0
    assert fleet.metric("vllm:num_requests_waiting") == 0


def test_a_host_that_moves_to_another_port_is_found_again(fleet: Fleet) -> None:
    before = fleet.url
    fleet.host.end()

    fleet.start_host([fleet.node_id(fleet.nodes[0])])
    fleet.wait_ready(60)

    assert fleet.url != before
    assert complete(fleet, Question("Name three colours.")).report["accepted"] > 0


def test_a_node_that_starts_is_connected_within_five_seconds(fleet: Fleet) -> None:
    node = fleet.nodes[0]
    node.end()
    while fleet.connected():
        time.sleep(0.05)  # the host notices a closed stream at once, on its own clock
    start = time.monotonic()

    fleet.start_node(node)
    fleet.wait_connected(1, 30)

    # From the process's start: the interpreter and its imports are part of it.
    assert time.monotonic() - start <= CONNECT_SECONDS + 3
