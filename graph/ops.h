// The op table: one row an op for all levels (graph, index expressions, loop trees). Everything else asks this table. Folds
// have theirs: graph/folds.cpp.
#pragma once
#include <cstdint>
#include <string_view>

#include <kontor/types.h>

namespace kontor {

/// What a row's op is, and so which groups (elementwise, movement, ...) it belongs to.
enum class OpClass : uint8_t { Leaf, Elementwise, Movement, Reduce, Indexed, Wrapper, Value, Statement };

/// Traits, or-ed together.
enum OpTrait : uint32_t {
  Commutative = 1 << 0,
  Associative = 1 << 1,  // on integers only; floats are never regrouped
  Comparison = 1 << 2,   // the result is bool
  IntegerOnly = 1 << 3,  // sources are integers (And, Or, Xor, Not also bool)
  FloatOnly = 1 << 4,
  Idempotent = 1 << 5,  // op(x, x) == x
  Identity = 1 << 6,    // has leaves with identity: never merged with an equal one of another id
};

// Semantics that are not what C says:
//  IDiv, Mod     floor division and its remainder (the sign of the divisor); division by zero yields 0 and is checked
//  Max, Min      (a > b || a != a) ? a : b   and   (a < b || a != a) ? a : b: NaN goes through, order is fixed
//  Shl, Shr      a shift by the width or more yields 0 (Shr of a negative number: the sign)
//  Cast          float -> integer truncates and saturates, NaN becomes 0; integer -> integer wraps; x -> bool is x != 0
//  Fma           rounds once
//  Window        out[.., o, k] = in[.., o*stride + k*dilation]; the axis is replaced by the two axes o, k
//  Unwindow      out[.., i, k] = in[.., (i - k*dilation)/stride, k] where exact and in range, else 0; [.., o, k] -> [.., i, k].
//                Those zeros are no terms of a dot of it, with only views between: no 0 * inf is added
//  Gather        x, idx... : out[s.., rest..] = x at idx (one index tensor of shape s for each axis in arg), rest in order
//  Scatter       base, values, idx... : base with values[s.., rest..] folded in at idx
//  Sort          x (unsigned) in the order of some of its bits along its last axis, the least first; of equal ones, the first.
//                arg: the lowest bit, how many bits
//  Put           x, v, begin... : x with the box that starts at begin (one integer an axis) replaced by v
//  Pad           x, fill, lo, hi of each axis      Shrink   x, begin, size of each axis
//  Reduce        x (or as many values as the fold takes, of one shape); arg: fold and the part of its state that is the
//                result, axes, which are dropped
//  Scan          x, start (of x's shape without the axis); arg: fold, axis. out[.., j] = what a fold that begins with start has
//                come to after x[.., 0], .. x[.., j]. Dot and Linear: x, y, start
//  Mark          the value of its source under a name: what gradients and transforms are asked for
//  Call          body, args... : the value of body; name and attributes in arg
//  Copy          the value of its source, stored in memory of its own (row-major)

// X(enumerator, spelling, class, number of sources or -1, traits)
#define KONTOR_OPS(X)                                                                 \
  X(Const, "const", Leaf, 0, 0)                                                       \
  X(Scalar, "scalar", Leaf, 0, Identity)                                              \
  X(Variable, "variable", Leaf, 0, Identity)                                          \
  X(Buffer, "buffer", Leaf, -1, Identity)                                             \
  X(Mark, "mark", Wrapper, 1, Identity)                                               \
  X(Iota, "iota", Leaf, 1, 0)                                                         \
  X(Range, "range", Leaf, 1, Identity)                                                \
  X(Slot, "slot", Leaf, 0, 0)                                                         \
  X(Neg, "neg", Elementwise, 1, 0)                                                    \
  X(Not, "not", Elementwise, 1, IntegerOnly)                                          \
  X(Abs, "abs", Elementwise, 1, Idempotent)                                           \
  X(Sqrt, "sqrt", Elementwise, 1, FloatOnly)                                          \
  X(Floor, "floor", Elementwise, 1, FloatOnly)                                        \
  X(Ceil, "ceil", Elementwise, 1, FloatOnly)                                          \
  X(Cast, "cast", Elementwise, 1, 0)                                                  \
  X(Bitcast, "bitcast", Elementwise, 1, 0)                                            \
  X(Add, "add", Elementwise, 2, Commutative | Associative)                            \
  X(Sub, "sub", Elementwise, 2, 0)                                                    \
  X(Mul, "mul", Elementwise, 2, Commutative | Associative)                            \
  X(Div, "div", Elementwise, 2, FloatOnly)                                            \
  X(IDiv, "idiv", Elementwise, 2, IntegerOnly)                                        \
  X(Mod, "mod", Elementwise, 2, IntegerOnly)                                          \
  X(Max, "max", Elementwise, 2, Idempotent)                                           \
  X(Min, "min", Elementwise, 2, Idempotent)                                           \
  X(And, "and", Elementwise, 2, Commutative | Associative | IntegerOnly | Idempotent) \
  X(Or, "or", Elementwise, 2, Commutative | Associative | IntegerOnly | Idempotent)   \
  X(Xor, "xor", Elementwise, 2, Commutative | Associative | IntegerOnly)              \
  X(Shl, "shl", Elementwise, 2, IntegerOnly)                                          \
  X(Shr, "shr", Elementwise, 2, IntegerOnly)                                          \
  X(Lt, "lt", Elementwise, 2, Comparison)                                             \
  X(Le, "le", Elementwise, 2, Comparison)                                             \
  X(Eq, "eq", Elementwise, 2, Comparison | Commutative)                               \
  X(Ne, "ne", Elementwise, 2, Comparison | Commutative)                               \
  X(Where, "where", Elementwise, 3, 0)                                                \
  X(Fma, "fma", Elementwise, 3, FloatOnly)                                            \
  X(Reshape, "reshape", Movement, -1, 0)                                              \
  X(Permute, "permute", Movement, 1, 0)                                               \
  X(Expand, "expand", Movement, -1, 0)                                                \
  X(Pad, "pad", Movement, -1, 0)                                                      \
  X(Shrink, "shrink", Movement, -1, 0)                                                \
  X(Flip, "flip", Movement, 1, 0)                                                     \
  X(Window, "window", Movement, 1, 0)                                                 \
  X(Unwindow, "unwindow", Movement, 2, 0)                                             \
  X(Reduce, "reduce", Reduce, -1, 0)                                                  \
  X(Scan, "scan", Reduce, -1, 0)                                                      \
  X(Gather, "gather", Indexed, -1, 0)                                                 \
  X(Scatter, "scatter", Indexed, -1, 0)                                               \
  X(Put, "put", Indexed, -1, 0)                                                       \
  X(Sort, "sort", Indexed, 1, 0)                                                      \
  X(Call, "call", Wrapper, -1, 0)                                                     \
  X(Copy, "copy", Wrapper, 1, 0)                                                      \
  X(Load, "load", Value, -1, 0)                                                       \
  X(Merge, "merge", Value, -1, 0)                                                     \
  X(Place, "place", Statement, -1, Identity)                                          \
  X(Loop, "loop", Statement, -1, 0)                                                   \
  X(If, "if", Statement, -1, 0)                                                       \
  X(Store, "store", Statement, -1, 0)                                                 \
  X(FoldStep, "fold", Statement, -1, 0)                                               \
  X(Check, "check", Statement, 2, 0)                                                  \
  X(Kernel, "kernel", Statement, -1, 0)

enum class Op : uint8_t {
#define KONTOR_OP_ENUM(name, ...) name,
  KONTOR_OPS(KONTOR_OP_ENUM)
#undef KONTOR_OP_ENUM
};

struct OpRow {
  std::string_view name;
  OpClass group;
  int arity;
  uint32_t traits;
};

inline constexpr OpRow op_rows[] = {
#define KONTOR_OP_ROW(enumerator, spelling, group, arity, traits) {spelling, OpClass::group, arity, traits},
    KONTOR_OPS(KONTOR_OP_ROW)
#undef KONTOR_OP_ROW
};
inline constexpr int op_count = sizeof(op_rows) / sizeof(op_rows[0]);

inline constexpr const OpRow& row(Op op) { return op_rows[static_cast<int>(op)]; }
inline constexpr bool has(Op op, OpTrait trait) { return (row(op).traits & trait) != 0; }
inline constexpr bool is_elementwise(Op op) { return row(op).group == OpClass::Elementwise; }
inline constexpr bool is_movement(Op op) { return row(op).group == OpClass::Movement; }
inline constexpr bool is_statement(Op op) { return row(op).group == OpClass::Statement; }

/// The op spelled `text`; false if there is none.
bool find_op(std::string_view text, Op& op);

}  // namespace kontor
