// Which sanitizer this is compiled for: g++ has a macro for each, clang has features.
#pragma once

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KONTOR_ADDRESS_SANITIZER 1
#endif
#if __has_feature(thread_sanitizer)
#define KONTOR_THREAD_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) && !defined(KONTOR_ADDRESS_SANITIZER)
#define KONTOR_ADDRESS_SANITIZER 1
#endif
#if defined(__SANITIZE_THREAD__) && !defined(KONTOR_THREAD_SANITIZER)
#define KONTOR_THREAD_SANITIZER 1
#endif
