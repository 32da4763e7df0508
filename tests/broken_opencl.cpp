// A libOpenCL whose driver ends the process that asks for devices, as BROKEN_OPENCL says: "abort", "segv", "exit", or "none",
// which knows no platform. tests/e2e/test_broken_driver.py puts it in the place of the real one.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "backends/opencl/opencl_api.h"

namespace {

kontor::cl::Int end_process(const char* when) {
  const char* wanted = std::getenv("BROKEN_OPENCL");
  const char* how = wanted != nullptr ? wanted : "none";
  std::fprintf(stderr, "driver: %s: %s\n", when, how);
  if (std::strcmp(how, "abort") == 0) std::abort();
  if (std::strcmp(how, "segv") == 0) std::raise(SIGSEGV);
  if (std::strcmp(how, "exit") == 0) std::exit(3);
  return kontor::cl::kPlatformNotFound;
}

template <class Result>
Result answer(const char* name) {
  end_process(name);
  if constexpr (std::is_pointer_v<Result>) return nullptr;
  else return kontor::cl::kPlatformNotFound;
}

}  // namespace

#define BROKEN_FUNCTION(member, name, result, parameters) \
  extern "C" __attribute__((visibility("default"))) result name parameters { return answer<result>(#name); }
using namespace kontor::cl;
KONTOR_OPENCL_FUNCTIONS(BROKEN_FUNCTION)
