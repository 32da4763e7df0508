// The move pack: what a loop reads of an operand is copied into a panel first.
#include "codegen/moves/moves.h"

#include <algorithm>

#include "base/error.h"
#include "codegen/tree/substitute.h"
#include "codegen/tree/walk.h"
#include "graph/index/index.h"

namespace kontor {

using namespace walk;

namespace {

// The ranges of loops inside `body` on which `e` depends, outer to inner.
void inner_ranges(std::span<const Ref> body, const Ref& e, std::vector<Ref>& out) {
  for (const Ref& s : body) {
    if (s->op == Op::If) inner_ranges(std::span(s->src).subspan(1), e, out);
    if (s->op != Op::Loop) continue;
    if (ix::depends_on(e, s->src[0]) && std::find(out.begin(), out.end(), s->src[0]) == out.end())
      out.push_back(s->src[0]);
    inner_ranges(tree::body(*s), e, out);
  }
}

/// A dimension of a panel: a loop that what is copied depends on, or its quotient by a number, or the rest.
struct Dimension {
  Ref range;
  int64_t divisor = 0;  // 0: the whole loop
  bool is_rest = false;

  Ref extent() const {
    if (divisor == 0) return range->src[0];
    return is_rest ? index(divisor) : index(kontor::extent(range->src[0]) / divisor);
  }
  Ref at(const Ref& i) const {
    return divisor == 0 ? i : is_rest ? ix::mod(i, divisor) : ix::idiv(i, divisor);
  }
  std::string name() const { return range->arg.text + (divisor == 0 ? "" : is_rest ? "m" : "d"); }
};

struct Panel {
  Ref place, element;  // what is copied, over `ranges`
  std::vector<Ref> ranges;
};

// What `pack` is to copy: loads of the parameter of that name, or, as "place.n", the n-th value folded into a place.
class Packed {
 public:
  Packed(const std::string& what, const std::vector<std::string>& dims)
      : what_(what), dims_(dims), by_halves_(std::ranges::find(dims, "half") != dims.end()) {
    size_t dot = what.rfind('.');
    if (dot == std::string::npos) return;
    fold_ = what.substr(0, dot);
    value_ = what[dot + 1] == '1' ? 1 : 0;
  }

  Ref wanted(const Node& n) const {
    if (fold_.empty() && n.op == Op::Load && n.src[0]->arg.text == what_ &&
        tree::space(*n.src[0]) == Space::Param)
      return Ref(&n);
    if (fold_.empty() || n.op != Op::FoldStep || n.src[0]->arg.text != fold_) return {};
    std::span<const Ref> values = tree::values(n);
    return value_ < values.size() ? values[value_] : Ref();
  }

  /// A second panel of the same name in a kernel is q_.. and is filled by loops g.., not f..
  void tell_apart(const Ref& kernel) {
    for (const Node* n : topological(std::span(&kernel, 1)))
      if (n->op == Op::Place && n->arg.text == panel_name()) return number_++, tell_apart(kernel);
  }
  /// Whether the two numbers of a word are elements of their own, along a dimension `half`.
  bool by_halves() const { return by_halves_; }
  const Ref& half() const { return half_; }
  /// Loops as the panel has them as dimensions.
  std::vector<Dimension> dimensions(std::vector<Ref> ranges) const {
    std::vector<Dimension> out;
    if (by_halves_) ranges.push_back(half_);
    for (const std::string& d : dims_)
      for (const Ref& r : ranges) {
        const std::string& loop = r->arg.text;
        if (!d.starts_with(loop)) continue;
        if (d == loop) out.push_back({r});
        if (d.size() < loop.size() + 2 || (d[loop.size()] != '/' && d[loop.size()] != '%')) continue;
        const int64_t by = std::atoll(d.c_str() + loop.size() + 1);
        if (by < 1 || !r->src[0]->is_const() || extent(r->src[0]) % by != 0)
          fail("pack: '{}' does not divide loop {}", d, loop);
        out.push_back({r, by, d[loop.size()] == '%'});
      }
    if (dims_.empty())
      for (const Ref& r : ranges) out.push_back({r});
    for (const Ref& r : ranges) {
      int64_t halves = 0;
      for (const Dimension& d : out)
        if (d.range == r) halves += d.divisor == 0 ? 2 : 1;
      if (halves != 2) fail("pack: the panel's dimensions do not make up loop {}", r->arg.text);
    }
    return out;
  }
  std::string panel_name() const {
    return std::string(1, static_cast<char>('p' + number_)) + "_" + (fold_.empty() ? what_ : fold_);
  }
  std::string fill_name(const std::string& range) const {
    return std::string(1, static_cast<char>('f' + number_)) + range;
  }

