// The part of the CUDA driver API that Kontor uses, declared here and found in libcuda at run time (NVIDIA, "CUDA Driver
// API"; values are those of its cuda.h). Names carry _v2 where cuda.h maps the plain name to it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace kontor::cuda {

using Result = int;  // 0: success
using Device = int;
using Address = unsigned long long;
using Context = struct ContextTag*;
using Module = struct ModuleTag*;
using Function = struct FunctionTag*;
using Stream = struct StreamTag*;

inline constexpr Result kSuccess = 0, kOutOfMemory = 2;
inline constexpr int kMultiprocessors = 16, kCapabilityMajor = 75,
                     kCapabilityMinor = 76;  // CU_DEVICE_ATTRIBUTE_*
inline constexpr unsigned kNonBlockingStream = 1;
inline constexpr int kMostSharedBytes = 8;  // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES

// X(member, name in libcuda, parameters)
#define KONTOR_CUDA_FUNCTIONS(X)                                                                     \
  X(init, cuInit, (unsigned))                                                                        \
  X(error_name, cuGetErrorName, (Result, const char**))                                              \
  X(error_text, cuGetErrorString, (Result, const char**))                                            \
  X(driver_version, cuDriverGetVersion, (int*))                                                      \
  X(device_count, cuDeviceGetCount, (int*))                                                          \
  X(device, cuDeviceGet, (Device*, int))                                                             \
  X(device_name, cuDeviceGetName, (char*, int, Device))                                              \
  X(device_memory, cuDeviceTotalMem_v2, (size_t*, Device))                                           \
  X(attribute, cuDeviceGetAttribute, (int*, int, Device))                                            \
  X(retain_context, cuDevicePrimaryCtxRetain, (Context*, Device))                                    \
  X(release_context, cuDevicePrimaryCtxRelease_v2, (Device))                                         \
  X(set_context, cuCtxSetCurrent, (Context))                                                         \
  X(create_stream, cuStreamCreate, (Stream*, unsigned))                                              \
  X(destroy_stream, cuStreamDestroy_v2, (Stream))                                                    \
  X(wait, cuStreamSynchronize, (Stream))                                                             \
  X(allocate, cuMemAlloc_v2, (Address*, size_t))                                                     \
  X(release, cuMemFree_v2, (Address))                                                                \
  X(copy_in, cuMemcpyHtoDAsync_v2, (Address, const void*, size_t, Stream))                           \
  X(copy_out, cuMemcpyDtoHAsync_v2, (void*, Address, size_t, Stream))                                \
  X(fill, cuMemsetD32Async, (Address, unsigned, size_t, Stream))                                     \
  X(load_module, cuModuleLoadData, (Module*, const void*))                                           \
  X(unload_module, cuModuleUnload, (Module))                                                         \
  X(find_function, cuModuleGetFunction, (Function*, Module, const char*))                            \
  X(set_function, cuFuncSetAttribute, (Function, int, int))                                          \
  X(launch, cuLaunchKernel,                                                                          \
    (Function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Stream, void**, \
     void**))

struct Api {
#define KONTOR_CUDA_MEMBER(member, name, parameters) Result(*member) parameters = nullptr;
  KONTOR_CUDA_FUNCTIONS(KONTOR_CUDA_MEMBER)
#undef KONTOR_CUDA_MEMBER
};

/// Opens libcuda once; throws Error that says which files were looked for.
const Api& api();
/// Throws Error with the driver's name and description of the error, unless there is none.
void expect(Result code, std::string_view what);

}  // namespace kontor::cuda
