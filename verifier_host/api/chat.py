"""`POST /v1/chat/completions`: its own fields, and its answers' shape."""

from dataclasses import dataclass

from p2p.errors import RequestError, UnsupportedParameter
from verifier_host.api.backend import Message, Piece, Token
from verifier_host.api.requests import MAX_TOKENS, Fields, encodable, refuse_unoffered, wrong
from verifier_host.messages import MAX_TOP_LOGPROBS

MAX_MESSAGES = 2048
ROLES = frozenset({"system", "user", "assistant"})


def read_messages(fields: Fields) -> tuple[Message, ...]:
    """Return the conversation. Parts of type text are joined; others are refused by name."""
    value = fields.take("messages")
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_MESSAGES:
        raise wrong("messages", value, f"a list of 1 to {MAX_MESSAGES} messages")
    return tuple(_read_message(item, f"messages.{place}") for place, item in enumerate(value))


def refuse_unsupported(fields: Fields) -> None:
    """Refuse what would change the answer and is not offered."""
    refuse_unoffered(fields)
    if fields.take("echo"):
        raise UnsupportedParameter("echo: not supported by this host", "echo")


def read_logprobs(fields: Fields) -> int:
    """Return how many alternatives a token's log-probabilities have; -1 = none are wanted."""
    wanted = fields.flag("logprobs")
    top = fields.whole("top_logprobs", 0, MAX_TOP_LOGPROBS, 0)
    if top and not wanted:
        raise RequestError("top_logprobs: logprobs must be true as well", "top_logprobs")
    return top if wanted else -1


def read_max_tokens(fields: Fields) -> int | None:
    """Return the limit under either of its names."""
    limits = [
        fields.whole(name, 1, MAX_TOKENS, 0) for name in ("max_completion_tokens", "max_tokens")
    ]
    return limits[0] or limits[1] or None


@dataclass(frozen=True, slots=True)
class ChatShape:
    """How a chat's answer is written (`Shape` in answers.py)."""

    with_logprobs: bool
    prefix: str = "chatcmpl-"
    whole_object: str = "chat.completion"
    chunk_object: str = "chat.completion.chunk"

    def opening(self, choice: int) -> dict[str, object]:
        delta = {"role": "assistant", "content": ""}
        return {"index": choice, "delta": delta, "logprobs": None, "finish_reason": None}

    def chunk(self, piece: Piece, _sent: int) -> dict[str, object]:
        has_logprobs = self.with_logprobs and piece.tokens
        return {
            "index": piece.choice,
            "delta": {"content": piece.text} if piece.tokens else {},
            "logprobs": _logprobs(piece.tokens) if has_logprobs else None,
            "finish_reason": piece.finish,
        }

    def whole(self, piece: Piece) -> dict[str, object]:
        return {
            "index": piece.choice,
            "message": {"role": "assistant", "content": piece.text, "refusal": None},
            "logprobs": _logprobs(piece.tokens) if self.with_logprobs else None,
            "finish_reason": piece.finish,
        }


def _read_message(item: object, where: str) -> Message:
    if not isinstance(item, dict):
        raise wrong(where, item, "an object with role and content")
    role = "system" if item.get("role") == "developer" else item.get("role")
    if role in ("tool", "function") or item.get("tool_calls"):
        raise UnsupportedParameter(f"{where}: tool messages are not supported", where)
    if not isinstance(role, str) or role not in ROLES:
        raise RequestError(f"{where}.role: expected one of {', '.join(sorted(ROLES))}", where)
    return Message(role, encodable(where, _read_content(item.get("content"), f"{where}.content")))


def _read_content(content: object, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise wrong(where, content, "a text or a list of text parts")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind != "text":
            raise UnsupportedParameter(f"{where}: only parts of type text are supported", where)
        text = part.get("text") if isinstance(part, dict) else None
        if kind != "text" or not isinstance(text, str):
            raise wrong(where, part, "parts with type and text")
        texts.append(text)
    return "".join(texts)


def _logprobs(tokens: tuple[Token, ...]) -> dict[str, object]:
    return {"content": [_logprob(token) for token in tokens], "refusal": None}


def _logprob(token: Token) -> dict[str, object]:
    top = [_spelled(other.raw, other.logprob) for other in token.top]
    return {**_spelled(token.raw, token.logprob), "top_logprobs": top}


def _spelled(raw: bytes, logprob: float | None) -> dict[str, object]:
    return {"token": raw.decode(errors="replace"), "logprob": logprob, "bytes": list(raw)}