 private:
  int number_ = 0;
  std::string what_, fold_ = {};
  std::vector<std::string> dims_;
  bool by_halves_ = false;
  Ref half_ = ix::range(2, "half");
  size_t value_ = 0;
};

// A panel is filled ahead, for all iterations: with nothing that the kernel itself makes, and under no condition.
void refuse_to_pack(const Ref& loop, std::span<const Ref> body, const Ref& value) {
  NodeSet written;
  for (const Node* n : topological(body))
    if (n->op == Op::Store || n->op == Op::FoldStep) written.insert(n->src[0].get());
  for (const Node* n : topological(std::span(&value, 1))) {
    if (n->op != Op::Load && n->op != Op::Merge) continue;
    const std::string& name = n->src[0]->arg.text;
    if (tree::space(*n->src[0]) != Space::Param)
      fail("pack {}: it reads '{}', a place of the kernel", loop_name(loop), name);
    if (written.contains(n->src[0].get()))
      fail("pack {}: it reads '{}', which is written in the loop", loop_name(loop), name);
  }
  for (const Node* n : topological(body)) {
    if (n->op != Op::If) continue;
    for (const Node* inner : topological(std::span(n->src).subspan(1)))
      if (inner == value.get()) fail("pack {}: it is read under a condition", loop_name(loop));
  }
}

// The panel for one value, made unless an equal one is there: parts of a split loop read alike.
const Panel& panel_for(const Ref& loop, const Ref& value, const Packed& what,
                       const std::vector<Dimension>& dimensions, std::vector<Panel>& panels) {
  std::vector<Ref> dims;
  for (const Dimension& d : dimensions) {
    if (!d.range->src[0]->is_const())
      fail("pack {}: loop {} has a varying extent", loop_name(loop), d.range->arg.text);
    dims.push_back(d.extent());
  }
  auto element = [&](const std::vector<Ref>& fresh) {
    Substitution own;
    for (size_t i = 0; i < dimensions.size(); i++) {
      const Dimension& d = dimensions[i];
      const Ref part = d.divisor == 0 || d.is_rest ? fresh[i] : ix::mul(fresh[i], d.divisor);
      Ref& whole = own[d.range.get()];
      whole = whole ? ix::add(whole, part) : part;
    }
    return replace(value, own);
  };
  for (const Panel& p : panels)
    if (p.ranges.size() == dims.size() && std::equal(dims.begin(), dims.end(), p.place->src.begin()) &&
        element(p.ranges) == p.element)
      return p;
  Panel p{tree::place(value->dtype, dims, what.panel_name()), {}, {}};
  for (size_t i = 0; i < dims.size(); i++)
    p.ranges.push_back(ix::range(dims[i], what.fill_name(dimensions[i].name())));
  p.element = element(p.ranges);
  return panels.emplace_back(std::move(p));
}

// The parts of a split loop each fill their own panel: a panel is never filled with elements that its part does not have.
Body pack_body(const Ref& loop, std::span<const Ref> body, const Packed& what) {
  if (body.size() == 1 && body[0]->op == Op::If)
    return {tree::branch(body[0]->src[0], pack_body(loop, tree::then_body(*body[0]), what),
                         pack_body(loop, tree::else_body(*body[0]), what))};
  Substitution map;
  std::vector<Panel> panels;
  for (const Node* n : topological(body)) {
    Ref value = what.wanted(*n);
    if (!value || map.count(value.get())) continue;
    refuse_to_pack(loop, body, value);
    std::vector<Ref> ranges;
    inner_ranges(body, value, ranges);
    const std::vector<Dimension> dimensions = what.dimensions(std::move(ranges));
    const auto from_panel = [&](const Ref& copied, int half) {
      std::vector<Ref> at;
      for (const Dimension& d : dimensions)
        at.push_back(d.range == what.half() ? index(half) : d.at(d.range));
      return tree::load(panel_for(loop, copied, what, dimensions, panels).place, at);
    };
    if (!what.by_halves()) {
      map.emplace(value.get(), from_panel(value, 0));
      continue;
    }
    const auto [low, high] = tree::halves(*value);
    if (!low || tree::guard(*low) || tree::guard(*high))
      fail("pack {}: what is copied is no word of two numbers that are read", loop_name(loop));
    std::vector<Ref> at(tree::at(*low).begin(), tree::at(*low).end());
    for (size_t i = 0; i < at.size(); i++)
      at[i] = ix::add(at[i], ix::mul(what.half(), ix::sub(tree::at(*high)[i], at[i])));
    const Ref copied = tree::load(low->src[0], at);
    map.emplace(low, from_panel(copied, 0));
    map.emplace(high, from_panel(copied, 1));
  }
  Body fills;
  for (const Panel& p : panels) {
    Body fill = {tree::store(p.place, p.ranges, p.element)};
    for (size_t i = p.ranges.size(); i-- > 0;) fill = {tree::loop(LoopKind::Loop, p.ranges[i], fill)};
    fills.push_back(p.place);
    fills.insert(fills.end(), fill.begin(), fill.end());
  }
  Body rest = replace(body, map);
  fills.insert(fills.end(), rest.begin(), rest.end());
  return fills;
}

}  // namespace

Ref pack(const Ref& kernel, const std::string& place, const std::string& loop,
         const std::vector<std::string>& dims) {
  need_loop(kernel, loop);
  Packed what(place, dims);
  what.tell_apart(kernel);
  bool found = false;
  Ref out = map_kernel(kernel, [&](const Ref& s, Body& into) {
    if (!is_loop(s, loop)) return false;
    into.push_back(same_loop(s, pack_body(s, tree::body(*s), what)));
    found = found || into.back() != s;
    return true;
  });
  if (!found) fail("pack {} {}: nothing reads {} inside {}", loop, place, place, loop);
  return out;
}

}  // namespace kontor
