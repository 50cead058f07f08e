"""`nexus-verifier check`: is the configuration in order, what would run, and does it fit."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from p2p.errors import ModelError
from p2p.paths import Folders
from verifier_host.api.keys import KeyBook
from verifier_host.config import HostConfig, load_config
from verifier_host.estimate import Estimate, Need, estimate, floor_seconds, gigabytes
from verifier_host.front.main import KEYS_FILE
from verifier_host.front.vocabulary import load_vocabulary
from verifier_host.targets import ModelFacts, Target, describe, find_target

if TYPE_CHECKING:
    from argparse import _SubParsersAction

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
_PROBE_BYTES = 128 << 20


def add_to(
    commands: "_SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser
) -> None:
    command = commands.add_parser(
        "check",
        parents=[common],
        help="say what would run and whether it fits",
        description="Check configuration, model file and tokenizer, and estimate memory and speed."
        " Loads no weights and opens no port.",
    )
    command.set_defaults(run=run)


def run(_flags: argparse.Namespace, place: Folders, path: Path) -> int:
    """Print the findings; whatever is wrong is raised."""
    config = load_config(path)
    keys = KeyBook(place.data / KEYS_FILE).keys() if config.keys_required else ()
    target = find_target(config.model_path, config.model_name)
    facts = describe(target)
    if facts.architecture not in FAMILIES:
        raise ModelError(
            f"{target.path}: architecture {facts.architecture} is not supported; supported are"
            f" {', '.join(FAMILIES)}"
        )
    load_vocabulary(target)
    found = estimate(_need(facts, config), psutil.virtual_memory().available, config.kv_tokens)
    for line in report(config, target, facts, found, len(keys), memory_bytes_per_second()):
        print(line)
    return 0


def report(
    config: HostConfig,
    target: Target,
    facts: ModelFacts,
    found: Estimate,
    keys: int,
    bytes_per_second: float,
) -> list[str]:
    """Return the findings as lines for people."""
    floor = floor_seconds(found.weight_bytes, bytes_per_second)
    context = min(facts.context, config.max_context or facts.context)
    nodes = {
        "off": "no node drafts",
        "allowlist": f"{len(config.allow_nodes)} listed nodes may draft",
        "open": "any node may draft, and see prompts and answers in clear",
    }[config.drafting]
    who = f"{keys} keys" if config.keys_required else "no key needed"
    lines = [
        f"model     {target.name} ({facts.architecture}, {facts.parameters / 1e6:.0f} M parameters,"
        f" {facts.quantisation} file)",
        f"          {target.path}",
        f"engine    {config.dtype}, context {context}, {config.threads or 'all'} threads",
        f"memory    {gigabytes(found.total_bytes)}: weights {gigabytes(found.weight_bytes)},"
        f" work {gigabytes(found.work_bytes)}, {found.kv_tokens} tokens of KV",
        f"speed     a step takes {floor * 1000:.0f} ms or more: weights are read at"
        f" {bytes_per_second / 1e9:.0f} GB/s",
        f"API       {config.api.url(config.api.port)}, {who}",
        f"metrics   {config.metrics.url(config.metrics.port)}/metrics",
        f"drafting  {nodes}; listening on {', '.join(config.listen)}",
    ]
    if config.keys_required and not keys:
        lines.append("warning   there is no API key: nexus-verifier keys add NAME")
    if config.drafting == "allowlist" and not config.allow_nodes:
        lines.append("warning   drafting = allowlist, and network.allow_nodes is empty")
    return [*lines, "ok"]


def memory_bytes_per_second() -> float:
    """Measure how fast this machine reads memory: the best of three passes over 128 MiB."""
    data = np.ones(_PROBE_BYTES // 8)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        data.sum()
        best = min(best, time.perf_counter() - start)
    return _PROBE_BYTES / best


def _need(facts: ModelFacts, config: HostConfig) -> Need:
    return Need(
        parameters=facts.parameters,
        layers=facts.layers,
        kv_heads=facts.kv_heads,
        head_size=facts.head_size,
        vocabulary=facts.vocabulary,
        dtype=config.dtype,
        max_rows=config.max_rows,
    )
