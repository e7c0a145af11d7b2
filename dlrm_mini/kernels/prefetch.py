"""One machine instruction that numba has no name for: ask memory for a row before it is needed.

Rows looked up lie at random places, and a core that waits for one after the other mostly waits. The
ids further on in the batch are known, so their rows can be on their way meanwhile.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LINE = 16
"""float32 numbers in a cache line of 64 bytes."""

# numba's own building blocks carry no types.
pointer: Any = cgutils.get_item_pointer
function: Any = cgutils.get_or_insert_function
_READ, _SECOND_LEVEL, _DATA = 0, 2, 1  # into the second-level cache: the first is too small


def _prefetch(_typing: Any, table: Any, row: Any, column: Any) -> Any:
    """Ask for the cache line of `table[row, column]`; no result, no harm when it is out of range.

    For use in `numba.njit` functions: `table` is a 2-d array, `row` and `column` are integers.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.args[0]
        array = context.make_array(kind)(context, builder, args[0])
        place = pointer(context, builder, kind, array, list(args[1:]), wraparound=False)
        number = ir.IntType(32)
        takes = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        call = function(builder.module, takes, "llvm.prefetch.p0")
        builder.call(call, [place, number(_READ), number(_SECOND_LEVEL), number(_DATA)])
        return context.get_dummy_value()

    return types.void(table, types.intp, types.intp), generate


prefetch: Any = intrinsic(_prefetch)
