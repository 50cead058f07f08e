"""Text to tokens and back, and what is released when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from p2p.errors import ModelError, RequestError
from p2p.wire.fingerprint import token_entry
from p2p.wire.messages import TokenKind
from verifier_host.api.backend import Message
from verifier_host.front.text import Speech, Text
from verifier_host.front.vocabulary import Vocabulary

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_text(template: str = CHATML) -> Text:
    """A tokenizer of single bytes with two control tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*letters, "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(BPE(vocab={name: id for id, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in names[-2:]])
    entries = [
        token_entry(TokenKind.CONTROL if name in names[-2:] else TokenKind.NORMAL, name, True)
        for name in names
    ]
    return Text(Vocabulary(tokenizer, tuple(entries), template, bos="", eos="<|im_end|>"))


def spoken(stops: tuple[str, ...], parts: list[bytes]) -> tuple[list[tuple[str, int]], bool]:
    speech: Speech[int] = Speech(stops)
    said: list[tuple[str, int]] = []
    for number, part in enumerate(parts):
        said += speech.say(part, number)
    if not speech.is_stopped:
        said += speech.finish()
    return said, speech.is_stopped


@given(st.text(max_size=40))
def test_a_text_comes_back_from_its_tokens(written: str) -> None:
    text = make_text()

    assert text.decode(text.encode(written)) == written


def test_control_tokens_are_no_text_but_have_a_spelling() -> None:
    text = make_text()
    ids = text.encode("a<|im_end|>b")

    assert text.decode(ids) == "ab"
    assert b"".join(map(text.raw, ids)) == b"a<|im_end|>b"
    assert text.raw(10**6) == text.spoken(10**6) == b""


def test_a_chat_is_written_by_the_model_s_template() -> None:
    text = make_text()

    assert text.render([Message("user", "hi")]) == (
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert text.encode_chat([Message("user", "hi")])[0] == text.size - 2


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("", "no chat template"),
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[7]['role'] + 1 }}", "does not take these messages"),
        ("{{ 1 // 0 }}", "does not take these messages"),
        ("{{ messages.append(1) }}", "does not take these messages"),
        ("{{ ''.__class__.__mro__ }}", "does not take these messages"),
    ],
)
def test_a_template_that_refuses_is_the_request_s_error(template: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make_text(template).render([Message("user", "hi")])


def test_a_broken_template_is_the_model_s_error() -> None:
    with pytest.raises(ModelError, match="chat template"):
        make_text("{% for %}")


def test_half_a_character_waits_for_its_other_half() -> None:
    speech: Speech[int] = Speech(())
    euro = "€".encode()

    assert speech.say(b"a", 0) == [("a", 0)]
    assert speech.say(euro[:1], 1) == []
    assert speech.say(euro[1:2], 2) == []
    assert speech.say(euro[2:], 3) == [("", 1), ("", 2), ("€", 3)]


def test_an_unfinished_character_becomes_a_replacement_at_the_end() -> None:
    said, _ = spoken((), [b"a", "€".encode()[:2]])

    assert said == [("a", 0), ("�", 1)]


def test_bytes_that_are_no_character_are_replaced_at_once() -> None:
    assert Speech[int](()).say(b"\xff", 0) == [("�", 0)]


def test_a_stop_string_over_several_tokens_is_cut_with_what_follows() -> None:
    said, is_stopped = spoken(("\n\n",), [b"one", b"\n", b"\ntwo", b"three"])

    assert said == [("one", 0)]
    assert is_stopped


def test_a_stop_string_within_a_token_leaves_its_beginning() -> None:
    said, _ = spoken(("##",), [b"ab##cd"])

    assert said == [("ab", 0)]


def test_the_first_of_two_stop_strings_counts() -> None:
    said, _ = spoken(("cd", "b"), [b"a", b"bcd"])

    assert "".join(text for text, _ in said) == "a"


def test_what_only_looked_like_a_stop_string_is_released() -> None:
    speech: Speech[int] = Speech(("\n\n",))

    assert speech.say(b"one\n", 0) == []
    assert speech.say(b"two", 1) == [("one\n", 0), ("two", 1)]


@given(
    st.lists(st.text("abé€", max_size=3), max_size=8),
    st.lists(st.text("abé€", min_size=1, max_size=3), max_size=3),
    st.integers(1, 4),
)
def test_speech_says_the_text_up_to_the_first_stop(
    words: list[str], stops: list[str], width: int
) -> None:
    whole = "".join(words)
    raw = whole.encode()
    parts = [raw[at : at + width] for at in range(0, len(raw), width)]
    # A stop is seen when its last token comes, so of those that token completes the first counts.
    ends = [(whole.find(stop) + len(stop), whole.find(stop)) for stop in stops if stop in whole]

    said, is_stopped = spoken(tuple(stops), parts)

    text = "".join(part for part, _ in said)
    assert is_stopped == bool(ends)
    if not ends:
        assert text == whole
        assert [number for _, number in said] == list(range(len(parts)))
    else:
        assert whole.startswith(text)
        assert not any(stop in text for stop in stops)
        assert any(whole[len(text) :].startswith(stop) for stop in stops)
