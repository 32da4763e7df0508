// The host's instruction set through cpuid, its caches through sysconf.
#include "backends/llvm/host.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "base/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace kontor {
namespace {

#if defined(__x86_64__)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512cd");
}

bool has_avx512_bf16() { return __builtin_cpu_supports("avx512bf16"); }

std::string model_name() {
  unsigned words[12] = {};
  for (unsigned i = 0; i < 3; ++i) {
    unsigned* part = words + 4 * i;
    if (__get_cpuid(0x80000002 + i, part, part + 1, part + 2, part + 3) == 0) return "x86-64";
  }
  std::string text(reinterpret_cast<const char*>(words), sizeof words);
  text.resize(std::strlen(text.c_str()));
  text.erase(0, text.find_first_not_of(' '));
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

std::string identity() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  __get_cpuid(0, &a, &b, &c, &d);
  char maker[13] = {};
  std::memcpy(maker, &b, 4);
  std::memcpy(maker + 4, &d, 4);
  std::memcpy(maker + 8, &c, 4);
  __get_cpuid(1, &a, &b, &c, &d);
  return fmt::format("{}-{:x}", maker, a >> 4);  // without the stepping
}
#else
bool has_avx2() { return false; }
bool has_avx512() { return false; }
bool has_avx512_bf16() { return false; }
std::string model_name() { return "not x86-64"; }
std::string identity() { return "unknown"; }
#endif

int64_t cache_bytes([[maybe_unused]] int key, int64_t usual) {
  const int64_t bytes = key < 0 ? 0 : static_cast<int64_t>(::sysconf(key));
  return bytes > 0 ? bytes : usual;
}

}  // namespace

HostCpu host_cpu(const std::string& wanted) {
  if (wanted != "" && wanted != "native" && wanted != "avx2" && wanted != "avx512") {
    fail("KONTOR_CPU={}: avx2, avx512 and native are known", wanted);
  }
  if (!has_avx2())
    fail("llvm: the processor ({}) has no AVX2 with FMA, which this device needs", model_name());
  if (wanted == "avx512" && !has_avx512()) {
    fail("KONTOR_CPU=avx512: the processor ({}) has no AVX-512 F, DQ, BW, VL and CD", model_name());
  }
  if (wanted == "avx2" || !has_avx512()) return {"avx2", "x86-64-v3", model_name(), identity(), 32, 16};
  return {"avx512", "x86-64-v4", model_name(), identity(), 64, 32, has_avx512_bf16()};
}

Target host_target(const HostCpu& cpu) {
  Target target;
  target.vector_bytes = cpu.vector_bytes;
  target.vector_registers = cpu.vector_registers;
  target.natives = {.f16 = true, .bf16_pairs = cpu.avx512_bf16};  // F16C is part of both levels
#if defined(_SC_LEVEL1_DCACHE_SIZE)
  target.l1 = cache_bytes(_SC_LEVEL1_DCACHE_SIZE, target.l1);
  target.l2 = cache_bytes(_SC_LEVEL2_CACHE_SIZE, target.l2);
#endif
  target.place_bytes = target.l2 / 2;  // the rest is for what streams past the place
  target.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  return target;
}

}  // namespace kontor
