// realize: computes Tensors, with the pending assigns of what their graph reads, as one graph.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "runtime/context_state.h"

namespace kontor {

/// Each state's node becomes the Buffer leaf of its value, in memory. Takes the context's lock.
void realize(ContextState& context, std::span<const std::shared_ptr<TensorState>> states);

/// Dimensions with Variables replaced by their present values.
std::vector<Ref> frozen(const std::vector<Ref>& dims);

}  // namespace kontor
