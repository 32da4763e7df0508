// Rounding at the predicted exponent.
#include "scalify/casting.h"

#include "graph/functions/formula.h"
#include "graph/scalar.h"

namespace kontor::scalify {

Scaled rounded(const Scaled& x, DType format, bool in_f16) {
  if (x.data->dtype != DType::F32 || format == DType::F32) return x;
  Scaled out = normalised(x);
  Term data(out.data);
  if (row(format).bits == 8) {
    const double most = greatest(format);
    data = min(max(data, -most), most);
  }
  data = data.as(format);
  if (in_f16 && row(format).bits == 8) data = data.as(DType::F16);
  out.data = data.as(DType::F32).node;
  return out;
}

}  // namespace kontor::scalify
