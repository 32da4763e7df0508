// The dtype table: one row a dtype, with its spelling wherever one is needed.
#pragma once
#include <kontor/dtype.h>

namespace kontor {

enum class Kind : uint8_t { None, Bool, Unsigned, Signed, Float };

struct DTypeRow {
  DType dtype;
  std::string_view name;
  int bits;
  Kind kind;
  std::string_view opencl, cuda, llvm;  // spelling in each target language, empty where it has none
  int dlpack;                           // DLPack type code
  std::string_view safetensors,
      numpy;  // tag in a weights file; descr of a .npy file, empty where NumPy has none
};

const DTypeRow& row(DType dtype);
inline Kind kind(DType dtype) { return row(dtype).kind; }
inline bool is_float(DType d) { return kind(d) == Kind::Float; }
inline bool is_integer(DType d) { return kind(d) == Kind::Signed || kind(d) == Kind::Unsigned; }
/// The unsigned dtype of `bits` bits.
DType unsigned_of(int bits);
/// The dtype that arithmetic on a and b yields: PyTorch's table (a float beside an integer stays what it is); u64 with a
/// signed integer, which it does not have, gives f64.
DType promote(DType a, DType b);

}  // namespace kontor
