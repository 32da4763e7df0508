// Finds and opens the module that holds LLVM.
#pragma once
#include <span>
#include <string>

#include "backends/llvm/module/interface.h"

namespace kontor::inline v0 {

/// The module, opened on the first call and kept; looked for at KONTOR_LLVM, or beside the code that runs, in the build
/// tree and in the installed tree. Throws as open_llvm_module.
const KontorLlvmModule& llvm_module();

/// While it lives the module may compile. When the program ends, LLVM's static objects are destroyed as those of any library,
/// while threads may go on and destructors of static objects may use Tensors: from a moment before on, this throws
/// CompilerGone, and those that live are waited for.
class Compiling {
 public:
  Compiling();
  ~Compiling();
  Compiling(const Compiling&) = delete;
  Compiling& operator=(const Compiling&) = delete;

 private:
  bool is_first_ = false;
};
struct CompilerGone {};
/// Whether Compiling throws.
bool compiler_is_gone();

/// The first of `paths` that is the module. Throws Error that lists them and why each failed.
const KontorLlvmModule& open_llvm_module(std::span<const std::string> paths);

}  // namespace kontor::inline v0
