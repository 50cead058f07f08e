"""When no tokenizer is common: the host shows its tokens, the node names the first that differs.

Specification: docs/protocol.md, 8.5.
"""

from collections.abc import Sequence

from p2p.wire.fingerprint import Entry
from p2p.wire.messages import LADDER_STEP, Vocabulary, VocabularyEntry

SHOWN_BYTES = 128  # of one token, VOCABULARY's bound: longer ones are compared by their beginning
_FRAME_BYTES = 60_000  # leaves room for signature and head in a peer's 65,536
_ENTRY_BYTES = 5  # array, kind and length in front of the text


def shown(entries: Sequence[Entry], start: int) -> tuple[Vocabulary, ...]:
    """Return the block of entries that begins at id `start`, in as many frames as it takes."""
    frames: list[Vocabulary] = []
    block: list[VocabularyEntry] = []
    size = 0
    for kind, text in entries[start : start + LADDER_STEP]:
        entry = VocabularyEntry(kind, text[:SHOWN_BYTES])
        if size + _ENTRY_BYTES + len(entry.text) > _FRAME_BYTES:
            frames.append(Vocabulary(start, tuple(block)))
            start, block, size = start + len(block), [], 0
        block.append(entry)
        size += _ENTRY_BYTES + len(entry.text)
    return (*frames, Vocabulary(start, tuple(block))) if block else ()


def first_mismatch(own: Sequence[Entry], vocabulary: Vocabulary) -> int | None:
    """Return the first id whose entry differs from the host's; None when there is none here.

    Args:
        own: all our entries, by id; an id past their end differs.
    """
    for token_id, theirs in enumerate(vocabulary.entries, start=vocabulary.start):
        if token_id >= len(own):
            return token_id
        kind, text = own[token_id]
        if (kind, text[:SHOWN_BYTES]) != (theirs.kind, theirs.text):
            return token_id
    return None
