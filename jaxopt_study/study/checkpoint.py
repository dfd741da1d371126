"""Checkpoints of a run: its carry between two chunks, whole on the disk or not there.

A checkpoint is one NPZ: every leaf of the carry, and what it must fit to. The numbers do not depend
on where chunks end, so a run that goes on from any of them ends at the same bits.
"""

import contextlib
import dataclasses
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from jaxopt_study.study import record
from jaxopt_study.study.environment import describe_device
from jaxopt_study.study.protocol import Study, StudyInputError, digest_of
from jaxopt_study.version import __version__

KEEP = 2  # the last, and one before it
SECONDS = 60.0
FOLDER = "checkpoints"


@dataclasses.dataclass(frozen=True)
class Saved:
    """A checkpoint, read back.

    Attributes:
      carry: numpy arrays, and random keys.
      run_seconds: of running until then.
    """

    carry: Any
    run_seconds: float


class Checkpoints:
    """The checkpoints of one variant, at most one every `seconds`.

    Args:
      folder: the run's.
      number: the variant's place in the run.
      identity: what a run that goes on must have in common: versions, device, the study's digest.
      seconds: between two checkpoints.
      keep: how many are kept.
      tell: called with a line when a checkpoint cannot be written; the run goes on.
      must_fit: whether a checkpoint of something else is an error, or is not looked at.
    """

    def __init__(
        self,
        folder: Path,
        number: int,
        identity: dict[str, Any],
        seconds: float,
        keep: int = KEEP,
        tell: Callable[[str], None] = lambda line: None,
        must_fit: bool = True,
    ):
        self.folder, self.number, self.identity = folder / FOLDER, number, identity
        self.seconds, self.keep, self.tell = seconds, keep, tell
        self.must_fit, self.last = must_fit, time.monotonic()

    def paths(self) -> list[Path]:
        """The checkpoints that are there, the oldest first."""
        return sorted(self.folder.glob(f"{self.number:03d}-[0-9]*.npz"))

    def save_if_due(self, carry: Any, run_seconds: float) -> None:
        """Write a checkpoint, if the last is older than `seconds`."""
        if self.is_due():
            self.save(carry, run_seconds)

    def is_due(self) -> bool:
        """Whether the last one is older than `seconds`."""
        return time.monotonic() - self.last >= self.seconds

    def are_there(self) -> bool:
        """Whether there is any."""
        return bool(self.paths())

    def save(self, carry: Any, run_seconds: float) -> None:
        """Write a checkpoint, and delete those before the last ones."""
        self.write(*leaves_of(carry), run_seconds)

    def write(self, leaves: dict[str, np.ndarray], described: list[list[Any]], run_seconds: float) -> None:
        """As `save`, of what `leaves_of` made of a carry."""
        there = self.paths()
        following = 1 + (int(there[-1].stem.partition("-")[2]) if there else 0)
        head = {**self.identity, "carry": described, "run_seconds": run_seconds}
        text = np.frombuffer(json.dumps(head).encode(), np.uint8)
        path = self.folder / f"{self.number:03d}-{following:08d}.npz"
        try:
            self.folder.mkdir(exist_ok=True)
            record.atomic_write(path, lambda file: np.savez(file, allow_pickle=False, head=text, **leaves))
        except OSError as error:
            self.tell(f"{path}: no checkpoint: {error.strerror}; the run goes on")
        else:
            for old in there[: max(len(there) + 1 - self.keep, 0)]:
                old.unlink(missing_ok=True)
        self.last = time.monotonic()

    def load(self, like: Any) -> Saved | None:
        """The last checkpoint, or None where there is none.

        Args:
          like: the carry at the start, whose structure the checkpoint must have.

        Raises:
          StudyInputError: it was written by something else: another version, device or study.
        """
        read = self.read(leaves_of(like)[1])
        return None if read is None else Saved(restore(like, read[0]), read[1])

    def read(self, described: list[list[Any]]) -> tuple[dict[str, np.ndarray], float] | None:
        """As `load`: the leaves, if they are as described, and the seconds of running."""
        for path in reversed(self.paths()):
            try:
                with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
                    arrays = {name: file[name] for name in file.files}
                head = json.loads(arrays.pop("head").tobytes())
            except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
                self.tell(f"{path}: cannot be read; the one before it is taken")
                continue
            for name, value in {**self.identity, "carry": described}.items():
                if head.get(name) != value and not self.must_fit:
                    return None
                if head.get(name) != value:
                    was = "" if name == "carry" else f": {head.get(name)} then, {value} now"
                    raise StudyInputError(f"{path}: {_NAMES.get(name, name)} differs from the run's{was}")
            return arrays, float(head["run_seconds"])
        return None

    def remove(self) -> None:
        """Delete the checkpoints, once what they were of is recorded."""
        for path in self.paths():
            path.unlink(missing_ok=True)


_NAMES = {"carry": "the structure of the study's carry", "study_sha256": "the study's file"}


def identity_of(study: Study) -> dict[str, Any]:
    """What a run and what goes on with it have in common, or the bits would not be the same."""
    return {"version": __version__, "study_sha256": digest_of(study), **describe_device()}


def room_for(carry: Any) -> int:
    """Bytes that the checkpoints of a carry take while one more is being written."""
    # Of what lies over several processes no values are there to be fetched, but its size is known.
    return (KEEP + 1) * sum(leaf.nbytes for leaf in jax.tree.leaves(carry))


def remove_checkpoints(folder: Path) -> None:
    """Delete a run's checkpoints, once its record is whole."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in (folder / FOLDER).iterdir():
            path.unlink(missing_ok=True)
        (folder / FOLDER).rmdir()


def leaves_of(carry: Any) -> tuple[dict[str, np.ndarray], list[list[Any]]]:
    """A carry's leaves by number, and what they are: path, dtype, shape."""
    paths, _ = jax.tree_util.tree_flatten_with_path(carry)
    arrays, described = {}, []
    for number, (path, leaf) in enumerate(paths):
        kind = str(leaf.dtype)
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended):
            leaf = jax.random.key_data(leaf)
        array = _whole(leaf)
        if array.dtype.kind == "V":  # bfloat16 and its like have no name in an NPY
            array = array.view(np.uint8)
        arrays[f"leaf{number}"] = array
        described.append([jax.tree_util.keystr(path), kind, list(np.shape(leaf))])
    return arrays, described


def _whole(leaf: Any) -> np.ndarray:
    """All of an array, also where this process holds a part of it; then every process has to ask."""
    if getattr(leaf, "is_fully_addressable", True) or leaf.is_fully_replicated:
        return np.asarray(leaf)
    from jax.experimental.multihost_utils import process_allgather

    return np.asarray(process_allgather(leaf, tiled=True))


def restore(like: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The carry again, laid out as the one that it is like."""
    leaves, structure = jax.tree.flatten(like)
    restored = []
    for number, leaf in enumerate(leaves):
        array = arrays[f"leaf{number}"]
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended):
            restored.append(jax.random.wrap_key_data(_laid_out(array, leaf), impl=jax.random.key_impl(leaf)))
        else:
            restored.append(_laid_out(array.view(leaf.dtype).reshape(leaf.shape), leaf))
    return jax.tree.unflatten(structure, restored)


def _laid_out(array: np.ndarray, like: Any) -> Any:
    """Over the devices that `like` lies on: sums in another order have other bits."""
    sharding = getattr(like, "sharding", None)
    if not isinstance(sharding, NamedSharding):
        return jax.numpy.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
