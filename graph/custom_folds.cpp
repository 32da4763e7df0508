// Folds that a program defines: what its step records on placeholders becomes a row of the fold table.
#include <kontor/functions.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>

#include "base/error.h"
#include "base/guard.h"
#include "graph/functions/functions.h"
#include "graph/recording.h"
#include "graph/shape.h"

namespace kontor {

struct v0::CustomFoldState {
  std::string name;
  std::vector<StatePart> parts;
  FoldStep step, join;
  bool commutative = false;
  std::mutex mutex;
  std::map<std::vector<DType>, Fold> recorded = {};  // by the dtypes of the values
};

namespace {

using DTypes = std::vector<DType>;

bool is_identifier(std::string_view name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  const auto in = [&](char c) { return letter(c) || (c >= '0' && c <= '9'); };
  return !name.empty() && letter(name[0]) && std::ranges::all_of(name, in);
}

Number number_of(std::string_view fold, const StatePart& part) {
  const Input given = Recording::input(part.identity);
  if (given.node) fail("fold '{}': the identity of '{}' is a tensor; it must be a number", fold, part.name);
  if (std::isnan(given.number.f)) fail("fold '{}': the identity of '{}' is not a number", fold, part.name);
  return given.number;
}

void check_parts(std::string_view fold, std::span<const StatePart> parts) {
  if (parts.empty() || parts.size() > most_parts)
    fail("fold '{}': its state has {} parts; it may have 1 to {}", fold, parts.size(), most_parts);
  for (size_t i = 0; i < parts.size(); i++) {
    if (!is_identifier(parts[i].name))
      fail("fold '{}': '{}' is no name for a part of its state: letters, digits and _ make one", fold,
           parts[i].name);
    for (size_t j = 0; j < i; j++)
      if (parts[i].name == parts[j].name)
        fail("fold '{}': two parts of its state are called '{}'", fold, parts[i].name);
    if (is_narrow(parts[i].dtype))
      fail("fold '{}': '{}' is {}: a state is kept in f32 or wider; cast what it comes to", fold,
           parts[i].name, name(parts[i].dtype));
    (void)number_of(fold, parts[i]);
  }
}

/// A part's identity in its dtype.
Ref identity_of(std::string_view fold, const StatePart& part, DType dtype) {
  const Number n = number_of(fold, part);
  const Ref out =
      fn::number_constant(fmt::format("fold '{}': the identity of '{}'", fold, part.name), n, dtype);
  const bool holds = dtype == DType::Bool
                         ? n.f == 0 || n.f == 1
                         : !is_float(dtype) || std::isinf(n.f) || std::isfinite(const_float(*out));
  if (!holds)
    fail("fold '{}': the identity of '{}': {} does not fit in {}", fold, part.name, n.f, name(dtype));
  return out;
}

/// A step is a formula, to which nobody draws random numbers.
class NoRandomNumbers final : public RandomSource {
 public:
  explicit NoRandomNumbers(const std::string& who) : who_(who), before_(set_random_source(this)) {}
  ~NoRandomNumbers() override { set_random_source(before_); }
  NoRandomNumbers(const NoRandomNumbers&) = delete;
  NoRandomNumbers& operator=(const NoRandomNumbers&) = delete;
  Ref key() override { fail("{} draws random numbers", who_); }
  Ref counter(const Ref&) override { fail("{} draws random numbers", who_); }

