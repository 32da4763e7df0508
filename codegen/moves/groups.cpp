// The moves local, matrix and share: loops go to the threads of a group, a place is one that all of them see.
#include "codegen/tree/groups.h"

#include "base/error.h"
#include "codegen/moves/moves.h"
#include "codegen/tree/substitute.h"
#include "codegen/tree/walk.h"

namespace kontor {

using namespace walk;

static Ref with_kind(const Ref& kernel, const std::string& loop, LoopKind kind) {
  need_loop(kernel, loop);
  return map_kernel(kernel, [&](const Ref& s, Body& out) {
    if (!is_loop(s, loop)) return false;
    out.push_back(tree::loop(kind, s->src[0], body_of(s)));
    return true;
  });
}

static Ref require_groups(const Ref& kernel, std::string_view move, const std::string& loop) {
  if (const std::string why = groups_of(*kernel).mistake; !why.empty()) fail("{} {}: {}", move, loop, why);
  return kernel;
}

Ref local(const Ref& kernel, const std::string& loop) {
  return require_groups(with_kind(kernel, loop, LoopKind::Local), "local", loop);
}

Ref matrix(const Ref& kernel, const std::vector<std::string>& loops) {
  Ref out = kernel;
  for (const std::string& l : loops) out = with_kind(out, l, LoopKind::Matrix);
  return require_groups(out, "matrix", loops.empty() ? "" : loops[0]);
}

Ref share(const Ref& kernel, const std::string& place, int64_t row, int64_t pad) {
  if (row < 0 || pad < 0 || (pad > 0 && row == 0)) fail("share {}: row {} pad {}", place, row, pad);
  Substitution map;
  map_kernel(kernel, [&](const Ref& s, Body&) {
    if (s->op != Op::Place || s->arg.text != place || tree::space(*s) != Space::Local) return false;
    if (tree::has_fold(*s)) fail("share {}: it has a fold", place);
    map.emplace(s.get(), tree::shared_place(s->dtype, {s->src.begin(), s->src.end()}, place, {row, pad}));
    return false;
  });
  if (map.empty()) fail("share {}: there is no such place", place);
  return require_groups(with_body(kernel, replace(tree::body(*kernel), map)), "share", place);
}

}  // namespace kontor
