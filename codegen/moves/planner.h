// Planner: makes the list of moves of one kernel, and applies each as it is chosen.
#pragma once
#include <string>
#include <vector>

#include "base/error.h"
#include "codegen/moves/choose.h"

namespace kontor {

class Planner {
 public:
  Planner(const ProgramTree& program, const Group& group, const Ref& tree, const Target& target)
      : program_(program), group_(group), target_(target), kernel_(tree) {}

  Moved run();

 private:
  const ProgramTree& program_;
  const Group& group_;
  const Target& target_;
  Ref kernel_;
  std::vector<Move> moves_;

  // ---- choose.cpp: loops by name
  const Stage& stage(int i) const { return program_.stages[static_cast<size_t>(i)]; }
  const Stage& root() const { return stage(group_.stages.back()); }
  void move(MoveKind kind, const std::string& loop, int64_t factor = 0, const std::string& other = "",
            std::vector<std::string> through = {});
  const Node* find(const std::string& loop) const;
  bool has(const std::string& loop) const { return find(loop) != nullptr; }
  int64_t size(const std::string& loop) const;
  static const std::string& name_of(const Ref& range) { return range->arg.text; }
  int64_t lanes(const Stage& s) const;
  int least_depth() const;

  // ---- choose_gpu.cpp
  void gpu();
  // Moves that a nest may refuse as a whole: then it stays as it was.
  template <class F>
  bool attempt(const F& moves) {
    const Ref before = kernel_;
    const size_t known = moves_.size();
    try {
      moves();
      return true;
    } catch (const Error&) {
      kernel_ = before;
      moves_.resize(known);
      return false;
    }
  }

  // ---- choose_group.cpp
  struct Side;
  bool group_tile(const Stage& dot);
  bool lies_along(const Stage& dot, int operand, const Ref& steps, const Ref& own) const;
  void cut_tile(Side& side, const std::string& name, std::span<const int64_t> parts);
  void bring_together(const Side& a, const Side& b);
  void number_groups();
  void scalar_tile(const Stage& dot, std::span<const Ref> folds, int64_t count, Side& a, Side& b);
  void matrix_tile(const Stage& dot, std::span<const Ref> folds, int64_t count, Side& a, Side& b);
  void shared_matrix_tile(const Stage& dot, std::span<const Ref> folds, int64_t count, int64_t ahead, Side& a,
                          Side& b);
  void fill_blocks(char letter, const std::vector<std::string>& steps, const Side& side, int64_t threads);
  std::string merged(const std::vector<std::string>& loops);
  void fill(char letter, const std::vector<std::string>& outer, const std::vector<std::string>& inner,
            int64_t across, int64_t side, int64_t threads);

  // ---- choose_gpu.cpp
  void several_in_flight();
  void share_out_globally();
  void thread_tile(const Stage& dot);
  int64_t repeat_in_thread(const Ref& range, int64_t most, double items);
  void rows_in_registers();
  void keep_row(const std::string& around, const std::string& param);
  void spread_lanes();
  std::vector<std::string> rows_to_memory() const;

  // ---- choose.cpp
  void cpu();
  void given_tree();
  bool is_map() const;

  // ---- choose_dot.cpp
  bool rows_share_ways(const Stage& dot) const;
  const Node* vector_operand(const Stage& dot) const;
  bool wants_panel(const Stage& dot, int64_t times) const;
  bool tile(const Stage& dot);
  std::string joined_rows(const Stage& dot, const std::string& v);
  void keep_vectors_near(const Stage& dot, const std::string& u, const std::string& v);
  static bool encloses(const Node& loop, const std::string& inner);
  const Node* loop_around(const std::string& loop) const;
  static bool stores_divide(const Ref& kernel);
  bool few_uneven_shares() const;
  void others_outside(const std::string& u, const std::string& v);
  void turn_blocks(const Stage& dot, int64_t w);
  int64_t steps_of_block(const Stage& dot, int64_t w) const;
  bool two_turned(const Stage& dot, const std::string& v, int64_t w);
  void repeats_near(const Stage& dot, const std::string& u, const std::string& v);
  void repeat(const std::string& u, int64_t count, int64_t of);
  void lanes_of(const std::string& loop, int64_t w);
  const Node* sum_place(const Stage& dot) const;
  std::string sum_of(const Stage& dot) const;
  void pack_panel(const Stage& dot, const std::string& v, const std::string& inner);
  bool lies_along_steps(const Stage& dot) const;
  void fill_across(const Stage& dot, std::vector<std::string> row);
  void fill_wide(const Stage& dot, const std::string& vectors, const std::string& lane);

  // ---- choose_nests.cpp: rows and other nests
  int64_t wide(const Stage& s) const;
  static bool meets_lanes(std::span<const Ref> body, const std::string& loop, bool named, bool lanes);
  bool meets_lanes(const std::string& loop) const;
  void vectorise_loop(const std::string& loop, int64_t width);
  bool encloses_nests(int outer_loop) const;
  static bool has_local_loops(const Stage& s);
  void vectorise_rows();
  bool lanes_lie_apart(const Stage& s) const;
  void chains_side_by_side();
  bool chains_in_lanes(const std::string& rows, const std::string& steps);
  bool rows_step_together();
  void vectorise_nests();

  // ---- the same: maps
  static size_t divisions(const Ref& kernel);
  void merge_contiguous();
  void plan_map();
  std::string loop_of_lines(const std::string& lanes) const;
  bool block_lines(const std::string& loop);

  // ---- choose.cpp: threads
  std::string outermost() const;  ///< "" if several statements stand there
  void sink_before_last();
  void share_out();
};

}  // namespace kontor
