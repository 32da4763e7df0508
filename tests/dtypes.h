// The dtypes that tests go through, from the table: one that is new enters by itself.
#pragma once
#include <algorithm>
#include <vector>

#include "graph/dtype.h"

namespace kontor {

template <class Keeps>
std::vector<DType> dtypes_that(const Keeps& keeps) {
  std::vector<DType> out;
  for (const DTypeRow& r : dtypes())
    if (keeps(r.dtype)) out.push_back(r.dtype);
  return out;
}
inline const std::vector<DType> every_dtype = dtypes_that([](DType) { return true; });
inline const std::vector<DType> float_dtypes = dtypes_that([](DType d) { return is_float(d); });
inline const std::vector<DType> narrow_dtypes = dtypes_that([](DType d) { return is_narrow(d); });

}  // namespace kontor
