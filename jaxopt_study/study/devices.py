"""`--devices N` and `--distributed`: a run over several devices and hosts, without code of the study's own.

What is divided is the leading axis of the lanes, where an outcome has lanes; else the rows of the data
that a `jaxopt_study.Carry` holds. The study's functions are the same; only where their arrays lie is said
here, and XLA divides the work. Sums over rows are `layout`'s.
"""

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxopt_study as jos
from jaxopt_study.layout import devices_along
from jaxopt_study.study.protocol import Study, StudyInputError

AXIS = "rows"
# What stands in for a cluster's own variables: `jax.distributed` knows Slurm's, Open MPI's and Kubernetes'.
BY_HAND = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def set_up(devices: int | None, distributed: bool) -> NamedSharding | None:
    """Find the devices, before anything has used one.

    Args:
      devices: how many, of each process; all there are if None. A CPU is made to look like so many.
      distributed: whether this process is one of several, see `jax.distributed.initialize`.

    Returns:
      How rows are laid out over them; None if that was not asked for.

    Raises:
      StudyInputError: there are not so many, or the other processes cannot be found.
    """
    if devices is None and not distributed:
        return None
    if devices is not None and devices < 1:
        raise StudyInputError(f"--devices: expected a number > 0, got {devices}")
    if devices is not None:
        # A device may be in use already; what counts is whether there are enough.
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", devices)
    if distributed:
        _join()
    there = jax.local_devices()
    count = len(there) if devices is None else devices
    if count > len(there):
        raise StudyInputError(
            f"--devices: {count} were asked for, there are {len(there)} ({there[0].device_kind})"
        )
    of_process: dict[int, list[Any]] = {}
    for device in jax.devices():
        of_process.setdefault(device.process_index, []).append(device)
    chosen = [device for process in sorted(of_process) for device in of_process[process][:count]]
    return NamedSharding(Mesh(np.array(chosen), (AXIS,)), PartitionSpec(AXIS))


def _join() -> None:
    by_hand = {name: os.environ[name] for name in BY_HAND if name in os.environ}
    words: dict[str, Any] = {}
    if by_hand:
        missing = [name for name in BY_HAND if name not in by_hand]
        if missing:
            raise StudyInputError(f"--distributed: {', '.join(by_hand)} is set, but {missing[0]} is not")
        try:
            words = {"num_processes": int(by_hand[BY_HAND[1]]), "process_id": int(by_hand[BY_HAND[2]])}
        except ValueError:
            raise StudyInputError(f"--distributed: {BY_HAND[1]} and {BY_HAND[2]} are whole numbers") from None
        words["coordinator_address"] = by_hand[BY_HAND[0]]
    try:
        jax.distributed.initialize(**words)
    except (RuntimeError, ValueError) as error:
        line = str(error).splitlines()[0]
        raise StudyInputError(
            f"--distributed: {line} (outside of Slurm, Open MPI and Kubernetes set {', '.join(BY_HAND)})"
        ) from None


def laid_out(study: Study, configs: dict[str, Any], rows: NamedSharding) -> Study:
    """The same study with its carry divided over devices.

    Args:
      study: with `init`, `advance` and `outcome`.
      configs: the Configs that it will be run with, by label.
      rows: from `set_up`.

    Raises:
      StudyInputError: the study gives `run` alone, or has nothing that so many devices can share evenly.
    """
    if study.run is not None:
        raise StudyInputError(f"--devices: {study.name} gives run alone, of which nothing is known to divide")
    init, advance, outcome = study.steps
    for label, config in configs.items():
        _check(study, config, label, rows)

    def settled(config: Any, carry: Any) -> Any:
        lanes = jax.eval_shape(outcome, config, carry).status.shape
        return _divide(carry, lanes, rows)

    def replicated(config: Any, carry: Any) -> Any:
        return _constrain(outcome(config, carry), NamedSharding(rows.mesh, PartitionSpec()))

    return dataclasses.replace(
        study,
        init=lambda config, key: settled(config, init(config, key)),
        advance=lambda config, carry, n: settled(config, advance(config, carry, n)),
        outcome=replicated,
        devices=devices_along(rows) // jax.process_count(),
        processes=jax.process_count() if jax.process_count() > 1 else None,
    )


def agreed(advance: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """`advance(carry, n)` with the `n` of the first process in all of them: it follows from the clock."""
    if jax.process_count() == 1:
        return advance
    from jax.experimental.multihost_utils import broadcast_one_to_all

    return lambda carry, n: advance(carry, np.int32(broadcast_one_to_all(n)))


def _check(study: Study, config: Any, label: str, rows: NamedSharding) -> None:
    init, _, outcome = study.steps
    with jax.enable_x64(config.dtype == "float64"):
        carry = jax.eval_shape(init, config, jax.random.key(0))
        lanes = jax.eval_shape(outcome, config, carry).status.shape
    count = devices_along(rows)
    if lanes and lanes[0] % count == 0:
        return
    lengths = {leaf.shape[0] for each in _carries(carry) for leaf in _data(each)}
    if not lanes and any(length % count == 0 for length in lengths):
        return
    seen = f"{lanes[0]} lanes" if lanes else f"data of {', '.join(map(str, sorted(lengths))) or 'no'} rows"
    raise StudyInputError(
        f"--devices: {count} devices cannot share {label} of {study.name} evenly, which has {seen}"
    )


def _is_carry(node: Any) -> bool:
    return isinstance(node, jos.Carry)


def _carries(carry: Any) -> list[Any]:
    return [node for node in jax.tree.leaves(carry, is_leaf=_is_carry) if _is_carry(node)]


def _data(carry: Any) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(carry.setup.args) if np.ndim(leaf)]


def _divide(carry: Any, lanes: tuple[int, ...], rows: NamedSharding) -> Any:
    everywhere = NamedSharding(rows.mesh, PartitionSpec())
    count = devices_along(rows)

    def share(leaf: Any, length: int | None) -> Any:
        shape = np.shape(leaf)
        fits = shape and shape[0] % count == 0 and (length is None or shape[0] == length)
        return jax.lax.with_sharding_constraint(leaf, rows if fits else everywhere)

    if lanes:
        return jax.tree.map(lambda leaf: share(leaf, lanes[0]), carry)

    def node(part: Any) -> Any:
        if not _is_carry(part):
            return jax.lax.with_sharding_constraint(part, everywhere)
        setup = part.setup
        objective = setup.objective
        if isinstance(objective, jos.LeastSquares):
            objective = dataclasses.replace(objective, sharding=rows)
        setup = dataclasses.replace(
            _constrain(setup, everywhere, skip="args"),
            args=jax.tree.map(lambda leaf: share(leaf, None), setup.args),
            objective=_constrain(objective, everywhere),
        )
        return jos.Carry(setup, _constrain(part.state, everywhere))

    return jax.tree.map(node, carry, is_leaf=_is_carry)


def _constrain(tree: Any, sharding: NamedSharding, skip: str = "") -> Any:
    kept = {skip: getattr(tree, skip)} if skip else {}
    bare = dataclasses.replace(tree, **{skip: None}) if skip else tree
    done = jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, sharding), bare)
    return dataclasses.replace(done, **kept) if skip else done


@contextlib.contextmanager
def one_writer(out_root: Path) -> Iterator[tuple[Path, bool]]:
    """The folder of runs in the first process; in the others one that is thrown away, and False."""
    if jax.process_count() == 1 or jax.process_index() == 0:
        yield out_root, True
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder), False
