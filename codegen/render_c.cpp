// Renders a loop tree as OpenCL C or CUDA C: one work item an iteration of the outermost parallel loop, all else as plain
// loops. A value that is used more than once, or could be computed further out, becomes a constant of the outermost scope
// in which all it needs is known.
#include <algorithm>
#include <bit>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "codegen/c_dialect.h"
#include "codegen/tree_text.h"
#include "graph/index.h"

namespace kontor::inline v0 {

namespace clike {
namespace {

/// Words that may name no variable in one of the dialects.
constexpr std::string_view reserved[] = {
    "asm",       "auto",     "bool",      "break",    "case",      "catch",    "char",     "class",
    "const",     "constant", "continue",  "default",  "delete",    "do",       "double",   "else",
    "enum",      "error",    "event_t",   "extern",   "false",     "float",    "for",      "friend",
    "global",    "goto",     "half",      "if",       "image1d_t", "inline",   "int",      "kernel",
    "local",     "long",     "namespace", "new",      "not",       "and",      "or",       "xor",
    "operator",  "private",  "protected", "public",   "quad",      "register", "restrict", "return",
    "sampler_t", "short",    "signed",    "sizeof",   "size_t",    "static",   "struct",   "switch",
    "template",  "this",     "throw",     "true",     "try",       "typedef",  "typename", "uchar",
    "uint",      "ulong",    "union",     "unsigned", "ushort",    "using",    "virtual",  "void",
    "volatile",  "while",    "fma",       "sqrt",     "fabs",      "floor",    "ceil",     "fmaf",
    "sqrtf",     "fabsf",    "floorf",    "ceilf",    "threadIdx", "blockIdx", "blockDim", "gridDim",
    "linux",     "unix",     "INFINITY",  "NAN",
};

/// A block of code that is being written; what is hoisted into it is added at its end, before the open inner block.
struct Frame {
  int serial = 0;
  bool pins = false;  ///< whether it may run while what stands outside may not: loads stay within
  std::string code = {};
  std::vector<std::string> names = {};
};

struct PlaceState {
  std::string name = {};
  std::vector<Ref> dims = {};  ///< of a local place their upper bounds
  bool local = false, written = false;
  bool spread = false;  ///< its last dimension lies over the threads of a warp
  int level = 0;        ///< frame that declares it
  int write_level = 0;  ///< innermost open frame in which it is written
  uint64_t version = 0;
};

/// A value as text: good while its frame is open and no place it read was written.
struct Entry {
  Text text = {};
  int level = 0, serial = 0;
  uint64_t stamp = 0;
};

class Renderer {
 public:
  Renderer(const Ref& kernel, Dialect dialect) : kernel_(kernel), c_(dialect) {
    frames_.push_back({.pins = true});
    if (tree::has_lanes(*kernel)) lane_ = "lane";
    if (!lane_.empty() && !c_.dialect().warps)
      broken("C renderer: kernel {} has lanes, which this dialect has not", kernel->arg.text);
    survey_lanes(tree::body(*kernel), nullptr);
    survey_places(tree::body(*kernel));
    for (const Ref& p : tree::params(*kernel)) roots_.insert(roots_.end(), p->src.begin(), p->src.end());
    count_uses();
  }

  std::string render(const std::string& entry);

 private:
  // What must be known before.
  void survey_lanes(std::span<const Ref> list, const Node* range);
  void survey_places(std::span<const Ref> list);
  void survey_roots(const Node& statement);
  void count_uses();

  // Values.
  Text value(const Ref& node);
  const Entry* known(const Node* n) const;
  void operands(const Node& n, std::vector<const Node*>& out);
  Entry compute(const Node& n);
  Entry compute_load(const Node& n);
  Entry compute_merge(const Node& n);
  Entry merge_lanes(const Node& n, Entry e);
  Entry finish(const Node& n, Entry e);
  const Ref& position(const Node& access);
  uint64_t stamp(const Node& n);
  const std::vector<const Node*>& reads(const Node& n);
  Text element(const Node& access);
  bool is_heavy(const Node& n) const;

  // Statements.
  void body(std::span<const Ref> list);
  void statement(const Node& n);
  void loop(const Node& n);
  void lane_loop(const Node& n);
  void parallel(const Node& n);
  std::string item() const;
  void branch(const Node& n);
  void declare(const Node& n);
  void fill(const PlaceState& p, const Node& place, const Text& count);
  void write(const Node& n);
  void write_line(const PlaceState& p, const std::string& text);
  void check_root(const Node& n) const;
  std::string signature(const std::string& entry);

