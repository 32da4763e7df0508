// The verifier of loop trees: a list of rules that every statement and value must keep where it stands.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "codegen/tree/tree.h"

namespace kontor {

/// Where the walk stands: what is declared, which loops and conditions are around.
struct TreeScope {
  const Node* statement = nullptr;
  std::vector<const Node*> loops;                ///< from the outermost
  std::vector<std::pair<Ref, bool>> conditions;  ///< of Ifs around, and whether they hold
  struct Declared {
    const Node* place;
    size_t loops;  ///< how many loops are around its declaration
  };
  std::vector<Declared> places;

  const Declared* find(const Node* place) const;
};

/// A rule about statements or about the values in them; `mistake` returns what is wrong, or "".
struct TreeCheck {
  std::string_view name;
  std::string_view says;
  std::string (*mistake)(const TreeScope& scope, const Node& node);
};
std::span<const TreeCheck> tree_checks();

/// What is wrong with a kernel, one line each; none if it is sound. Indexes are tried at corners and random points of
/// their loops; what is read at a data-dependent index is not judged.
std::vector<std::string> verify_tree(const Ref& kernel);
/// Throws InternalError with the mistakes and the kernel's text. `after` says which move or pass made it.
void require_sound_tree(const Ref& kernel, std::string_view after);

}  // namespace kontor
