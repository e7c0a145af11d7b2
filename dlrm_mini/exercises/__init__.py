"""The checks of the exercises: one module a chapter, `chNN.check_*(your_function)`.

A check answers within a second and needs no server. It accepts every right answer however it was
reached, and of a wrong one it names the first difference: the input, what came out, what was
expected, and what that usually means. `checking` is what all of them are made of.
"""
