// C-family dialects: how types, literals and elementwise ops are spelled in OpenCL C 1.2, CUDA C and C11. What C has not, or
// means something else by, is a function that is written out of its formula (codegen/tree/decompose.h).
#pragma once
#include <set>
#include <span>
#include <string>
#include <vector>

#include "codegen/render.h"

namespace kontor::clike {

/// How tightly an expression's outermost operator binds: an operand that binds less is put in parentheses.
enum Precedence : int {
  Ternary,
  LogicalOr,
  LogicalAnd,
  Bits,
  Equality,
  Relation,
  Shift,
  Sum,
  Product,
  Unary,
  Primary
};

struct Text {
  std::string text;
  int precedence = Primary;
};
/// The text, in parentheses if it binds less than `least`.
std::string in(const Text& t, int least);

/// A function's call.
Text call(std::string_view function, std::span<const Text> args);

struct DialectRow {
  Dialect dialect;
  std::string_view pragmas;   // before everything
  std::string_view kernel;    // what stands before the entry's name
  std::string_view global;    // address space of parameters, with a blank after it
  std::string_view function;  // of helper functions
  std::string_view id;        // number of the work item, an i64; where items are a loop: of the first
  std::string_view (*type)(const DTypeRow&);
  std::string_view word64;                                  // 64 bits as `f64_bits` gives them
  std::string_view f32_bits, bits_f32, f64_bits, bits_f64;  // reinterpret, to and from unsigned integers
  std::string_view i64_suffix, u64_suffix;
  std::string_view infinity, nan;       // f32
  std::string_view f32_math, f64_math;  // suffix of fabs, sqrt, floor, ceil, fma
  std::string_view apart;               // says that parameters do not overlap, with a blank after it
  bool gpu;      // threads in warps that read each other's registers; loops are unrolled on request
  bool items;    // a call runs the work items `begin` to `end` in a loop
  bool offsets;  // buffers are handles, not addresses: each comes with the bytes at which its values start
};
const DialectRow& row(Dialect dialect);

/// Instructions of NVIDIA's GPUs that have no words in CUDA C (ptx.cpp has their rows, in this order).
enum class Ptx : uint8_t {
  WarpMatrix,
  SharedMatrix,
  BeginMatrices,
  EndMatrices,
  ShowMatrices,  // what threads wrote to shared memory is for matrix instructions to read
  Copy,
  EndOfCopies,
  AwaitCopies
};

/// Spelling in one dialect; collects the helper functions that are used.
class Speller {
 public:
  explicit Speller(Dialect dialect) : row_(row(dialect)) {}

  const DialectRow& dialect() const { return row_; }
  /// Of a value held in a variable (f16, bf16 and f8 as float, since arithmetic on them is that of f32, rounded).
  std::string_view variable_type(DType dtype) const;
  /// Of an element in a buffer (f16, bf16 and f8 as their bits).
  std::string_view memory_type(DType dtype) const;

  Text literal(const Node& constant) const;
  Text from_memory(DType dtype, Text element);
  Text to_memory(DType dtype, Text value);
  /// A slot's 8 bytes as a value.
  Text from_slot(DType dtype, const std::string& name);
  /// An elementwise node of these sources.
  Text apply(const Node& n, std::span<const Text> args);
  /// A formula over Slots 0, 1, .., as the function of this name where it is not short.
  Text apply(const std::string& name, const Ref& formula, std::span<const Text> args);

  /// The name of a function that does what one instruction of PTX does; the number is that of AwaitCopies.
  std::string ptx(Ptx which, int64_t number = -1);
  /// Of a step of Fold::PairDot by all threads of a matrix instruction, from operands in shared memory: whether each lies there
  /// along its own rows or columns, not along the steps.
  std::string group_matrix(int64_t columns, bool a_along, bool b_along);

  /// Definitions of the functions used so far.
  std::string helpers() const;

 private:
  Text primitive(const Node& n, std::span<const Text> args);
  Text cast(const Node& n, const Text& x) const;
  Text bitcast(DType to, DType from, const Text& x) const;
  Text of_float(Op op, DType dtype, std::span<const Text> args) const;
  Text of_int(const Node& n, std::span<const Text> args) const;
  Text of_bool(Op op, std::span<const Text> args) const;
  Text plain_cast(DType to, const Text& x) const;
  Text reinterpreted(DType to, DType from, const Text& x);
  Text inlined(const Ref& formula, std::span<const Text> args);
  std::string define(const std::string& name, const Ref& formula);
  void define_text(const std::string& name, const std::string& text);

  const DialectRow& row_;
  std::vector<std::string> helpers_;  // definitions, each after those it uses
  std::set<std::string> known_;
};

}  // namespace kontor::clike
