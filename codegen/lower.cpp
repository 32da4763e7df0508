// Lowering: a graph's stored values become stages whose expressions carry index tuples instead of shapes. Walks from
// consumers to producers; a movement op is a function on the tuple, a pad is a guarded value.
#include <algorithm>

#include <optional>

#include "base/error.h"
#include "codegen/checks.h"
#include "codegen/moves.h"
#include "codegen/order.h"
#include "codegen/select.h"
#include "codegen/stage.h"
#include "graph/index.h"

namespace kontor::inline v0 {

namespace {

using Tuple = std::vector<Ref>;

struct Visit {  // a node read at an index tuple under a guard (null: always)
  const Node* node;
  Ref guard;
  Tuple at;
  bool operator==(const Visit& o) const = default;
};
struct VisitHash {
  size_t operator()(const Visit& v) const {
    size_t h = reinterpret_cast<size_t>(v.node) * 31 + reinterpret_cast<size_t>(v.guard.get());
    for (const Ref& r : v.at) h = h * 1099511628211ull + (reinterpret_cast<size_t>(r.get()) >> 4);
    return h;
  }
};

struct Lowered {
  Ref value;
  std::optional<size_t> checks;  // what it is in Checks, where it has any
};

class Lowering {
 public:
  explicit Lowering(const Graph& graph) : graph_(graph), stored_(select_stored(graph)) {}

  ProgramTree run() {
    for (size_t i = 0; i < graph_.inputs.size(); i++) {
      const Node& b = *graph_.inputs[i];
      std::vector<Ref> dims;
      for (const Ref& d : b.shape) dims.push_back(dimension(d));
      program_.inputs.push_back(tree::param(b.dtype, dims, static_cast<int64_t>(i), fmt::format("in{}", i)));
      places_[&b] = program_.inputs.back();
    }
    const std::vector<const Node*> order = topological(graph_.outputs);
    random_ = random_values(order, stored_);
    checked_ = checked_values(order, stored_);
    for (const Node* n : order)
      if (n == see_through(n) && stored_.count(n) && n->op != Op::Buffer) add_stage(n);
    add_outputs();
    return std::move(program_);
  }

 private:
  const Graph& graph_;
  std::unordered_set<const Node*> stored_, random_;
  ProgramTree program_;
  std::unordered_map<const Node*, Ref> places_;  // logical place of each input and stored value
  std::unordered_map<const Node*, int> stage_of_;
  std::unordered_map<Visit, Lowered, VisitHash> memo_;  // of the stage
  Checks checks_;                                       // likewise
  Stage* current_ = nullptr;
  const Node* top_ = nullptr;
  bool terms_only_ = false;  // views are followed for their terms: there is no value
  bool term_ = false;        // only views lie between a sum and what is being lowered
  Ref terms_;              // where the sum has a term: not outside of an unwindow's range (null: everywhere)
  Substitution taps_;      // fold ranges of taps -> what they are of the taps in range alone
  std::vector<Ref> kept_;  // whose addresses are keys of taps_
  std::unordered_set<const Node*> checked_;  // whose expression has checks
  Ref counts_;  // where what is lowered next counts, of the value that reads it (null: wherever that does)

  // ---- expressions

  Ref dimension(const Ref& d) {
    if (d->is_const()) return d;
    Substitution map;
    for (const Node* n : topological(std::span(&d, 1)))
      if (n->op == Op::Variable) map.emplace(n, slot(n));
    return substitute(d, map);
  }

  Ref slot(const Node* n) const {
    for (size_t i = 0; i < graph_.scalars.size(); i++)
      if (graph_.scalars[i].get() == n)
        return tree::slot(n->dtype, static_cast<int64_t>(i), n->op == Op::Variable ? n->bounds : Bounds{});
    broken("a scalar is not among the graph's leaves");
  }

  Ref lower(const Ref& node, const Tuple& at, const Ref& guard) { return lower(node.get(), at, guard); }