  // Frames.
  int top() const { return static_cast<int>(frames_.size()) - 1; }
  int pin_level() const;
  void open(bool pins) { frames_.push_back({.serial = ++serials_, .pins = pins}); }
  void close(const std::string& head, const std::string& tail = "}");
  void scope(const Node& n, std::span<const Ref> list, bool loops);
  void line(int level, const std::string& text);
  void line(const std::string& text) { line(top(), text); }
  std::string unique(std::string_view wanted, int level);
  PlaceState& place_of(const Node& place);
  void touch(PlaceState& p) { p.version++; }

  Ref kernel_;
  Speller c_;
  std::vector<Frame> frames_;
  int serials_ = 0, values_ = 0;
  std::unordered_map<const Node*, Entry> memo_;
  std::unordered_map<const Node*, std::pair<Text, int>> ranges_;  // text and level
  std::unordered_map<const Node*, PlaceState> places_;
  std::unordered_map<const Node*, std::vector<const Node*>> writes_;  // of each Loop and If
  std::vector<const Node*> open_statements_;
  std::vector<Ref> roots_;
  std::unordered_map<const Node*, int> uses_;
  std::unordered_map<const Node*, Ref> positions_;
  std::unordered_map<const Node*, std::vector<const Node*>> reads_;
  bool in_lanes_ = false;  // a Lane loop is open
  std::string lane_ = {};  // the thread's number within its warp, where the kernel has lanes
  std::unordered_map<const Node*, Ref>
      turns_;  // of a Lane loop's range: the range of a thread's turns through it
};

// ---- before: places written in each scope, uses of each value

int64_t upper_bound(const Ref& dim, const Node& place) {
  int64_t hi = dim->bounds.hi;
  if (hi < 0 || hi > (int64_t{1} << 40))
    broken("C renderer: place '{}' has a dimension without a static bound", place.arg.text);
  return hi;
}

void Renderer::survey_roots(const Node& s) {
  switch (s.op) {
    case Op::Place: break;
    case Op::Loop:  roots_.push_back(s.src[0]->src[0]); break;
    case Op::If:    roots_.push_back(s.src[0]); break;
    case Op::Check: roots_.insert(roots_.end(), s.src.begin(), s.src.end()); break;
    default:
      roots_.push_back(position(s));
      for (const Ref& v : tree::values(s)) roots_.push_back(v);
  }
}

/// Which places are spread over a warp; thread t has the iterations t, t + 32, .. of a Lane loop, one a turn.
void Renderer::survey_lanes(std::span<const Ref> list, const Node* range) {
  for (const Ref& s : list) {
    if (s->op == Op::FoldStep && range && tree::space(*s->src[0]) == Space::Local)
      places_[s->src[0].get()].spread = true;
    if (s->op == Op::If) survey_lanes(std::span(s->src).subspan(1), range);
    if (s->op != Op::Loop) continue;
    const bool lanes = tree::kind(*s) == LoopKind::Lane;
    const Ref& own = s->src[0];
    if (lanes) turns_[own.get()] = ix::range((extent(own->src[0]) + warp - 1) / warp, own->arg.text + "u");
    survey_lanes(tree::body(*s), lanes ? own.get() : range);
  }
}

void Renderer::survey_places(std::span<const Ref> list) {
  for (const Ref& s : list) {
    if (s->op == Op::Place && tree::space(*s) != Space::Param) {
      PlaceState& p = places_[s.get()];
      p.local = p.written = true;
      for (const Ref& d : s->src) p.dims.push_back(index(upper_bound(d, *s)));
      if (p.spread) p.dims.back() = index((const_int(*p.dims.back()) + warp - 1) / warp);
    }
    const Node* written = s->op == Op::Store || s->op == Op::FoldStep ? s->src[0].get()
                          : s->op == Op::Place                        ? s.get()
                                                                      : nullptr;
    if (written) {
      places_[written].written = true;
      for (const Node* open : open_statements_) writes_[open].push_back(written);
    }
    survey_roots(*s);
    if (s->op != Op::Loop && s->op != Op::If) continue;
    open_statements_.push_back(s.get());
    survey_places(std::span(s->src).subspan(1));
    open_statements_.pop_back();
  }
}

const Ref& Renderer::position(const Node& access) {
  Ref& found = positions_[&access];
  if (found) return found;
  const Node& place = *access.src[0];
  auto it = places_.find(&place);
  std::span<const Ref> dims = it != places_.end() && it->second.local ? it->second.dims : tree::dims(place);
  if (access.op == Op::Merge) dims = dims.first(dims.size() - 1);
  std::vector<Ref> at(tree::at(access).begin(), tree::at(access).end());
  if (it != places_.end() && it->second.spread && access.op != Op::Merge)
    at.back() = turns_.at(at.back().get());
  return found = dims.empty() ? index(0) : ix::flatten(at, dims);
}

void Renderer::operands(const Node& n, std::vector<const Node*>& out) {
  if (n.op == Op::Range || n.op == Op::Place) return;
  if (n.op != Op::Load && n.op != Op::Merge) {
    for (const Ref& s : n.src) out.push_back(s.get());
    return;
  }
  out.push_back(position(n).get());
  if (n.op == Op::Load && tree::guard(n)) out.push_back(n.src.back().get());
}

void Renderer::count_uses() {
  std::vector<const Node*> stack, next;
  std::unordered_map<const Node*, bool> seen;
  for (const Ref& r : roots_) uses_[r.get()]++, stack.push_back(r.get());
  while (!stack.empty()) {
    const Node* n = stack.back();
    stack.pop_back();
    if (std::exchange(seen[n], true)) continue;
    next.clear();
    operands(*n, next);
    for (const Node* o : next) uses_[o]++, stack.push_back(o);
  }
}

// ---- frames

int Renderer::pin_level() const {
  int level = top();
  while (level > 0 && !frames_[static_cast<size_t>(level)].pins) level--;
  return level;
}

void Renderer::line(int level, const std::string& text) {
  std::string& code = frames_[static_cast<size_t>(level)].code;
  code.append(2 * static_cast<size_t>(level) + 2, ' ').append(text).append("\n");
}

/// Adds the innermost frame to the one around it, between `head` and `tail`.
void Renderer::close(const std::string& head, const std::string& tail) {
  std::string code = std::move(frames_.back().code);
  frames_.pop_back();
  line(head);
  frames_.back().code += code;
  line(tail);
}

std::string Renderer::unique(std::string_view wanted, int level) {
  std::string base;
  for (char ch : wanted) base += std::isalnum(static_cast<unsigned char>(ch)) ? ch : '_';
  if (base.empty() || std::isdigit(static_cast<unsigned char>(base[0]))) base.insert(0, "p");
  bool ours = base.size() > 1 && (base[0] == 'v' || base[0] == 's') &&
              base.find_first_not_of("0123456789", 1) == std::string::npos;
  if (ours || std::find(std::begin(reserved), std::end(reserved), base) != std::end(reserved)) base += '_';
  std::string found = base;
  auto taken = [&](const Frame& f) {
    return std::find(f.names.begin(), f.names.end(), found) != f.names.end();
  };
  for (int i = 1; std::any_of(frames_.begin(), frames_.end(), taken); i++)
    found = fmt::format("{}_{}", base, i);
  frames_[static_cast<size_t>(level)].names.push_back(found);
  return found;
}

PlaceState& Renderer::place_of(const Node& place) {
  auto it = places_.find(&place);
  if (it == places_.end() || it->second.name.empty())
    broken("C renderer: place '{}' is not declared", place.arg.text);
  return it->second;
}

// ---- values

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

/// Names the value, if that is worth it, in the frame of its level.
Entry Renderer::finish(const Node& n, Entry e) {
  bool leaf = n.src.empty() || n.op == Op::Range;
  auto uses = uses_.find(&n);
  bool shared = uses != uses_.end() && uses->second > 1;
  bool long_text = e.text.text.size() > 80;
  if (leaf || !(shared || long_text || (e.level < top() && is_heavy(n)))) return e;
  std::string name = fmt::format("v{}", values_++);
  line(e.level, fmt::format("const {} {} = {};", c_.variable_type(n.dtype), name, e.text.text));
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
  e.text = c_.apply(n, args);
  return finish(n, std::move(e));
}

/// The element that a Load, Store or FoldStep goes to.
Text Renderer::element(const Node& access) {
  PlaceState& p = place_of(*access.src[0]);
  if (p.local && p.dims.empty()) return {p.name};
  std::string at = is_int(position(access), 0) ? "0" : value(position(access)).text;
  return {fmt::format("{}[{}]", p.name, at)};
}

Entry Renderer::compute_load(const Node& n) {
  PlaceState& p = place_of(*n.src[0]);
  Entry e{{}, std::max(p.level, pin_level())};
  e.level = std::max(e.level, memo_[position(n).get()].level);
  if (p.written) e.level = std::max(e.level, p.write_level);
  e.text = element(n);
  if (!p.local) e.text = c_.from_memory(n.dtype, e.text);
  Ref guard = tree::guard(n);
  if (!guard || is_int(guard, 1)) return e;
  const Entry& g = memo_[guard.get()];
  e.level = std::max(e.level, g.level);
  Text zero = c_.literal(*constant(n.dtype, int64_t{0}));
  e.text = {fmt::format("{} ? {} : {}", in(g.text, LogicalOr), in(e.text, LogicalOr), zero.text), Ternary};
  return e;
}

/// Joins the last dimension in halving pairs, in an array of its own.
Entry Renderer::compute_merge(const Node& n) {
  const Node& place = *n.src[0];
  PlaceState& p = place_of(place);
  if (!tree::has_fold(place)) broken("C renderer: merge of '{}', which has no fold", place.arg.text);
  Op op = row(tree::fold_of(place)).merge;
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
                              c_.apply(op, n.dtype, pair).text));
  }
  e.text = {name + "[0]"};
  return e;
}

