"""Colorings give back every entry, in as few passes as known bounds say."""

import numpy as np
import pytest

from jaxopt_study.sparsity.coloring import color_diagonal, color_hessian, color_jacobian
from jaxopt_study.sparsity.detect import Sparsity

BANDS = np.abs(np.subtract.outer(np.arange(30), np.arange(30)))


def pattern(dense):
    return Sparsity(*map(np.int32, np.nonzero(dense)), dense.shape)


def passes(coloring, matrix):
    """What products with sums of unit vectors give, one row a pass."""
    ones = coloring.colors[None, :] == np.arange(coloring.passes)[:, None]
    return ones @ (matrix.T if coloring.by == "columns" else matrix)


def recovered(coloring, matrix):
    out = np.zeros_like(matrix)
    places = coloring.sparsity
    out[places.rows, places.columns] = passes(coloring, matrix)[coloring.color, coloring.at]
    return out


def random_pattern(seed, shape, density):
    return np.random.default_rng(seed).random(shape) < density


@pytest.mark.parametrize("width", [0, 1, 2, 4])
def test_a_band_needs_as_many_passes_as_it_is_wide(width):
    dense = width >= BANDS
    assert color_jacobian(pattern(dense)).passes == 2 * width + 1


@pytest.mark.parametrize("seed", range(6))
def test_a_jacobian_is_recovered_from_its_passes(seed):
    dense = random_pattern(seed, (25, 40) if seed % 2 else (40, 25), 0.1)
    matrix = np.where(dense, np.random.default_rng(seed).normal(size=dense.shape), 0.0)
    for by in ("columns", "rows", "auto"):
        coloring = color_jacobian(pattern(dense), by)
        np.testing.assert_array_equal(recovered(coloring, matrix), matrix)
        least = dense.sum(axis=0 if coloring.by == "rows" else 1).max()
        assert least <= coloring.passes <= 2 * least


@pytest.mark.parametrize("seed", range(20))
def test_a_hessian_is_recovered_from_stars(seed):
    dense = random_pattern(seed, (30, 30), (0.02, 0.05, 0.1, 0.3)[seed % 4])
    dense |= dense.T
    matrix = np.where(dense, np.random.default_rng(seed).normal(size=dense.shape), 0.0)
    matrix += matrix.T
    coloring = color_hessian(pattern(dense))
    np.testing.assert_allclose(recovered(coloring, matrix), matrix, rtol=1e-14)
    assert coloring.passes <= color_jacobian(pattern(dense), "columns").passes


def test_an_arrow_has_two_stars_where_columns_need_one_color_each():
    arrow = np.eye(50, dtype=bool)
    arrow[0] = arrow[:, 0] = True
    assert color_hessian(pattern(arrow)).passes == 2
    assert color_jacobian(pattern(arrow), "columns").passes == 50


def test_a_dense_row_is_taken_by_rows():
    dense = np.eye(40, dtype=bool)
    dense[5] = True
    coloring = color_jacobian(pattern(dense))
    assert (coloring.by, coloring.passes) == ("rows", 2)


@pytest.mark.parametrize(("width", "expected"), [(0, 1), (1, 2), (2, 3)])
def test_a_diagonal_needs_a_color_for_each_band_on_one_side(width, expected):
    matrix = np.where(width >= BANDS, np.random.default_rng(0).normal(size=BANDS.shape), 0.0)
    coloring = color_diagonal(pattern(width >= BANDS))
    assert coloring.passes == expected
    np.testing.assert_array_equal(np.diag(recovered(coloring, matrix + matrix.T)), 2 * np.diag(matrix))


def test_half_of_a_symmetric_pattern_is_enough():
    dense = np.triu(BANDS <= 1)
    assert color_hessian(pattern(dense)).sparsity.places == (BANDS <= 1).sum()


def test_nothing_to_color_takes_no_pass():
    assert color_jacobian(pattern(np.zeros((3, 4), bool))).passes <= 1