  Ref lower(const Node* node, const Tuple& at, const Ref& guard) {
    node = see_through(node);
    if (terms_only_)
      return is_movement(node->op) ? moved(node, at, guard) : constant(node->dtype, int64_t{0});
    const Ref counts = std::exchange(counts_, {});
    if (guard && is_int(guard, 0)) return constant(node->dtype, int64_t{0});
    const Visit visit{node, guard, at};
    auto it = memo_.find(visit);
    if (it == memo_.end()) {
      const bool term = std::exchange(term_, term_ && is_movement(node->op)),
                 checked = checked_.count(node) != 0;
      if (checked) checks_.open();
      Lowered lowered{compute(node, at, guard), {}};
      if (checked) lowered.checks = checks_.close();
      term_ = term;
      it = memo_.emplace(visit, std::move(lowered)).first;
    }
    if (it->second.checks) checks_.read(*it->second.checks, counts);
    return it->second.value;
  }

  Ref compute(const Node* n, const Tuple& at, const Ref& guard) {
    if (n != top_ && !terms_only_)
      if (auto it = places_.find(n); it != places_.end()) {
        if (term_ && is_movement(n->op)) note_terms(n, at, guard);
        return tree::load(it->second, at, guard);
      }
    if (is_elementwise(n->op)) return elementwise(n, at, guard);
    if (is_movement(n->op)) return moved(n, at, guard);
    switch (n->op) {
      case Op::Const:    return Ref(n);
      case Op::Scalar:
      case Op::Variable: return slot(n);
      case Op::Iota:     return n->dtype == DType::I64 ? at[0] : make(Op::Cast, {at[0]}, {}, n->dtype);
      case Op::Copy:     return lower(n->src[0], at, guard);
      case Op::Gather:   return gather(n, at, guard);
      case Op::Put:      return put(n, at, guard);
      default:           broken("lower: {} has no value of its own", row(n->op).name);
    }
  }

  // What is checked in a source that counts where `condition` holds is checked there alone.
  Ref branch(const Ref& source, const Ref& condition, const Tuple& at, const Ref& guard) {
    counts_ = condition;
    return lower(source, at, guard);
  }

  // A where, and an `and` or `or` of bools, decide by one source which others count.
  std::vector<Ref> sources_of(const Node* n, const Tuple& at, const Ref& guard) {
    auto checked = [&](size_t i) { return checked_.count(n->src[i].get()) != 0; };
    const bool logical = n->dtype == DType::Bool && (n->op == Op::And || n->op == Op::Or);
    const size_t first = logical && checked(0) && !checked(1) ? 1 : 0;
    const bool decides = n->op == Op::Where || (logical && !checked(first));
    std::vector<Ref> out(n->src.size());
    out[first] = lower(n->src[first], at, guard);
    for (size_t i = 0; i < out.size(); i++) {
      if (i == first) continue;
      const bool negated = n->op == Op::Where ? i == 2 : n->op == Op::Or;
      out[i] = !decides || !checked(i)
                   ? lower(n->src[i], at, guard)
                   : branch(n->src[i], negated ? make(Op::Not, {out[first]}) : out[first], at, guard);
    }
    return out;
  }

  Ref elementwise(const Node* n, const Tuple& at, const Ref& guard) {
    std::vector<Ref> sources = sources_of(n, at, guard);
    for (size_t i = 0; i + 1 < sources.size() && (n->op == Op::IDiv || n->op == Op::Mod); i++)
      check_divisor(sources[1], guard);
    // Positions that are computed (iota, a slab's place) become index expressions like any other.
    const bool index = (n->dtype == DType::I64 || n->dtype == DType::Bool) && of_indexes(sources);
    Ref value = make(n->op, std::move(sources), n->arg,
                     n->op == Op::Cast || n->op == Op::Bitcast ? n->dtype : DType::Void);
    return index ? ix::simplify_node(value) : value;
  }

  static bool of_indexes(std::span<const Ref> sources) {
    return std::all_of(sources.begin(), sources.end(), [](const Ref& s) {
      return (s->dtype == DType::I64 || s->dtype == DType::Bool) && s->op != Op::Load;
    });
  }

  void check_divisor(const Ref& divisor, const Ref& guard) {
    if (divisor->is_const() ? divisor->at(0) != 0 : divisor->bounds.lo > 0) return;
    checks_.add(make(Op::Ne, {divisor, constant(divisor->dtype, int64_t{0})}), guard,
                "integer division by zero", {});
  }

  // An unwindow that is stored has the same terms as one that is not.
  void note_terms(const Node* view, const Tuple& at, const Ref& guard) {
    terms_only_ = true;
    moved(view, at, guard);
    terms_only_ = false;
  }

