// Renders a loop tree as OpenCL C, CUDA C or C: one work item an iteration of the outermost parallel loop, all else as plain
// loops. A value that is used more than once, or could be computed further out, becomes a constant of the outermost scope
// in which all it needs is known.
#pragma once
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "codegen/render_c/dialect.h"
#include "codegen/render_c/lanes.h"
#include "codegen/tree/groups.h"
#include "graph/index/index.h"

namespace kontor::clike {

/// A block of code that is being written; what is hoisted into it is added at its end, before the open inner block.
struct Frame {
  int serial = 0;
  bool pins = false;  ///< whether it may run while what stands outside may not: loads stay within
  std::string code = {};
  std::vector<std::string> names = {};
};

struct PlaceState {
  std::string name = {};
  std::vector<std::string> parts = {};  ///< of a fold's state with several: the variable or array of each
  std::vector<Ref> dims = {};           ///< of a local place their upper bounds
  bool local = false, written = false, read = false;
  bool in_memory() const { return !local || shared; }
  bool spread = false;       ///< its last dimension lies over the threads of a warp
  bool shared = false;       ///< of all threads of a group
  const Own* own = nullptr;  ///< which dimensions lie over the threads of a group
  int level = 0;             ///< frame that declares it
  int write_level = 0;       ///< innermost open frame in which it is written
  uint64_t version = 0;
};

/// A value as text: good while its frame is open and no place it read was written.
struct Entry {
  Text text = {};
  int level = 0, serial = 0;
  uint64_t stamp = 0;
};

/// Places of a statement that several threads of a group may use.
struct PlacesUsed {
  NodeSet read, written;

  void join(const PlacesUsed& more) {
    for (const Node* n : more.read) read.insert(n);
    for (const Node* n : more.written) written.insert(n);
  }
};

class Renderer {
 public:
  Renderer(const Ref& kernel, Dialect dialect)
      : lanes_(lanes_as_turns(kernel)), kernel_(lanes_.kernel), c_(dialect), group_(groups_of(*kernel)) {
    frames_.push_back({.pins = true});
    if (lanes_.thread) lane_ = "lane";
    if (!lane_.empty() && !c_.dialect().gpu)
      broken("C renderer: kernel {} has lanes, which this dialect has not", kernel->arg.text);
    if (group_.threads > 1) thread_ = "thread";
    if (!group_.mistake.empty() || (!thread_.empty() && !c_.dialect().gpu))
      broken("C renderer: kernel {} has groups: {}", kernel->arg.text,
             group_.mistake.empty() ? "which this dialect has not" : group_.mistake);
    for (const auto& [place, own] : group_.own) places_[place].own = &own;
    for (const Node* place : lanes_.spread) places_[place].spread = true;
    survey_places(tree::body(*kernel_));
    for (const Ref& p : tree::params(*kernel_)) roots_.insert(roots_.end(), p->src.begin(), p->src.end());
    count_uses();
  }

  std::string render(const std::string& entry);

 private:
  // What must be known before.
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
  /// What a fold has come to: the text of each part.
  using State = std::vector<Text>;
  State applied(const Node& place, std::string_view what, const FoldState& formulas,
                std::span<const Text> slots);
  State joined(const Node& place, const State& x, const State& y);
  static const std::string& name_of(const PlaceState& p, size_t part) {
    return p.parts.empty() ? p.name : p.parts[part];
  }
  std::vector<std::string> assigned(const Node& place, const State& to, const State& from);
  Entry finish(const Node& n, Entry e);
  const Ref& position(const Node& access);
  const Ref& place_within(const Node& access);
  uint64_t stamp(const Node& n);
  const std::vector<const Node*>& reads(const Node& n);
  Text element(const Node& access) { return element(access, tree::part(access)); }
  Text element(const Node& access, size_t part);
  bool is_heavy(const Node& n) const;
  bool in_32_bits(const Node& n);
  std::string_view type_of(const Node& n);

  // Accesses of several elements at once.
  struct Wide {
    Ref place, start;      // where the first of the elements lies
    int64_t elements = 0;  // of the array
    Ref element;           // which of them is the iteration's
    std::string name = {};
    int level = 0, frame = 0;  // where the array is declared
    uint64_t serial = 0;       // the place's version then
  };
  std::optional<Wide> wide_along(const Node& access, const Ref& range);
  std::vector<const Node*> open_wide(const Node& loop);
  void load_wide(const Node& load, Wide wide);
  bool copy_wide(const Node& store, const Ref& range);
  bool copy_ahead(const Node& store, const Ref& range);
  void close_wide(std::span<const Node* const> through);
  static std::string wide_copy(const std::string& to, const std::string& from, int64_t bytes);

  // Statements.
  void body(std::span<const Ref> list);
  void statement(const Node& n);
  void one_statement(const Node& n);
  void loop(const Node& n);
  void plain_loop(const Node& n);
  void lane_loop(const Node& n);
  void bind_quads();
  void local_loop(const Node& n);
  void matrix_loops(const Node& n);
  void matrix_step(const Node& step, const MatrixRow& row, std::span<const Ref> ranges);
  struct SharedMatrix {
    std::string text;
    bool is_along;  // its numbers lie along its own rows or columns, not along the steps
  };
  SharedMatrix shared_matrix(const Ref& operand, const Ref& own, const Ref& steps);
  bool open_matrices(const Node& loop);
  void close_matrices();
  bool copies_ahead(const Node& loop);
  void end_copies();
  Text matrix_operand(const Ref& value, const Substitution& at);
  /// Whether shared places are parts of one that a launch gives: they are more than a kernel may declare, or matrices of it.
  bool is_shared_given() const {
    constexpr int64_t most_declared = 48 << 10;
    return group_.shared_bytes > most_declared || (instruction_ && instruction_->reads_shared);
  }
  void parallel(const Node& n);
  std::string item() const;
  void branch(const Node& n);
  void declare(const Node& n);
  void fill(const PlaceState& p, const Node& place, const Text& count);
  void write(const Node& n);
  void write_line(const PlaceState& p, const std::string& text);
  void check_root(const Node& n) const;
  void keep_order(const Node& statement);
  void wait_for(const PlacesUsed& used);
  const PlacesUsed& used_by(const Node& statement);
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

  Turns lanes_;
  Ref kernel_;
  Speller c_;
  Groups group_;
  std::string thread_ = {};  // the thread's number in its group, where the kernel has groups
  bool in_nest_ = false;     // a loop that a group shares out is open
  Ref quad_row_,
      quad_column_;  // of a matrix instruction's operands and result: the thread's row, number in its warp % 4
  Ref element_ = index(0);                  // of a thread's elements of a matrix instruction's result
  const MatrixRow* instruction_ = nullptr;  // of those matrix instructions that it has
  bool in_matrices_ = false;                // those that read shared memory are under way
  int64_t shared_at_ = 0;                   // bytes of shared places before the next one
  PlacesUsed since_barrier_ = {};
  int copying_ = 0;     // loops that are open and fill panels ahead
  NodeSet begun_ = {};  // places that are being filled ahead in this iteration
  std::unordered_map<const Node*, PlacesUsed> used_ = {};
  std::unordered_set<const Node*> copied_ = {};      // stores that are made already
  std::unordered_map<const Node*, Wide> wide_ = {};  // accesses that go through an array
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
  std::unordered_map<const Node*, bool> narrow_ = {};
  bool in_lanes_ = false;  // a Lane loop is open
  std::string lane_ = {};  // the thread's number within its warp, where the kernel has lanes
};

}  // namespace kontor::clike
