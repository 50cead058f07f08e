"""`POST /v1/completions`: its own fields, and its answers' shape."""

from dataclasses import dataclass

from p2p.errors import RequestError, UnsupportedParameter
from verifier_host.api.backend import Piece, Prompt, Token
from verifier_host.api.requests import MAX_TOKENS, Fields, encodable, refuse_unoffered, wrong

MAX_PROMPTS = 16
MAX_IDS = 200_000
MAX_ID = 2**31 - 1
MAX_LOGPROBS = 5
DEFAULT_MAX_TOKENS = 16  # OpenAI's, for this endpoint alone


def read_prompts(fields: Fields) -> tuple[Prompt, ...]:
    """Return the prompts: a text, a list of token ids, or a list of texts."""
    value = fields.take("prompt")
    if isinstance(value, str):
        return (encodable("prompt", value),)
    if not isinstance(value, list) or not value:
        raise wrong("prompt", value, "a text, token ids, or a list of texts")
    if isinstance(value[0], str):
        return _texts(value)
    return (_ids(value),)


def refuse_unsupported(fields: Fields, logprobs: int) -> None:
    """Refuse what would change the answer and is not offered."""
    refuse_unoffered(fields)
    if fields.flag("echo") and logprobs >= 0:
        raise UnsupportedParameter("echo: not supported together with logprobs", "echo")


def read_logprobs(fields: Fields) -> int:
    """Return how many alternatives a token's log-probabilities have; -1 = none are wanted."""
    if fields.take("logprobs") is False:
        return -1
    return fields.whole("logprobs", 0, MAX_LOGPROBS, -1)


def read_max_tokens(fields: Fields) -> int | None:
    return fields.whole("max_tokens", 1, MAX_TOKENS, DEFAULT_MAX_TOKENS)


@dataclass(frozen=True, slots=True)
class CompletionShape:
    """How a completion is written (`Shape` in answers.py): one form for chunks and for the whole.

    `echoes` holds what each choice begins with: its prompt, or "".
    """

    with_logprobs: bool
    echoes: tuple[str, ...]
    prefix: str = "cmpl-"
    whole_object: str = "text_completion"
    chunk_object: str = "text_completion"

    def opening(self, choice: int) -> dict[str, object] | None:
        echo = self.echoes[choice]
        if not echo:
            return None
        return {"index": choice, "text": echo, "logprobs": None, "finish_reason": None}

    def chunk(self, piece: Piece, sent: int) -> dict[str, object]:
        return {
            "index": piece.choice,
            "text": piece.text,
            "logprobs": _logprobs(piece.tokens, sent) if self.with_logprobs else None,
            "finish_reason": piece.finish,
        }

    def whole(self, piece: Piece) -> dict[str, object]:
        return self.chunk(piece, 0) | {"text": self.echoes[piece.choice] + piece.text}


def _texts(value: list[object]) -> tuple[Prompt, ...]:
    if len(value) > MAX_PROMPTS:
        raise wrong("prompt", value, f"at most {MAX_PROMPTS} texts")
    texts: list[Prompt] = []
    for item in value:
        if not isinstance(item, str):
            raise wrong("prompt", item, "nothing but texts in this list")
        texts.append(encodable("prompt", item))
    return tuple(texts)


def _ids(value: list[object]) -> tuple[int, ...]:
    if len(value) > MAX_IDS:
        raise wrong("prompt", value, f"at most {MAX_IDS} token ids")
    ids: list[int] = []
    for item in value:
        if not isinstance(item, int) or isinstance(item, bool) or not 0 <= item <= MAX_ID:
            raise RequestError("prompt: expected texts, or token ids of 0 or more", "prompt")
        ids.append(item)
    return tuple(ids)


def _logprobs(tokens: tuple[Token, ...], offset: int) -> dict[str, object]:
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    return {
        "tokens": [token.raw.decode(errors="replace") for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [
            {other.raw.decode(errors="replace"): other.logprob for other in token.top}
            for token in tokens
        ],
        "text_offset": offsets,
    }
