"""A back end whose device computes while the host waits has its tokens when it is asked for them."""

from __future__ import annotations

import numpy as np
import torch

from stemma.kernels.ops import SamplingRows
from stemma.kernels.reference import ReferenceOps


def test_tokens_that_are_begun_are_those_that_are_sampled():
    ops, logits = ReferenceOps(torch.device("cpu")), torch.randn(3, 40)
    ones = np.ones(3, np.float32)
    rows = SamplingRows(ones, np.zeros(3, np.int32), ones, 0 * ones, np.array([0.1, 0.5, 0.9]))
    assert not ops.runs_ahead
    assert ops.begin_sample(logits, rows).tokens().tolist() == ops.sample(logits, rows).tolist()
