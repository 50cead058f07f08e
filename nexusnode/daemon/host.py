"""A host as the node knows it, and which one makes way when there are too many. Pure, but for
trio's event and scope that its task is woken and ended by.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import trio

from nexusnode.daemon.drafting import Tally
from nexusnode.states import HostState
from p2p.wire.identity import PeerId
from p2p.wire.record import HostRecord

_IN_TALK = (HostState.GREETING, HostState.SERVING)


@dataclass(slots=True)
class Host:
    """One host, until it makes way for another. `index` is its number on the worker's pipe.

    Attributes:
        idle_since: of the first failure since it served, or was found; infinity = there is none.
        asked_until: it asked not to be dialled before.
    """

    index: int
    peer: PeerId
    seq: int
    addresses: tuple[str, ...]
    offers: tuple[object, ...]  # of its record: see `offers`
    state: HostState = HostState.WAITING
    reason: str = ""
    tally: Tally = field(default_factory=Tally)
    mismatch: str = ""
    attempts: int = 0
    serving_since: float = 0.0
    has_served: bool = False
    idle_since: float = math.inf
    asked_until: float = 0.0
    value: bytes = b""  # of its record; empty = unknown
    news: trio.Event = field(default_factory=trio.Event)
    life: trio.CancelScope = field(default_factory=trio.CancelScope)


def weakest(hosts: Sequence[Host]) -> Host | None:
    """Return the host that makes way for a new one, or None.

    Never one that is talked with or was not tried yet. One that never served goes before one that
    did, so that a flood of strangers' records does not cost a good host that is away for a moment;
    then the one that has been of no use for longest.
    """
    tried = [one for one in hosts if one.idle_since < math.inf and one.state not in _IN_TALK]
    return min(tried, key=lambda one: (one.has_served, one.idle_since), default=None)


def offers(record: HostRecord) -> tuple[object, ...]:
    """Return what decides whether a node fits. Not the demand, which changes all the time."""
    services = tuple((one.tok_fp, one.model_fp, one.policy) for one in record.serves)
    return record.protos, record.noise_specs, services


def hosts_by_tokenizer(hosts: Iterable[Host]) -> Counter[bytes]:
    """Return how many hosts serve a model of each `tok_fp`."""
    count: Counter[bytes] = Counter()
    for host in hosts:
        services = host.offers[2] if len(host.offers) > 2 else ()
        assert isinstance(services, tuple)
        count.update({service[0] for service in services})
    return count
