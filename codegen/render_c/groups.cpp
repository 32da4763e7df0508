// Loops that the threads of a group share out: who has which iterations, where they wait for each other, matrix instructions.
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
  since_barrier_.join(used);
}

// ---- matrix instructions

void Renderer::bind_quads() {
  const Ref root = kernel_;
  const auto nodes = topological(std::span(&root, 1));
  if (std::none_of(nodes.begin(), nodes.end(),
                   [](const Node* n) { return n->op == Op::Loop && tree::kind(*n) == LoopKind::Matrix; }))
    return;
  const auto bind = [&](const char* name, int64_t count, const std::string& text) {
    const Ref range = ix::range(count, name);
    const std::string variable = unique(name, 0);
    line(0, fmt::format("const {} {} = {};", type_of(*range), variable, text));
    ranges_[range.get()] = {{variable}, 0};
    return range;
  };
  quad_row_ = bind("row", 8, fmt::format("{} % 32 / 4", thread_));
  quad_column_ = bind("column", 4, fmt::format("{} % 4", thread_));
}

/// In the loops over rows and columns a thread has four elements, which it computes one after the other. In the third loop a
/// step is one instruction: operands lie in the threads of a warp by PTX's tables of mma.m16n8k16 for 16 bits, where t is
/// the number in the warp: a[t / 4 + 8 h][t % 4 + 4 k] in register h + 2 k, b[t % 4 + 4 k][t / 4] in register k,
/// c[t / 4 + 8 h][t % 4 * 2 + e] in register 2 h + e.
void Renderer::matrix_loops(const Node& n) {
  std::vector<Ref> ranges;
  const Node* inner = &n;
  for (;; inner = tree::body(*inner)[0].get()) {
    ranges.push_back(inner->src[0]);
    const auto body = tree::body(*inner);
    if (body.size() != 1 || body[0]->op != Op::Loop || tree::kind(*body[0]) != LoopKind::Matrix) break;
  }
  const bool outermost = !std::exchange(in_nest_, true);
  for (const Ref& s : tree::body(*inner)) {
    if (s->op != Op::Store && s->op != Op::FoldStep)
      broken("C renderer: a matrix loop holds more than stores and folds");
    if (ranges.size() == 3) {
      matrix_step(*s, ranges);
      continue;
    }
    for (int e = 0; e < 4; e++) {
      element_ = e;
      roots_.push_back(replace(s, {{ranges[0].get(), ix::add(quad_row_, index(e / 2 * 8))},
                                   {ranges[1].get(), ix::add(ix::mul(quad_column_, 2), index(e % 2))}}));
      write(*roots_.back());
    }
  }
  if (outermost) in_nest_ = false;
}

Text Renderer::matrix_operand(const Ref& value_there, const Substitution& at) {
  roots_.push_back(replace(value_there, at));
  return value(roots_.back());
}

void Renderer::matrix_step(const Node& step, std::span<const Ref> ranges) {
  const Node& place = *step.src[0];
  if (tree::fold_of(place) != Fold::PairDot)
    broken("C renderer: no matrix instruction for '{}'", row(tree::fold_of(place)).name);
  const auto row_at = [&](int64_t more) { return ix::add(quad_row_, index(more)); };
  const auto step_at = [&](int64_t more) { return ix::add(quad_column_, index(more)); };
  std::vector<Text> args;
  element_ = 0;
  roots_.push_back(replace(Ref(&step), {{ranges[0].get(), quad_row_}, {ranges[1].get(), quad_column_}}));
  value(position(*roots_.back()));
  const Text to = element(*roots_.back());
  const bool first_is_a = !ix::depends_on(tree::values(step)[0], ranges[1]);
  const Ref &a = tree::values(step)[first_is_a ? 0 : 1], &b = tree::values(step)[first_is_a ? 1 : 0];
  if (ix::depends_on(a, ranges[1]) || ix::depends_on(b, ranges[0]))
    broken("C renderer: a matrix instruction's factors depend on its rows and columns");
  for (const int64_t k : {0, 4})
    for (const int64_t h : {0, 8})
      args.push_back(matrix_operand(a, {{ranges[0].get(), row_at(h)}, {ranges[2].get(), step_at(k)}}));
  for (const int64_t k : {0, 4})
    args.push_back(matrix_operand(b, {{ranges[1].get(), quad_row_}, {ranges[2].get(), step_at(k)}}));
  std::string list;
  for (const Text& t : args) list += ", " + t.text;
  line(fmt::format("{}(&{}{});", c_.matrix_helper(), to.text, list));
  touch(place_of(place));
}

}  // namespace kontor::clike