  Ref padded(const Node* n, const Tuple& at, const Ref& guard) {
    Tuple inner;
    Ref inside;
    for (size_t i = 0; i < at.size(); i++) {
      Ref lo = dimension(n->src[2 + 2 * i]);
      inner.push_back(ix::sub(at[i], lo));
      if (!is_int(lo, 0)) inside = ix::both(inside, ix::le(lo, at[i]));
      if (!is_int(n->src[3 + 2 * i], 0))
        inside = ix::both(inside, ix::lt(at[i], ix::add(lo, dimension(n->src[0]->shape[i]))));
    }
    return guarded(n->src[0], inner, inside, guard, n->src[1]);
  }

  // The value at `at` where `inside` holds, else `fill`.
  Ref guarded(const Ref& source, const Tuple& at, const Ref& inside, const Ref& guard, const Ref& fill) {
    Ref value = lower(source, at, ix::both(guard, inside));
    if (!inside || is_int(inside, 1)) return value;
    bool zero = fill->is_const() && fill->at(0) == 0;
    if (zero && value->op == Op::Load && tree::guard(*value)) return value;
    Ref other = fill->is_const() ? fill : lower(fill, {}, guard);
    return make(Op::Where, {inside, value, other});
  }

  Ref moved(const Node* n, const Tuple& at, const Ref& guard) {
    const Node& x = *n->src[0];
    Tuple inner(x.rank());
    switch (n->op) {
      case Op::Reshape: return lower(n->src[0], reshaped(n, at), guard);
      case Op::Permute:
        for (size_t i = 0; i < at.size(); i++) inner[static_cast<size_t>(n->at(i))] = at[i];
        break;
      case Op::Expand:
        for (size_t i = 0; i < at.size(); i++) inner[i] = is_int(x.shape[i], 1) ? index(0) : at[i];
        break;
      case Op::Shrink:
        for (size_t i = 0; i < at.size(); i++) inner[i] = ix::add(at[i], dimension(n->src[1 + 2 * i]));
        break;
      case Op::Flip:
        inner = at;
        for (int64_t a : n->arg.ints) {
          size_t i = static_cast<size_t>(a);
          inner[i] = ix::sub(ix::sub(dimension(x.shape[i]), index(1)), at[i]);
        }
        break;
      case Op::Pad:      return padded(n, at, guard);
      case Op::Window:   inner = windowed(n, at); break;
      case Op::Unwindow: return unwindowed(n, at, guard);
      default:           broken("lower: movement op {}", row(n->op).name);
    }
    return lower(n->src[0], inner, guard);
  }

  // Dimensions pass through unchanged where they can: only runs of dimensions that are really joined or divided (the
  // shortest with equal products) go through a flat position.
  Tuple reshaped(const Node* n, const Tuple& at) {
    std::vector<Ref> to, from;
    for (const Ref& d : n->shape) to.push_back(dimension(d));
    for (const Ref& d : n->src[0]->shape) from.push_back(dimension(d));
    Tuple inner;
    size_t i = 0, j = 0;
    while (i < to.size() || j < from.size()) {
      size_t i0 = i, j0 = j;
      Ref p = i < to.size() ? to[i++] : index(1), q = j < from.size() ? from[j++] : index(1);
      while (p != q && grow(p, to, i, q)) {}
      while (p != q && grow(q, from, j, p)) {}
      while (p != q && (i < to.size() || j < from.size())) {
        if (i < to.size() && (j == from.size() || p->bounds.hi < q->bounds.hi)) p = ix::mul(p, to[i++]);
        else q = ix::mul(q, from[j++]);
      }
      std::span<const Ref> a = std::span(to).subspan(i0, i - i0), b = std::span(from).subspan(j0, j - j0);
      Tuple part = ix::unflatten(ix::flatten(std::span(at).subspan(i0, i - i0), a), b);
      inner.insert(inner.end(), part.begin(), part.end());
    }
    return inner;
  }

  // Takes further dimensions of 1 that stand next, or one that makes the products equal.
  static bool grow(Ref& product, const std::vector<Ref>& dims, size_t& next, const Ref& target) {
    if (next == dims.size()) return false;
    Ref p = ix::mul(product, dims[next]);
    if (!is_int(dims[next], 1) && p != target) return false;
    product = p;
    next++;
    return true;
  }

