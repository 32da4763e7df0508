// Substitution in loop trees.
#include "codegen/tree/substitute.h"

#include "codegen/tree/walk.h"
#include "graph/index/index.h"

namespace kontor {

using namespace walk;

Ref simplified(const Node& n, std::vector<Ref> sources) {
  if (sources == n.src) return Ref(&n);
  if (n.op == Op::Load && n.at(0) && is_int(sources.back(), 1))
    return tree::load(sources[0], {sources.begin() + 1, sources.end() - 1}, {}, tree::part(n));
  Ref made = with_sources(n, std::move(sources));
  const bool integer = is_elementwise(made->op) &&
                       (made->dtype == DType::I64 || made->dtype == DType::Bool) &&
                       made->src[0]->op != Op::Load && !is_float(made->src[0]->dtype);
  return integer ? ix::simplify_node(made) : made;
}

std::vector<Ref> replace(std::span<const Ref> roots, const Substitution& map) {
  Substitution done = map;
  map_nodes(roots, done, simplified);
  std::vector<Ref> out;
  for (const Ref& r : roots) out.push_back(done.at(r.get()));
  return out;
}

Ref replace(const Ref& root, const Substitution& map) { return replace(std::span(&root, 1), map)[0]; }

Ref normalise(const Ref& kernel) {
  struct Walk {
    static Body body(std::span<const Ref> statements, const Substitution& map) {
      Body out;
      for (const Ref& s : statements) {
        if (s->op == Op::Loop && s->src[0]->src[0]->is_const() && extent(s->src[0]->src[0]) <= 1 &&
            tree::kind(*s) != LoopKind::Lane) {
          if (extent(s->src[0]->src[0]) == 0) continue;
          const Body inner = body(tree::body(*s), map);
          for (Ref& r : replace(inner, {{s->src[0].get(), index(0)}})) out.push_back(std::move(r));
        } else if (s->op == Op::Loop) {
          out.push_back(same_loop(s, body(tree::body(*s), map)));
        } else if (s->op == Op::If) {
          out.push_back(
              tree::branch(s->src[0], body(tree::then_body(*s), map), body(tree::else_body(*s), map)));
        } else {
          out.push_back(s);
        }
      }
      return out;
    }
  };
  return with_body(kernel, Walk::body(tree::body(*kernel), {}));
}

Ref with_dims(const Node& place, std::vector<Ref> dims) {
  const int fold = tree::has_fold(place) ? static_cast<int>(tree::fold_of(place)) : -1;
  if (tree::space(place) == Space::Param)
    return tree::param(place.dtype, std::move(dims), tree::param_number(place), place.arg.text, fold);
  return tree::place(place.dtype, std::move(dims), place.arg.text, fold);
}

const Node* varying_along(const Ref& statement, const Ref& range) {
  for (const Node* n : topological(std::span(&statement, 1)))
    if (n->op == Op::Loop && ix::depends_on(n->src[0]->src[0], range)) return n;
  return nullptr;
}

}  // namespace kontor
