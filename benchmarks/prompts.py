"""The bundled prompts: 120 short tasks, half chats, half documents (`prompts.jsonl`)."""

import json
from dataclasses import dataclass
from pathlib import Path

PROMPTS = Path(__file__).with_name("prompts.jsonl")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One task; `kind` is "chat" or "document"."""

    id: str
    kind: str
    messages: list[dict[str, str]]


def load_prompts(count: int | None = None) -> list[Prompt]:
    """Return `count` prompts spread evenly over the file, as many chats as documents."""
    lines = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    every = [Prompt(line["id"], line["kind"], line["messages"]) for line in lines]
    if count is None or count >= len(every):
        return every
    kinds = [[p for p in every if p.kind == kind] for kind in ("chat", "document")]
    half = max(1, (count + 1) // 2)
    chosen = [kind[i * len(kind) // half] for i in range(half) for kind in kinds]
    return chosen[:count]
