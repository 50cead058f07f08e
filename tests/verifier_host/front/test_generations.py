"""The owner of prompts and committed tokens, over a real scheduler on a hashing target."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from p2p.drafting.coupling import coupling_key
from p2p.drafting.node_end import Closed, Opened
from p2p.errors import ContextTooLong, NexusError, Overloaded, RequestError, Unavailable
from verifier_host.api.backend import Ask, Message, Piece
from verifier_host.engine.fake import END_ID, continuation
from verifier_host.front.choices import MAX_UNREAD_BYTES
from verifier_host.front.generations import OUTAGE_SECONDS
from verifier_host.messages import (
    Admitted,
    Cancel,
    Committed,
    Finished,
    FinishReason,
    Refused,
    Sampling,
    Start,
)

PROMPT = (10, 11, 12)
ASK = Ask(
    prompts=(PROMPT,),
    choices=1,
    sampling=Sampling(temperature=1.0),
    max_tokens=20,
    stop=(),
    seed=5,
    draft=True,
    exact=False,
    namespace=b"",
)


def words(tokens: list[int]) -> str:
    return "".join(f" w{token}" for token in tokens)


def truth(ask: Ask = ASK, choice: int = 0, prompt: tuple[int, ...] = PROMPT, end: int = 0) -> str:
    key = coupling_key(ask.seed or 0, choice, prompt)
    return words(continuation(prompt, key, ask.sampling, ask.max_tokens or 0, end))


async def read(front: Any, request: Any, steps: int = 10_000) -> list[Piece]:
    """Step the engine to its end and return every piece."""
    pieces: list[Piece] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(front.generations.speak)
        front.engine.run(front.generations, steps)
        async for piece in request.pieces():
            pieces.append(piece)  # noqa: PERF401 - an error must leave what was read
        nursery.cancel_scope.cancel()
    return pieces


def text_of(pieces: list[Piece], choice: int = 0) -> str:
    return "".join(piece.text for piece in pieces if piece.choice == choice)


async def complete(front: Any, ask: Ask = ASK) -> tuple[str, str | None]:
    request = await front.generations.start(ask)
    pieces = await read(front, request)
    return text_of(pieces), pieces[-1].finish


async def test_a_prompt_becomes_the_target_s_text(front: Any) -> None:
    assert await complete(front) == (truth(), "length")


async def test_an_end_of_text_ends_a_choice_and_is_no_part_of_it(
    engine_with: Callable[..., Any], front_with: Callable[..., Any]
) -> None:
    front = front_with(engine_with(end=8))
    front.engine.start(front.generations)
    ask = replace(ASK, max_tokens=500)

    request = await front.generations.start(ask)
    pieces = await read(front, request)

    assert text_of(pieces) == truth(ask, end=8)
    assert pieces[-1].finish == "stop"
    assert END_ID not in [int.from_bytes(t.raw, "big") for piece in pieces for t in piece.tokens]


async def test_choices_differ_and_each_is_its_own_key_s(front: Any) -> None:
    request = await front.generations.start(replace(ASK, choices=3))

    pieces = await read(front, request)

    texts = [text_of(pieces, choice) for choice in range(3)]
    assert texts == [truth(choice=choice) for choice in range(3)]
    assert request.tally().prompt_tokens == 3


async def test_prompts_are_numbered_before_their_choices(front: Any) -> None:
    other = (20, 21)
    request = await front.generations.start(replace(ASK, prompts=(PROMPT, other), choices=2))

    pieces = await read(front, request)

    assert text_of(pieces, 1) == truth(choice=1)
    assert text_of(pieces, 2) == truth(prompt=other)
    assert request.prompt_texts[1] == "".join(
        front.generations._text.raw(id).decode() for id in other
    )


async def test_without_a_seed_one_is_drawn_and_told(front: Any) -> None:
    request = await front.generations.start(replace(ASK, seed=None))
    again = replace(ASK, seed=request.tally().seed)

    assert text_of(await read(front, request)) == truth(again)
    assert 0 <= again.seed < 2**63  # type: ignore[operator]


async def test_texts_and_chats_are_tokenised(front: Any) -> None:
    for prompt in ("hello", (Message("user", "hello"),)):
        request = await front.generations.start(replace(ASK, prompts=(prompt,)))

        assert request.tally().prompt_tokens == 5
        assert request.prompt_texts == ("hello",)
        request.cancel()


async def test_a_long_text_is_tokenised_elsewhere(front: Any) -> None:
    with pytest.raises(ContextTooLong, match="30000 tokens"):
        await front.generations.start(replace(ASK, prompts=("x" * 30_000,)))


async def test_a_huge_text_is_refused_before_it_is_tokenised(front: Any) -> None:
    with pytest.raises(ContextTooLong, match="letters"):
        await front.generations.start(replace(ASK, prompts=("x" * 10**6,)))


@pytest.mark.slow
async def test_a_stop_string_ends_the_text_and_the_engine_s_work(front: Any) -> None:
    stop = truth().split(" ")[5]

    text, finish = await complete(front, replace(ASK, stop=(stop,), max_tokens=500))

    assert text == truth().split(stop)[0]
    assert finish == "stop"
    assert front.engine.slots_held == 0


async def test_logprobs_come_with_each_token(front: Any) -> None:
    request = await front.generations.start(
        replace(ASK, max_tokens=3, sampling=Sampling(logprobs=2))
    )

    tokens = [token for piece in await read(front, request) for token in piece.tokens]

    assert [token.logprob for token in tokens] == [-1.5] * 3
    assert [len(token.top) for token in tokens] == [2] * 3


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"prompts": ((),)}, RequestError, "is empty"),
        ({"prompts": ("",)}, RequestError, "is empty"),
        ({"prompts": ((9_000,),)}, RequestError, "this model has 9000"),
        ({"prompts": ((1,) * 8_192,)}, ContextTooLong, "8192 tokens; this host's context is 8192"),
        ({"max_tokens": 8_190}, ContextTooLong, "and 8190 more are asked for"),
        ({"sampling": Sampling(logit_bias=((9_000, 1.0),))}, RequestError, "no token 9000"),
    ],
)
async def test_what_does_not_fit_the_model_is_refused(
    front: Any, change: dict[str, Any], error: type[NexusError], message: str
) -> None:
    with pytest.raises(error, match=message):
        await front.generations.start(replace(ASK, **change))

    assert not [message for message in front.engine.sent if isinstance(message, Start)]


async def test_max_tokens_may_fill_the_context_and_the_operator_may_cap_it(
    engine: Any, front_with: Callable[..., Any]
) -> None:
    front = front_with(engine, max_tokens=7)
    engine.start(front.generations)
    await front.generations.start(replace(ASK, max_tokens=8_189))
    await front.generations.start(replace(ASK, max_tokens=None))

    assert [message.max_new for message in engine.sent if isinstance(message, Start)] == [7, 7]


async def test_exact_is_refused_where_it_is_not_had(front: Any) -> None:
    await front.generations.start(replace(ASK, exact=True))
    front.engine._loaded = replace(front.engine.loaded, exact=False)

    with pytest.raises(RequestError, match=r"nexus\.exact"):
        await front.generations.start(replace(ASK, exact=True))


async def test_a_request_that_is_cancelled_frees_its_slots(front: Any) -> None:
    request = await front.generations.start(replace(ASK, choices=2, max_tokens=500))
    front.engine.run(front.generations, 3)
    assert front.engine.slots_held > 0

    request.cancel()
    request.cancel()
    front.engine.run(front.generations, 2)

    assert front.engine.slots_held == 0
    cancels = [message for message in front.engine.sent if isinstance(message, Cancel)]
    assert len(cancels) == 2


@pytest.mark.slow
async def test_a_client_that_does_not_read_is_let_go(front: Any) -> None:
    request = await front.generations.start(replace(ASK, max_tokens=8_000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(front.generations.speak)
        for _ in range(90):
            front.engine.run(front.generations, 100)
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    with pytest.raises(Overloaded, match="does not read"):
        async for _ in request.pieces():
            pass
    assert front.engine.slots_held == 0
    assert request.tally().completion_tokens * 64 < MAX_UNREAD_BYTES * 1.1


async def test_a_dead_engine_costs_no_token(front: Any) -> None:
    request = await front.generations.start(replace(ASK, choices=2))
    for steps in (1, 3, 2):
        front.engine.run(front.generations, steps)
        front.engine.die(front.generations)
        assert front.generations.not_ready() == "restarting"
        front.engine.start(front.generations)

    pieces = await read(front, request)

    assert [text_of(pieces, choice) for choice in range(2)] == [truth(), truth(choice=1)]
    starts = [message for message in front.engine.sent if isinstance(message, Start)]
    assert len(starts) == 8
    assert len({message.key for message in starts}) == 2


async def test_a_finish_that_died_with_the_engine_is_made_up_for(front: Any) -> None:
    request = await front.generations.start(ASK)
    front.engine.run(front.generations, 2)
    choice = request.choices[0]
    count = choice.left
    said = Committed(
        choice.number, 3 + len(choice.committed), (1000,) * count, (0,) * count, (), 0, ()
    )
    front.generations.on_said(said)
    front.engine.die(front.generations)
    front.engine.start(front.generations)

    pieces = await read(front, request)

    assert pieces[-1].finish == "length"


async def test_an_end_that_died_with_the_engine_is_made_up_for(front: Any) -> None:
    request = await front.generations.start(ASK)
    choice = request.choices[0]
    front.generations.on_said(Committed(choice.number, 3, (1000, END_ID), (0, 0), (), 0, ()))
    front.engine.die(front.generations)
    front.engine.start(front.generations)

    pieces = await read(front, request)

    assert (text_of(pieces), pieces[-1].finish) == (" w1000", "stop")


async def test_without_an_engine_requests_are_refused_with_a_time(
    engine: Any, front_with: Callable[..., Any]
) -> None:
    front = front_with(engine)

    assert front.generations.not_ready() == "loading"
    with pytest.raises(Unavailable, match="loading the model"):
        await front.generations.start(ASK)
    engine.start(front.generations)
    assert front.generations.not_ready() == ""
    engine.is_alive = False
    assert front.generations.not_ready() == "engine silent"


async def test_an_engine_that_stays_away_ends_its_requests(
    front: Any, autojump_clock: MockClock
) -> None:
    request = await front.generations.start(ASK)
    front.engine.die(front.generations)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(front.generations.keep_time)
        with trio.fail_after(OUTAGE_SECONDS + 3), pytest.raises(Unavailable):
            async for _ in request.pieces():
                pass
        nursery.cancel_scope.cancel()


async def test_an_engine_that_lost_its_place_fails_that_request_only(front: Any) -> None:
    lost, other = [await front.generations.start(ASK) for _ in range(2)]
    number = lost.choices[0].number
    front.generations.on_said(Committed(number, 9, (1000,), (0,), (), 0, ()))

    assert text_of(await read(front, other)) == truth()
    with pytest.raises(Unavailable, match="lost its place"):
        async for _ in lost.pieces():
            pass


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("request.context-length-exceeded", ContextTooLong),
        ("request.invalid", RequestError),
        ("resource", Overloaded),
    ],
)
async def test_what_the_engine_refuses_fails_the_request(
    front: Any, code: str, error: type[NexusError]
) -> None:
    request = await front.generations.start(ASK)

    front.generations.on_said(Refused(request.choices[0].number, code, "because"))

    with pytest.raises(error, match="because"):
        async for _ in request.pieces():
            pass


async def test_what_is_said_of_unknown_sessions_is_ignored(front: Any) -> None:
    front.generations.on_said(Refused(99, "resource", "x"))
    front.generations.on_said(Finished(99, FinishReason.STOP, 0))


async def test_a_row_without_a_finite_logit_ends_its_choice_as_an_error(front: Any) -> None:
    request = await front.generations.start(ASK)
    front.generations.on_said(Finished(request.choices[0].number, FinishReason.ERROR, 0))

    assert (await read(front, request))[-1].finish == "error"


async def test_the_queue_is_bounded(engine: Any, front_with: Callable[..., Any]) -> None:
    front = front_with(engine, waiting=3)
    engine.start(front.generations)
    await front.generations.start(replace(ASK, choices=3))

    with pytest.raises(Overloaded, match="3 choices wait"):
        await front.generations.start(ASK)

    engine.run(front.generations, 2)
    await front.generations.start(ASK)


def drafted(node: Any, event: type) -> list[Any]:
    return [each for each in node.events if isinstance(each, event)]


async def test_a_drafting_node_changes_no_token_and_is_named(
    front: Any, node_of: Callable[..., Any]
) -> None:
    node = node_of(front.drafters, "a")
    request = await front.generations.start(ASK)
    node.pump()
    (opening,) = drafted(node, Opened)
    guesses = continuation(opening.tokens, opening.key, ASK.sampling, 4)
    node.end.grow(opening.sid, 3, 1, (0, 1, 2, 3), guesses, b"\xff" * 4)
    node.pump()

    pieces = await read(front, request)

    tokens = [token for piece in pieces for token in piece.tokens]
    assert text_of(pieces) == truth()
    # The first token ends the prompt's own step, in which no guess has a row.
    assert [token.node for token in tokens[:5]] == ["", *[node.identity.peer.short] * 3, ""]
    tally = request.tally()
    assert (tally.accepted, tally.steps) == (3, 17)
    node.pump()
    assert len(drafted(node, Closed)) == 1


async def test_a_request_that_forbids_it_is_shown_to_no_node(
    front: Any, node_of: Callable[..., Any]
) -> None:
    node = node_of(front.drafters, "a")

    text, _ = await complete(front, replace(ASK, draft=False))
    node.pump()

    assert text == truth()
    assert drafted(node, Opened) == []


async def test_an_operator_that_forbids_it_shows_nothing(
    engine: Any, front_with: Callable[..., Any], node_of: Callable[..., Any]
) -> None:
    front = front_with(engine, drafting="off")
    engine.start(front.generations)
    node = node_of(front.drafters, "a")

    await complete(front)
    node.pump()

    assert drafted(node, Opened) == []


async def test_a_new_engine_is_drafted_for_anew(front: Any, node_of: Callable[..., Any]) -> None:
    node = node_of(front.drafters, "a")
    request = await front.generations.start(ASK)
    front.engine.run(front.generations, 4)
    node.pump()

    front.engine.die(front.generations)
    front.engine.start(front.generations)
    node.pump()

    first, second = drafted(node, Opened)
    assert second.tokens[: len(first.tokens)] == first.tokens
    assert list(second.tokens) == [*PROMPT, *request.choices[0].committed]


@pytest.mark.parametrize("wish", [True, False])
@pytest.mark.parametrize("drafting", ["open", "off"])
async def test_the_engine_may_draft_what_the_client_lets_it_whoever_else_may(
    front_with: Callable[..., Any], engine: Any, drafting: str, wish: bool
) -> None:
    front = front_with(engine, drafting=drafting)
    engine.start(front.generations)

    await complete(front, replace(ASK, draft=wish))

    (begun,) = [message for message in engine.sent if isinstance(message, Start)]
    assert begun.is_drafted == wish


async def test_metrics_count_what_was_done(front: Any) -> None:
    await complete(front)
    request = await front.generations.start(ASK)
    request.cancel()

    def value(name: str, **labels: str) -> float | None:
        found: float | None = front.metrics.registry.get_sample_value(
            name, {"model_name": "m", **labels}
        )
        return found

    assert value("vllm:generation_tokens_total") == 20
    assert value("vllm:prompt_tokens_total") == 6
    assert value("vllm:request_success_total", finished_reason="length") == 1
    assert value("vllm:request_success_total", finished_reason="abort") == 1
    assert value("vllm:time_to_first_token_seconds_count") == 1
    assert value("vllm:request_queue_time_seconds_count") == 1
    assert value("vllm:inter_token_latency_seconds_count") == 19
    assert value("vllm:e2e_request_latency_seconds_count") == 2
    assert value("nexus_exact") == 1


async def test_time_in_the_queue_ends_where_the_engine_lets_a_choice_in(
    front: Any, mock_clock: MockClock
) -> None:
    request = await front.generations.start(ASK)
    number = request.choices[0].number
    mock_clock.jump(3.0)

    front.generations.on_said(Admitted(number, 1.0))
    front.generations.on_said(Admitted(number, 0.0))  # by the engine after this one
    front.generations.on_said(Admitted(99, 0.0))

    name = "vllm:request_queue_time_seconds"
    found = [
        front.metrics.registry.get_sample_value(f"{name}_{part}", {"model_name": "m"})
        for part in ("count", "sum")
    ]
    assert found == [1, pytest.approx(2.0)]


async def test_engine_counters_go_on_over_a_restart(front: Any) -> None:
    await complete(front)
    before = front.metrics.registry.get_sample_value("nexus_steps_total", {"model_name": "m"})
    front.engine.die(front.generations)
    front.engine.start(front.generations)
    await complete(front)

    after = front.metrics.registry.get_sample_value("nexus_steps_total", {"model_name": "m"})
    assert before == 20
    assert after == 40
    assert front.metrics.registry.get_sample_value("nexus_engine_restarts_total") == 1
