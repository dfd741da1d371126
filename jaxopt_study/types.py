"""The words that options are spelled with, one meaning each."""

from typing import Literal

JacobianMode = Literal["auto", "forward", "reverse", "pointwise"]
LinearSolver = Literal["auto", "cholesky", "qr"]
DampingRule = Literal["nielsen", "delayed"]
