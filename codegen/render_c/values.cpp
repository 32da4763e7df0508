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
Text Renderer::element(const Node& access, size_t part) {
  if (const auto wide = wide_.find(&access); wide != wide_.end())
    return {fmt::format("{}[{}]", wide->second.name, value(wide->second.element).text)};
  PlaceState& p = place_of(*access.src[0]);
  const std::string& name = name_of(p, part);
  if (p.local && p.dims.empty()) return {name};
  std::string at = is_int(position(access), 0) ? "0" : value(position(access)).text;
  return {fmt::format("{}[{}]", name, at)};
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

/// A step's or a merge's formulas, as functions of these names where they are not short.
Renderer::State Renderer::applied(const Node& place, std::string_view what, const FoldState& formulas,
                                  std::span<const Text> slots) {
  const FoldRow& fold = row(tree::fold_of(place));
  State out;
  for (size_t i = 0; i < formulas.size(); i++) {
    std::string called = fmt::format("{}_{}_{}", fold.name, what, name(place.dtype));
    if (formulas.size() > 1) called += fmt::format("_{}", fold.part[i].name);
    out.push_back(c_.apply(called, formulas[i], slots));
  }
  return out;
}

/// Two partial results as one.
Renderer::State Renderer::joined(const Node& place, const State& x, const State& y) {
  State slots = x;
  slots.insert(slots.end(), y.begin(), y.end());
  return applied(place, "merge", merge_formulas(tree::fold_of(place), place.dtype), slots);
}

/// Statements that write all parts, none before all are computed.
std::vector<std::string> Renderer::assigned(const Node& place, const State& to, const State& from) {
  if (to.size() == 1) return {fmt::format("{} = {};", to[0].text, from[0].text)};
  std::vector<std::string> out;
  State fresh;
  for (size_t i = 0; i < to.size(); i++) {
    fresh.push_back({fmt::format("v{}", values_++)});
    out.push_back(fmt::format("const {} {} = {};", c_.variable_type(tree::part_dtype(place, i)),
                              fresh[i].text, from[i].text));
  }
  for (size_t i = 0; i < to.size(); i++) out.push_back(fmt::format("{} = {};", to[i].text, fresh[i].text));
  return out;
}

static std::string in_braces(const std::vector<std::string>& statements) {
  return statements.size() == 1 ? statements[0] : fmt::format("{{ {} }}", fmt::join(statements, " "));
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
  const size_t wanted = tree::part(n), parts = tree::parts(place);
  const auto elements = [&](const std::string& lane) {
    State out;
    for (size_t i = 0; i < parts; i++) {
      const Text x{fmt::format("{}[{}{}]", name_of(p, i), start, lane)};
      out.push_back(p.local ? x : c_.from_memory(tree::part_dtype(place, i), x));
    }
    return out;
  };
  if (p.spread) return merge_lanes(n, std::move(e));
  if (count == 1) return e.text = elements("0")[wanted], finish(n, std::move(e));
  std::vector<std::string> names;
  for (size_t i = 0; i < parts; i++) {
    names.push_back(fmt::format("v{}", values_++));
    line(e.level,
         fmt::format("{} {}[{}];  // {} joined in pairs", c_.variable_type(tree::part_dtype(place, i)),
                     names[i], count / 2, name_of(p, i)));
  }
  const std::string lane = unique("lane", e.level);
  const auto halves = [&](const std::string& at) {
    State out;
    for (const std::string& name : names) out.push_back({fmt::format("{}[{}]", name, at)});
    return out;
  };
  for (int64_t half = count / 2; half > 0; half /= 2) {
    const std::string other = fmt::format("{} + {}", lane, half);
    const bool first_half = half == count / 2;
    const State pair[2] = {first_half ? elements(lane) : halves(lane),
                           first_half ? elements(other) : halves(other)};
    line(e.level, fmt::format("for (int {0} = 0; {0} < {1}; {0}++) {2}", lane, half,
                              in_braces(assigned(place, halves(lane), joined(place, pair[0], pair[1])))));
  }
  e.text = {names[wanted] + "[0]"};
  return e;
}

/// The same pairs where a thread has lanes 2 t and 2 t + 1: both with those of threads 16, 8 .. 1 further, then its own. All
/// threads get the result.
Entry Renderer::merge_lanes(const Node& n, Entry e) {
  const Node& place = *n.src[0];
  const PlaceState& p = place_of(place);
  const int64_t turns = const_int(*p.dims.back());
  if (turns != 2) broken("C renderer: lanes of '{}' are not two a thread", p.name);
  const std::string start =
      is_int(position(n), 0) ? ""
                             : fmt::format("{} * {} + ", in(memo_[position(n).get()].text, Product), turns);
  const size_t parts = tree::parts(place);
  const std::string half = unique("half", e.level), other = unique("other", e.level);
  State own, next;
  std::vector<std::string_view> types;
  for (size_t i = 0; i < parts; i++) {
    own.push_back({fmt::format("v{}", values_++)});
    next.push_back({fmt::format("v{}", values_++)});
    types.push_back(c_.variable_type(tree::part_dtype(place, i)));
    line(e.level, fmt::format("{0} {1} = {3}[{4}0], {2} = {3}[{4}1];  // {3} joined in pairs", types[i],
                              own[i].text, next[i].text, name_of(p, i), start));
  }
  const auto join = [&](std::string_view indent, const State& to, const State& from) {
    for (const std::string& s : assigned(place, to, joined(place, to, from)))
      line(e.level, fmt::format("{}{}", indent, s));
  };
  line(e.level, fmt::format("for (int {0} = {1}; {0} > 0; {0} /= 2) {{", half, warp / 2));
  for (const State& x : {own, next}) {
    State far;  // values of their own: bools skip a second operand
    for (size_t i = 0; i < parts; i++) {
      far.push_back({fmt::format("{}_{}", other, x[i].text)});
      line(e.level, fmt::format("  const {0} {1} = ({0})__shfl_down_sync(0xffffffffu, {2}, {3});", types[i],
                                far[i].text, x[i].text, half));
    }
    join("  ", x, far);
  }
  line(e.level, "}");
  join("", own, next);
  for (size_t i = 0; i < parts; i++)
    line(e.level, fmt::format("{0} = ({1})__shfl_sync(0xffffffffu, {0}, 0);", own[i].text, types[i]));
  e.text = own[tree::part(n)];
  return e;
}

}  // namespace kontor::clike