/// The same pairs where lanes l and l + 32 are those of one thread: its own first, then those of threads 16, 8 .. 1 further.
/// All threads get the result.
Entry Renderer::merge_lanes(const Node& n, Entry e) {
  const PlaceState& p = place_of(*n.src[0]);
  const Op op = row(tree::fold_of(*n.src[0])).merge;
  const int64_t turns = const_int(*p.dims.back());
  const std::string start =
      is_int(position(n), 0) ? ""
                             : fmt::format("{} * {} + ", in(memo_[position(n).get()].text, Product), turns);
  const std::string name = fmt::format("v{}", values_++), half = unique("half", e.level);
  const std::string_view type = c_.variable_type(n.dtype);
  line(e.level, fmt::format("{} {} = {}[{}0];  // {} joined in pairs", type, name, p.name, start, p.name));
  const auto joined = [&](const std::string& other) {
    const Text pair[2] = {{name}, {other}};
    return c_.apply(op, n.dtype, pair).text;
  };
  if (turns == 2) line(e.level, fmt::format("{} = {};", name, joined(fmt::format("{}[{}1]", p.name, start))));
  if (turns > 2) broken("C renderer: lanes of '{}' are more than two a thread", p.name);
  const std::string other = unique("other", e.level);  // a value of its own: bools skip a second operand
  line(e.level, fmt::format("for (int {0} = {1}; {0} > 0; {0} /= 2) {{", half, warp / 2));
  line(e.level, fmt::format("  const {0} {1} = ({0})__shfl_down_sync(0xffffffffu, {2}, {3});", type, other,
                            name, half));
  line(e.level, fmt::format("  {} = {};", name, joined(other)));
  line(e.level, "}");
  line(e.level, fmt::format("{0} = ({1})__shfl_sync(0xffffffffu, {0}, 0);", name, type));
  e.text = {name};
  return e;
}

