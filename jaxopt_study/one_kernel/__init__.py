"""Small iterations as one function of machine code, on a CPU."""

from jaxopt_study.one_kernel.call import one_kernel, separate_kernels

__all__ = ["one_kernel", "separate_kernels"]
