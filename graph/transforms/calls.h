// What is known of Calls by their names, but for functions of one tensor (graph/functions/unary.h): a row a Call. Of a
// Call without a row there or here only the body counts.
#pragma once
#include <string_view>

#include "graph/node.h"

namespace kontor {

class Tape;
struct Term;

struct CallRow {
  enum Trait : uint8_t {
    AlongAxis =
        1,        // the first attribute is an axis, and moves with it; else an axis in front changes nothing
    Draw = 2,     // random numbers
    OneForm = 4,  // with an axis in front it is no such Call: only the body is left
  };
  std::string_view name;
  /// Cheaper than the body's, or the body has none; null: the body's.
  void (*gradient)(Tape& to, const Node& n, const Term& g);
  uint8_t traits = 0;
  bool has(Trait trait) const { return (traits & trait) != 0; }
};

/// The row of this name, or null.
const CallRow* find_call(std::string_view name);

}  // namespace kontor