// ---- statements

/// The statements of a Loop or If in the frame that is open: what they write is marked as written in it.
void Renderer::scope(const Node& n, std::span<const Ref> list, bool loops) {
  std::vector<std::pair<PlaceState*, int>> saved;
  for (const Node* place : writes_[&n]) {
    PlaceState& p = places_[place];
    saved.emplace_back(&p, std::exchange(p.write_level, top()));
    if (loops) touch(p);  // what was read before the loop is not what its second iteration reads
  }
  body(list);
  for (auto it = saved.rbegin(); it != saved.rend(); ++it) it->first->write_level = it->second;
}

/// How often the body folds, if it does nothing else and that is known; else 0.
int64_t fold_steps(std::span<const Ref> body) {
  int64_t steps = 0;
  for (const Ref& s : body) {
    if (s->op == Op::FoldStep) {
      steps++;
      continue;
    }
    const bool known = s->op == Op::Loop && s->src[0]->src[0]->is_const();
    const int64_t inside = known ? fold_steps(tree::body(*s)) : 0;
    if (inside == 0) return 0;
    steps += tree::kind(*s) == LoopKind::Lane ? inside : inside * extent(s->src[0]->src[0]);
  }
  return steps;
}

/// The steps of a fold depend on each other, what they read does not: loads of so many steps are to be under way together.
/// With 32 of them 256 warps, which are what a sum cut in the promised pieces may come to, hide the latency of memory.
int64_t turns_together(std::span<const Ref> body) {
  constexpr int64_t under_way = 32;
  const int64_t steps = fold_steps(body);
  if (steps == 0 || steps > under_way) return 1;
  return static_cast<int64_t>(
      std::bit_floor(static_cast<uint64_t>(std::min<int64_t>(under_way / steps, 16))));
}

