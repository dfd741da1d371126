"""Models to fit: one file each, a pure `init` that makes parameters and a pure `apply` that uses them.

Parameters are plain pytrees and data comes in as arrays, so a model takes part in `jit`, `vmap`
and `grad` like any function. This is not a layer library: any other pytree, an Equinox or Flax
module for one, does as well.
"""
