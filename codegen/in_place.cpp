// Assigns: an output is written into its target's own memory where nothing reads an element after it is written.
#include <algorithm>

#include "codegen/stage.h"

namespace kontor::inline v0 {

namespace {

class InPlace {
 public:
  explicit InPlace(ProgramTree& program) : program_(program) {}

  void run() {
    for (size_t o = 0; o < program_.in_place.size(); o++) {
      int input = program_.in_place[o];
      if (input >= 0 && !safe(static_cast<int>(o), input)) program_.in_place[o] = -1;
    }
  }

 private:
  ProgramTree& program_;

  const Stage& stage(int i) const { return program_.stages[static_cast<size_t>(i)]; }

  // A piece of a stream would read what the piece before it wrote.
  bool streamed(size_t group) const {
    return std::any_of(program_.streams.begin(), program_.streams.end(),
                       [&](const ScheduledStream& s) { return s.first <= group && group <= s.last; });
  }

  bool safe(int output, int input) const {
    const Ref& place = program_.inputs[static_cast<size_t>(input)];
    bool reached = false;
    for (size_t k = 0; k < program_.groups.size(); k++) {
      const Group& g = program_.groups[k];
      bool own = false;
      for (int i : g.stages) own = own || stage(i).output == output;
      if (own && streamed(k)) return false;
      for (int i : g.stages)
        for (const Ref& l : loads_of(expressions(stage(i)), place))
          if (reached || (own && !elementwise_read(g, output, l, i))) return false;
      reached = reached || own;
    }
    return reached;
  }

  bool elementwise_read(const Group& g, int output, const Ref& load, int reader) const {
    for (int i : g.stages) {
      const Stage& s = stage(i);
      if (s.output != output) continue;
      if (s.place->dtype != load->dtype || is_fold(s) || is_fold(stage(reader)) ||
          s.depth != static_cast<int>(g.spine.size()))
        return false;
      std::span<const Ref> at = tree::at(*load);
      return std::equal(at.begin(), at.end(), s.loops.begin(), s.loops.end());
    }
    return false;
  }
};

}  // namespace

void choose_in_place(ProgramTree& program) { InPlace(program).run(); }

}  // namespace kontor::inline v0
