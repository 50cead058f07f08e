"""The torch twin of `p2p.drafting.coupling`, bit-equal to it before the logarithm.

Noise v1 is defined in docs/protocol.md, 5. torch has no uint32 arithmetic: this is wrapping int32,
with right shifts masked to be logical.
"""

import torch
from torch import Tensor

LARGEST = 1.0 - 2.0**-24  # w's upper bound, so that log1p(-w) is finite


def _signed(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value


MULTIPLIERS = tuple(_signed(m) for m in (0x21F0AAAD, 0xD35A2D97, 0x2C1B3C6D, 0x297A2D39))


def noise_bits(ids: Tensor, row: tuple[int, int, int, int]) -> Tensor:
    """Return h, 31 bits, for int32 `ids` [V] under a key of `p2p.drafting.coupling.row_key`."""
    k0, k1, k2, _ = (_signed(word) for word in row)
    m0, m1, m2, m3 = MULTIPLIERS
    x = ids + k0
    spare = torch.empty_like(x)

    def fold(shift: int) -> None:
        torch.bitwise_right_shift(x, shift, out=spare)
        spare.bitwise_and_((1 << (32 - shift)) - 1)
        x.bitwise_xor_(spare)

    fold(16)
    x.mul_(m0)
    fold(15)
    x.mul_(m1)
    fold(15)
    x.bitwise_xor_(k1)
    x.mul_(m2)
    fold(16)
    x.add_(k2)
    x.mul_(m3)
    fold(15)
    return x.bitwise_right_shift_(1).bitwise_and_(0x7FFFFFFF)


def noise_uniform(bits: Tensor) -> Tensor:
    """Return w in (0, 1), float32, the last step that is equal to the bit on every device."""
    return bits.float().add_(0.5).mul_(2.0**-31).clamp_(max=LARGEST)


def gumbel(ids: Tensor, row: tuple[int, int, int, int]) -> Tensor:
    """Return G [V], float32; one row at a time, so that its bits do not hang on other rows."""
    return noise_uniform(noise_bits(ids, row)).neg_().log1p_().neg_().log_().neg_()
