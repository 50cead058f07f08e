"""What a step says about one session: the accepted path, what it teaches, and the commit."""

from collections.abc import Sequence

from p2p.drafting.acceptance import accept
from p2p.drafting.tree import Part as Credited
from verifier_host.messages import HOST, TARGET, Committed, Credit
from verifier_host.scheduling.plan import Part
from verifier_host.scheduling.rows import Chosen
from verifier_host.scheduling.sessions import is_hosts_alone
from verifier_host.scheduling.survival import Survival


def walk(part: Part, tokens: Sequence[int]) -> list[int]:
    """Return the rows of `part` that say what the target says, counted from its root.

    Args:
        tokens: [R] chosen after each row of the step.
    """
    guessed = [part.session.text[-1], *(guess.token for guess in part.picked.guesses)]
    return accept([-1, *part.picked.parents], guessed, tokens[part.root : part.stop])


def learn(part: Part, path: Sequence[int], found: Sequence[int], survival: Survival) -> None:
    """Record which guesses held on the places that the text went through; `found` came there."""
    if not part.picked.guesses:
        return
    children: dict[int, list[int]] = {}
    for row, parent in enumerate(part.picked.parents, start=1):
        children.setdefault(parent, []).append(row)
    for depth, (row, token) in enumerate(zip(path, found, strict=True), start=1):
        siblings = [part.picked.guesses[child - 1] for child in children.get(row, ())]
        if siblings:
            # What the host guesses by itself says nothing of what its nodes are good for.
            nodes = [guess for guess in siblings if not is_hosts_alone(guess)]
            if nodes:
                best = max(nodes, key=lambda guess: survival.chance(guess, depth))
                was_held = any(guess.token == token for guess in nodes)
                part.session.record_place(was_held, best.token == token)
            survival.record(siblings, depth, token)


def committed(
    part: Part,
    pos: int,
    path: Sequence[int],
    tokens: tuple[int, ...],
    sources: Sequence[int],
    credited: Sequence[Credited],
    chosen: Chosen,
) -> Committed:
    """Say what has become final.

    Args:
        path: rows that were reached; each brought one token, all but the last from a guess.
        tokens: that became text, possibly fewer than `path`.
        sources: for each token the first drafter that had it in time.
    """
    rows = [part.root + row for row in path[: len(tokens)]]
    guessed = len(path) - 1
    asked = part.session.start.sampling.logprobs >= 0
    logprobs = [chosen.logprobs[row] for row in rows] if asked else []
    return Committed(
        session=part.session.number,
        pos=pos,
        tokens=tokens,
        sources=tuple(source if at < guessed else TARGET for at, source in enumerate(sources)),
        logprobs=tuple(logprob for logprob in logprobs if logprob is not None),
        drafted=len(part.picked.guesses),
        credits=tuple(
            Credit(one.drafter, one.tip, one.credited) for one in credited if one.drafter != HOST
        ),
    )
