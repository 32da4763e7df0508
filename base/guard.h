// guarded(doing, f): what the functions of the public headers run in, so that nothing but Error and InternalError leaves
// the library. Not around a caller's own functions, whose exceptions are theirs.
#pragma once
#include <string_view>
#include <utility>

namespace kontor {

/// To be called in a catch block: rethrows Error and InternalError as they are; no memory, and what the system refuses,
/// becomes an Error; all else is a defect of ours, an InternalError.
[[noreturn]] void rethrow_as_ours(std::string_view doing);

template <class F>
decltype(auto) guarded(std::string_view doing, F&& f) {
  try {
    return std::forward<F>(f)();
  } catch (...) {
    rethrow_as_ours(doing);
  }
}

}  // namespace kontor
