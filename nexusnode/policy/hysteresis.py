"""What of the past decides: a limit that was passed holds until its fact is clear of it.

Without it a node would start and stop with every spike, and fans would pump (BOINC #6483).
"""

import math
from dataclasses import replace

from nexusnode.policy.facts import Facts, Limits, Memory, Moment

COOL_SECONDS = 60.0  # below `cool_celsius` before a hot machine goes on
GPU_SECONDS = 20.0  # over which the load of others is averaged: a spike is no game
GPU_FREE_SECONDS = 60.0  # below the limit before a busy card counts as free
MEMORY_MARGIN = 1.25  # of the reserve must be free before the model is loaded again


def remember(facts: Facts, limits: Limits, memory: Memory, now: Moment) -> Memory:
    """Return the memory after these facts."""
    boot = now.boot_seconds
    return _memory(facts, limits, _gpu(facts, limits, _heat(facts, limits, memory, boot), boot))


def _heat(facts: Facts, limits: Limits, memory: Memory, boot: float) -> Memory:
    """A sensor that fell silent counts as cool: the reason shown must be one that holds."""
    celsius = -math.inf if facts.celsius is None else facts.celsius
    if celsius >= limits.hot_celsius:
        return replace(memory, is_hot=True, cool_since=None)
    if not memory.is_hot:
        return memory
    if celsius >= limits.cool_celsius:
        return replace(memory, cool_since=None)
    since = boot if memory.cool_since is None else memory.cool_since
    if boot - since >= COOL_SECONDS:
        return replace(memory, is_hot=False, cool_since=None)
    return replace(memory, cool_since=since)


def _gpu(facts: Facts, limits: Limits, memory: Memory, boot: float) -> Memory:
    load = facts.gpu_other or 0.0
    passed = 0.0 if memory.gpu_at is None else max(0.0, boot - memory.gpu_at)
    mean = memory.gpu_mean + (load - memory.gpu_mean) * -math.expm1(-passed / GPU_SECONDS)
    memory = replace(memory, gpu_mean=mean, gpu_at=boot)
    if not memory.is_gpu_busy:
        return replace(memory, is_gpu_busy=mean > limits.gpu_other, gpu_free_since=None)
    if load > limits.gpu_other:
        return replace(memory, gpu_free_since=None)
    since = boot if memory.gpu_free_since is None else memory.gpu_free_since
    if boot - since >= GPU_FREE_SECONDS:
        return replace(memory, is_gpu_busy=False, gpu_free_since=None, gpu_mean=load)
    return replace(memory, gpu_free_since=since)


def _memory(facts: Facts, limits: Limits, memory: Memory) -> Memory:
    if facts.memory_free_bytes is None:
        return replace(memory, is_memory_short=False)
    reserve = limits.memory_reserve_bytes * (MEMORY_MARGIN if memory.is_memory_short else 1.0)
    left = facts.memory_free_bytes - facts.memory_need_bytes
    return replace(memory, is_memory_short=left < reserve)
