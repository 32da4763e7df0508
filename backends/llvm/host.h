// What the host processor is: which instruction set kernels use, how large its caches are.
#pragma once
#include <string>

#include "codegen/target.h"

namespace kontor {

struct HostCpu {
  std::string level;      ///< "avx512" or "avx2"
  std::string llvm_name;  ///< LLVM's name of the instruction set
  std::string model;      ///< as the maker prints it
  std::string identity;   ///< maker, family and model number: for which processor code is scheduled
  int vector_bytes = 0, vector_registers = 0;
  bool avx512_bf16 = false;  ///< beyond that instruction set

  /// What it has beyond it, as LLVM names that.
  std::string features() const { return avx512_bf16 ? "+avx512bf16" : ""; }
};

/// `wanted`: "avx2", "avx512", "native" or "" (native). Throws Error where the processor lacks it.
HostCpu host_cpu(const std::string& wanted);

Target host_target(const HostCpu& cpu);

}  // namespace kontor