 private:
  const std::string& who_;
  RandomSource* before_;
};

/// Slots of numbers from `first` on.
std::vector<Tensor> placeholders(const DTypes& dtypes, size_t first) {
  std::vector<Tensor> out;
  for (const DType d : dtypes)
    out.push_back(tensor_of(make(Op::Slot, {}, {.ints = {static_cast<int64_t>(first + out.size())}}, d)));
  return out;
}

/// Formulas without names and Calls, of which only the bodies are computed.
FoldState bare(const FoldState& formulas) {
  return mapped(formulas, [](const Node& n, const std::vector<Ref>& sources) -> Ref {
    return n.op == Op::Call || n.op == Op::Mark ? sources[0] : with_sources(n, sources);
  });
}

/// `slots` are all placeholders there are.
void check_leaf(const std::string& who, const Node& n, const DTypes& slots) {
  if (n.op == Op::Buffer) fail("{} reads an array that is none of its values: {}", who, describe(n));
  if (n.op == Op::Scalar || n.op == Op::Variable)
    fail("{} reads a {}, which may change: it must be one of the values", who,
         n.op == Op::Scalar ? "Scalar" : "Variable");
  if (n.op != Op::Slot) return;
  const size_t number = static_cast<size_t>(n.at(0));
  if (number >= slots.size() || slots[number] != n.dtype) fail("{} reads a placeholder of another fold", who);
}

void check_operation(const std::string& who, const Node& n) {
  if (!n.is_const() && n.op != Op::Slot && !is_elementwise(n.op))
    fail("{} has '{}', which makes {}: it may only compute on scalars, element by element", who,
         row(n.op).name, describe(n));
  if (n.op != Op::IDiv && n.op != Op::Mod) return;
  const Node& by = *n[1];
  if (by.is_const() ? by.at(0) == 0 : by.bounds.lo <= 0)
    fail("{} divides integers by what may be 0 or less: divide by maximum(.., 1), or by a number", who);
}

void check_formulas(const std::string& who, const FoldState& formulas, const DTypes& slots) {
  constexpr size_t most_nodes = 4096;  // as of an expression in a kernel
  const std::vector<const Node*> nodes = topological(formulas);
  for (const Node* n : nodes) check_leaf(who, *n, slots);
  for (const Node* n : nodes) check_operation(who, *n);
  if (nodes.size() > most_nodes) fail("{} has {} operations; at most {}", who, nodes.size(), most_nodes);
}

/// The fold while it is recorded for values of certain dtypes.
struct Recorded {
  const std::string& name;
  std::span<const StatePart> parts;
  DTypes state = {};

  /// What a step (or a join) of a state and these values records, over Slots. Its exceptions are the program's.
  FoldState formulas(std::string_view what, const FoldStep& step, const DTypes& values) const {
    const std::string who = fmt::format("fold '{}': its {}", name, what);
    const std::vector<Tensor> before = placeholders(state, 0), given = placeholders(values, state.size());
    std::vector<Tensor> after;
    {
      const NoRandomNumbers none(who);
      after = step(before, given);
    }
    return guarded("recording", [&] { return checked(who, after, values); });
  }

  FoldState checked(const std::string& who, std::span<const Tensor> after, const DTypes& values) const {
    if (after.size() != parts.size())
      fail("{} returns {} values for {} parts", who, after.size(), parts.size());
    FoldState out;
    for (const Tensor& t : after) {
      if (t.empty()) fail("{} returns an empty Tensor for '{}'", who, parts[out.size()].name);
      out.push_back(node_of(t));
    }
    out = bare(out);
    DTypes slots = state;
    slots.insert(slots.end(), values.begin(), values.end());
    check_formulas(who, out, slots);
    for (size_t i = 0; i < out.size(); i++)
      if (out[i]->dtype != state[i])
        fail("{} makes '{}' {}, and it is {}: cast it", who, parts[i].name, kontor::name(out[i]->dtype),
             kontor::name(state[i]));
    return out;
  }

