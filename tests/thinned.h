// What a test tries many times, a build for sanitizers tries fewer times: there each takes several times as long.
#pragma once
#include "base/sanitizer.h"

namespace kontor {

#if defined(KONTOR_ADDRESS_SANITIZER) || defined(KONTOR_THREAD_SANITIZER)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif

/// `count`, or a fifth of it.
template <class T>
constexpr T thinned(T count) {
  return sanitized ? (count + 4) / 5 : count;
}

}  // namespace kontor
