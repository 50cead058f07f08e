"""Ask a fleet for whole answers, one or several at once (the demo streams instead)."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from benchmarks.fleet import Fleet
from p2p.errors import Unavailable

ANSWER_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Question:
    """One chat request; the seed is fixed, so the same question has one answer."""

    content: str
    temperature: float = 0.0
    draft: bool = True
    max_tokens: int = 48
    n: int = 1


@dataclass(frozen=True, slots=True)
class Reply:
    """The texts of all choices, and the host's report: steps, drafted, accepted, seed, exact."""

    texts: tuple[str, ...]
    reasons: tuple[str, ...]
    report: Mapping[str, int]


def complete(fleet: Fleet, question: Question) -> Reply:
    """Ask one question; a refusal is raised with the host's own words."""
    body = {
        "model": fleet.model,
        "messages": [{"role": "user", "content": question.content}],
        "max_tokens": question.max_tokens,
        "temperature": question.temperature,
        "n": question.n,
        "seed": 11,
        "nexus": {"draft": question.draft},
    }
    reply = httpx.post(
        f"{fleet.url}/v1/chat/completions",
        json=body,
        headers=fleet.headers,
        timeout=ANSWER_SECONDS,
    )
    if reply.status_code != 200:
        raise Unavailable(f"the host answered {reply.status_code}: {reply.text[:300]}")
    found = reply.json()
    return Reply(
        tuple(choice["message"]["content"] for choice in found["choices"]),
        tuple(choice["finish_reason"] for choice in found["choices"]),
        found["nexus"],
    )


def complete_all(fleet: Fleet, questions: Sequence[Question]) -> list[Reply]:
    """Ask all of them at once; answers in the order of the questions."""
    with ThreadPoolExecutor(len(questions)) as pool:
        return list(pool.map(lambda question: complete(fleet, question), questions))