void Renderer::loop(const Node& n) {
  if (tree::kind(n) == LoopKind::Lane) return lane_loop(n);
  const Ref& extent = n.src[0]->src[0];
  if (is_int(extent, 0)) return;
  if (is_int(extent, 1)) {
    ranges_[n.src[0].get()] = {{fmt::format("0{}", c_.dialect().i64_suffix)}, top()};
    memo_.erase(n.src[0].get());
    return body(tree::body(n));
  }
  std::string end = extent->is_const() ? fmt::format("{}", const_int(*extent)) : in(value(extent), Shift);
  open(extent->bounds.lo < 1);
  std::string i = unique(n.src[0]->arg.text, top());
  ranges_[n.src[0].get()] = {{i}, top()};
  scope(n, tree::body(n), true);
  std::string head =
      fmt::format("for ({} {} = 0; {} < {}; {}++) {{", c_.variable_type(DType::I64), i, i, end, i);
  if (tree::kind(n) == LoopKind::Unroll) line(top() - 1, "#pragma unroll");
  const int64_t together = c_.dialect().warps ? turns_together(tree::body(n)) : 1;
  if (tree::kind(n) != LoopKind::Unroll && together > 1)
    line(top() - 1, fmt::format("#pragma unroll {}", together));
  close(head);
}

/// A thread's turns through the loop; in the last one some threads may have nothing to do.
void Renderer::lane_loop(const Node& n) {
  const Ref& turn = turns_.at(n.src[0].get());
  const int64_t count = extent(n.src[0]->src[0]), turns = extent(turn->src[0]);
  const Ref root(&n);
  for (const Node* inside : topological(std::span(&root, 1)))
    if (inside->op == Op::Merge)
      value(Ref(inside));  // all threads join in it, some of which have no last turn
  open(false);
  const std::string u = unique(turn->arg.text, top()), l = unique(n.src[0]->arg.text, top());
  ranges_[turn.get()] = {{u}, top()};
  ranges_[n.src[0].get()] = {{l}, top()};
  const std::string_view type = c_.variable_type(DType::I64);
  line(fmt::format("const {} {} = {} * {} + {};", type, l, u, warp, lane_));
  const bool partial = count % warp != 0;
  if (partial) open(true);
  in_lanes_ = true;
  scope(n, tree::body(n), true);
  in_lanes_ = false;
  if (partial) close(fmt::format("if ({} < {}) {{", l, count));
  if (turns <= 2) line(top() - 1, "#pragma unroll");
  close(fmt::format("for ({0} {1} = 0; {1} < {2}; {1}++) {{", type, u, turns));
  const auto& written = writes_[&n];
  const auto in_memory = [&](const Node* place) { return !places_[place].local; };
  if (std::any_of(written.begin(), written.end(), in_memory)) line("__syncwarp();");
}

/// The iteration of the parallel loop that a thread is of.
std::string Renderer::item() const {
  const std::string_view id = c_.dialect().id;
  return lane_.empty() ? std::string(id) : fmt::format("({}) / {}", id, warp);
}

