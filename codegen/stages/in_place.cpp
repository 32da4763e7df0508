// Assigns: an output is written into its target's own memory where nothing reads an element after it is written.
#include <algorithm>

#include "codegen/stages/stage.h"

namespace kontor {

namespace {

class InPlace {
 public:
  explicit InPlace(ProgramTree& program) : program_(program) {}

  void run() {
    find_reads();
    for (size_t o = 0; o < program_.in_place.size(); o++) {
      int input = program_.in_place[o];
      if (input >= 0 && !safe(static_cast<int>(o), input)) program_.in_place[o] = -1;
    }
  }

 private:
  ProgramTree& program_;
  struct Read {
    size_t group;
    int reader;
    Ref load;
  };
  NodeMap<std::vector<Read>> reads_;  // of each input's place
  std::vector<int> home_;             // of each output: its group

  const Stage& stage(int i) const { return program_.stages[static_cast<size_t>(i)]; }

  void find_reads() {
    home_.resize(program_.in_place.size(), -1);
    for (size_t k = 0; k < program_.groups.size(); k++)
      for (int i : program_.groups[k].stages) {
        const size_t output = static_cast<size_t>(stage(i).output);
        if (stage(i).output >= 0 && output < home_.size()) home_[output] = static_cast<int>(k);
        for (const Ref& l : loads_in(expressions(stage(i))))
          if (tree::space(*l->src[0]) == Space::Param) reads_[l->src[0].get()].push_back({k, i, l});
      }
  }

  // A piece of a stream would read what the piece before it wrote.
  bool streamed(size_t group) const {
    return std::any_of(program_.streams.begin(), program_.streams.end(),
                       [&](const ScheduledStream& s) { return s.first <= group && group <= s.last; });
  }

  bool safe(int output, int input) const {
    if (home_[static_cast<size_t>(output)] < 0) return false;
    const size_t home = static_cast<size_t>(home_[static_cast<size_t>(output)]);
    if (streamed(home)) return false;
    const Group& g = program_.groups[home];
    const auto reads = reads_.find(program_.inputs[static_cast<size_t>(input)].get());
    return reads == reads_.end() ||
           std::all_of(reads->second.begin(), reads->second.end(), [&](const Read& r) {
             return r.group < home || (r.group == home && elementwise_read(g, output, r.load, r.reader));
           });
  }

  // Whether an element is computed once: all loops around the stage are its own, and the outermost is shared out.
  static bool once(const Stage& s) {
    return s.level.depth > 0 &&
           std::ranges::count_if(s.level.outer, [](int loop) { return loop >= 0; }) == s.level.depth;
  }

  bool elementwise_read(const Group& g, int output, const Ref& load, int reader) const {
    for (int i : g.stages) {
      const Stage& s = stage(i);
      if (s.output != output) continue;
      const bool alone = i == reader && once(s);
      if (s.place->dtype != load->dtype || is_fold(s) || is_fold(stage(reader)) ||
          (!alone && s.level.depth != static_cast<int>(g.outer_loops.size())))
        return false;
      std::span<const Ref> at = tree::at(*load);
      return std::equal(at.begin(), at.end(), s.loops.begin(), s.loops.end(),
                        [&](const Ref& index, const Ref& loop) {
                          return index == loop || (alone && is_int(index, 0) && is_int(loop->src[0], 1));
                        });
    }
    return false;
  }
};

}  // namespace

void choose_in_place(ProgramTree& program) { InPlace(program).run(); }

}  // namespace kontor