  /// A row, and what is its own: with the identities, and formulas of so many values.
  Fold add(const FoldState& step, const DTypes& values, bool splits, bool lanes, std::optional<Fold> merge,
           std::string_view suffix) const {
    FoldRow r{.name = {},
              .arity = static_cast<int>(values.size()),
              .part = {},
              .step = nullptr,
              .lanes = lanes,
              .splits = splits,
              .is_dot = false,
              .merge = {}};
    CustomRow about{
        .given = name + std::string(suffix), .name = {}, .parts = {}, .identity = {}, .step = step};
    std::ranges::copy(values, r.values.begin());
    for (size_t i = 0; i < parts.size(); i++) {
      r.part[i] = {{}, FoldIdentity::Given, false, state[i]};
      about.parts.push_back(parts[i].name);
      about.identity.push_back(identity_of(name, parts[i], state[i]));
    }
    return add_fold(r, std::move(about), merge);
  }
};

Fold record(const CustomFoldState& s, const DTypes& values) {
  const bool commutative = s.commutative;
  Recorded r{s.name, s.parts};
  for (const StatePart& p : s.parts) r.state.push_back(p.dtype == DType::Void ? values[0] : p.dtype);
  const FoldState of_values = r.formulas("step", s.step, values);
  if (!s.join) return r.add(of_values, values, false, false, {}, "");
  const FoldState of_states = r.formulas("join", s.join, r.state);
  if (values == r.state && of_values == of_states) return r.add(of_values, values, true, commutative, {}, "");
  return r.add(of_values, values, true, commutative,
               r.add(of_states, r.state, true, commutative, {}, "_join"), "");
}

/// The values as a step takes them, of one shape.
std::vector<Ref> values_of(const std::string& name, std::span<const Tensor> given) {
  if (given.empty() || given.size() > most_parts)
    fail("fold '{}': of {} values; it may be of 1 to {}", name, given.size(), most_parts);
  std::vector<Ref> out;
  for (const Tensor& t : given) out.push_back(fn::in_accumulator(node_of(t)));
  const Dims shape = fn::broadcast_shape(fmt::format("fold '{}'", name), out);
  for (Ref& v : out) v = fn::broadcast(v, shape);
  return out;
}

/// The row for values of these dtypes: what is recorded first stays.
Fold row_for(const CustomFold& by, const DTypes& values) {
  CustomFoldState& s = by.state();
  {
    std::lock_guard lock(s.mutex);
    if (auto it = s.recorded.find(values); it != s.recorded.end()) return it->second;
  }
  const Fold made = record(s, values);  // calls the program's functions: without the lock
  std::lock_guard lock(s.mutex);
  return s.recorded.emplace(values, made).first->second;
}

Fold row_for(const CustomFold& by, std::span<const Ref> values) {
  DTypes dtypes;
  for (const Ref& v : values) dtypes.push_back(v->dtype);
  return row_for(by, dtypes);
}

}  // namespace

v0::CustomFold::CustomFold(std::string_view name, std::vector<StatePart> state, FoldStep step, FoldStep join,
                           bool commutative) {
  guarded("making a fold", [&] {
    if (!is_identifier(name)) fail("fold: '{}' is no name for one: letters, digits and _ make one", name);
    check_parts(name, state);
    if (!step) fail("fold '{}': it has no step", name);
    if (commutative && !join) fail("fold '{}': it is commutative, and has no join", name);
    state_ = std::make_shared<CustomFoldState>();
    state_->name = name;
    state_->parts = std::move(state);
    state_->step = std::move(step);
    state_->join = std::move(join);
    state_->commutative = commutative;
  });
}

const std::string& v0::CustomFold::name() const {
  if (!state_) fail("fold: it was moved to another, and is none any more");
  return state_->name;
}

std::vector<Tensor> v0::fold(const CustomFold& by, std::span<const Tensor> given, const Axes& axes,
                             bool keepdims) {
  const std::vector<Ref> values = guarded("recording", [&] { return values_of(by.name(), given); });
  const Fold fold = row_for(by, values);
  return guarded("recording", [&] {
    const AxisList list = axes.all() ? AxisList() : AxisList(axes.list());
    const Ints which = fn::axes_of(fmt::format("fold '{}'", by.name()), values[0], list);
    std::vector<Tensor> out;
    for (size_t i = 0; i < parts(fold); i++)
      out.push_back(tensor_of(fn::part_of(fold, i, values, which, keepdims)));
    return out;
  });
}

Tensor v0::scan(const CustomFold& by, std::span<const Tensor> given, int64_t axis) {
  const std::vector<Ref> values = guarded("recording", [&] { return values_of(by.name(), given); });
  const Fold fold = row_for(by, values);
  return guarded("recording", [&] {
    if (!may_scan(fold))
      fail("scan by fold '{}': its state must be one part, of the dtype of all its values", by.name());
    return tensor_of(fn::running(fmt::format("scan by fold '{}'", by.name()), fold, values, axis));
  });
}

}  // namespace kontor
