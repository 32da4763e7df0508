// Loops that the threads of a group share out: who has which iterations, where they wait for each other.
#include "codegen/tree/groups.h"

#include <algorithm>

#include "base/error.h"
#include "codegen/render_c/renderer.h"
#include "codegen/tree/substitute.h"
#include "graph/index/index.h"

namespace kontor::clike {

/// Each thread has one iteration, or none.
void Renderer::local_loop(const Node& n) {
  const Ref& range = n.src[0];
  const int64_t count = extent(range->src[0]), stride = group_.strides.find(range.get())->second;
  if (ranges_.find(range.get()) == ranges_.end()) {
    const std::string i = unique(range->arg.text, 0),
                      of = stride == 1 ? thread_ : fmt::format("{} / {}", thread_, stride);
    line(0, fmt::format("const {} {} = {}{};", type_of(*range), i, of,
                        stride * count == group_.threads ? "" : fmt::format(" % {}", count)));
    ranges_[range.get()] = {{i}, 0};
  }
  const auto spread = group_.spread.find(&n);
  const bool some = spread != group_.spread.end() && spread->second < group_.threads;
  const bool outermost = !std::exchange(in_nest_, true);
  if (some) open(true);
  scope(n, tree::body(n), false);
  if (some) close(fmt::format("if ({} < {}) {{", thread_, spread->second));
  if (outermost) in_nest_ = false;
}

// ---- who waits for whom

const PlacesUsed& Renderer::used_by(const Node& statement) {
  const auto [it, is_new] = used_.try_emplace(&statement);
  if (!is_new) return it->second;
  const Ref root(&statement);
  for (const Node* n : topological(std::span(&root, 1))) {
    const bool writes = n->op == Op::Store || n->op == Op::FoldStep;
    if (!writes && n->op != Op::Load && n->op != Op::Merge) continue;
    const Node* place = n->src[0].get();
    const PlaceState& p = places_[place];
    if (p.shared || (!p.local && p.written)) (writes ? it->second.written : it->second.read).insert(place);
  }
  return it->second;
}

static bool meet(const NodeSet& a, const NodeSet& b) {
  return std::any_of(a.begin(), a.end(), [&](const Node* n) { return b.contains(n); });
}

/// A barrier, if since the last one a place was written that is now read, or read that is now written. (Each store
/// writes an element once while its place is declared, and no tree has two stores to one.)
void Renderer::wait_for(const PlacesUsed& used) {
  if (!meet(used.read, since_barrier_.written) && !meet(used.written, since_barrier_.read)) return;
  int64_t ahead = 0;       // fewest iterations ahead that copies are begun
  bool is_shared = false;  // threads wrote themselves; a fence for copies would wait for those under way
  for (const Node* place : since_barrier_.written) {
    if (tree::space(*place) != Space::Shared) continue;
    const int64_t n = tree::shared_as(*place).ahead;
    is_shared |= n == 0;
    if (n > 0) ahead = ahead ? std::min(ahead, n) : n;
  }
  if (ahead > 0) line(fmt::format("{}();", c_.ptx(Ptx::AwaitCopies, ahead - 1)));
  if (is_shared && instruction_ && instruction_->reads_shared)
    line(fmt::format("{}();", c_.ptx(Ptx::ShowMatrices)));
  line("__syncthreads();");
  since_barrier_ = {};
}

/// Before a statement that all threads come to together. A loop's first iteration waits before the loop.
void Renderer::keep_order(const Node& statement) {
  if (statement.op == Op::Place) {  // what was written to the one of the iteration before must not come after
    if (since_barrier_.written.contains(&statement)) since_barrier_.read.insert(&statement);
    return;
  }
  const PlacesUsed& used = used_by(statement);
  wait_for(used);
  if (statement.op == Op::If) return;  // its branches say what they use
  if (statement.op == Op::Loop && copies_ahead(statement)) return since_barrier_.join(used);
  since_barrier_.join({used.read, {}});
  for (const Node* place : used.written) {
    const bool is_ahead = tree::space(*place) == Space::Shared && tree::shared_as(*place).ahead > 0;
    (is_ahead ? begun_ : since_barrier_.written).insert(place);
  }
}

/// At the end of an iteration that may begin copies ahead, or of copies outside of such a loop: one group of copies. They are for
/// another iteration, so only what follows waits for them.
void Renderer::end_copies() {
  line(fmt::format("{}();", c_.ptx(Ptx::EndOfCopies)));
  since_barrier_.join({{}, std::exchange(begun_, {})});
}

/// Whether an iteration of the loop fills the turn of a panel that is filled ahead.
bool Renderer::copies_ahead(const Node& loop) {
  for (const Node* n : topological(tree::body(loop)))
    if (n->op == Op::Store && tree::space(*n->src[0]) == Space::Shared &&
        tree::shared_as(*n->src[0]).ahead > 0 && ix::depends_on(tree::at(*n)[0], loop.src[0]))
      return true;
  return false;
}

}  // namespace kontor::clike
