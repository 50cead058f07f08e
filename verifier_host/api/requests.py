"""The fields both completion endpoints share, checked: a request is in order or refused by name."""

import json
import math

from p2p.errors import RequestError, UnsupportedParameter
from verifier_host.messages import Sampling

MAX_CHOICES = 8
MAX_STOPS = 4
MAX_STOP_LETTERS = 256
MAX_BIASES = 300
MAX_TOP_K = 2**31 - 1
MAX_TOKENS = 2**31 - 1
_INT64 = 2**63

# What clients add for services of other providers and what changes no answer here.
IGNORED = (
    "user",
    "metadata",
    "store",
    "service_tier",
    "parallel_tool_calls",
    "reasoning_effort",
    "safety_identifier",
    "prompt_cache_key",
)

# What would change the answer and no endpoint offers: refused by name (docs/clients.md).
_REFUSED = (
    "tools",
    "functions",
    "function_call",
    "audio",
    "suffix",
    "prediction",
    "web_search_options",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "use_beam_search",
)


class Fields:
    """A request's JSON object. Each reader checks one field; a field that is null is absent."""

    def __init__(self, values: dict[str, object]) -> None:
        self._values = {name: value for name, value in values.items() if value is not None}
        self._known = set(IGNORED)

    def take(self, name: str) -> object | None:
        """Return a field unchecked, None if it is absent."""
        self._known.add(name)
        return self._values.get(name)

    def unknown(self) -> int:
        """Return how many fields nobody has asked for: they are ignored, and counted."""
        return len(self._values.keys() - self._known)

    def text(self, name: str) -> str:
        value = self.take(name)
        if not isinstance(value, str) or not value:
            raise wrong(name, value, "a text")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.take(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise wrong(name, value, "true or false")
        return value

    def whole(self, name: str, low: int, high: int, default: int) -> int:
        value = self.take(name)
        return default if value is None else whole(name, value, low, high)

    def number(self, name: str, low: float, high: float, default: float) -> float:
        value = self.take(name)
        return default if value is None else number(name, value, low, high)

    def part(self, name: str) -> "Fields":
        """Return an object within this one; absent, it is empty."""
        value = self.take(name)
        if value is None:
            return Fields({})
        if not isinstance(value, dict):
            raise wrong(name, value, "an object")
        return Fields(value)


def parse(body: bytes) -> Fields:
    """Return a request's fields; `RequestError` unless `body` is one JSON object."""
    try:
        values = json.loads(body, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise RequestError(
            f"the body is not JSON (line {error.lineno} column {error.colno})"
        ) from error
    except (ValueError, RecursionError) as error:
        raise RequestError("the body is not JSON this host reads") from error
    if not isinstance(values, dict):
        raise RequestError(f"the body is {_kind(values)}; expected an object")
    return Fields(values)


def refuse_unoffered(fields: Fields) -> None:
    """Refuse fields that would change the answer and that neither endpoint offers.

    An empty list or false asks for nothing, so it is no reason.
    """
    for name in _REFUSED:
        if fields.take(name):
            raise UnsupportedParameter(f"{name}: not supported by this host", name)
    if fields.take("tool_choice") not in (None, "none"):
        raise UnsupportedParameter("tool_choice: only none is supported", "tool_choice")
    form = fields.take("response_format")
    if form is not None and form != {"type": "text"}:
        raise UnsupportedParameter(
            'response_format: only {"type": "text"} is supported', "response_format"
        )
    if fields.take("modalities") not in (None, ["text"]):
        raise UnsupportedParameter('modalities: only ["text"] is supported', "modalities")
    if fields.whole("best_of", 1, MAX_TOKENS, 1) > 1:
        raise UnsupportedParameter("best_of: only 1 is supported", "best_of")


def read_sampling(fields: Fields, logprobs: int) -> Sampling:
    """Return the settings of `choose` (docs/protocol.md, 7); absent ones are OpenAI's defaults."""
    if fields.number("repetition_penalty", 0, 100, 1.0) != 1.0:
        raise UnsupportedParameter(
            "repetition_penalty: only 1 is supported; use frequency_penalty", "repetition_penalty"
        )
    return Sampling(
        temperature=fields.number("temperature", 0, 2, 1.0),
        top_k=max(0, fields.whole("top_k", -1, MAX_TOP_K, 0)),  # -1 is vLLM's "off"
        top_p=fields.number("top_p", 0, 1, 1.0),
        min_p=fields.number("min_p", 0, 1, 0.0),
        presence_penalty=fields.number("presence_penalty", -2, 2, 0.0),
        frequency_penalty=fields.number("frequency_penalty", -2, 2, 0.0),
        logit_bias=_read_bias(fields),
        min_tokens=fields.whole("min_tokens", 0, MAX_TOKENS, 0),
        ignore_eos=fields.flag("ignore_eos"),
        logprobs=logprobs,
    )


def read_stop(fields: Fields) -> tuple[str, ...]:
    """Return the stop strings; one may be given without its list."""
    value = fields.take("stop")
    stops = [value] if isinstance(value, str) else value
    if stops is None:
        return ()
    if not isinstance(stops, list) or len(stops) > MAX_STOPS:
        raise wrong("stop", value, f"a text or a list of at most {MAX_STOPS} texts")
    for stop in stops:
        if not isinstance(stop, str) or not 1 <= len(stop) <= MAX_STOP_LETTERS:
            raise wrong("stop", stop, f"texts of 1 to {MAX_STOP_LETTERS} letters")
        encodable("stop", stop)
    return tuple(stops)


def read_seed(fields: Fields) -> int | None:
    """Return the seed, a signed 64-bit integer, or None: the front then draws one."""
    value = fields.take("seed")
    return None if value is None else whole("seed", value, -_INT64, _INT64 - 1)


def encodable(name: str, text: str) -> str:
    """Return `text`; `RequestError` if it holds half a surrogate pair, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"{name}: letter {error.start} is half a surrogate pair; expected Unicode text", name
        ) from error
    return text


def whole(name: str, value: object, low: int, high: int) -> int:
    """Return `value` as an integer within bounds."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise wrong(name, value, f"an integer from {low} to {high}")
    return value


def number(name: str, value: object, low: float, high: float) -> float:
    """Return `value` as a float within bounds."""
    expected = f"a number from {low:g} to {high:g}"
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise wrong(name, value, expected)
    if not low <= value <= high:  # never true of NaN
        raise wrong(name, value, expected)
    return float(value)


def wrong(name: str, value: object, expected: str) -> RequestError:
    """Return the refusal of one field. Texts and lists are named by their kind, never quoted."""
    found = "nothing" if value is None else _kind(value)
    if isinstance(value, bool) or (isinstance(value, int | float) and math.isfinite(value)):
        found = str(value)[:40]
    return RequestError(f"{name}: expected {expected}, found {found}", name)


def _read_bias(fields: Fields) -> tuple[tuple[int, float], ...]:
    value = fields.take("logit_bias")
    if value is None:
        return ()
    if not isinstance(value, dict) or len(value) > MAX_BIASES:
        raise wrong("logit_bias", value, f"an object of at most {MAX_BIASES} token ids")
    biases: dict[int, float] = {}
    for key, bias in value.items():
        if not key.isascii() or not key.isdigit() or len(key) > 9:
            raise RequestError("logit_bias: a key is not a token id", "logit_bias")
        biases[int(key)] = number("logit_bias", bias, -100, 100)
    return tuple(sorted(biases.items()))


def _no_constant(_text: str) -> float:
    raise ValueError("NaN and Infinity are not JSON")


def _kind(value: object) -> str:
    kinds: dict[type, str] = {dict: "an object", list: "a list", str: "a text", float: "a number"}
    if isinstance(value, list | dict):
        return f"{kinds[type(value)]} of {len(value)}"
    if isinstance(value, str):
        return f"a text of {len(value)} letters"
    return kinds.get(type(value), str(value)[:40])
