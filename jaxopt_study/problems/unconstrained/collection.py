"""The collection as tables of functions that make a `Problem`, by name."""

from collections.abc import Callable

from jaxopt_study.problems.problem import Problem
from jaxopt_study.problems.unconstrained import any_dimension, small

SMALL: dict[str, Callable[[], Problem]] = {
    make.__name__: make
    for make in (
        small.allinitu,
        small.brkmcc,
        small.cliff,
        small.cube,
        small.denschna,
        small.denschnb,
        small.denschnc,
        small.denschnd,
        small.denschne,
        small.denschnf,
        small.engval2,
        small.expfit,
        small.hairy,
        small.himmelbb,
        small.himmelbg,
        small.himmelbh,
        small.humps,
        small.loghairy,
        small.maratosb,
        small.s308,
        small.sineval,
        small.sisser,
        small.snail,
        small.zangwil2,
    )
}
"""Two to four variables."""

ANY_DIMENSION: dict[str, Callable[..., Problem]] = {
    make.__name__: make
    for make in (
        any_dimension.arwhead,
        any_dimension.bdqrtic,
        any_dimension.chainwoo,
        any_dimension.cosine,
        any_dimension.cragglvy,
        any_dimension.curly10,
        any_dimension.dixmaana,
        any_dimension.dixmaane,
        any_dimension.dixmaanj,
        any_dimension.dixon3dq,
        any_dimension.dqdrtic,
        any_dimension.edensch,
        any_dimension.eg2,
        any_dimension.engval1,
        any_dimension.extrosnb,
        any_dimension.fletchcr,
        any_dimension.freuroth,
        any_dimension.genrose,
        any_dimension.hilberta,
        any_dimension.liarwhd,
        any_dimension.minsurf,
        any_dimension.noncvxun,
        any_dimension.nondia,
        any_dimension.nondquar,
        any_dimension.power,
        any_dimension.quartc,
        any_dimension.schmvett,
        any_dimension.sinquad,
        any_dimension.sparsine,
        any_dimension.tointgss,
        any_dimension.tquartic,
        any_dimension.tridia,
        any_dimension.woods,
    )
}
"""Any number n of variables, 100 or near it if none is given."""