  static Tuple windowed(const Node* n, const Tuple& at) {
    size_t axis = static_cast<size_t>(n->at(0));
    Tuple inner = at;
    inner[axis] = ix::add(ix::mul(at[axis], n->at(1)), ix::mul(at[axis + 1], n->at(2)));
    inner.erase(inner.begin() + n->at(0) + 1);
    return inner;
  }

  Ref unwindowed(const Node* n, const Tuple& at, const Ref& guard) {
    size_t axis = static_cast<size_t>(n->at(0));
    int64_t stride = n->at(1), dilation = n->at(2);
    if (term_ && !guard)
      if (Ref o = position_of_tap(n, at[axis], at[axis + 1])) {
        Tuple inner = at;
        inner[axis] = o;
        return lower(n->src[0], inner, guard);
      }
    Ref t = ix::sub(at[axis], ix::mul(at[axis + 1], dilation));
    Ref inside = ix::le(index(0), t);
    if (stride != 1) inside = ix::both(inside, ix::eq(ix::mod(t, stride), index(0)));
    Ref o = ix::idiv(t, stride);
    inside = ix::both(inside, ix::lt(o, dimension(n->src[0]->shape[axis])));
    if (term_) terms_ = ix::both(terms_, guard ? make(Op::Or, {make(Op::Not, {guard}), inside}) : inside);
    Tuple inner = at;
    inner[axis] = o;
    return guarded(n->src[0], inner, inside, guard, constant(n->dtype, int64_t{0}));
  }

  // In a dot over the taps k, an unwindow's terms are those in range (graph/ops.h): the fold runs over these alone, and
  // there is no guard. With i - k*dilation = o*stride they are k = first + step*tap. Returns o, or null where the range
  // of taps is not a loop of this fold's own.
  Ref position_of_tap(const Node* n, const Ref& i, const Ref& k) {
    int64_t stride = n->at(1), dilation = n->at(2);
    std::vector<Ref>& folds = current_->folds;
    auto fold = std::find(folds.begin(), folds.end(), k);
    const Ref& outputs = n->src[0]->shape[static_cast<size_t>(n->at(0))];
    const bool loop_of_own = fold != folds.end() && !current_->lane && k->src[0]->is_const() &&
                             outputs->is_const() && !taps_.count(k.get());
    if (!loop_of_own || (stride != 1 && dilation != 1)) return {};
    for (const Ref& f : folds)
      if (ix::depends_on(i, f)) return {};
    Ref beyond = ix::sub(i, stride * (extent(outputs) - 1));
    Ref first = stride == 1 ? ix::max(index(0), ix::idiv(ix::add(beyond, dilation - 1), dilation))
                            : ix::max(ix::mod(i, stride), beyond);
    Ref last = ix::min(ix::sub(k->src[0], index(1)), ix::idiv(i, dilation));
    Ref count = ix::max(index(0), ix::add(ix::idiv(ix::sub(last, first), stride), 1));
    Ref tap = ix::range(count, k->arg.text);
    kept_.push_back(k);
    taps_.emplace(k.get(), ix::add(first, ix::mul(tap, stride)));
    *fold = tap;
    Ref o = stride == 1 ? ix::sub(i, ix::mul(ix::add(first, tap), dilation))
                        : ix::sub(ix::idiv(ix::sub(i, first), stride), tap);
    Ref known =
        ix::range(outputs, "o");  // in o's place while views are lowered: its bounds are seen, o's are not
    kept_.push_back(known);
    taps_.emplace(known.get(), o);
    return known;
  }

  static std::string out_of_range(std::string_view who, size_t axis, const Ref& dim) {
    return fmt::format("{}: index {{}} is out of range for axis {} of {}", who, axis,
                       dim->is_const() ? fmt::format("size {}", dim->at(0)) : "variable size");
  }

  // The index as it was given, where negative ones were made to count from the end.
  static const Ref& as_given(const Ref& index) {
    const bool wrapped =
        index->op == Op::Where && index->src[1]->op == Op::Add && index->src[1]->src[0] == index->src[2];
    return wrapped ? index->src[2] : index;
  }

  Ref index_value(const Ref& tensor, const Tuple& at, const Ref& guard) {
    Ref raw = lower(tensor, at, guard);
    return raw->dtype == DType::I64 ? raw : make(Op::Cast, {raw}, {}, DType::I64);
  }

