"""A GGUF as a source of weights: names, order, cache, and that damage is refused by name."""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from p2p.errors import ModelError
from verifier_host.engine.weights import open_weights

HIDDEN, HEADS, KV_HEADS, SIZE, INTERMEDIATE, VOCABULARY = 64, 4, 2, 16, 96, 40


def ignore(done: float, what: str) -> None:
    """A progress nobody watches."""


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "nexus" / "weights"


def plain_tensors() -> dict[str, np.ndarray]:
    """One layer's tensors under GGUF's names, [outputs, inputs]."""
    seeded = np.random.default_rng(0)
    shapes = {
        "token_embd": (VOCABULARY, HIDDEN),
        "output_norm": (HIDDEN,),
        "blk.0.attn_norm": (HIDDEN,),
        "blk.0.attn_q": (HEADS * SIZE, HIDDEN),
        "blk.0.attn_k": (KV_HEADS * SIZE, HIDDEN),
        "blk.0.attn_v": (KV_HEADS * SIZE, HIDDEN),
        "blk.0.attn_output": (HIDDEN, HEADS * SIZE),
        "blk.0.ffn_norm": (HIDDEN,),
        "blk.0.ffn_gate": (INTERMEDIATE, HIDDEN),
        "blk.0.ffn_up": (INTERMEDIATE, HIDDEN),
        "blk.0.ffn_down": (HIDDEN, INTERMEDIATE),
    }
    return {
        f"{name}.weight": seeded.normal(size=shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def write_gguf(
    path: Path,
    family: str = "llama",
    change: Callable[[GGUFWriter], None] = lambda writer: None,
    extra: Mapping[str, np.ndarray] | None = None,
) -> Path:
    writer = GGUFWriter(path, family)
    writer.add_block_count(1)
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INTERMEDIATE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_token_list([*(f"t{i}" for i in range(VOCABULARY - 1)), "<|im_end|>"])
    writer.add_token_types([*([1] * (VOCABULARY - 1)), 3])
    writer.add_eos_token_id(2)
    change(writer)
    for name, tensor in {**plain_tensors(), **(extra or {})}.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_is_read_under_transformers_names(tmp_path: Path) -> None:
    weights = open_weights(write_gguf(tmp_path / "m.gguf", "qwen2"), ignore)

    plain = plain_tensors()
    spec = weights.spec
    assert (spec.layers, spec.heads, spec.kv_heads, spec.head_size) == (1, HEADS, KV_HEADS, SIZE)
    assert (spec.vocabulary, spec.max_context, spec.tied) == (VOCABULARY, 512, True)
    assert spec.end_ids == (2, VOCABULARY - 1)
    assert spec.norm_eps == np.float32(1e-5)
    found = weights.matrix("model.layers.0.self_attn.q_proj.weight", HEADS * SIZE, HIDDEN)
    assert torch.equal(found, torch.from_numpy(plain["blk.0.attn_q.weight"]))
    assert weights.bias("model.layers.0.self_attn.q_proj.bias", HIDDEN) is None


def test_rotated_rows_of_a_llama_gguf_are_put_back_in_halves(tmp_path: Path) -> None:
    weights = open_weights(write_gguf(tmp_path / "m.gguf", "llama"), ignore)

    found = weights.matrix("model.layers.0.self_attn.k_proj.weight", KV_HEADS * SIZE, HIDDEN)

    stored = torch.from_numpy(plain_tensors()["blk.0.attn_k.weight"])
    assert torch.equal(found[:8], stored[0:16:2])
    assert torch.equal(found[8:16], stored[1:16:2])
    assert torch.equal(found[16], stored[16])


def test_a_second_start_reads_the_cache_and_gets_the_same(tmp_path: Path, cache: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    said: list[str] = []

    first = open_weights(path, ignore)
    second = open_weights(path, lambda done, what: said.append(what))

    (kept,) = cache.iterdir()
    assert first.spec.digest in kept.name
    assert second.spec == first.spec
    assert not any("unpacking" in what for what in said)
    name = "model.layers.0.self_attn.q_proj.weight"
    shape = (HEADS * SIZE, HIDDEN)
    assert torch.equal(first.matrix(name, *shape), second.matrix(name, *shape))


@pytest.mark.parametrize("damage", ["cut", "empty", "of another version"])
def test_a_damaged_cache_is_made_anew(tmp_path: Path, cache: Path, damage: str) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    first = open_weights(path, ignore)
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    match damage:
        case "cut":
            kept.write_bytes(whole[: len(whole) // 2])
        case "empty":
            kept.write_bytes(b"")
        case _:
            save_file({"x": torch.zeros(1)}, kept, metadata={"spec": '{"family": "llama"}'})

    again = open_weights(path, ignore)

    assert again.spec == first.spec
    assert kept.read_bytes() == whole


def test_without_room_for_a_cache_the_start_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    said: list[str] = []

    weights = open_weights(write_gguf(tmp_path / "m.gguf"), lambda done, what: said.append(what))

    assert weights.vector("model.norm.weight", HIDDEN).shape == (HIDDEN,)
    assert any("not cached" in what for what in said)


@pytest.fixture(scope="module")
def whole_gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "m.gguf").read_bytes()


@given(share=st.floats(0, 0.999))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_gguf_cut_anywhere_is_refused_by_name(
    tmp_path: Path, whole_gguf: bytes, share: float
) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole_gguf[: int(share * len(whole_gguf))])

    with pytest.raises(ModelError, match=r"cut\.gguf"):
        open_weights(path, ignore)


@given(at=st.integers(0, 2000), value=st.integers(0, 255))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_changed_byte_is_refused_or_harmless_and_never_another_error(
    tmp_path: Path, whole_gguf: bytes, at: int, value: int
) -> None:
    path = tmp_path / "changed.gguf"
    path.write_bytes(whole_gguf[:at] + bytes([value]) + whole_gguf[at + 1 :])

    with contextlib.suppress(ModelError):
        open_weights(path, ignore)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a GGUF"),
        (b"PK\3\4 something else entirely", "not a GGUF"),
        (b"GGUF\1\0\0\0" + bytes(64), "unknown version"),
        (b"GGUF\0\0\0\3" + bytes(64), "unknown version"),
        (b"GGUF", "unknown version"),
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "foreign.gguf"
    path.write_bytes(content)

    with pytest.raises(ModelError, match=reason):
        open_weights(path, ignore)


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        open_weights(tmp_path / "none.gguf", ignore)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w.add_rope_dimension_count(SIZE // 2), "rope.dimension_count"),
        (lambda w: w.add_value_length(SIZE * 2), "value_length"),
        (lambda w: w.add_string("llama.rope.scaling.type", "yarn"), "yarn"),
        (lambda w: w.add_key_length(15), "value_length|whole number"),
    ],
)
def test_settings_of_a_gguf_that_are_not_computed_are_refused(
    tmp_path: Path, change: Callable[[GGUFWriter], None], reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        open_weights(write_gguf(tmp_path / "m.gguf", change=change), ignore)


def test_another_architecture_is_refused_and_the_known_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gemma.*llama, mistral, qwen2, qwen3"):
        open_weights(write_gguf(tmp_path / "m.gguf", "gemma"), ignore)


def test_a_tensor_of_another_architecture_is_refused(tmp_path: Path) -> None:
    extra = {"blk.0.ssm_a.weight": np.zeros(4, np.float32)}

    with pytest.raises(ModelError, match="ssm_a"):
        open_weights(write_gguf(tmp_path / "m.gguf", extra=extra), ignore)


def test_frequencies_of_a_gguf_follow_its_scaling(tmp_path: Path) -> None:
    def linear(writer: GGUFWriter) -> None:
        writer.add_string("llama.rope.scaling.type", "linear")
        writer.add_float32("llama.rope.scaling.factor", 4.0)

    plain = open_weights(write_gguf(tmp_path / "plain.gguf"), ignore).spec.frequencies
    slow = open_weights(write_gguf(tmp_path / "slow.gguf", change=linear), ignore).spec
    factors = {"rope_freqs.weight": np.linspace(1, 8, SIZE // 2, dtype=np.float32)}
    llama3 = open_weights(write_gguf(tmp_path / "l3.gguf", extra=factors), ignore).spec

    assert slow.frequencies == pytest.approx([f / 4 for f in plain])
    assert llama3.frequencies == pytest.approx(np.array(plain) / np.linspace(1, 8, SIZE // 2))


def test_rope_factors_of_another_size_are_refused(tmp_path: Path) -> None:
    factors = {"rope_freqs.weight": np.ones(3, np.float32)}

    with pytest.raises(ModelError, match="rope_freqs has 3"):
        open_weights(write_gguf(tmp_path / "m.gguf", extra=factors), ignore)


def test_a_quantised_tensor_is_unpacked(tmp_path: Path) -> None:
    from gguf.quants import quantize

    plain = plain_tensors()["blk.0.ffn_up.weight"]
    packed = quantize(plain, GGMLQuantizationType.Q8_0)
    path = tmp_path / "q8.gguf"

    def change(writer: GGUFWriter) -> None:
        writer.add_tensor("blk.0.ffn_gate.bias", packed, raw_dtype=GGMLQuantizationType.Q8_0)

    weights = open_weights(write_gguf(path, change=change), ignore)

    found = weights.matrix("model.layers.0.mlp.gate_proj.bias", INTERMEDIATE, HIDDEN)
    assert (found - torch.from_numpy(plain)).abs().max() < 0.02


@pytest.mark.slow
def test_the_bundled_gguf_is_what_transformers_makes_of_it(bundled_target_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    stock = AutoModelForCausalLM.from_pretrained(
        bundled_target_path.parent, gguf_file=bundled_target_path.name
    )
    expected = stock.state_dict()

    weights = open_weights(bundled_target_path, ignore)

    assert weights.spec.tied
    assert set(weights.sources) == set(expected) - {"lm_head.weight"}
    for name, source in weights.sources.items():
        assert torch.equal(source(), expected[name]), name
