"""What a request may say, field by field."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.errors import RequestError, UnsupportedParameter
from verifier_host.api import chat, completions
from verifier_host.api.backend import Message
from verifier_host.api.requests import (
    MAX_BIASES,
    MAX_STOP_LETTERS,
    MAX_STOPS,
    Fields,
    parse,
    read_sampling,
    read_seed,
    read_stop,
)
from verifier_host.messages import Sampling


def test_defaults_are_those_of_openai() -> None:
    assert read_sampling(Fields({}), -1) == Sampling(temperature=1.0, top_p=1.0)


def test_every_sampling_field_is_read() -> None:
    values: dict[str, Any] = {
        "temperature": 0,
        "top_k": 40,
        "top_p": 0.5,
        "min_p": 0.1,
        "presence_penalty": -2,
        "frequency_penalty": 2,
        "logit_bias": {"7": -100, "3": 100},
        "min_tokens": 4,
        "ignore_eos": True,
    }

    found = read_sampling(Fields(values), 5)

    assert found == Sampling(
        0.0, 40, 0.5, 0.1, -2.0, 2.0, ((3, 100.0), (7, -100.0)), 4, True, logprobs=5
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.001),
        ("temperature", 2.001),
        ("temperature", "hot"),
        ("temperature", True),
        ("temperature", float("nan")),
        ("top_p", 1.1),
        ("top_p", -0.1),
        ("min_p", 1.1),
        ("top_k", -2),
        ("top_k", 1.5),
        ("top_k", 2**31),
        ("presence_penalty", 2.1),
        ("frequency_penalty", -2.1),
        ("min_tokens", -1),
        ("ignore_eos", 1),
        ("logit_bias", [1]),
        ("logit_bias", {"x": 1}),
        ("logit_bias", {"-1": 1}),
        ("logit_bias", {"1": 101}),
        ("logit_bias", {"1": None}),
        ("logit_bias", {str(id): 0 for id in range(MAX_BIASES + 1)}),
    ],
)
def test_a_wrong_sampling_field_is_refused_by_its_name(name: str, value: object) -> None:
    with pytest.raises(RequestError) as caught:
        read_sampling(Fields({name: value}), -1)

    assert caught.value.param == name
    assert name in str(caught.value)


def test_bounds_themselves_are_allowed() -> None:
    values: dict[str, object] = {
        "temperature": 2,
        "top_p": 0,
        "min_p": 1,
        "top_k": -1,
        "logit_bias": {str(id): 0 for id in range(MAX_BIASES)},
    }

    assert len(read_sampling(Fields(values), -1).logit_bias) == MAX_BIASES


def test_a_repetition_penalty_is_refused_unless_it_does_nothing() -> None:
    read_sampling(Fields({"repetition_penalty": 1.0}), -1)

    with pytest.raises(UnsupportedParameter):
        read_sampling(Fields({"repetition_penalty": 1.1}), -1)


@pytest.mark.parametrize("seed", [0, -(2**63), 2**63 - 1])
def test_any_int64_is_a_seed(seed: int) -> None:
    assert read_seed(Fields({"seed": seed})) == seed


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1, 0.5, "1", True, [1]])
def test_other_seeds_are_refused(seed: object) -> None:
    with pytest.raises(RequestError):
        read_seed(Fields({"seed": seed}))


def test_stop_may_be_one_text_or_a_list() -> None:
    assert read_stop(Fields({"stop": "a"})) == ("a",)
    assert read_stop(Fields({"stop": ["a"] * MAX_STOPS})) == ("a",) * MAX_STOPS
    assert read_stop(Fields({"stop": ["x" * MAX_STOP_LETTERS]}))
    assert read_stop(Fields({})) == ()


@pytest.mark.parametrize(
    "stop", ["", ["a"] * (MAX_STOPS + 1), ["x" * (MAX_STOP_LETTERS + 1)], [1], 3, ["\ud800"]]
)
def test_other_stops_are_refused(stop: object) -> None:
    with pytest.raises(RequestError):
        read_stop(Fields({"stop": stop}))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b'"text"',
        b"null",
        b"\xff\xfe",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a":' * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError):
        parse(body)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_no_value_breaks_a_reader(value: object) -> None:
    names = ("temperature", "seed", "stop", "logit_bias", "top_k", "messages", "prompt", "tools")
    readers: list[Any] = [
        lambda fields: read_sampling(fields, -1),
        read_seed,
        read_stop,
        chat.read_messages,
        chat.refuse_unsupported,
        chat.read_logprobs,
        chat.read_max_tokens,
        completions.read_prompts,
        completions.read_logprobs,
    ]
    for reader in readers:
        with contextlib.suppress(RequestError):
            reader(Fields(dict.fromkeys(names, value)))


def test_unknown_fields_are_counted_and_known_ones_are_not() -> None:
    fields = parse(b'{"user": "u", "store": true, "zap": 1, "temperature": 1, "null": null}')

    read_sampling(fields, -1)

    assert fields.unknown() == 1


def test_a_conversation_joins_text_parts_and_renames_the_developer() -> None:
    messages = [
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]

    found = chat.read_messages(Fields({"messages": messages}))

    assert found == (Message("system", "be kind"), Message("user", "ab"))


@pytest.mark.parametrize(
    ("messages", "kind"),
    [
        ([], RequestError),
        ("hi", RequestError),
        ([1], RequestError),
        ([{}], RequestError),
        ([{"role": "user"}], RequestError),
        ([{"role": "owner", "content": "x"}], RequestError),
        ([{"role": ["user"], "content": "x"}], RequestError),
        ([{"role": "user", "content": 1}], RequestError),
        ([{"role": "user", "content": ["x"]}], RequestError),
        ([{"role": "user", "content": [{"type": "text"}]}], RequestError),
        ([{"role": "user", "content": "\udc00"}], RequestError),
        ([{"role": "tool", "content": "x"}], UnsupportedParameter),
        ([{"role": "user", "content": [{"type": "image_url"}]}], UnsupportedParameter),
        ([{"role": "assistant", "content": "", "tool_calls": [1]}], UnsupportedParameter),
    ],
)
def test_a_wrong_conversation_says_where(messages: object, kind: type[RequestError]) -> None:
    with pytest.raises(kind, match="messages"):
        chat.read_messages(Fields({"messages": messages}))


UNSUPPORTED = [
    ("tools", [{}]),
    ("functions", [{}]),
    ("audio", {"voice": "x"}),
    ("tool_choice", "auto"),
    ("response_format", {"type": "json_object"}),
    ("modalities", ["audio"]),
    ("best_of", 2),
    ("prediction", {"type": "content"}),
    ("guided_json", {"a": 1}),
    ("suffix", "x"),
    ("web_search_options", {"a": 1}),
]


@pytest.mark.parametrize(("name", "value"), [*UNSUPPORTED, ("echo", True)])
def test_what_would_change_a_chat_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        chat.refuse_unsupported(Fields({name: value}))

    assert caught.value.param == name


def test_what_asks_for_nothing_is_let_through() -> None:
    chat.refuse_unsupported(
        Fields(
            {
                "tools": [],
                "tool_choice": "none",
                "response_format": {"type": "text"},
                "modalities": ["text"],
                "best_of": 1,
            }
        )
    )


def test_top_logprobs_need_logprobs() -> None:
    assert chat.read_logprobs(Fields({})) == -1
    assert chat.read_logprobs(Fields({"logprobs": True})) == 0
    assert chat.read_logprobs(Fields({"logprobs": True, "top_logprobs": 20})) == 20
    with pytest.raises(RequestError, match="logprobs must be true"):
        chat.read_logprobs(Fields({"top_logprobs": 1}))
    with pytest.raises(RequestError):
        chat.read_logprobs(Fields({"logprobs": True, "top_logprobs": 21}))


def test_max_tokens_goes_by_either_name_and_the_new_one_wins() -> None:
    assert chat.read_max_tokens(Fields({})) is None
    assert chat.read_max_tokens(Fields({"max_tokens": 5})) == 5
    assert chat.read_max_tokens(Fields({"max_tokens": 5, "max_completion_tokens": 7})) == 7
    with pytest.raises(RequestError):
        chat.read_max_tokens(Fields({"max_tokens": 0}))


def test_a_prompt_is_text_or_ids_or_texts() -> None:
    assert completions.read_prompts(Fields({"prompt": ""})) == ("",)
    assert completions.read_prompts(Fields({"prompt": [1, 2]})) == ((1, 2),)
    assert completions.read_prompts(Fields({"prompt": ["a", "b"]})) == ("a", "b")
    assert len(completions.read_prompts(Fields({"prompt": ["a"] * 16}))) == 16


@pytest.mark.parametrize(
    "prompt", [None, [], ["a"] * 17, ["a", 1], [1, "a"], [-1], [True], [1.5], [[1]], {"a": 1}]
)
def test_other_prompts_are_refused(prompt: object) -> None:
    with pytest.raises(RequestError, match="prompt"):
        completions.read_prompts(Fields({"prompt": prompt}))


def test_echo_with_logprobs_is_refused() -> None:
    with pytest.raises(UnsupportedParameter, match="echo"):
        completions.refuse_unsupported(Fields({"echo": True}), 0)
    completions.refuse_unsupported(Fields({"echo": True}), -1)


@pytest.mark.parametrize(("name", "value"), UNSUPPORTED)
def test_what_would_change_a_completion_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        completions.refuse_unsupported(Fields({name: value}), -1)

    assert caught.value.param == name


def test_completions_have_at_most_five_logprobs() -> None:
    assert completions.read_logprobs(Fields({"logprobs": 5})) == 5
    assert completions.read_logprobs(Fields({"logprobs": False})) == -1
    with pytest.raises(RequestError):
        completions.read_logprobs(Fields({"logprobs": 6}))


def test_a_refusal_never_quotes_a_text() -> None:
    secret = "my secret prompt"

    with pytest.raises(RequestError) as caught:
        read_sampling(parse(json.dumps({"temperature": secret}).encode()), -1)

    assert secret not in str(caught.value)
