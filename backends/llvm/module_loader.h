// Finds and opens the module that holds LLVM.
#pragma once
#include "backends/llvm/module/interface.h"

namespace kontor::inline v0 {

/// The module, opened on the first call and kept. Throws Error that lists where it was looked for and why that failed.
const KontorLlvmModule& llvm_module();

}  // namespace kontor::inline v0
