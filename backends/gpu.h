// What the GPU back ends share: opening their libraries, what they are as targets, and how a compiled kernel is kept in the cache.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "backends/backend.h"

namespace kontor {

/// The first of the files that the dynamic linker opens; null, and in `log` a line each that says why, if none.
void* open_library(std::span<const char* const> files, std::string& log);
/// Those of a device of whose vectors and registers its own compiler takes care. Temporaries may take half of its memory
/// (bytes; 0: it is that of the host) before a schedule runs in pieces.
Target gpu_target(int64_t device_memory = 0);
/// The same of an NVIDIA GPU, which has warps, of a compute capability (80: 8.0). Natives::shared_matrices, which a device of
/// capability 9.0 has (wgmma), is left out: as kernels use them yet they are slower than a warp's instructions
/// (bench/RESULTS-gpu.md).
Target cuda_target(int64_t device_memory = 0, int capability = 90);
inline constexpr int64_t usual_gpu_memory = int64_t{16} << 30;  ///< bytes of a card that is not at hand

/// Code for a device, with what a launch must know of it.
struct GpuBinary {
  std::string kind;                ///< what `code` is, in words of the back end
  std::vector<size_t> slots = {};  ///< numbers of the scalars that the kernel takes, in order
  int64_t group = 0;               ///< threads of a group; 0: any number
  int64_t shared = 0;              ///< bytes that a launch gives each group
  std::string_view code;
};

/// `fingerprint` names the device that the code is for; slots, group and shared are those of the source's lines "// slots:", "// group:"
/// and "// shared:".
std::string pack_gpu_binary(const KernelSource& kernel, std::string_view fingerprint, std::string_view kind,
                            std::string_view code);
/// The parts of what pack_gpu_binary made; throws Error where it is not of this device.
GpuBinary unpack_gpu_binary(std::string_view binary, std::string_view fingerprint);

}  // namespace kontor
