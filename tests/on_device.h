// A Context of a test's own.
#pragma once
#include <kontor/jit.h>

#include <string>

struct OnDevice {
  explicit OnDevice(const std::string& device = "llvm", int threads = 2, uint64_t seed = 3)
      : context({.device = device, .threads = threads, .seed = seed}), use(context) {}
  kontor::Context context;
  kontor::Context::Use use;
};
