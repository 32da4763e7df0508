// The renderer of one kernel as LLVM IR: shared by its parts, values.cpp (expressions), memory.cpp (places),
// loads.cpp and render.cpp (statements).
#pragma once
#include <array>
#include <deque>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "codegen/render_llvm/builder.h"
#include "codegen/render_llvm/ops.h"
#include "codegen/render_llvm/verify.h"
#include "codegen/tree/shape_accesses.h"
#include "codegen/tree/tree.h"

namespace kontor::ir {

/// constant + lane * (number of the lane) + sum of factor * value, modulo 2^64: what unrolled copies of an index share
/// is seen, and so is the stride between lanes. A value may be a vector.
struct Linear {
  int64_t constant = 0, lane = 0;
  std::vector<std::pair<Val, int64_t>> terms = {};
};

void add_term(Linear& e, Val v, int64_t factor);
void add_scaled(Linear& to, const Linear& e, int64_t factor);

/// A place as it is rendered.
struct PlaceState {
  std::array<Val, most_parts> base = {};  ///< of each part of a fold's state, else of the only one
  std::vector<Ref> dims = {};             ///< of a local place their upper bounds
  int chunk = 0;                          ///< least number of lanes of the accesses to it that are vectors
  int unaligned = 0;                      ///< lanes that may reach beyond its end
  bool written = false;                   ///< in this kernel
  bool local = false;
  int lanes = 0;        ///< of a place declared inside a vector loop: each element is a vector
  int write_level = 0;  ///< the innermost open scope in which it is written
  int version =
      0;  ///< of the kernel's writes the last one to it: tells loads apart, of places in the same scratch memory too
};

/// Where a Load, Store or FoldStep goes.
struct Access {
  PlaceState* place;
  Linear at;
  DType dtype;
  size_t part = 0;  ///< of a fold's state
};

/// A condition as the conjunction of one that all lanes share and one by lane (none: true). They are kept apart, since
/// the first costs nothing in the address of a load. No part of a conjunction by lane is a constant, nor a splat: where a
/// constant switches a whole register off, LLVM 19 takes that register's mask for all true (x86-64-v3, masked.load of
/// several registers). See Builder::opaque.
struct Guard {
  Val uniform = {}, lanes = {};
};

class Renderer {
 public:
  Renderer(const Ref& kernel, const Natives& natives);
  std::string render(const std::string& entry);
  int64_t scratch_bytes() const { return scratch_bytes_; }
  /// Throws InternalError if the text reaches beyond a place of this kernel.
  void require_within_places(const std::string& text) const;

 private:
  /// Of Loads and Stores in blocks: from the copy on, and for each copy of the loops inside of that one, what is in registers.
  using Blocks = std::map<std::pair<const Node*, std::vector<int64_t>>, std::vector<Val>>;
  struct Square {
    const Node& along;  ///< the range of the unrolled loop
    int64_t begin;      ///< its first copy in the block
    int64_t column;     ///< the copy that is rendered, from there
    std::vector<Val>& rows;
  };

  // Expressions (values.cpp).
  Val value(const Ref& node);
  const Linear& linear(const Ref& node);
  Val compute(const Node& n);
  Linear compute_linear(const Node& n);
  Linear product(Linear a, Linear b);
  Linear remainder(const Node& n);
  bool grouped_quotient(Linear e, int64_t c, Linear& out);
  Linear quotient(const Node& n);
  Linear opaque(const Node& n);
  Val elementwise(const Node& n);
  Val lane_compare(const Node& n);
  Val lane_threshold(const Linear& t, int64_t divisor, int64_t more);
  Val narrow_cast(const Node& n);
  Val narrow_arithmetic(const Node& n);
  void guard_of(const Ref& condition, Guard& out);
  Val slot(const Node& n);
  Val argument(int64_t offset, Scalar of);
  bool has_vector_terms(const Linear& e) const;
  Val scalar_part(const Linear& e, Scalar of, bool with_constant);
  Val materialise(const Linear& e, Scalar of = Scalar::I64);
  Val below(Val threshold);  ///< the lanes whose number is below it
  void prepare(const Ref& node);

  // The memo of expressions: an entry lives as long as the innermost frame on which it depends.
  struct Entry {
    Val value = {};
    int linear = -1, frame = 0, serial = 0;
    Ref node =
        {};  // kept alive: its address is the key, and a constant made on the way would free it for another
  };
  Entry* known(const Node* n);
  Entry& remember(const Node& n);
  int frame_of(const Node& n);
  void push_frame();
  void pop_frame();
  int top_frame() const { return static_cast<int>(frames_.size()) - 1; }

