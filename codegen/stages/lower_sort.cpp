// Lowering of sorts: stages whose trees are given (sort_trees.h), a counting sort for each digit, from the lowest on.
#include <algorithm>

#include "base/error.h"
#include "codegen/cost.h"
#include "codegen/stages/lowering.h"
#include "codegen/stages/sort_trees.h"
#include "graph/index/index.h"

namespace kontor {

// A stage for n whose value, or what is kept on the way to it, a given tree stores.
Stage& Lowering::begin_given(const Node* n, const std::string& name, DType dtype,
                             const std::vector<Ref>& dims) {
  Stage& s = begin_stage(n, name);
  s.loops.clear();
  for (size_t i = 0; i < dims.size(); i++)
    s.loops.push_back(ix::range(dims[i], fmt::format("{}{}", loop_letter(i), program_.stages.size() - 1)));
  s.place = tree::place(dtype, dims, s.name);
  s.must_store = true;
  top_ = nullptr;
  return s;
}

// What it reads are the loads of other places than its own.
void Lowering::end_given(std::vector<Ref> statements) {
  Stage& s = program_.stages.back();
  s.given = std::move(statements);
  NodeSet own;
  const std::vector<const Node*> nodes = topological(s.given);
  for (const Node* n : nodes)
    if (n->op == Op::Store || n->op == Op::FoldStep) own.insert(n->src[0].get());
  for (const Node* n : nodes)
    if (n->op == Op::Load && !own.contains(n->src[0].get())) s.values.emplace_back(n);
  settle_checks();
}

void Lowering::add_sort(const Node* n) {
  std::vector<Ref> dims;
  for (const Ref& d : n->shape) dims.push_back(dimension(d));
  const std::vector<Ref> leading(dims.begin(), dims.end() - 1);
  SortedRows by;
  by.rows = ix::product(leading);
  by.length = dims.back();
  const auto element = [leading](const Ref& row, const Ref& i) {
    Tuple at = ix::unflatten(row, leading);
    at.push_back(i);
    return at;
  };
  const int64_t longest = by.length->bounds.hi, end = n->at(0) + n->at(1);
  by.block = cost::sorted_block(by.length->is_const() ? longest : 0);
  by.blocks = ix::ceil_div(by.length, index(by.block));
  by.counter = longest > INT32_MAX ? DType::I64 : DType::I32;
  by.lowest = n->at(0);
  by.read = [&](const Ref& row, const Ref& i) { return lower(n->src[0], element(row, i), {}); };
  const auto stage_for = [&](const std::string& name, DType dtype, const std::vector<Ref>& of) {
    const Stage& s = begin_given(n, name, dtype, of);
    by.suffix = fmt::format("{}", program_.stages.size() - 1);
    return s.place;
  };
  const auto last = [&] {
    const Ref place = stage_for("sort", n->dtype, dims);
    by.store = [place, element](const Ref& row, const Ref& i, const Ref& value) {
      return tree::store(place, element(row, i), value);
    };
  };
  if (longest <= cost::short_row) {
    last();
    by.bits = n->at(1);
    end_given(short_tree(by));
    return end_stage(n);
  }
  for (; by.lowest < end; by.lowest += by.bits) {
    by.bits = std::min(cost::digit_bits, end - by.lowest);
    const Ref digits = index(by.digits());
    const Ref counts = stage_for("count", by.counter, {by.rows, by.blocks, digits});
    end_given(count_tree(by, counts));
    const Ref before = stage_for("before", by.counter, {by.rows, ix::add(by.blocks, 1), digits});
    end_given(before_tree(by, counts, before));
    Ref moved;
    if (by.lowest + by.bits == end) {
      last();
    } else {
      moved = stage_for("moved", n->dtype, {by.rows, by.length});
      by.store = [moved](const Ref& row, const Ref& i, const Ref& value) {
        return tree::store(moved, {row, i}, value);
      };
    }
    end_given(move_tree(by, before));
    by.read = [moved](const Ref& row, const Ref& i) { return tree::load(moved, {row, i}); };
  }
  end_stage(n);
}

}  // namespace kontor
