// fail(...) and broken(...): throw Error and InternalError with formatted text. Include in .cpp files only (pulls fmt).
#pragma once
#include <fmt/format.h>
#include <kontor/types.h>

namespace kontor {

template <class... A>
[[noreturn]] void fail(fmt::format_string<A...> text, A&&... args) {
  throw Error(fmt::format(text, std::forward<A>(args)...));
}

template <class... A>
[[noreturn]] void broken(fmt::format_string<A...> text, A&&... args) {
  throw InternalError(fmt::format(text, std::forward<A>(args)...));
}

}  // namespace kontor
