"""vLLM plug-in: mends speculation at temperature > 0 on vLLM's CPU platform without Triton.

Affected builds (vLLM issue 55005) write the per-token temperature, top-p and top-k of a draft into a
discarded copy, so the sampler reads uninitialised memory: acceptance collapses and the text is noise.
The plug-in asks the installed function for a known answer and replaces it only where that answer is
wrong; no other platform, build or function is touched. vLLM loads it through the entry-point group
``vllm.general_plugins`` in every process of a server; the log line below makes it part of the launch record.
"""

from __future__ import annotations

import logging
from typing import Any

#: The server log carries this sentence where the mend is active; servers.facts looks for it.
ACTIVE = "analysis mend active: expand_kernel (vllm issue 55005)"


def expand(output: Any, input_val: Any, cu_num_tokens: Any, replace_from: Any, replace_to: Any, MAX_NUM_TOKENS=None):
    """Repeat each request's value over its draft tokens, in place.

    Parameters
    ----------
    output : tensor [tokens]
        Filled with ``input_val`` repeated; any dtype.
    input_val : tensor [requests]
        One value a request; ``replace_from`` becomes ``replace_to``.
    cu_num_tokens : tensor [requests]
        Running totals of tokens over requests.
    """
    import torch

    counts = torch.diff(cu_num_tokens, prepend=cu_num_tokens.new_zeros(1)).to(torch.int64)
    values = torch.where(input_val == replace_from, torch.full_like(input_val, replace_to), input_val)
    repeated = torch.repeat_interleave(values, counts)
    output[: repeated.numel()] = repeated.to(output.dtype)


def affected() -> bool:
    """True where the installed vLLM has the bug: CPU platform, no Triton, and a wrong answer to a known question."""
    try:
        import torch
        from vllm.platforms import current_platform
        from vllm.triton_utils import HAS_TRITON

        if not current_platform.is_cpu() or HAS_TRITON:
            return False
        from vllm.utils import cpu_triton_utils

        current_platform.import_kernels()
        output = torch.full((3,), -1.0)
        cpu_triton_utils._expand_kernel_impl(output, torch.tensor([0.5, 0.25]), torch.tensor([2, 3]), 0, 1)
    except Exception:  # another vLLM layout: nothing known to be wrong, so nothing is touched
        return False
    return output.tolist() != [0.5, 0.5, 0.25]


def register() -> None:
    """Entry point: replace the one function, if and only if it is wrong here."""
    if not affected():
        return
    from vllm.utils import cpu_triton_utils

    cpu_triton_utils._expand_kernel_impl = expand
    logging.getLogger("vllm.analysis").warning(ACTIVE)
