// The order of kernels where pieces alone do not bring their temporaries within the budget: of those that are ready, the one that leaves least alive.
//
//   dot0 -> max1 -> dot2            dot0, max1, dot2, dot3, max4, dot5
//   dot3 -> max4 -> dot5    and not dot0, dot3, max1, max4, dot2, dot5, which keeps both large results
//
// Results do not depend on it. What is written in place still comes behind what reads the value before.
#include <algorithm>
#include <functional>
#include <queue>

#include "codegen/cost.h"
#include "codegen/streams/plan.h"

namespace kontor {

namespace {

class Ordering {
 public:
  Ordering(const ProgramTree& program, const Flow& flow) : program_(program), flow_(flow) {
    const size_t groups = program.groups.size();
    before_.resize(groups), waits_.resize(groups), change_.resize(groups);
    for (size_t g = 0; g < groups; g++)
      for (int p : flow.before[g]) wait(static_cast<int>(g), p);
    behind_old_values();
    for (size_t s = 0; s < program.stages.size(); s++) add_stage(static_cast<int>(s));
  }

  std::vector<int> run() {
    using Entry = std::pair<double, int>;  // bytes more alive, group
    std::priority_queue<Entry, std::vector<Entry>, std::greater<>> ready;
    std::vector<char> done(waits_.size());
    for (size_t g = 0; g < waits_.size(); g++)
      if (waits_[g] == 0) ready.emplace(change_[g], static_cast<int>(g));
    std::vector<int> order;
    while (!ready.empty()) {
      const auto [change, g] = ready.top();
      ready.pop();
      if (done[at(g)] || change != change_[at(g)]) continue;  // as it was before something changed
      done[at(g)] = true;
      order.push_back(g);
      for (const Stored* s : reads(g))
        if (const int last = read(*s); last >= 0 && waits_[at(last)] == 0)
          ready.emplace(change_[at(last)], last);
      for (int next : before_[at(g)])
        if (--waits_[at(next)] == 0) ready.emplace(change_[at(next)], next);
    }
    return order;
  }

 private:
  struct Stored {
    double bytes;
    std::vector<int> readers;  // groups that have not run
  };
  const ProgramTree& program_;
  const Flow& flow_;
  std::vector<std::vector<int>> before_;  // of each group: those that wait for it
  std::vector<int> waits_;
  std::vector<double>
      change_;  // of each group: bytes that are alive after it and were not before, less those that end
  std::vector<Stored> stored_;             // of stages
  std::vector<std::vector<int>> read_by_;  // of each group: stages

  static size_t at(int i) { return static_cast<size_t>(i); }

  void wait(int group, int other) {
    before_[at(other)].push_back(group);
    waits_[at(group)]++;
  }

  // An assign's kernel waits for those that read its target before it.
  void behind_old_values() {
    NodeMap<std::vector<int>> readers;
    for (size_t g = 0; g < program_.groups.size(); g++)
      for (int i : program_.groups[g].stages)
        for (const Ref& l : loads_in(expressions(program_.stages[at(i)])))
          if (tree::space(*l->src[0]) == Space::Param)
            readers[l->src[0].get()].push_back(static_cast<int>(g));
    for (size_t i = 0; i < program_.stages.size(); i++) {
      const int output = program_.stages[i].output, home = flow_.home[i];
      if (output < 0 || at(output) >= program_.in_place.size() || program_.in_place[at(output)] < 0) continue;
      for (int g : readers[program_.inputs[at(program_.in_place[at(output)])].get()])
        if (g < home) wait(home, g);
    }
  }

  void add_stage(int s) {
    const Stage& stage = program_.stages[at(s)];
    const int home = flow_.home[at(s)];
    Stored kept{0, {}};
    const bool leaves = stage.level.leaves_kernel || program_.groups[at(home)].stages.back() == s;
    if (stage.output < 0 && leaves) {
      kept.bytes = cost::most_bytes(stage.place->dtype, tree::dims(*stage.place));
      for (int r : flow_.readers[at(s)])
        if (flow_.home[at(r)] != home) kept.readers.push_back(flow_.home[at(r)]);
      std::ranges::sort(kept.readers);
      kept.readers.erase(std::unique(kept.readers.begin(), kept.readers.end()), kept.readers.end());
    }
    read_by_.resize(program_.groups.size());
    for (int g : kept.readers) read_by_[at(g)].push_back(s);
    if (!kept.readers.empty()) change_[at(home)] += kept.bytes;
    if (kept.readers.size() == 1) change_[at(kept.readers[0])] -= kept.bytes;
    stored_.push_back(std::move(kept));
  }

  std::vector<Stored*> reads(int group) {
    std::vector<Stored*> out;
    for (int s : read_by_[at(group)]) {
      std::erase(stored_[at(s)].readers, group);
      out.push_back(&stored_[at(s)]);
    }
    return out;
  }

  // The group with which it ends, if that is one now.
  int read(const Stored& s) {
    if (s.readers.size() != 1) return -1;
    change_[at(s.readers[0])] -= s.bytes;
    return s.readers[0];
  }
};

}  // namespace

bool order_for_memory(ProgramTree& program, int64_t peak) {
  const std::vector<int> order = Ordering(program, Flow(program)).run();
  std::vector<Group> groups;
  for (int g : order) groups.push_back(std::move(program.groups[static_cast<size_t>(g)]));
  program.groups = std::move(groups);
  const StreamPlan now(program, Flow(program), {});
  return static_cast<double>(now.peak) <= cost::order_worth * static_cast<double>(peak);
}

}  // namespace kontor
