// Walking the statements of a loop tree, and making them anew.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "codegen/tree/tree.h"

namespace kontor::walk {

using Body = std::vector<Ref>;

inline const std::string& loop_name(const Ref& loop) { return loop->src[0]->arg.text; }
inline bool is_loop(const Ref& s, const std::string& name) {
  return s->op == Op::Loop && loop_name(s) == name;
}
inline Body body_of(const Ref& s) { return {tree::body(*s).begin(), tree::body(*s).end()}; }

/// The loop with another body.
inline Ref same_loop(const Ref& loop, Body body) {
  return tree::loop(tree::kind(*loop), loop->src[0], std::move(body), tree::width(*loop));
}

/// Applies `change(statement, out)` to every statement, children first where it returns false.
template <class F>
Body map_body(std::span<const Ref> body, const F& change) {
  Body out;
  for (const Ref& s : body) {
    if (change(s, out)) continue;
    if (s->op == Op::Loop) {
      out.push_back(same_loop(s, map_body(tree::body(*s), change)));
    } else if (s->op == Op::If) {
      Body yes = map_body(tree::then_body(*s), change);  // in tree order, which arguments of a call are not
      out.push_back(tree::branch(s->src[0], yes, map_body(tree::else_body(*s), change)));
    } else {
      out.push_back(s);
    }
  }
  return out;
}

/// The kernel with another body.
inline Ref with_body(const Ref& kernel, Body body) {
  std::span<const Ref> params = tree::params(*kernel);
  return tree::kernel(kernel->arg.text, {params.begin(), params.end()}, std::move(body));
}

template <class F>
Ref map_kernel(const Ref& kernel, const F& change) {
  return with_body(kernel, map_body(tree::body(*kernel), change));
}

/// All Loop statements, outer before inner.
std::vector<const Node*> loops_in(const Ref& kernel);
/// Throws Error, with the loops that there are, if none bears the name.
void need_loop(const Ref& kernel, const std::string& name);

}  // namespace kontor::walk
