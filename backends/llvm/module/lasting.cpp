// What the libraries that are loaded with this module get from here in place of libc. The loader opens the module so that
// its own symbols come before the program's (RTLD_DEEPBIND), and these are the ones that make use of it:
//
// - __cxa_atexit registers nothing: LLVM's static objects are never destroyed, as those of Kontor (base/lasting.h). So a
//   thread may compile, or open this module, while main has returned, and destructors of static objects may use Tensors.
// - malloc and its kin are the program's, which may have an allocator of its own (jemalloc, say): what libc or libstdc++
//   allocates with that is released with that.
#include <dlfcn.h>

#include <cstddef>

#define KONTOR_FOR_LIBRARIES extern "C" __attribute__((visibility("default")))

namespace {

/// The function of this name that the program itself calls.
template <class F>
F* of_program(const char* name) {
  static void* const program = ::dlopen(nullptr, RTLD_LAZY);
  return reinterpret_cast<F*>(::dlsym(program, name));
}

}  // namespace

KONTOR_FOR_LIBRARIES int __cxa_atexit(void (*)(void*), void*, void*) noexcept { return 0; }

KONTOR_FOR_LIBRARIES void* malloc(size_t bytes) noexcept {
  static auto* const real = of_program<void*(size_t)>("malloc");
  return real(bytes);
}

KONTOR_FOR_LIBRARIES void* calloc(size_t count, size_t bytes) noexcept {
  static auto* const real = of_program<void*(size_t, size_t)>("calloc");
  return real(count, bytes);
}

KONTOR_FOR_LIBRARIES void* realloc(void* memory, size_t bytes) noexcept {
  static auto* const real = of_program<void*(void*, size_t)>("realloc");
  return real(memory, bytes);
}

KONTOR_FOR_LIBRARIES void* reallocarray(void* memory, size_t count, size_t bytes) noexcept {
  static auto* const real = of_program<void*(void*, size_t, size_t)>("reallocarray");
  return real(memory, count, bytes);
}

KONTOR_FOR_LIBRARIES void* aligned_alloc(size_t alignment, size_t bytes) noexcept {
  static auto* const real = of_program<void*(size_t, size_t)>("aligned_alloc");
  return real(alignment, bytes);
}

KONTOR_FOR_LIBRARIES void* memalign(size_t alignment, size_t bytes) noexcept {
  static auto* const real = of_program<void*(size_t, size_t)>("memalign");
  return real(alignment, bytes);
}

KONTOR_FOR_LIBRARIES int posix_memalign(void** memory, size_t alignment, size_t bytes) noexcept {
  static auto* const real = of_program<int(void**, size_t, size_t)>("posix_memalign");
  return real(memory, alignment, bytes);
}

KONTOR_FOR_LIBRARIES size_t malloc_usable_size(void* memory) noexcept {
  static auto* const real = of_program<size_t(void*)>("malloc_usable_size");
  return real(memory);
}

KONTOR_FOR_LIBRARIES void free(void* memory) noexcept {
  static auto* const real = of_program<void(void*)>("free");
  real(memory);
}
