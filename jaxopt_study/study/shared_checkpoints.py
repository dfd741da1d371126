"""Checkpoints of a run over several processes, none of which holds the whole carry.

All of them gather it, the first one writes and reads, and whatever follows from a clock, a disk or a signal
of one process is agreed upon by all: they have to come to the same collectives in the same order.
"""

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxopt_study.study.checkpoint import Checkpoints, Saved, leaves_of, restore
from jaxopt_study.study.protocol import StudyInputError
from jaxopt_study.study.signals import Interrupts

NONE, FOUND, REFUSED = range(3)


class SharedInterrupts(Interrupts):
    """Whether any of the processes was asked to stop; to be called by all of them at the same places."""

    def __init__(self, heard: Interrupts):
        super().__init__()
        self.heard = heard

    def __call__(self) -> bool:
        """Whether a signal came, here or elsewhere."""
        told = multihost_utils.process_allgather(np.int32(self.heard.signum or 0))
        self.signum = int(np.max(told)) or None
        return self.signum is not None


def shared(interrupts: Interrupts) -> Interrupts:
    """What one process heard, or any of several."""
    return interrupts if jax.process_count() == 1 else SharedInterrupts(interrupts)


def checkpoints(folder: Path, number: int, identity: dict[str, Any], seconds: float) -> Checkpoints:
    """The checkpoints of a run's variant, by one process or by several."""
    kind = Checkpoints if jax.process_count() == 1 else SharedCheckpoints
    return kind(folder, number, identity, seconds, tell=lambda line: print(line, file=sys.stderr))


class SharedCheckpoints(Checkpoints):
    """The checkpoints of one variant; every method is called by all processes."""

    def is_due(self) -> bool:
        """Whether the last one is older than `seconds`, by the first process's clock."""
        return bool(multihost_utils.broadcast_one_to_all(np.int32(super().is_due())))

    def are_there(self) -> bool:
        """Whether the first process has written any."""
        return bool(multihost_utils.broadcast_one_to_all(np.int32(super().are_there())))

    def save(self, carry: Any, run_seconds: float) -> None:
        """Gather the carry, and write it in the first process."""
        arrays, described = leaves_of(carry)
        if jax.process_index() == 0:
            self.write(arrays, described, run_seconds)

    def load(self, like: Any) -> Saved | None:
        """What the first process reads, in all of them.

        Raises:
          StudyInputError: it was written by something else.
        """
        arrays, described = leaves_of(like)
        found, seconds, refused = NONE, 0.0, ""
        if jax.process_index() == 0:
            try:
                read = self.read(described)
            except StudyInputError as error:
                found, refused = REFUSED, str(error)
            else:
                if read is not None:
                    found, (arrays, seconds) = FOUND, read
        found = int(multihost_utils.broadcast_one_to_all(np.int32(found)))
        if found == REFUSED:
            raise StudyInputError(refused or f"{self.folder}: the first process refuses it")
        if found == NONE:
            return None
        arrays, seconds = multihost_utils.broadcast_one_to_all((arrays, np.float32(seconds)))
        return Saved(restore(like, jax.tree.map(np.asarray, arrays)), float(seconds))
