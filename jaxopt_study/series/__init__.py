"""Truncated power series through any JAX function: the arithmetic, the rules, and the interpreter.

| file             | what                                                                            |
|------------------|---------------------------------------------------------------------------------|
| `series`         | `Series`, and products, quotients, derivatives and integrals of coefficients    |
| `elementary`     | exp, sin, tanh, powers, ...: recurrences from the differential equation of each  |
| `linear`         | linear and bilinear primitives, and solves with triangular matrices              |
| `dependence`     | which results vary along the line, and which are asked for                       |
| `fallback`       | the derivative of one equation, for primitives without a rule                    |
| `unknown`        | the series of what is known by its derivative alone                             |
| `control_flow`   | `scan`, `while`, `cond` and `custom_linear_solve`                                |
| `interpreter`    | a jaxpr, equation by equation                                                    |
| `elementwise`    | whether a function treats every element of an array by itself                    |

What people ask for, `derivatives` and `taylor`, is in `jaxopt_study.towers`.
"""
