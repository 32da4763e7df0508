// Renders a loop tree as OpenCL C, CUDA C or C: one work item an iteration of the outermost parallel loop, all else as plain
// loops. A value that is used more than once, or could be computed further out, becomes a constant of the outermost scope
// in which all it needs is known.
#pragma once
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "codegen/render_c/dialect.h"
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
    if (!lane_.empty() && !c_.dialect().gpu)
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
  std::string joined(const Node& place, std::span<const Text> pair);
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

}  // namespace kontor::clike
