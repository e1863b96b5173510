"""Threads of torch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["one_thread"]


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread of torch.

    Batches as small as those of stamps lose by threads, and lose badly on a busy machine; and sums in another order
    would change the last digit.

    Yields
    ------
    None
        While it holds.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
