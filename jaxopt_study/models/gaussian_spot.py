"""The image of a point of light: a round Gaussian peak on a flat background."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_study.types import Float

Params = dict[str, Array]


def init(
    amplitude: float | Array,
    x: float | Array,
    y: float | Array,
    width: float | Array,
    background: float | Array,
) -> Params:
    """Parameters from a first guess.

    Args:
      amplitude: height of the peak above the background, in the unit of the image (photons a pixel).
      x, y: its position along the rows and the columns, in pixels, 0 at the middle of the first.
      width: its standard deviation, in pixels.
      background: what every pixel has besides.

    Returns:
      `{"amplitude", "background", "width", "x", "y"}`, scalars.

    Example:
      >>> print(sorted(init(500.0, 7.0, 7.0, 1.5, 10.0)))
      ['amplitude', 'background', 'width', 'x', 'y']
    """
    values = {"amplitude": amplitude, "x": x, "y": y, "width": width, "background": background}
    return jax.tree.map(lambda value: jnp.asarray(value, jnp.result_type(float)), values)


def pixels(shape: tuple[int, int], dtype: Any = None) -> tuple[Array, Array]:
    """The coordinates of every pixel: two arrays of `shape`, the number of its row and of its column.

    >>> print(pixels((2, 3))[1][0])
    [0. 1. 2.]
    """
    axes = [np.arange(length, dtype=dtype or jnp.result_type(float)) for length in shape]
    rows, columns = np.meshgrid(*axes, indexing="ij")
    return jnp.asarray(rows), jnp.asarray(columns)


def apply(params: Any, grid: tuple[Any, Any]) -> Float[Array | np.ndarray, "..."]:
    """`b + a exp(-((i - x)² + (j - y)²) / (2 w²))`.

    Args:
      params: from `init`.
      grid: `(i, j)`, the coordinates of the pixels, from `pixels`.

    Returns:
      The image, of the shape of `i`.

    Example:
      >>> image = apply(init(4.0, 1.0, 1.0, 1.0, 0.5), pixels((3, 3)))
      >>> print(image.shape, image[1, 1])
      (3, 3) 4.5
    """
    i, j = grid
    square = (i - params["x"]) ** 2 + (j - params["y"]) ** 2
    return params["background"] + params["amplitude"] * jnp.exp(-square / (2 * params["width"] ** 2))


def guess(images: Float[Array, "..."]) -> Params:
    """Where to start a fit, for any number of images: from the border, the brightest pixel, the half height.

    The border's median is the background, the largest pixel the peak, the centroid of what is above
    half of it the position, and their number the area at half height, `2 ln 2 π w²`.

    Args:
      images: shape `(..., rows, columns)`.

    Returns:
      Parameters with the leading axes of `images`.

    Example:
      >>> image = apply(init(100.0, 3.0, 4.0, 1.5, 10.0), pixels((9, 9)))
      >>> print(jnp.round(guess(image)["y"], 1))
      4.0
    """
    i, j = (
        jnp.broadcast_to(grid, images.shape)
        for grid in pixels((images.shape[-2], images.shape[-1]), images.dtype)
    )
    edge = [images[..., 0, :], images[..., -1, :], images[..., :, 0], images[..., :, -1]]
    background = jnp.median(jnp.concatenate(edge, axis=-1), axis=-1)
    above = images - background[..., None, None]
    amplitude = jnp.max(above, axis=(-2, -1))
    upper = jnp.where(above >= 0.5 * amplitude[..., None, None], above, 0.0)
    weight = jnp.sum(upper, axis=(-2, -1))
    weight = jnp.where(weight > 0, weight, 1.0)
    area = jnp.sum(upper > 0, axis=(-2, -1)).astype(images.dtype)
    return {
        "amplitude": amplitude,
        "x": jnp.sum(i * upper, axis=(-2, -1)) / weight,
        "y": jnp.sum(j * upper, axis=(-2, -1)) / weight,
        "width": jnp.sqrt(jnp.maximum(area, 1.0) / (2 * np.log(2) * np.pi)).astype(images.dtype),
        "background": background,
    }
