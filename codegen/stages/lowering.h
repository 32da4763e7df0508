// Lowering: a graph's stored values become stages whose expressions carry index tuples instead of shapes. Walks from
// consumers to producers; a movement op is a function on the tuple, a pad is a guarded value.
#pragma once
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "codegen/stages/checks.h"
#include "codegen/stages/fold_order.h"
#include "codegen/stages/select.h"
#include "codegen/stages/stage.h"

namespace kontor {

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

  ProgramTree run();

 private:
  const Graph& graph_;
  NodeSet stored_, random_;
  ProgramTree program_;
  NodeMap<Ref> places_;  // logical place of each input and stored value
  NodeMap<int> stage_of_;
  std::unordered_map<Visit, Lowered, VisitHash> memo_;  // of the stage
  Checks checks_;                                       // likewise
  Stage* current_ = nullptr;
  const Node* top_ = nullptr;
  bool terms_only_ = false;  // views are followed for their terms: there is no value
  bool term_ = false;        // only views lie between a sum and what is being lowered
  Ref terms_;              // where the sum has a term: not outside of an unwindow's range (null: everywhere)
  Substitution taps_;      // fold ranges of taps -> what they are of the taps in range alone
  std::vector<Ref> kept_;  // whose addresses are keys of taps_
  NodeSet checked_;        // whose expression has checks
  // Of a Reduce's first part: what the pieces of a cut chain come to, a place for each part; of these as pieces, and so on.
  NodeMap<std::vector<std::vector<Ref>>> partial_;
  Ref counts_;  // where what is lowered next counts, of the value that reads it (null: wherever that does)

  // ---- lower_values.cpp
  Ref dimension(const Ref& d);
  Ref slot(const Node* n) const;
  Ref lower(const Ref& node, const Tuple& at, const Ref& guard) { return lower(node.get(), at, guard); }
  Ref lower(const Node* node, const Tuple& at, const Ref& guard);
  Ref compute(const Node* n, const Tuple& at, const Ref& guard);
  Ref branch(const Ref& source, const Ref& condition, const Tuple& at, const Ref& guard);
  std::vector<Ref> sources_of(const Node* n, const Tuple& at, const Ref& guard);
  Ref elementwise(const Node* n, const Tuple& at, const Ref& guard);
  static bool of_indexes(std::span<const Ref> sources);
  void check_divisor(const Ref& divisor, const Ref& guard);

  // ---- lower_views.cpp
  void note_terms(const Node* view, const Tuple& at, const Ref& guard);
  Ref padded(const Node* n, const Tuple& at, const Ref& guard);
  Ref guarded(const Ref& source, const Tuple& at, const Ref& inside, const Ref& guard, const Ref& fill);
  Ref moved(const Node* n, const Tuple& at, const Ref& guard);
  Tuple reshaped(const Node* n, const Tuple& at);
  static bool grow(Ref& product, const std::vector<Ref>& dims, size_t& next, const Ref& target);
  static Tuple windowed(const Node* n, const Tuple& at);
  Ref unwindowed(const Node* n, const Tuple& at, const Ref& guard);
  Ref position_of_tap(const Node* n, const Ref& i, const Ref& k);

  // ---- lower_values.cpp: at computed indexes
  static std::string out_of_range(std::string_view who, size_t axis, const Ref& dim);
  static const Ref& as_given(const Ref& index);
  Ref index_value(const Ref& tensor, const Tuple& at, const Ref& guard);
  Ref checked_index(const Node* n, const Ref& tensor, const Tuple& at, size_t axis, const Ref& dim,
                    Ref& inside, const Ref& guard);
  Ref gather(const Node* n, const Tuple& at, const Ref& guard);
  Ref put(const Node* n, const Tuple& at, const Ref& guard);

  // ---- lower.cpp
  void add_outputs();
  Stage& begin_stage(const Node* n, const std::string& name);
  static std::string loop_letter(size_t i);
  void settle_checks();
  void end_stage(const Node* n);
  void add_stage(const Node* n);
  void add_scatter(const Node* n, Stage& s);

  // ---- lower_folds.cpp
  /// A fold of an array of these extents over these axes: of the node's sources, or of what pieces came to.
  struct Folded {
    Fold fold;
    DType state;
    std::vector<Ref> dims;
    std::vector<int64_t> axes;
    std::vector<Ref> places;  // of pieces: one for each part
  };
  void add_reduce(const Node* n);
  void add_scan(const Node* n);
  void fold_values(const Node* n, Stage& s, const Folded& what, const FoldOrder& order, const Tuple& pieces);
  static Ref term(const Ref& v, const Ref& terms);
  static Ref step(Stage& s, const FoldOrder& order, const Tuple& pieces, size_t q, size_t id);
  static Tuple source_index(Stage& s, const Folded& what, const FoldOrder& order, const Tuple& steps,
                            size_t first_loop, size_t id);
  Folded pieces_folded(const Node* n, const Folded& what, const FoldOrder& order, size_t level);
  Ref add_partial(const Node* n, size_t part, const Folded& what, const FoldOrder& order);

  // ---- lower_sort.cpp
  Stage& begin_given(const Node* n, const std::string& name, DType dtype, const std::vector<Ref>& dims);
  void end_given(std::vector<Ref> statements);
  void add_sort(const Node* n);
};

}  // namespace kontor
