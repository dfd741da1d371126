"""Small iterations as one function of machine code, on a CPU."""

from jaxopt_study.one_kernel.call import are_separate, one_kernel, separate_kernels
from jaxopt_study.one_kernel.powers import decaying_power

__all__ = ["are_separate", "decaying_power", "one_kernel", "separate_kernels"]
