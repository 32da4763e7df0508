// Crossing: the vendors of a group continue the paths through the groups before it, all of them or some.
#pragma once
#include "marketplace/step.h"

namespace kontor::inline v0::marketplace {

struct Crossing {
  std::vector<Ref> values;  ///< of each root: [paths, ..], the last group varying slowest; vendor 0s first
  std::vector<Ref>
      upstream;  ///< of each group: i64 [vendors, k], the paths before that it continues; null: all
  std::vector<int64_t> continued;  ///< of each group: k
};

/// `roots` for every path. Every root must depend on every group.
Crossing cross(const Step& step, std::span<const Ref> roots,
               std::span<const std::vector<BatchedLeaf>> leaves);
/// For each group [vendors]: the sum of z [paths] over the paths that a vendor is on.
std::vector<Ref> sums_over_paths(const Step& step, const Crossing& crossing, const Ref& z);
/// For each group the vendor (i64 of rank 0) that path `path` goes through.
std::vector<Ref> vendors_of_path(const Step& step, const Crossing& crossing, const Ref& path);

std::vector<std::vector<BatchedLeaf>> leaves_of(std::span<const Vendors> vendors);

}  // namespace kontor::inline v0::marketplace
