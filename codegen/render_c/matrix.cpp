// Matrix instructions: who has which elements, and what the operands are.
#include <algorithm>

#include "base/error.h"
#include "codegen/render_c/renderer.h"
#include "codegen/tree/groups.h"
#include "codegen/tree/substitute.h"
#include "graph/index/index.h"

namespace kontor::clike {

namespace {

/// The loops of an instruction around what stands in all of them.
struct MatrixNest {
  std::vector<Ref> ranges = {};
  const Node* inner = nullptr;
  const MatrixRow* row = nullptr;

  explicit MatrixNest(const Node& outermost) : inner(&outermost) {
    for (;; inner = tree::body(*inner)[0].get()) {
      ranges.push_back(inner->src[0]);
      const auto body = tree::body(*inner);
      if (body.size() != 1 || body[0]->op != Op::Loop || tree::kind(*body[0]) != LoopKind::Matrix) break;
    }
    if (ranges.size() > 1) row = matrix_row(extent(ranges[0]->src[0]), extent(ranges[1]->src[0]));
    if (!row) broken("C renderer: loop {} is of no matrix instruction", ranges[0]->arg.text);
  }
};

/// The instruction that the loop repeats, unrolled or shared out, and does nothing else; null if it does something else.
const MatrixRow* repeated_in(const Node& loop) {
  const Node* n = &loop;
  while (n->op == Op::Loop && tree::kind(*n) != LoopKind::Matrix) {
    const bool is_plain = tree::kind(*n) == LoopKind::Unroll || tree::kind(*n) == LoopKind::Local;
    if (!is_plain || tree::body(*n).size() != 1) return nullptr;
    n = tree::body(*n)[0].get();
  }
  if (n->op != Op::Loop) return nullptr;
  const MatrixNest nest(*n);
  return nest.ranges.size() == 3 ? nest.row : nullptr;
}

}  // namespace

void Renderer::bind_quads() {
  const Ref root = kernel_;
  NodeSet inner;  // loops of an instruction within others
  for (const Node* n : topological(std::span(&root, 1))) {
    if (n->op != Op::Loop || tree::kind(*n) != LoopKind::Matrix || inner.contains(n)) continue;
    for (const Ref& s : tree::body(*n))
      if (s->op == Op::Loop) inner.insert(s.get());
  }
  for (const Node* n : topological(std::span(&root, 1))) {
    if (n->op != Op::Loop || tree::kind(*n) != LoopKind::Matrix || inner.contains(n)) continue;
    const MatrixRow* row = MatrixNest(*n).row;
    if (instruction_ && instruction_->threads != row->threads)
      broken("C renderer: kernel {} has matrix instructions of two kinds", kernel_->arg.text);
    instruction_ = row;
  }
  if (!instruction_) return;
  const auto bind = [&](const char* name, int64_t count, const std::string& text) {
    const Ref range = ix::range(count, name);
    const std::string variable = unique(name, 0);
    line(0, fmt::format("const {} {} = {};", type_of(*range), variable, text));
    ranges_[range.get()] = {{variable}, 0};
    return range;
  };
  const int64_t warps = instruction_->threads / warp;
  quad_row_ = bind("row", 8 * (2 * warps - 1),
                   (warps > 1 ? fmt::format("{} % {} / 32 * 16 + ", thread_, instruction_->threads) : "") +
                       fmt::format("{} % 32 / 4", thread_));
  quad_column_ = bind("column", 4, fmt::format("{} % 4", thread_));
}

/// In the loops over rows and columns a thread has four elements of 8 columns, c[row + 8 h][8 j + 2 column + e] in register
/// 4 j + 2 h + e, which it computes one after the other. In the third loop all steps are one instruction.
void Renderer::matrix_loops(const Node& n) {
  const MatrixNest nest(n);
  const bool outermost = !std::exchange(in_nest_, true);
  for (const Ref& s : tree::body(*nest.inner)) {
    if (s->op != Op::Store && s->op != Op::FoldStep)
      broken("C renderer: a matrix loop holds more than stores and folds");
    if (nest.ranges.size() == 3) {
      matrix_step(*s, *nest.row, nest.ranges);
      continue;
    }
    const int64_t blocks = nest.row->columns / 8;
    Ref block = index(0);
    std::string i;
    if (blocks > 1) {
      block = ix::range(blocks, "block");
      i = unique("block", top());
      open(false);
      ranges_[block.get()] = {{i}, top()};
      roots_.push_back(block);
      for (const Node* place : writes_[&n]) touch(places_[place]);
    }
    for (int e = 0; e < 4; e++) {
      element_ = ix::add(ix::mul(block, 4), index(e));
      const Ref column = ix::add(ix::mul(block, 8), ix::add(ix::mul(quad_column_, 2), index(e % 2)));
      roots_.push_back(replace(
          s, {{nest.ranges[0].get(), ix::add(quad_row_, index(e / 2 * 8))}, {nest.ranges[1].get(), column}}));
      write(*roots_.back());
    }
    if (blocks == 1) continue;
    line(top() - 1, "#pragma unroll");
    close(fmt::format("for (int {0} = 0; {0} < {1}; {0}++) {{", i, blocks));
  }
  if (outermost) in_nest_ = false;
}

Text Renderer::matrix_operand(const Ref& value_there, const Substitution& at) {
  roots_.push_back(replace(value_there, at));
  return value(roots_.back());
}

/// A step of a warp's instruction: operands lie in its threads by PTX's tables of mma.m16n8k16 for 16 bits, where t is the number
/// in the warp: a[t / 4 + 8 h][t % 4 + 4 k] in register h + 2 k, b[t % 4 + 4 k][t / 4] in register k.
void Renderer::matrix_step(const Node& step, const MatrixRow& row, std::span<const Ref> ranges) {
  const Node& place = *step.src[0];
  if (tree::fold_of(place) != Fold::PairDot)
    broken("C renderer: no matrix instruction for '{}'", kontor::row(tree::fold_of(place)).name);
  element_ = index(0);
  roots_.push_back(replace(Ref(&step), {{ranges[0].get(), quad_row_}, {ranges[1].get(), quad_column_}}));
  value(position(*roots_.back()));
  const Text to = element(*roots_.back());
  const bool first_is_a = !ix::depends_on(tree::values(step)[0], ranges[1]);
  const Ref &a = tree::values(step)[first_is_a ? 0 : 1], &b = tree::values(step)[first_is_a ? 1 : 0];
  if (ix::depends_on(a, ranges[1]) || ix::depends_on(b, ranges[0]))
    broken("C renderer: a matrix instruction's factors depend on its rows and columns");
  if (row.reads_shared) {
    const SharedMatrix left = shared_matrix(a, ranges[0], ranges[2]),
                       right = shared_matrix(b, ranges[1], ranges[2]);
    line(fmt::format("{}(&{}, {}, {});", c_.group_matrix(row.columns, left.is_along, right.is_along), to.text,
                     left.text, right.text));
    return touch(place_of(place));
  }
  std::vector<Text> args;
  const auto row_at = [&](int64_t more) { return ix::add(quad_row_, index(more)); };
  const auto step_at = [&](int64_t more) { return ix::add(quad_column_, index(more)); };
  for (const int64_t k : {0, 4})
    for (const int64_t h : {0, 8})
      args.push_back(matrix_operand(a, {{ranges[0].get(), row_at(h)}, {ranges[2].get(), step_at(k)}}));
  // The column of b is the row within a warp.
  for (const int64_t k : {0, 4})
    args.push_back(matrix_operand(b, {{ranges[1].get(), quad_row_}, {ranges[2].get(), step_at(k)}}));
  std::string list;
  for (const Text& t : args) list += ", " + t.text;
  line(fmt::format("{}(&{}{});", c_.ptx(Ptx::WarpMatrix), to.text, list));
  touch(place_of(place));
}

/// An operand in shared memory as wgmma takes it, without swizzles (PTX ISA, "Matrix descriptor"): blocks of 8 numbers along its own
/// loop and 8 along the steps are 128 bytes, in which the 8 numbers of one or of the other lie side by side; blocks lie at one
/// distance along the one, at one along the other.
Renderer::SharedMatrix Renderer::shared_matrix(const Ref& operand, const Ref& own, const Ref& steps) {
  const auto [low, high] = tree::halves(*operand);
  if (!low || tree::space(*low->src[0]) != Space::Shared || tree::guard(*low) || tree::guard(*high))
    broken("C renderer: a matrix instruction's factor is no word of two numbers in shared memory");
  const auto position_at = [&, lo = low, hi = high](int64_t i, int64_t step, int half) {
    roots_.push_back(replace(Ref(half ? hi : lo), {{own.get(), index(i)}, {steps.get(), index(step)}}));
    return position(*roots_.back());
  };
  const Ref start = position_at(0, 0, 0);
  const auto apart = [&](int64_t i, int64_t step, int half) -> int64_t {
    const Ref distance = ix::sub(position_at(i, step, half), start);
    return distance->is_const() ? const_int(*distance) : -1;
  };
  const int64_t n = extent(own->src[0]), along_own = apart(8, 0, 0), along_steps = apart(0, 4, 0);
  const bool is_along = apart(1, 0, 0) == 1;
  for (int64_t i = 0; i < n; i++)
    for (int64_t k = 0; k < 16; k += i % 8 == 0 ? 1 : 15) {
      const int64_t within = is_along ? i % 8 + k % 8 * 8 : i % 8 * 8 + k % 8;
      if (apart(i, k / 2, static_cast<int>(k % 2)) != within + i / 8 * along_own + k / 8 * along_steps)
        broken("C renderer: '{}' is not in blocks of 8 x 8 numbers", low->src[0]->arg.text);
    }
  if (along_own % 8 != 0 || along_steps % 8 != 0)
    broken("C renderer: blocks of '{}' lie at no multiple of 16 bytes", low->src[0]->arg.text);
  return {fmt::format("{}(&{}[{}], {}, {})", c_.ptx(Ptx::SharedMatrix), place_of(*low->src[0]).name,
                      value(start).text, along_steps * 2, along_own * 2),
          is_along};
}

/// Instructions that read shared memory run beside the threads: what they add to is theirs until all have ended.
bool Renderer::open_matrices(const Node& loop) {
  if (!instruction_ || !instruction_->reads_shared || in_matrices_ || !repeated_in(loop)) return false;
  line(fmt::format("{}();", c_.ptx(Ptx::BeginMatrices)));
  return in_matrices_ = true;
}

void Renderer::close_matrices() {
  in_matrices_ = false;
  line(fmt::format("{}();", c_.ptx(Ptx::EndMatrices)));
}

}  // namespace kontor::clike