  // Places (memory.cpp).
  /// What a fold has come to, a value for each part.
  using State = std::vector<Val>;
  PlaceState& place_of(const Node& place);
  Access access(const Node& n);
  Val address(const Access& a, int64_t offset = 0);
  Val load(const Node& n);
  AccessShape shape_of(const Node& n);
  Access first_lane(const Node& n, const Access& a, const AccessShape& shape);
  Val load_as(const Node& n, const AccessShape& shape, const Access& a, const Guard& guard);
  Val load_scalar(const Access& a, const Guard& guard);
  Val load_vector(const Access& a, const Guard& guard, AccessKind kind, const AccessMask& reasons);
  Val load_pairs(const Access& a, const Guard& guard);
  Val load_gather(const Access& a, const Guard& guard);
  Val load_groups(const Access& a, const Guard& guard, int64_t run);
  Val load_runs(const Node& n, const Access& a, const Guard& guard, int64_t run);
  Square square_of(const Node& n, const Node& along, int64_t side);
  Val load_words(const Access& a, int64_t in_word);
  Access row_of(const Node& n, const Access& a, const Square& square, int lane);
  Val load_block(const Node& n, const Access& a, const AccessShape& shape);
  void ask_ahead(const Access& a, int64_t elements, int64_t ahead);
  void store_block(const Node& n, const Access& a, const AccessShape& shape, Val v);
  void transpose(std::vector<Val>& rows);
  Val load_text(const Access& a, Val pointer, int lanes, Val mask, int64_t align);
  Val or_zeros(Val condition, Val pointer);
  Val zero(DType dtype, int lanes);
  Val any(Val mask);
  Val half(Val v, int from);
  Val lane_addresses(const Access& a);
  int64_t alignment(const Access& a, int64_t offset);
  Val reverse(Val v);
  void store_as(const AccessShape& shape, const Access& a, Val v);
  void store_lanes(const AccessShape& shape, const Access& a, Val v);
  void store_text(const Access& a, Val pointer, Val v, int64_t align);
  void store_past_caches(const Access& a, Val pointer, Val v);
  void store_masked(const Access& a, Val pointer, Val v, Val mask);
  void declare(const Node& place);
  void allocate(const Node& place);
  void fill(const Node& place);
  void fill_dynamic(const Node& place);
  State identity_of(const Node& place);
  void fill_range(Access a, const Node& place, const State& identity, int64_t count, int64_t chunk);
  void touch(PlaceState& p);
  Val merge(const Node& n);
  /// An access to one part of it.
  static Access part_of(const Access& a, const Node& place, size_t part);
  template <class F>
  static State each_part(const Access& a, const Node& place, const F& value) {
    State out;
    for (size_t i = 0; i < tree::parts(place); i++) out.push_back(value(part_of(a, place, i)));
    return out;
  }
  template <class F>
  static void for_parts(const Access& a, const Node& place, const State& state, const F& store) {
    for (size_t i = 0; i < state.size(); i++) store(part_of(a, place, i), state[i]);
  }
  std::vector<State> elements(const Node& merge);
  Access halve_in_loops(Access a, const Node& place, int64_t& count);
  State load_state(const Access& a, const Node& place, int64_t lanes);
  State step(const Node& place, const State& old, std::span<const Val> v);
  State merged(const Node& place, const State& x, const State& y);
  State half(const State& v, int lanes, int from);
  Val both(Val x, Val y);

  // Statements (render.cpp).
  void survey_writes(std::span<const Ref> body);
  void body(std::span<const Ref> statements);
  void statement(const Node& n);
  void loop(const Node& n);
  void counted_loop(const Node& n, Val begin, Val end, bool may_be_empty);
  void shared_loop(const Node& n);
  void unrolled(const Node& n, int64_t count);
  void vector_loop(const Node& n);
  void branch(const Node& n);
  void branch_body(const Node& n, Val condition, std::span<const Ref> statements);
  void masked_branch(const Node& n, const Guard& condition);
  void masked_body(std::span<const Ref> statements, Val lanes);
  void check(const Node& n);
  void store(const Node& n);
  void fold(const Node& n);
  void fold_by_lane(const Access& a, const Node& place, std::span<const Val> v);
  void fold_at_lane(const Access& a, const Node& place, std::span<const Val> v, Val index, Val lane);
  /// What a statement's scope writes gets that scope as its write level; leave() gives back the levels before.
  using Levels = std::vector<std::pair<PlaceState*, int>>;
  Levels enter(const Node& scope);
  void leave(const Levels& saved);
  void open_loop(Val begin, Val end);
  void close_loop();
  void open_branch(Val condition, bool pins);
  void close_branch();

  struct Binding {
    Val value = {};  ///< counter or constant; none: the lanes of the vector loop
    int frame = 0;
  };

  Ref kernel_;
  Builder b_;
  std::unordered_map<const Node*, Entry> memo_;
  std::deque<Linear> linears_;           // references to them stay good
  std::vector<Ref> made_;                // nodes made here: the memo knows nodes by address
  std::vector<int> frames_ = {0};        // serial numbers of the open frames
  std::vector<int> scope_frames_ = {0};  // the frame of each of the builder's scopes
  int serials_ = 0;
  std::unordered_map<const Node*, Binding> bindings_;
  std::vector<UnrolledCopy> copies_;   // of the open unrolled loops
  std::vector<int> copy_depths_ = {};  // the builder's, of each
  std::vector<Blocks> blocks_ = {};    // of each
  AccessShapes shapes_;
  std::unordered_map<const Node*, PlaceState> places_;
  std::deque<PlaceState> merging_;  // memory in which merges halve
  std::unordered_map<const Node*, std::vector<const Node*>>
      writes_;                                // of each Loop and If: places written in it
  std::vector<const Node*> open_statements_;  // while surveying
  int vector_ = 0;                            // lanes of the open vector loop
  const Node* vector_loop_ = nullptr;
  Val mask_ = {};         // lanes that are switched on; none: all
  Val extent_mask_ = {};  // those below the extent of the vector loop,
  Val active_ = {};       // which is this
  int mask_frame_ = 0;
  int64_t scratch_top_ = 0, scratch_bytes_ = 0;
  int versions_ = 0;
  std::vector<LlvmRegion> regions_;  // what the verifier is told: how large places are
  std::vector<LlvmFact> facts_;      // and how far a parallel loop runs
};

}  // namespace kontor::ir
