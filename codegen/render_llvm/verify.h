// The verifier of what the LLVM renderer writes: no access reaches beyond memory whose size is known.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kontor {

/// Memory of known size that a value of the text points to the beginning of (allocas say their size themselves).
struct LlvmRegion {
  std::string value;  ///< as in the text: %v7
  std::string place;  ///< what it is called in messages
  int64_t bytes;
};

/// A value of the text that is known from outside: where a parallel loop's share begins and ends.
struct LlvmFact {
  std::string value;
  int64_t number;
};

/// What loads and stores beyond the ends of allocas and regions, one line each; none if there is no such access. Positions
/// are tried at corners and random points of the loops around, where these and the branches around are computed from what
/// the text says. Accesses under a mask and at data-dependent positions are not judged.
std::vector<std::string> verify_llvm(std::string_view text, const std::vector<LlvmRegion>& regions = {},
                                     const std::vector<LlvmFact>& facts = {});

}  // namespace kontor
