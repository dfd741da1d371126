"""A compiled program without names: if two are equal, a ratio of their times is the machine's noise."""

import itertools
import re
from typing import Any

NAME = re.compile(r"%(?P<used>[\w.\-]+)|(?P<declared>[\w.\-]+)(?=: \w+\[)")
ABOUT = (  # where the source was, and what calls for no other instruction
    re.compile(r", metadata=\{[^}]*\}"),
    re.compile(r"^HloModule.*?(?=input_output_alias|$)", re.MULTILINE),
    re.compile(r"^(FileNames|FunctionNames|FileLocations|StackFrames|\d+ ).*$", re.MULTILINE),
)


def instructions(compiled: Any) -> str | None:
    """The optimized program, with numbers for names; None where the backend does not show it, or not all.

    Args:
      compiled: from `jax.jit(fn).lower(...).compile()`.

    Example:
      >>> import jax
      >>> of = lambda fn: instructions(jax.jit(fn).lower(1.0).compile())
      >>> of(lambda x: x + 2) == of(lambda y: y + 2), of(lambda x: x + 2) == of(lambda x: x * 2)
      (True, False)
    """
    text = compiled.as_text()
    if not text or "{...}" in text:  # a large constant is left out of the text
        return None
    for pattern in ABOUT:
        text = pattern.sub("", text)
    numbers: dict[str, str] = {}
    count = itertools.count()

    def number(match: re.Match[str]) -> str:
        name = match["used"] or match["declared"]
        if name not in numbers:
            numbers[name] = f"%{next(count)}"
        return numbers[name]

    return "\n".join(line for line in NAME.sub(number, text).splitlines() if line.strip())
