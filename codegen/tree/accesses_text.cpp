// The accesses of a kernel one by one, as a renderer meets them, and as comments in its text.
#include <algorithm>

#include <fmt/format.h>

#include "codegen/tree/shape_accesses.h"
#include "codegen/tree/text.h"

namespace kontor {

namespace {

/// Statements in the order in which they run, unrolled loops copy by copy, all else once.
class Walk {
 public:
  Walk(const Ref& kernel, const AccessVisitor& visit) : shapes_(kernel), visit_(visit) {
    body(tree::body(*kernel));
  }

 private:
  AccessShapes shapes_;
  const AccessVisitor& visit_;
  const Node* vector_ = nullptr;
  bool branch_ = false;
  std::vector<UnrolledCopy> copies_ = {};
  size_t straight_ = 0;

  void body(std::span<const Ref> statements) {
    for (const Ref& s : statements) {
      if (s->op == Op::Loop) loop(*s);
      else if (s->op == Op::If) branch(*s);
      else accesses(*s);
    }
  }

  void apart(std::span<const Ref> statements) {  // within a counted loop or a branch
    const size_t outer = std::exchange(straight_, copies_.size());
    body(statements);
    straight_ = outer;
  }

  void loop(const Node& s) {
    const Ref& extent = s[0]->src[0];
    if (tree::kind(s) == LoopKind::Vector && tree::width(s) > 1) {
      vector_ = &s;
      body(tree::body(s));
      vector_ = nullptr;
    } else if (tree::kind(s) == LoopKind::Unroll || is_int(extent, 1) || is_int(extent, 0)) {
      copies_.push_back({s[0].get(), kontor::extent(extent), 0});
      for (int64_t i = 0; i < kontor::extent(extent); i++) copies_.back().at = i, body(tree::body(s));
      copies_.pop_back();
    } else {
      apart(tree::body(s));
    }
  }

  void branch(const Node& s) {
    const Ref condition = in_copies(s[0], {.vector = vector_, .copies = copies_});
    if (is_int(condition, 1)) return body(tree::then_body(s));
    if (is_int(condition, 0)) return body(tree::else_body(s));
    accesses(s);
    const bool by_lane = vector_ && shapes_.varies(condition, *vector_);
    const bool outer = std::exchange(branch_, branch_ || by_lane);
    for (std::span<const Ref> way : {tree::then_body(s), tree::else_body(s)})
      by_lane ? body(way) : apart(way);
    branch_ = outer;
  }

  void accesses(const Node& s) {
    if (!vector_) return;
    const AccessScope scope{vector_, branch_, copies_, straight_};
    if (s.op == Op::Store || s.op == Op::FoldStep) visit_(s, s, scope, shapes_.of(s, scope));
    const size_t first = s.op == Op::Place ? s.src.size() : 0, last = s.op == Op::If ? 1 : s.src.size();
    for (const Node* n : topological(std::span(s.src).subspan(first, last - first)))
      if (n->op == Op::Load) visit_(s, *n, scope, shapes_.of(*n, scope));
  }
};

/// Of an access, in how many copies it is what.
struct Tally {
  const Node* access;
  std::vector<std::pair<std::string, int64_t>> shapes = {};

  void add(const std::string& shape) {
    auto it = std::ranges::find(shapes, shape, &std::pair<std::string, int64_t>::first);
    if (it == shapes.end()) it = shapes.insert(it, {shape, 0});
    it->second++;
  }
  std::string text() const {
    if (shapes.size() == 1) return shapes[0].first;
    int64_t all = 0;
    for (const auto& [shape, copies] : shapes) all += copies;
    std::string out;
    for (const auto& [shape, copies] : shapes)
      out += fmt::format("{}{} ({} of {} copies)", out.empty() ? "" : "; ", shape, copies, all);
    return out;
  }
};

std::string reasons(const AccessMask& mask) {
  std::string out;
  const auto add = [&](bool is, std::string_view reason) {
    if (is) out.append(out.empty() ? "" : " and ").append(reason);
  };
  add(mask.extent, "extent");
  add(mask.branch, "branch");
  add(mask.guard, "guard");
  return out;
}

}  // namespace

std::string_view name(AccessKind kind) {
  constexpr std::string_view names[] = {"uniform", "contiguous", "reversed", "pairs",  "runs",
                                        "groups",  "block",      "gather",   "in turn"};
  return names[static_cast<size_t>(kind)];
}

std::string print(const AccessShape& shape) {
  std::string out(name(shape.kind));
  const bool apart = shape.kind == AccessKind::Block || shape.kind == AccessKind::Gather;
  const bool in_words = shape.kind == AccessKind::Block && shape.run;
  if (shape.run && !in_words) out += fmt::format(" of {}", shape.run);
  if (apart && shape.stride) out += fmt::format(" {}", shape.stride);
  if (shape.along) out += fmt::format(" along {}", shape.along->arg.text);
  if (in_words) out += fmt::format(", {} in a word", shape.run);
  if (shape.mask.any())
    out += fmt::format(", {} by {}", shape.is_blend ? "blended" : "masked", reasons(shape.mask));
  if (shape.read.any() && shape.read != shape.mask)
    out += fmt::format(", read masked by {}", reasons(shape.read));
  if (shape.past_caches) out += ", past the caches";
  if (shape.ahead) out += fmt::format(", asks for {} bytes ahead", shape.ahead);
  return out;
}

void for_each_access(const Ref& kernel, const AccessVisitor& visit) { Walk(kernel, visit); }

std::string print_accesses(const Ref& kernel) {
  std::unordered_map<const Node*, std::vector<Tally>> found;  // of statements
  for_each_access(kernel,
                  [&](const Node& s, const Node& access, const AccessScope&, const AccessShape& shape) {
                    std::vector<Tally>& list = found[&s];
                    auto it = std::ranges::find(list, &access, &Tally::access);
                    if (it == list.end()) it = list.insert(it, {&access});
                    it->add(print(shape));
                  });
  return tree::print(kernel, [&](const Node& s) {
    std::vector<std::pair<const Node*, std::string>> notes;
    for (const Tally& t : found[&s]) notes.emplace_back(t.access, t.text());
    return notes;
  });
}

}  // namespace kontor