void Renderer::parallel(const Node& n) {
  const Ref& extent = n.src[0]->src[0];
  std::string end = extent->is_const() ? fmt::format("{}", const_int(*extent)) : in(value(extent), Shift);
  std::string i = unique(n.src[0]->arg.text, top());
  const std::string_view type = c_.variable_type(DType::I64);
  line(fmt::format("const {} {} = {};", type, i, item()));
  open(true);
  ranges_[n.src[0].get()] = {{i}, top()};
  scope(n, tree::body(n), false);
  close(fmt::format("if ({} < {}) {{", i, end));
}

void Renderer::branch(const Node& n) {
  if (n.src[0]->is_const()) return body(const_int(*n.src[0]) ? tree::then_body(n) : tree::else_body(n));
  std::string condition = value(n.src[0]).text;
  open(true);
  scope(n, tree::then_body(n), false);
  bool both = !tree::else_body(n).empty();
  if (!both) return close(fmt::format("if ({}) {{", condition));
  close(fmt::format("if ({}) {{", condition), "} else {");
  open(true);
  scope(n, tree::else_body(n), false);
  std::string code = std::move(frames_.back().code);
  frames_.pop_back();
  frames_.back().code += code;
  line("}");
}

/// Writes the fold's identity into all elements.
void Renderer::fill(const PlaceState& p, const Node& place, const Text& count) {
  Text identity = c_.literal(*tree::identity(tree::fold_of(place), place.dtype));
  if (p.local && c_.dialect().warps)
    line("#pragma unroll");  // else an array in registers becomes one in memory
  if (!p.local) identity = c_.to_memory(place.dtype, identity);
  line(fmt::format("for ({0} {1} = 0; {1} < {2}; {1}++) {3}[{1}] = {4};", c_.variable_type(DType::I64),
                   unique("at", top()), in(count, Shift), p.name, identity.text));
}

void Renderer::declare(const Node& n) {
  if (tree::space(n) == Space::Param) {
    PlaceState& p = place_of(n);
    touch(p);
    roots_.push_back(ix::product(tree::dims(n)));  // the memo knows nodes by their address
    return fill(p, n, value(roots_.back()));
  }
  PlaceState& p = places_[&n];
  p.name = unique(n.arg.text, top());
  p.level = p.write_level = top();
  touch(p);
  std::string_view type = c_.variable_type(n.dtype);
  if (p.dims.empty()) {
    std::string start;
    if (tree::has_fold(n)) start = " = " + c_.literal(*tree::identity(tree::fold_of(n), n.dtype)).text;
    return line(fmt::format("{} {}{};", type, p.name, start));
  }
  int64_t count = 1;
  for (const Ref& d : p.dims) count *= const_int(*d);
  line(fmt::format("{} {}[{}];", type, p.name, std::max<int64_t>(count, 1)));
  if (tree::has_fold(n)) fill(p, n, {fmt::format("{}", count)});
}

void Renderer::write(const Node& n) {
  const Node& place = *n.src[0];
  PlaceState& p = place_of(place);
  std::vector<Text> v;
  value(position(n));
  for (const Ref& x : tree::values(n)) v.push_back(value(x));
  Text to = element(n), out = v[0];
  if (n.op == Op::FoldStep) {
    Text old = p.local ? to : c_.from_memory(place.dtype, to);
    Fold fold = tree::fold_of(place);
    if (fold == Fold::Dot) {
      const Text args[] = {v[0], v[1], old};
      out = c_.apply(Op::Fma, place.dtype, args);
    } else {
      const Text args[] = {old, v[0]};
      out = c_.apply(row(fold).step, place.dtype, args);
    }
  }
  if (!p.local) out = c_.to_memory(place.dtype, out);
  write_line(p, fmt::format("{} = {};", to.text, out.text));
  touch(p);
}

/// What all threads of a warp compute, one of them writes to memory, after all have read what was there.
void Renderer::write_line(const PlaceState& p, const std::string& text) {
  if (lane_.empty() || p.local || in_lanes_) return line(text);
  line("__syncwarp();");
  line(fmt::format("if ({} == 0) {}", lane_, text));
  line("__syncwarp();");
}

void Renderer::statement(const Node& n) {
  switch (n.op) {
    case Op::Place:    return declare(n);
    case Op::Loop:     return loop(n);
    case Op::If:       return branch(n);
    case Op::Store:
    case Op::FoldStep: return write(n);
    case Op::Check:    {
      if (is_int(n.src[0], 1)) return;
      Text ok = value(n.src[0]), word = value(n.src[1]);
      return line(fmt::format("if (!{}) *error = {};", in(ok, Primary), word.text));
    }
    default: broken("C renderer: {} is no statement", row(n.op).name);
  }
}

