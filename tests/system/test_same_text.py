"""The promise, on real processes over real libp2p: drafts change speed, never text.

Every test compares with the same request under `nexus.draft = false`, byte for byte.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.asking import Question, Reply, complete, complete_all
from benchmarks.fleet import Fleet, Member
from benchmarks.prompts import load_prompts

pytestmark = [pytest.mark.system, pytest.mark.slow]
CONTENTS = [prompt.messages[0]["content"] for prompt in load_prompts(4)]
TEMPERATURES = (0.0, 0.7, 1.0)


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def fleet(request: pytest.FixtureRequest, open_fleet: Callable[[int, str], Fleet]) -> Fleet:
    return open_fleet(2, request.param)


@pytest.fixture(scope="module")
def plain(fleet: Fleet) -> dict[float, list[Reply]]:
    """Each prompt's own text at each temperature, with no node asked."""
    return {t: ask(fleet, t, draft=False) for t in TEMPERATURES}


@pytest.fixture
def two_nodes(fleet: Fleet) -> Fleet:
    """The fleet with both nodes there, before the test and for the next one."""
    for node in fleet.nodes:
        if node.process is None or node.process.poll() is not None:
            node.end()
            fleet.start_node(node)
    fleet.wait_connected(2, 60)
    return fleet


def ask(fleet: Fleet, temperature: float, draft: bool = True) -> list[Reply]:
    """Ask for all texts at once."""
    return complete_all(fleet, [Question(c, temperature, draft) for c in CONTENTS])


def texts(replies: list[Reply]) -> list[tuple[str, ...]]:
    return [reply.texts for reply in replies]


def drafted(fleet: Fleet, node: Member) -> int:
    """Return how many guesses a node has sent to its hosts, by its own count."""
    return sum(host["drafted"] for host in fleet.status(node)["hosts"])


def test_plain_requests_reach_no_node(plain: dict[float, list[Reply]]) -> None:
    reports = [reply.report for replies in plain.values() for reply in replies]

    assert all(report["drafted"] == 0 and report["accepted"] == 0 for report in reports)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_two_nodes_change_no_character(
    two_nodes: Fleet, plain: dict[float, list[Reply]], temperature: float
) -> None:
    alone = [complete(two_nodes, Question(content, temperature)) for content in CONTENTS[:2]]
    together = ask(two_nodes, temperature)

    assert texts(alone) == texts(plain[temperature][:2])
    assert texts(together) == texts(plain[temperature])
    assert sum(reply.report["accepted"] for reply in [*alone, *together]) > 0


def test_several_choices_are_the_same_too(two_nodes: Fleet) -> None:
    drafted = complete(two_nodes, Question(CONTENTS[0], 1.0, n=2))

    assert drafted.texts == complete(two_nodes, Question(CONTENTS[0], 1.0, False, n=2)).texts
    assert len(set(drafted.texts)) == 2


def test_a_node_killed_in_the_middle_changes_nothing(
    two_nodes: Fleet, plain: dict[float, list[Reply]]
) -> None:
    victim = two_nodes.nodes[0]
    killer = threading.Timer(0.7, lambda: victim.signal(signal.SIGKILL))
    killer.start()

    replies = ask(two_nodes, 0.7)
    killer.join()

    assert texts(replies) == texts(plain[0.7])


def test_a_draft_worker_killed_in_the_middle_comes_back(
    two_nodes: Fleet, plain: dict[float, list[Reply]]
) -> None:
    workers = [node.child("nexusnode.draft.worker") for node in two_nodes.nodes]
    killer = threading.Timer(0.7, lambda: [worker.kill() for worker in workers])
    killer.start()

    replies = ask(two_nodes, 0.7)
    killer.join()

    assert texts(replies) == texts(plain[0.7])
    assert all(n.child("nexusnode.draft.worker").is_running() for n in two_nodes.nodes)


def test_an_engine_killed_in_the_middle_goes_on_where_it_was(
    two_nodes: Fleet, plain: dict[float, list[Reply]]
) -> None:
    engine = two_nodes.host.child("verifier_host.engine.worker")
    killer = threading.Timer(1.0, engine.kill)
    killer.start()
    start = time.monotonic()

    replies = ask(two_nodes, 1.0)
    killer.join()

    assert texts(replies) == texts(plain[1.0])
    assert not engine.is_running()
    assert time.monotonic() - start < 60


def test_a_stopped_node_delays_nothing_for_long(
    two_nodes: Fleet, plain: dict[float, list[Reply]]
) -> None:
    stopped = two_nodes.nodes[1]
    freezer = threading.Timer(0.5, lambda: stopped.signal(signal.SIGSTOP))
    freezer.start()
    try:
        replies = ask(two_nodes, 0.0)
        freezer.join()
    finally:
        stopped.signal(signal.SIGCONT)

    assert texts(replies) == texts(plain[0.0])


def test_a_hostile_node_wastes_rows_and_changes_nothing(
    fleet: Fleet, plain: dict[float, list[Reply]], tmp_path: Path
) -> None:
    for node in fleet.nodes:
        node.end()
    fleet.nodes[0].start(
        sys.executable, "-P", str(Path(__file__).with_name("junk_node.py")),
        str(fleet.nodes[0].folder), fleet.bootstrap_address,
    )  # fmt: skip
    fleet.wait_connected(1, 60)

    replies = ask(fleet, 0.7)

    assert texts(replies) == texts(plain[0.7])
    fleet.nodes[0].end()


def test_without_any_node_the_text_is_the_same(
    fleet: Fleet, plain: dict[float, list[Reply]]
) -> None:
    for node in fleet.nodes:
        node.end()

    assert texts(ask(fleet, 1.0)) == texts(plain[1.0])


def test_running_sessions_outlive_the_bootstrap_peer(
    fleet: Fleet, plain: dict[float, list[Reply]]
) -> None:
    for node in fleet.nodes:
        node.end()
        fleet.start_node(node)
    fleet.wait_connected(2, 60)
    fleet.bootstrap.signal(signal.SIGKILL)
    assert fleet.bootstrap.process is not None
    fleet.bootstrap.process.wait(5)
    before = sum(drafted(fleet, node) for node in fleet.nodes)

    replies = ask(fleet, 0.0)

    assert texts(replies) == texts(plain[0.0])
    # Whether the host has rows for them is the machine's affair: a busy one may take none.
    assert sum(drafted(fleet, node) for node in fleet.nodes) > before
