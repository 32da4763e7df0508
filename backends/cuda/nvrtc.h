// NVIDIA's run-time compiler (libnvrtc), opened at run time: CUDA C to machine code or PTX. Needs no GPU.
#pragma once
#include <string>
#include <vector>

#include "backends/backend.h"

namespace kontor {
extern const BackendKind cuda_backend;
}

namespace kontor::nvrtc {

/// Compiles for "sm_90" (a cubin) or "compute_90" (PTX). Throws Error with the log and the path of the dumped source, or
/// if NVRTC cannot be opened, which says which files were looked for.
std::string compile(const KernelSource& kernel, const std::string& architecture);
/// "" if NVRTC can be opened, else why not.
std::string why_missing();
/// "13.0".
std::string version();
/// Compute capabilities that it compiles for (80, 90, ...), ascending.
std::vector<int> architectures();

}  // namespace kontor::nvrtc