void Renderer::body(std::span<const Ref> list) {
  for (const Ref& s : list) statement(*s);
}

// ---- the kernel

/// Beside a parallel loop nothing may write to buffers: every work item would.
void Renderer::check_root(const Node& n) const {
  bool param = n.op == Op::Place && tree::space(n) == Space::Param;
  if (n.op == Op::Store || n.op == Op::FoldStep) param = tree::space(*n.src[0]) == Space::Param;
  if (auto it = writes_.find(&n); it != writes_.end())
    for (const Node* place : it->second) param |= tree::space(*place) == Space::Param;
  if (param) broken("C renderer: kernel {} writes to a buffer outside its parallel loop", kernel_->arg.text);
}

std::string Renderer::signature(const std::string& entry) {
  std::string out = fmt::format("{} {}(", c_.dialect().kernel, entry);
  frames_[0].names.push_back(entry);
  std::span<const Ref> all = tree::params(*kernel_);
  std::vector<Ref> params(all.begin(), all.end());
  std::sort(params.begin(), params.end(),
            [](const Ref& a, const Ref& b) { return tree::param_number(*a) < tree::param_number(*b); });
  for (const Ref& p : params) {
    PlaceState& state = places_[p.get()];
    state.name = unique(p->arg.text, 0);
    state.dims = p->src;
    if (c_.dialect().offsets) {
      frames_[0].names.push_back(state.name + "_at");
      line(fmt::format("{0} += {0}_at / {1};", state.name, item_size(p->dtype)));
    }
    // What one thread of a warp writes the others read: to the compiler it may be anyone's.
    const std::string_view apart = state.written && !lane_.empty() ? "" : c_.dialect().apart;
    out += fmt::format("{}{}{}* {}{}, ", c_.dialect().global, state.written ? "" : "const ",
                       c_.memory_type(p->dtype), apart, state.name);
  }
  out += fmt::format("{}{}* error", c_.dialect().global, c_.memory_type(DType::I64));
  if (c_.dialect().offsets)
    for (const Ref& p : params)
      out += fmt::format(", {} {}_at", c_.variable_type(DType::I64), places_[p.get()].name);
  for (const Ref& s : tree::slots(kernel_)) {
    std::string name = fmt::format("s{}", s->at(0)), raw = s->dtype == DType::I64 ? name : name + "_bits";
    out += fmt::format(", {} {}", c_.variable_type(DType::I64), raw);
    if (s->dtype != DType::I64)
      line(fmt::format("const {} {} = {};", c_.variable_type(s->dtype), name,
                       c_.from_slot(s->dtype, raw).text));
    memo_[s.get()] = {{name}};
  }
  return out + ") {\n";
}

std::string Renderer::render(const std::string& entry) {
  std::string head = signature(entry);
  bool any = tree::parallel_loop(*kernel_) != nullptr;
  if (!lane_.empty()) {
    lane_ = unique(lane_, 0);
    line(fmt::format("const int {} = threadIdx.x % {};", lane_, warp));
  }
  if (!any) open(true);
  for (const Ref& s : tree::body(*kernel_)) {
    bool spread =
        s->op == Op::Loop && (tree::kind(*s) == LoopKind::Thread || tree::kind(*s) == LoopKind::Global);
    if (any && !spread) check_root(*s);
    if (spread) {
      parallel(*s);
    } else {
      statement(*s);
    }
  }
  if (!any) close(fmt::format("if ({} == 0) {{", in({item(), Sum}, Equality)));
  std::string text = tree::print(kernel_);
  std::string slots;
  for (const Ref& s : tree::slots(kernel_)) slots += fmt::format(" {}", s->at(0));
  std::string helpers = c_.helpers();
  return fmt::format("// {}\n// slots:{}\n{}\n{}{}{}{}}}\n", text.substr(0, text.find('\n')), slots,
                     c_.dialect().pragmas, helpers, helpers.empty() ? "" : "\n", head, frames_[0].code);
}

}  // namespace
}  // namespace clike

std::string render_c(const Ref& kernel, const std::string& entry, Dialect dialect) {
  return clike::Renderer(kernel, dialect).render(entry);
}

}  // namespace kontor::inline v0