  // Position along `axis` that an index tensor's value means, with the guard that keeps it in range.
  Ref checked_index(const Node* n, const Ref& tensor, const Tuple& at, size_t axis, const Ref& dim,
                    Ref& inside, const Ref& guard) {
    Ref i = index_value(tensor, at, guard);
    Ref ok = ix::both(ix::le(index(0), i), ix::lt(i, dim));
    if (is_int(ok, 1)) return i;
    const std::string_view who = n->op != Op::Gather       ? row(n->op).name
                                 : n->arg.ints.size() == 1 ? "take"
                                                           : "pick";
    checks_.add(ok, guard, out_of_range(who, axis, dim), index_value(as_given(tensor), at, guard));
    inside = ix::both(inside, ok);
    return i;
  }

  Ref gather(const Node* n, const Tuple& at, const Ref& guard) {
    size_t selected = n->src[1]->rank();
    Tuple head(at.begin(), at.begin() + static_cast<ptrdiff_t>(selected)), inner(n->src[0]->rank());
    Ref inside;
    for (size_t i = 0; i < n->arg.ints.size(); i++) {
      size_t axis = static_cast<size_t>(n->at(i));
      inner[axis] =
          checked_index(n, n->src[1 + i], head, axis, dimension(n->src[0]->shape[axis]), inside, guard);
    }
    size_t rest = selected;
    for (Ref& r : inner)
      if (!r) r = at[rest++];
    return guarded(n->src[0], inner, inside, guard, constant(n->dtype, int64_t{0}));
  }

  // A box that does not lie inside altogether is not written at all.
  Ref put(const Node* n, const Tuple& at, const Ref& guard) {
    Tuple inner;
    Ref inside;
    for (size_t i = 0; i < at.size(); i++) {
      Ref begin = lower(n->src[2 + i], {}, guard);
      const Ref size = dimension(n->src[1]->shape[i]), dim = dimension(n->shape[i]);
      Ref fits = ix::both(ix::le(index(0), begin), ix::le(begin, ix::sub(dim, size)));
      if (!is_int(fits, 1)) {
        checks_.add(fits, guard, out_of_range("put", i, dim), lower(as_given(n->src[2 + i]), {}, guard));
        inside = ix::both(inside, fits);
      }
      inner.push_back(ix::sub(at[i], begin));
      inside = ix::both(inside, ix::both(ix::le(begin, at[i]), ix::lt(inner.back(), size)));
    }
    if (!inside || is_int(inside, 1)) return lower(n->src[1], inner, guard);
    return make(Op::Where,
                {inside, lower(n->src[1], inner, ix::both(guard, inside)), lower(n->src[0], at, guard)});
  }

  // ---- stages

  Stage& begin_stage(const Node* n, const std::string& name) {
    Stage& s = program_.stages.emplace_back();
    s.name = fmt::format("{}{}", name, program_.stages.size() - 1);
    std::vector<Ref> dims;
    for (const Ref& d : n->shape) dims.push_back(dimension(d));
    for (size_t i = 0; i < dims.size(); i++)
      s.loops.push_back(ix::range(dims[i], fmt::format("{}{}", loop_letter(i), program_.stages.size() - 1)));
    s.place = tree::place(n->dtype, dims, s.name);
    s.random = random_.count(n) != 0;
    current_ = &s;
    top_ = n;
    memo_.clear();
    checks_.begin();
    return s;
  }

  static std::string loop_letter(size_t i) {
    return i < 6 ? std::string(1, "ijklmn"[i]) : fmt::format("d{}_", i);
  }

  void settle_checks() {
    memo_.clear();
    checks_.settle(*current_, program_.checks);
  }

  void end_stage(const Node* n) {
    settle_checks();
    places_[n] = program_.stages.back().place;
    stage_of_[n] = static_cast<int>(program_.stages.size()) - 1;
    top_ = nullptr;
    current_ = nullptr;
  }

  void add_stage(const Node* n) {
    if (n->op == Op::Reduce) return add_reduce(n);
    Stage& s = begin_stage(n, n->op == Op::Scatter ? "scatter" : "v");
    if (n->op == Op::Scatter) add_scatter(n, s);
    else s.values.push_back(lower(n, s.loops, {}));
    end_stage(n);
  }

