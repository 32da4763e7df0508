// The cases of `kontor bench`: what each builds and how it is measured. bench/cases.py says what they are held against.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::tools {

/// What a case came to. A time is in seconds, memory in bytes; `value` is the median of the runs, where there are several.
struct Measured {
  double value = 0, best = 0, mean = 0;
  int64_t runs = 0;
};

struct Budget {
  int threads = 0;
  double seconds = 0;  ///< that a case is repeated for
};

struct BenchCase {
  std::string name;
  std::function<Measured(const Budget&)> measure;
};

std::span<const BenchCase> bench_cases();
/// Those of them that come in two sizes, n and 10 n (bench_growth.cpp).
std::vector<BenchCase> growth_cases();

}  // namespace kontor::tools
