// Expressions: which scope a value is computed in, and under which name.
#include <algorithm>

#include "base/error.h"
#include "codegen/render_c/renderer.h"

namespace kontor::clike {

const Entry* Renderer::known(const Node* n) const {
  auto it = memo_.find(n);
  if (it == memo_.end()) return nullptr;
  const Entry& e = it->second;
  if (e.level > top() || frames_[static_cast<size_t>(e.level)].serial != e.serial) return nullptr;
  return const_cast<Renderer*>(this)->stamp(*n) == e.stamp ? &e : nullptr;
}

/// Places that this kernel writes and the value reads.
const std::vector<const Node*>& Renderer::reads(const Node& n) {
  auto it = reads_.find(&n);
  if (it != reads_.end()) return it->second;
  std::vector<const Node*> found, from;
  if ((n.op == Op::Load || n.op == Op::Merge) && places_[n.src[0].get()].written)
    found.push_back(n.src[0].get());
  operands(n, from);
  for (const Node* o : from) {
    const std::vector<const Node*>& more = reads(*o);
    found.insert(found.end(), more.begin(), more.end());
  }
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return reads_[&n] = std::move(found);
}

/// Grows whenever something that the value reads is written.
uint64_t Renderer::stamp(const Node& n) {
  uint64_t sum = 0;
  for (const Node* place : reads(n)) sum += places_[place].version;
  return sum;
}

Text Renderer::value(const Ref& root) {
  std::vector<const Node*> stack = {root.get()}, from;
  while (!stack.empty()) {
    const Node* n = stack.back();
    if (known(n)) {
      stack.pop_back();
      continue;
    }
    from.clear();
    operands(*n, from);
    size_t before = stack.size();
    for (const Node* o : from)
      if (!known(o)) stack.push_back(o);
    if (stack.size() > before) continue;
    Entry e = compute(*n);
    e.serial = frames_[static_cast<size_t>(e.level)].serial;
    e.stamp = stamp(*n);
    memo_[n] = std::move(e);
    stack.pop_back();
  }
  return memo_[root.get()].text;
}

/// Whether a value is worth a name where it can be computed further out: index arithmetic stays readable in its place.
bool Renderer::is_heavy(const Node& n) const {
  if (n.src.empty() || n.op == Op::Range) return false;
  if (n.op == Op::Load) return true;
  if (n.dtype != DType::I64 && n.dtype != DType::Bool) return true;
  return n.op == Op::IDiv || n.op == Op::Mod || n.op == Op::Where;
}

/// Of an i64 on a GPU: whether 32 bits hold it and all it is computed from, in which that is several times as fast.
bool Renderer::in_32_bits(const Node& n) {
  constexpr int64_t most = int64_t{1} << 30;  // the last group of threads goes beyond an extent
  if (!c_.dialect().gpu || n.dtype != DType::I64 || n.bounds.lo < -most || n.bounds.hi > most) return false;
  const bool is_arithmetic = n.op == Op::Add || n.op == Op::Sub || n.op == Op::Mul || n.op == Op::IDiv ||
                             n.op == Op::Mod || n.op == Op::Min || n.op == Op::Max || n.op == Op::Where;
  if (n.op == Op::Const || n.op == Op::Range) return true;
  if (!is_arithmetic) return false;
  if (const auto known = narrow_.find(&n); known != narrow_.end()) return known->second;
  const bool found = std::all_of(n.src.begin(), n.src.end(),
                                 [&](const Ref& s) { return s->dtype != DType::I64 || in_32_bits(*s); });
  return narrow_[&n] = found;
}

std::string_view Renderer::type_of(const Node& n) {
  return c_.variable_type(in_32_bits(n) ? DType::I32 : n.dtype);
}

/// Names the value, if that is worth it, in the frame of its level.
Entry Renderer::finish(const Node& n, Entry e) {
  bool leaf = n.src.empty() || n.op == Op::Range;
  auto uses = uses_.find(&n);
  bool shared = uses != uses_.end() && uses->second > 1;
  bool long_text = e.text.text.size() > 80;
  if (leaf || !(shared || long_text || (e.level < top() && is_heavy(n)))) return e;
  std::string name = fmt::format("v{}", values_++);
  line(e.level, fmt::format("const {} {} = {};", type_of(n), name, e.text.text));
  e.text = {name};
  return e;
}

Entry Renderer::compute(const Node& n) {
  switch (n.op) {
    case Op::Const: return {c_.literal(n), 0};
    case Op::Load:  return finish(n, compute_load(n));
    case Op::Merge: return compute_merge(n);
    case Op::Slot:  broken("C renderer: slot {} is not declared", n.at(0));
    case Op::Range: {
      auto it = ranges_.find(&n);
      if (it == ranges_.end()) broken("C renderer: range '{}' is not bound", n.arg.text);
      return {it->second.first, it->second.second};
    }
    default: break;
  }
  Entry e;
  std::vector<Text> args;
  for (const Ref& s : n.src) {
    const Entry& from = memo_[s.get()];
    e.level = std::max(e.level, from.level);
    args.push_back(from.text);
  }
  // A small constant beside a long is a long already.
  bool beside = n.src.size() == 2 && n.src[0]->dtype == DType::I64 && !n.src[0]->is_const();
  constexpr int64_t small = 1 << 30;
  if (beside && n.src[1]->is_const() && -small < const_int(*n.src[1]) && const_int(*n.src[1]) < small)
    args[1] = {fmt::format("{}", const_int(*n.src[1])), const_int(*n.src[1]) < 0 ? Unary : Primary};
  if (n.dtype == DType::I64 && !in_32_bits(n))  // of 32 bits each it would be computed in 32
    for (size_t i = 0; i < args.size(); i++)
      if (!n.src[i]->is_const() && in_32_bits(*n.src[i]))
        args[i] = {fmt::format("({}){}", c_.variable_type(DType::I64), in(args[i], Unary)), Unary};
  e.text = c_.apply(n, args);
  return finish(n, std::move(e));
}

/// The element that a Load, Store or FoldStep goes to.
Text Renderer::element(const Node& access) {
  if (const auto wide = wide_.find(&access); wide != wide_.end())
    return {fmt::format("{}[{}]", wide->second.name, value(wide->second.element).text)};
  PlaceState& p = place_of(*access.src[0]);
  if (p.local && p.dims.empty()) return {p.name};
  std::string at = is_int(position(access), 0) ? "0" : value(position(access)).text;
  return {fmt::format("{}[{}]", p.name, at)};
}

Entry Renderer::compute_load(const Node& n) {
  PlaceState& p = place_of(*n.src[0]);
  Entry e{{}, std::max(p.level, pin_level())};
  e.level = std::max(e.level, memo_[place_within(n).get()].level);
  if (p.written) e.level = std::max(e.level, p.write_level);
  e.text = element(n);
  if (p.in_memory()) e.text = c_.from_memory(n.dtype, e.text);
  Ref guard = tree::guard(n);
  if (!guard || is_int(guard, 1)) return e;
  const Entry& g = memo_[guard.get()];
  e.level = std::max(e.level, g.level);
  Text zero = c_.literal(*constant(n.dtype, int64_t{0}));
  e.text = {fmt::format("{} ? {} : {}", in(g.text, LogicalOr), in(e.text, LogicalOr), zero.text), Ternary};
  return e;
}

/// Two partial results as one.
std::string Renderer::joined(const Node& place, std::span<const Text> pair) {
  const Fold fold = tree::fold_of(place);
  return c_
      .apply(fmt::format("{}_merge_{}", row(fold).name, name(place.dtype)), merge_formula(fold, place.dtype),
             pair)
      .text;
}

/// Joins the last dimension in halving pairs, in an array of its own.
Entry Renderer::compute_merge(const Node& n) {
  const Node& place = *n.src[0];
  PlaceState& p = place_of(place);
  if (!tree::has_fold(place)) broken("C renderer: merge of '{}', which has no fold", place.arg.text);
  int64_t count = const_int(*p.dims.back());
  const Entry& first = memo_[position(n).get()];
  Entry e{{}, std::max({p.level, pin_level(), p.written ? p.write_level : 0, first.level})};
  std::string start = is_int(position(n), 0) ? "" : fmt::format("{} * {} + ", in(first.text, Product), count);
  auto part = [&](const std::string& lane) {
    Text x{fmt::format("{}[{}{}]", p.name, start, lane)};
    return p.local ? x : c_.from_memory(n.dtype, x);
  };
  if (p.spread) return merge_lanes(n, std::move(e));
  if (count == 1) return e.text = part("0"), finish(n, std::move(e));
  std::string name = fmt::format("v{}", values_++), lane = unique("lane", e.level);
  line(e.level,
       fmt::format("{} {}[{}];  // {} joined in pairs", c_.variable_type(n.dtype), name, count / 2, p.name));
  for (int64_t half = count / 2; half > 0; half /= 2) {
    std::string other = fmt::format("{} + {}", lane, half);
    Text pair[2] = {{fmt::format("{}[{}]", name, lane)}, {fmt::format("{}[{}]", name, other)}};
    if (half == count / 2) pair[0] = part(lane), pair[1] = part(other);
    line(e.level, fmt::format("for (int {0} = 0; {0} < {1}; {0}++) {2}[{0}] = {3};", lane, half, name,
                              joined(place, pair)));
  }
  e.text = {name + "[0]"};
  return e;
}

/// The same pairs where a thread has lanes 2 t and 2 t + 1: both with those of threads 16, 8 .. 1 further, then its own. All
/// threads get the result.
Entry Renderer::merge_lanes(const Node& n, Entry e) {
  const PlaceState& p = place_of(*n.src[0]);
  const int64_t turns = const_int(*p.dims.back());
  if (turns != 2) broken("C renderer: lanes of '{}' are not two a thread", p.name);
  const std::string start =
      is_int(position(n), 0) ? ""
                             : fmt::format("{} * {} + ", in(memo_[position(n).get()].text, Product), turns);
  const std::string name = fmt::format("v{}", values_++), next = fmt::format("v{}", values_++),
                    half = unique("half", e.level);
  const std::string_view type = c_.variable_type(n.dtype);
  line(e.level, fmt::format("{0} {1} = {3}[{4}0], {2} = {3}[{4}1];  // {3} joined in pairs", type, name, next,
                            p.name, start));
  const auto with = [&](const std::string& one, const std::string& other) {
    const Text pair[2] = {{one}, {other}};
    return joined(*n.src[0], pair);
  };
  const std::string other = unique("other", e.level);  // values of their own: bools skip a second operand
  line(e.level, fmt::format("for (int {0} = {1}; {0} > 0; {0} /= 2) {{", half, warp / 2));
  for (const std::string& x : {name, next}) {
    line(e.level, fmt::format("  const {0} {1}_{2} = ({0})__shfl_down_sync(0xffffffffu, {2}, {3});", type,
                              other, x, half));
    line(e.level, fmt::format("  {} = {};", x, with(x, fmt::format("{}_{}", other, x))));
  }
  line(e.level, "}");
  line(e.level, fmt::format("{} = {};", name, with(name, next)));
  line(e.level, fmt::format("{0} = ({1})__shfl_sync(0xffffffffu, {0}, 0);", name, type));
  e.text = {name};
  return e;
}

}  // namespace kontor::clike
