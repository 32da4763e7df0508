// The renderers: a loop tree as the text that a device's compiler takes.
#pragma once
#include <string>

#include "codegen/target.h"
#include "codegen/tree/tree.h"

namespace kontor {

/// LLVM IR for such a CPU, or OpenCL C, CUDA C, or C. `entry` is the kernel's function name.
std::string render_llvm(const Ref& kernel, const std::string& entry, const Target& target,
                        int64_t& scratch_bytes);
enum class Dialect { OpenCL, Cuda, C };
std::string render_c(const Ref& kernel, const std::string& entry, Dialect dialect);

}  // namespace kontor
