// Target: what a device is, for all that decides or prints: one place makes it for each device, at hand or not (`usual_target`).
#pragma once
#include <cstdint>

namespace kontor {

/// [bytes] of a line of a cache.
inline constexpr int64_t line_bytes = 64;
/// [bytes] of what a square block consists of while it is turned in registers: smaller elements go together.
inline constexpr int64_t word_bytes = 4;
/// [bytes] of a result from which on a CPU writes it past the caches, so that its lines are not read before they are written:
/// with what it is made of twice the 32 MiB that cores share on common machines. 256 MiB: exp 19.4 -> 15.3 ms (Zen 5).
inline constexpr int64_t past_caches_bytes = int64_t{32} << 20;

/// What a device's language has of what others have not (codegen/tree/decompose.h).
struct Natives {
  bool f16 = false;              ///< conversions between f16 and f32
  bool bf16_pairs = false;       ///< a step of Fold::PairDot
  bool shared_matrices = false;  ///< the same, of whole matrices in a group's shared memory
};

/// Facts of a device. Sizes in bytes.
struct Target {
  int vector_bytes = 64;  ///< widest vector register; 0 on a GPU
  int vector_registers = 32;
  int64_t l1 = 32 << 10, l2 = 1 << 20;
  int64_t place_bytes = 256 << 10;  ///< largest place that one share of the work may keep to itself
  int threads = 1;  ///< 0: of a kernel that is part of another, which is shared out as a whole
  int lanes = 1;    ///< of a GPU: threads that run in step and read each other's registers (1, or `warp`)
  /// Bytes of temporaries that a schedule aims at by streaming; 0: any number, or, of a back end, what is usual.
  int64_t memory_budget = 0;
  bool budget_is_asked = false;  ///< it is kept at any cost; else only while that costs little
  Natives natives = {};
  bool fast = false;  ///< numerics: dots may be added in the order of instructions there are
  bool gpu = false;   ///< outermost loops are mapped to global ids instead of threads
};

}  // namespace kontor
