// Who owns what: the one place that says whether a value is still wanted by anyone, or its memory may be written over.
//
//   a Tensor            owns the node of its value, by its TensorState, which its copies share until one is assigned to
//   a node              owns its sources; a Buffer leaf its Version
//   a Version           owns its memory, which Versions of Tensors that were recorded alike share; a pending one its definition
//   a jit program       owns the constants that its recording made; all else that it reads it observes, and finds again at each call
//   a run               owns the values that it reads until it ends (BoundInputs)
//   a finished schedule owns kernels, and no value
//
// So whoever holds a Ref is an owner of the node, unless Owners is told otherwise.
#pragma once
#include <memory>
#include <span>

#include "graph/node.h"

namespace kontor {

/// Whether nobody else owns what this handle does. What only its holder can reach may be given another value in place.
inline bool sole_owner(const Ref& node) { return node->uses() == 1; }
template <class T>
bool sole_owner(const std::shared_ptr<T>& handle) {
  return handle.use_count() == 1;
}

/// Owners of the nodes of a graph that is about to be computed, other than the graph itself and who computes it: Tensors,
/// expressions recorded beside it, jit programs, other threads. Everything below is said before anything is asked.
class Owners {
 public:
  /// A handle of who asks, or one that its holder lets go when the graph has been computed.
  void disregard(const Ref& handle) { known_[handle.get()]++; }
  /// What nodes of the graph own: a node is read as long as they are.
  void disregard(std::span<const Ref> links) {
    for (const Ref& handle : links) disregard(handle);
  }
  /// Whether somebody else owns the node itself.
  bool own(const Node* node) const {
    const auto it = known_.find(node);
    return node->uses() > (it == known_.end() ? 0 : it->second);
  }

 private:
  NodeMap<uint32_t> known_;  // handles that count for nothing
};

}  // namespace kontor