  void add_scatter(const Node* n, Stage& s) {
    const Node& first = *n->src[2];
    s.fold = static_cast<int>(n->at(0));
    s.values.push_back(lower(n->src[0], s.loops, {}));  // what is there before
    Tuple head, at(n->rank());
    for (size_t i = 0; i < first.rank(); i++)
      head.push_back(
          ix::range(dimension(first.shape[i]), fmt::format("s{}_{}", i, program_.stages.size() - 1)));
    s.folds = head;
    for (size_t i = 1; i < n->arg.ints.size(); i++) {
      size_t axis = static_cast<size_t>(n->at(i));
      at[axis] = checked_index(n, n->src[1 + i], head, axis, dimension(n->shape[axis]), s.scatter_guard, {});
    }
    Tuple value_at = head;
    for (Ref& r : at) {
      if (r) continue;
      r = ix::range(dimension(n->shape[static_cast<size_t>(&r - at.data())]),
                    fmt::format("t{}_{}", value_at.size(), program_.stages.size() - 1));
      s.folds.push_back(r);
      value_at.push_back(r);
    }
    s.scatter_at = at;
    s.values.push_back(lower(n->src[1], value_at, s.scatter_guard));
  }

  void add_reduce(const Node* n) {
    Fold fold = static_cast<Fold>(n->at(0));
    std::vector<int64_t> axes(n->arg.ints.begin() + 1, n->arg.ints.end());
    std::vector<Ref> dims;
    for (const Ref& d : n->src[0]->shape) dims.push_back(dimension(d));
    FoldOrder order = fold_order(fold, dims, axes);
    if (order.chunk_loop >= 0) return add_cut_reduce(n, fold, axes, dims, order);
    Stage& s = begin_stage(n, std::string(row(fold).name));
    fold_values(n, s, fold, axes, dims, order, {});
    end_stage(n);
  }

  // The fold's loops, lane and values of stage s; `pieces` are the ranges of the cut, outermost first.
  void fold_values(const Node* n, Stage& s, Fold fold, const std::vector<int64_t>& axes,
                   const std::vector<Ref>& dims, const FoldOrder& order, const Tuple& pieces) {
    s.fold = static_cast<int>(fold);
    size_t id = program_.stages.size() - 1;
    Tuple steps;
    for (size_t q = 0; q < order.steps.size(); q++) steps.push_back(step(s, order, pieces, q, id));
    Tuple at = source_index(s, axes, dims, order, steps, pieces.size(), id);
    taps_.clear();
    for (const Ref& src : n->src) {
      term_ = fold == Fold::Dot;
      s.values.push_back(lower(src, at, {}));
    }
    term_ = false;
    settle_checks();
    if (Ref terms = std::exchange(terms_, {}); terms && !is_int(terms, 1))
      for (Ref& v : s.values) v = term(v, terms);
    if (taps_.empty()) return;
    for (Ref& v : s.values) v = replace(v, taps_);
    for (StageCheck& c : s.checks) c.each([&](Ref& r) { r = replace(r, taps_); });
  }

  // A dot's factor where it has a term, else 0: so that no 0 * inf is added for an unwindow's zeros.
  static Ref term(const Ref& v, const Ref& terms) {
    if (v->op != Op::Load) return make(Op::Where, {terms, v, constant(v->dtype, int64_t{0})});
    std::span<const Ref> at = tree::at(*v);
    return tree::load(v->src[0], {at.begin(), at.end()}, ix::both(tree::guard(*v), terms));
  }

  // Position along step loop q: a new fold range, or what the cut leaves of it.
  static Ref step(Stage& s, const FoldOrder& order, const Tuple& pieces, size_t q, size_t id) {
    size_t cut = static_cast<size_t>(order.chunk_loop);
    if (!pieces.empty() && q < cut) return pieces[q];
    Ref length = order.steps[q], begin;
    if (!pieces.empty() && q == cut) {
      begin = ix::mul(pieces[q], order.chunk);
      if (order.lanes > 1 && q + 1 == order.steps.size()) s.lane_begin = begin;
      length = ix::min(index(order.chunk), ix::sub(length, begin));
    }
    Ref r = ix::range(length, fmt::format("r{}_{}", q, id));
    s.folds.push_back(r);
    return begin ? ix::add(begin, r) : r;
  }

