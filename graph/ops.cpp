// Finding ops by their spelling.
#include "graph/ops.h"

namespace kontor {

bool find_op(std::string_view text, Op& op) {
  for (int i = 0; i < op_count; i++)
    if (op_rows[i].name == text) return op = static_cast<Op>(i), true;
  return false;
}

}  // namespace kontor
