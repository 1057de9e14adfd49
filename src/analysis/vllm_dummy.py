"""vLLM worker extension: random weights that a signal passes through, for load_format dummy.

vLLM's own dummy weights are all drawn from ±0.001 with one seed, norms and layer scalars too. A Gemma 4 multiplies by
its layer scalar in every layer, so the hidden state is zero after a few of them: all tokens of a step then choose the
same experts and all drafts are one token, and a mixture of experts reads far less than it would. Here a matrix is drawn
with variance 1 / fan-in and its own seed, and what is no matrix is one. Experts are chosen about independently, which
is the most that a step can read; neighbouring tokens of real text overlap more.

Switched on by ``--worker-extension-cls analysis.vllm_dummy.Signal``, which the worker imports before it loads a model.
"""

from __future__ import annotations

import itertools
import logging
import math
import sys
from typing import Any

#: The server log carries this sentence where these weights are in use.
ACTIVE = "analysis dummy weights active: variance 1 / fan-in, norms and scalars one"
_seeds = itertools.count(1234)


class Signal:
    """The name for ``--worker-extension-cls``; it adds nothing to the worker."""


def fill(param: Any, *args: Any, **kwargs: Any) -> None:
    """Fill one tensor in place. Integers and tensors on the meta device stay: nothing is known of the first, and the
    second are filled when they are made. The further arguments are those of vLLM's function, and are not used."""
    import torch

    data = param.data
    if data.device.type == "meta" or not torch.is_floating_point(data):
        return
    seed = next(_seeds)
    if data.dim() < 2:
        data.fill_(1)
        return
    bound = math.sqrt(3 / data.shape[-1])
    generator = torch.Generator(device=data.device).manual_seed(seed)
    if torch.finfo(data.dtype).bits < 16:
        data.copy_(torch.empty_like(data, dtype=torch.float16).uniform_(-bound, bound, generator=generator))
    else:
        data.uniform_(-bound, bound, generator=generator)


def register() -> None:
    """Put `fill` in the place of vLLM's function, wherever it was imported to."""
    from vllm.model_executor.model_loader import dummy_loader, weight_utils

    weight_utils.initialize_single_dummy_weight = dummy_loader.initialize_single_dummy_weight = fill
    logging.getLogger("vllm.analysis").warning(ACTIVE)


if "vllm.v1.worker.worker_base" in sys.modules:  # imported by a worker of vLLM
    register()
