// Statements and expressions with some of their nodes replaced, simplified on the way.
#pragma once
#include <span>
#include <vector>

#include "codegen/tree/tree.h"

namespace kontor {

/// The node with other sources: index arithmetic in normal form, no guard that always holds.
Ref simplified(const Node& node, std::vector<Ref> sources);
/// Replaces ranges (or other nodes) in statements or expressions, simplifying index arithmetic on the way. What they share
/// is looked at once.
std::vector<Ref> replace(std::span<const Ref> roots, const Substitution& map);
Ref replace(const Ref& root, const Substitution& map);
/// Loops of one iteration dropped, index expressions simplified.
Ref normalise(const Ref& kernel);
/// Another place of the kernel's own, or another parameter of the same number, that differs in its dimensions.
Ref with_dims(const Node& place, std::vector<Ref> dims);
/// A loop in the statement whose extent depends on the range, or null.
const Node* varying_along(const Ref& statement, const Ref& range);

}  // namespace kontor
