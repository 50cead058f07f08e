import psutil
import pytest

from nexusnode.models.fit import RESERVE_BYTES, WORK_BYTES, Fit, Fitting, fitting, need_bytes
from nexusnode.models.gguf import Header

HEADER = Header("llama", "tiny", "Q4_0", 8192, 6, 4608, 49_152, bytes(32), b"", 29_671_840)


@pytest.mark.parametrize(
    ("spare", "fit", "sentence"),
    [
        (RESERVE_BYTES + 10_000_000_000, Fit.FITS, "Fits with 11.1 GB to spare."),
        (RESERVE_BYTES, Fit.FITS, "Fits with 1.1 GB to spare."),
        (RESERVE_BYTES - 1, Fit.TIGHT, "Tight: leaves only 1.1 GB of memory free."),
        (0, Fit.TIGHT, "Tight: leaves only 0.0 GB of memory free."),
        (-1, Fit.NO, "Does not fit: 0.0 GB of memory are missing."),
        (-2_000_000_000, Fit.NO, "Does not fit: 2.0 GB of memory are missing."),
    ],
)
def test_a_model_fits_if_the_owners_reserve_stays_free(spare: int, fit: Fit, sentence: str) -> None:
    found = Fitting(need_bytes=5_000_000_000, free_bytes=5_000_000_000 + spare)

    assert (found.fit, found.sentence) == (fit, sentence)


def test_memory_is_needed_for_the_file_the_kv_and_buffers() -> None:
    assert need_bytes(HEADER, sessions=4, context=4096) == (
        29_671_840 + 4 * 4096 * 4608 + 64 * 49_152 * 4 + WORK_BYTES
    )


def test_free_memory_is_this_machines() -> None:
    found = fitting(HEADER, sessions=1, context=1024)

    assert 0 < found.free_bytes <= psutil.virtual_memory().total
