// Finds and opens the module that holds LLVM.
#pragma once
#include <span>
#include <string>

#include "backends/llvm/module/interface.h"

namespace kontor {

/// The module, opened on the first call and kept; looked for at KONTOR_LLVM, or beside the code that runs, in the build
/// tree and in the installed tree. Throws as open_llvm_module.
const KontorLlvmModule& llvm_module();

/// The first of `paths` that is the module. Throws Error that lists them and why each failed.
const KontorLlvmModule& open_llvm_module(std::span<const std::string> paths);

}  // namespace kontor
