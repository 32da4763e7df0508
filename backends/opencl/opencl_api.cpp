// Opening libOpenCL, and names of its errors.
#include "backends/opencl/opencl_api.h"

#include <dlfcn.h>

#include "backends/gpu.h"
#include "base/error.h"

namespace kontor::cl {
namespace {

constexpr const char* kFiles[] = {
#if defined(__APPLE__)
    "/System/Library/Frameworks/OpenCL.framework/OpenCL",
#else
    "libOpenCL.so.1",
    "libOpenCL.so",
#endif
};

struct ErrorRow {
  Int code;
  const char* name;
};
// clang-format off
constexpr ErrorRow kErrors[] = {
    {-1,  "CL_DEVICE_NOT_FOUND"},         {-2,  "CL_DEVICE_NOT_AVAILABLE"},
    {-3,  "CL_COMPILER_NOT_AVAILABLE"},   {-4,  "CL_MEM_OBJECT_ALLOCATION_FAILURE"},
    {-5,  "CL_OUT_OF_RESOURCES"},         {-6,  "CL_OUT_OF_HOST_MEMORY"},
    {-11, "CL_BUILD_PROGRAM_FAILURE"},    {-30, "CL_INVALID_VALUE"},
    {-33, "CL_INVALID_DEVICE"},           {-34, "CL_INVALID_CONTEXT"},
    {-36, "CL_INVALID_COMMAND_QUEUE"},    {-38, "CL_INVALID_MEM_OBJECT"},
    {-42, "CL_INVALID_BINARY"},           {-43, "CL_INVALID_BUILD_OPTIONS"},
    {-44, "CL_INVALID_PROGRAM"},          {-45, "CL_INVALID_PROGRAM_EXECUTABLE"},
    {-46, "CL_INVALID_KERNEL_NAME"},      {-48, "CL_INVALID_KERNEL"},
    {-49, "CL_INVALID_ARG_INDEX"},        {-50, "CL_INVALID_ARG_VALUE"},
    {-51, "CL_INVALID_ARG_SIZE"},         {-52, "CL_INVALID_KERNEL_ARGS"},
    {-54, "CL_INVALID_WORK_GROUP_SIZE"},  {-55, "CL_INVALID_WORK_ITEM_SIZE"},
    {-61, "CL_INVALID_BUFFER_SIZE"},      {-63, "CL_INVALID_GLOBAL_WORK_SIZE"},
    {-1001, "CL_PLATFORM_NOT_FOUND_KHR"},
};
// clang-format on

Api open_api() {
  std::string log;
  void* library = open_library(kFiles, log);
  if (library == nullptr)
    fail(
        "opencl: no OpenCL loader was opened (Debian: ocl-icd-libopencl1, and a driver such as pocl-opencl-icd):{}",
        log);
  Api api;
#define KONTOR_OPENCL_FIND(member, name, result, parameters)                    \
  api.member = reinterpret_cast<decltype(api.member)>(::dlsym(library, #name)); \
  if (api.member == nullptr) fail("opencl: the OpenCL loader has no function " #name);
  KONTOR_OPENCL_FUNCTIONS(KONTOR_OPENCL_FIND)
#undef KONTOR_OPENCL_FIND
  return api;
}

}  // namespace

const Api& api() {
  static const Api opened = open_api();
  return opened;
}

std::string error_name(Int code) {
  for (const ErrorRow& row : kErrors) {
    if (row.code == code) return row.name;
  }
  return fmt::format("OpenCL error {}", code);
}

}  // namespace kontor::cl
