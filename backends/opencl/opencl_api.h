// The part of the OpenCL 1.2 API that Kontor uses, declared here and found in libOpenCL at run time (Khronos, "The OpenCL
// Specification", version 1.2; values are those of its cl.h).
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace kontor::cl {

using Int = int32_t;
using Uint = uint32_t;
using Bitfield = uint64_t;
using Platform = struct PlatformTag*;
using Device = struct DeviceTag*;
using Context = struct ContextTag*;
using Queue = struct QueueTag*;
using Mem = struct MemTag*;
using Program = struct ProgramTag*;
using Kernel = struct KernelTag*;
using Event = struct EventTag*;

inline constexpr Int kSuccess = 0, kDeviceNotFound = -1, kPlatformNotFound = -1001;
inline constexpr Bitfield kDeviceTypeCpu = 1 << 1, kDeviceTypeGpu = 1 << 2, kDeviceTypeAll = 0xFFFFFFFF;
inline constexpr Bitfield kMemReadWrite = 1 << 0;
inline constexpr Bitfield kCorrectlyRoundedDivideSqrt = 1 << 7;
inline constexpr Uint kPlatformName = 0x0902;
inline constexpr Uint kDeviceMaxWorkGroupSize = 0x1004, kDeviceSingleFpConfig = 0x101B,
                      kDeviceAvailable = 0x1027, kDeviceCompilerAvailable = 0x1028, kDeviceName = 0x102B,
                      kDriverVersion = 0x102D, kDeviceVersion = 0x102F;
inline constexpr Uint kProgramBinarySizes = 0x1165, kProgramBinaries = 0x1166, kProgramBuildLog = 0x1183;
inline constexpr Uint kKernelNumArgs = 0x1191, kKernelWorkGroupSize = 0x11B0;
inline constexpr Uint kTrue = 1;

// X(member, name in libOpenCL, result, parameters)
#define KONTOR_OPENCL_FUNCTIONS(X)                                                                          \
  X(get_platforms, clGetPlatformIDs, Int, (Uint, Platform*, Uint*))                                         \
  X(platform_info, clGetPlatformInfo, Int, (Platform, Uint, size_t, void*, size_t*))                        \
  X(get_devices, clGetDeviceIDs, Int, (Platform, Bitfield, Uint, Device*, Uint*))                           \
  X(device_info, clGetDeviceInfo, Int, (Device, Uint, size_t, void*, size_t*))                              \
  X(create_context, clCreateContext, Context,                                                               \
    (const intptr_t*, Uint, const Device*, void (*)(const char*, const void*, size_t, void*), void*, Int*)) \
  X(release_context, clReleaseContext, Int, (Context))                                                      \
  X(create_queue, clCreateCommandQueue, Queue, (Context, Device, Bitfield, Int*))                           \
  X(release_queue, clReleaseCommandQueue, Int, (Queue))                                                     \
  X(create_buffer, clCreateBuffer, Mem, (Context, Bitfield, size_t, void*, Int*))                           \
  X(release_buffer, clReleaseMemObject, Int, (Mem))                                                         \
  X(write, clEnqueueWriteBuffer, Int,                                                                       \
    (Queue, Mem, Uint, size_t, size_t, const void*, Uint, const Event*, Event*))                            \
  X(read, clEnqueueReadBuffer, Int, (Queue, Mem, Uint, size_t, size_t, void*, Uint, const Event*, Event*))  \
  X(create_with_source, clCreateProgramWithSource, Program,                                                 \
    (Context, Uint, const char**, const size_t*, Int*))                                                     \
  X(create_with_binary, clCreateProgramWithBinary, Program,                                                 \
    (Context, Uint, const Device*, const size_t*, const unsigned char**, Int*, Int*))                       \
  X(build, clBuildProgram, Int,                                                                             \
    (Program, Uint, const Device*, const char*, void (*)(Program, void*), void*))                           \
  X(build_info, clGetProgramBuildInfo, Int, (Program, Device, Uint, size_t, void*, size_t*))                \
  X(program_info, clGetProgramInfo, Int, (Program, Uint, size_t, void*, size_t*))                           \
  X(release_program, clReleaseProgram, Int, (Program))                                                      \
  X(create_kernel, clCreateKernel, Kernel, (Program, const char*, Int*))                                    \
  X(kernel_info, clGetKernelInfo, Int, (Kernel, Uint, size_t, void*, size_t*))                              \
  X(work_group_info, clGetKernelWorkGroupInfo, Int, (Kernel, Device, Uint, size_t, void*, size_t*))         \
  X(release_kernel, clReleaseKernel, Int, (Kernel))                                                         \
  X(set_argument, clSetKernelArg, Int, (Kernel, Uint, size_t, const void*))                                 \
  X(enqueue, clEnqueueNDRangeKernel, Int,                                                                   \
    (Queue, Kernel, Uint, const size_t*, const size_t*, const size_t*, Uint, const Event*, Event*))         \
  X(finish, clFinish, Int, (Queue))

struct Api {
#define KONTOR_OPENCL_MEMBER(member, name, result, parameters) result(*member) parameters = nullptr;
  KONTOR_OPENCL_FUNCTIONS(KONTOR_OPENCL_MEMBER)
#undef KONTOR_OPENCL_MEMBER
};

/// Opens libOpenCL once; throws Error that says which files were looked for.
const Api& api();
/// "CL_OUT_OF_RESOURCES" for -5.
std::string error_name(Int code);

}  // namespace kontor::cl