  static Tuple source_index(Stage& s, const std::vector<int64_t>& axes, const std::vector<Ref>& dims,
                            const FoldOrder& order, const Tuple& steps, size_t first_loop, size_t id) {
    Tuple at(dims.size());
    size_t outer = axes.size() - static_cast<size_t>(order.trailing);
    for (size_t i = 0; i < outer; i++) at[static_cast<size_t>(axes[i])] = steps[i];
    if (order.lanes > 1) {
      std::span<const Ref> block = std::span(dims).last(static_cast<size_t>(order.trailing));
      Ref length = ix::product(block);
      s.lane = ix::range(order.lanes, fmt::format("lane{}", id));
      Ref j = ix::add(ix::mul(steps.back(), order.lanes), s.lane);
      s.lane_length = extent(length);
      Tuple inner = ix::unflatten(j, block);
      std::copy(inner.begin(), inner.end(), at.end() - order.trailing);
    }
    size_t loop = first_loop;
    for (Ref& r : at)
      if (!r) r = s.loops[loop++];
    return at;
  }

  // A long chain: partial results of its pieces, then a fold over the pieces.
  void add_cut_reduce(const Node* n, Fold fold, const std::vector<int64_t>& axes,
                      const std::vector<Ref>& dims, const FoldOrder& order) {
    Stage& partial = begin_stage(n, std::string(row(fold).name));
    Tuple pieces;
    size_t cut = static_cast<size_t>(order.chunk_loop);
    for (size_t q = 0; q <= cut; q++) {
      Ref length = q < cut ? order.steps[q] : ix::ceil_div(order.steps[q], index(order.chunk));
      pieces.push_back(ix::range(length, fmt::format("p{}_{}", q, program_.stages.size() - 1)));
    }
    partial.loops.insert(partial.loops.begin(), pieces.begin(), pieces.end());
    std::vector<Ref> sizes;
    for (const Ref& l : partial.loops) sizes.push_back(l->src[0]);
    partial.place = tree::place(n->dtype, sizes, partial.name);
    partial.at_root = true;
    fold_values(n, partial, fold, axes, dims, order, pieces);
    Ref place = partial.place;

    Stage& whole = begin_stage(n, std::string(row(fold).name));
    whole.fold = static_cast<int>(merge_fold(fold));
    FoldOrder rest;
    for (size_t q = 0; q < pieces.size(); q++) {
      rest.steps.push_back(pieces[q]->src[0]);
      whole.folds.push_back(
          ix::range(pieces[q]->src[0], fmt::format("r{}_{}", q, program_.stages.size() - 1)));
    }
    Tuple at = whole.folds;
    at.insert(at.end(), whole.loops.begin(), whole.loops.end());
    whole.values.push_back(tree::load(place, at));
    end_stage(n);
  }

  // Each output has a stage of its own; a value that is wanted twice, or is an input, is copied.
  void add_outputs() {
    for (size_t i = 0; i < graph_.outputs.size(); i++) {
      const Node* n = see_through(graph_.outputs[i].get());
      auto it = stage_of_.find(n);
      if (it != stage_of_.end() && program_.stages[static_cast<size_t>(it->second)].output < 0) {
        program_.stages[static_cast<size_t>(it->second)].output = static_cast<int>(i);
        continue;
      }
      Stage& s = begin_stage(n, "copy");
      top_ = nullptr;
      s.values.push_back(tree::load(places_.at(n), s.loops));
      s.output = static_cast<int>(i);
      current_ = nullptr;
    }
  }
};

}  // namespace

ProgramTree lower(const Graph& graph, const Limits&) { return Lowering(graph).run(); }

std::vector<Ref> loads_in(std::span<const Ref> expressions) {
  std::vector<Ref> out;
  for (const Node* n : topological(expressions))
    if (n->op == Op::Load) out.emplace_back(n);
  return out;
}

std::vector<Ref> loads_of(std::span<const Ref> expressions, const Ref& place) {
  std::vector<Ref> out = loads_in(expressions);
  std::erase_if(out, [&](const Ref& l) { return l->src[0] != place; });
  return out;
}

std::vector<Ref> expressions(const Stage& s) {
  std::vector<Ref> out = s.values;
  for (const StageCheck& c : s.checks) {
    out.push_back(c.condition);
    if (c.value) out.push_back(c.value);
  }
  out.insert(out.end(), s.scatter_at.begin(), s.scatter_at.end());
  if (s.scatter_guard) out.push_back(s.scatter_guard);
  return out;
}

}  // namespace kontor::inline v0
