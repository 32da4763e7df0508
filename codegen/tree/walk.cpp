// Finding the loops of a kernel.
#include "codegen/tree/walk.h"

#include "base/error.h"

namespace kontor::walk {

std::vector<const Node*> loops_in(const Ref& kernel) {
  std::vector<const Node*> out;
  map_kernel(kernel, [&](const Ref& s, Body&) {
    if (s->op == Op::Loop) out.push_back(s.get());
    return false;
  });
  return out;
}

void need_loop(const Ref& kernel, const std::string& name) {
  std::string known;
  for (const Node* l : loops_in(kernel)) {
    if (l->src[0]->arg.text == name) return;
    known += " " + l->src[0]->arg.text;
  }
  fail("no loop '{}' in kernel {}; it has:{}", name, kernel->arg.text, known);
}

}  // namespace kontor::walk
