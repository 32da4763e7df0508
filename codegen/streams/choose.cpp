// stream: which kernels run several times over, each time for a piece of an axis, so that the temporaries between them fit the
// memory budget, and the caches where that costs next to nothing. A decision over the groups that fuse() made; then their loops, places and indexes are cut to pieces.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "codegen/cost.h"
#include "codegen/streams/plan.h"
#include "graph/index/index.h"

namespace kontor {

namespace {

/// The decision for the order of kernels in which less is alive, in place of a stage.
constexpr const char* ordered = "ordered";

/// Picks streams and the size of their pieces: as long as too much is alive at some kernel, the step that costs least for
/// what it frees there.
class Choice {
 public:
  Choice(ProgramTree& program, const Target& target)
      : program_(program), target_(target), flow_(program), now_(program, flow_, {}) {}

  StreamPlan run() {
    if (program_.given && program_.given->has(Matter::Stream)) follow(*program_.given);
    else if (target_.memory_budget > 0) choose();
    write_down();
    return std::move(now_);
  }

  const Flow& flow() const { return flow_; }
  /// Bytes of temporaries while nothing is cut.
  int64_t whole() const { return now_.peak; }

 private:
  ProgramTree& program_;
  const Target& target_;
  Flow flow_;
  StreamPlan now_;
  std::string why_not_;  // of the largest places at the peak

  void choose() {
    const int64_t before = now_.peak;
    const double allowed_for_caches = now_.cost * (1 + cost::caches_extra);
    if (target_.budget_is_asked)
      while (now_.peak > target_.memory_budget && shrink(INFINITY)) {}
    else aim_at_budget(now_.cost * (1 + cost::budget_extra));
    if (now_.peak <= target_.memory_budget && before > target_.memory_budget) grow();
    if (!target_.budget_is_asked && !target_.gpu && now_.peak <= target_.memory_budget)
      while (now_.peak > cost::cached_bytes(target_) && shrink(allowed_for_caches)) {}
    if (now_.axes.empty() && before <= target_.memory_budget) return;
    drop_whole();
    note(before);
  }

  // Where the steps don't get to the budget, those are kept that spent no larger share of what they may cost than they came of
  // the way: a graph whose largest arrays nothing cuts pays nothing for the others.
  void aim_at_budget(double allowed) {
    const StreamPlan before = now_;
    StreamPlan worth = now_;
    const int64_t budget = target_.memory_budget;
    const auto way = [&](int64_t peak) {
      return std::log(static_cast<double>(before.peak) / static_cast<double>(peak));
    };
    while (now_.peak > budget && shrink(allowed))
      if ((now_.cost - before.cost) * way(budget) <= (allowed - before.cost) * way(now_.peak)) worth = now_;
    if (now_.peak > budget) now_ = std::move(worth);
  }

  // ---- decisions as text

  void follow(const Decisions& given) {
    for (const Decision& d : given.all()) {
      if (d.verb != Verb::Stream && d.verb != Verb::Block) continue;
      d.used = true;
      if (d.stage == "none" || d.stage == ordered) continue;
      std::vector<Axis> axes = now_.axes;
      Axis axis = given_axis(d, axes);
      axes.push_back(std::move(axis));
      StreamPlan plan(program_, flow_, std::move(axes));
      if (!plan.order.possible) reject(d, "its pieces and those of another would wait for each other");
      now_ = std::move(plan);
    }
  }

  Axis given_axis(const Decision& d, std::vector<Axis>& others) {
    if (d.words.size() < 2) reject(d, "it needs a loop of the stage and a number of elements");
    if (d.verb == Verb::Block && target_.gpu) reject(d, "on a GPU pieces are launches as yet");
    const int number = stage_named(d, d.stage);
    Wanted wanted{number, dim_named(d, number), home_of(number)};
    for (size_t k = 2; k < d.words.size(); k++) wanted.exactly.push_back(home_of(stage_named(d, d.words[k])));
    std::sort(wanted.exactly.begin(), wanted.exactly.end());
    wanted.exactly.erase(std::unique(wanted.exactly.begin(), wanted.exactly.end()), wanted.exactly.end());
    Axis axis = find_axis(program_, flow_, wanted, others);
    if (axis.groups.empty()) reject(d, axis.why);
    const std::string& size = d.words[1];
    const auto [end, wrong] = std::from_chars(size.data(), size.data() + size.size(), axis.chunk);
    if (wrong != std::errc() || end != size.data() + size.size() || axis.chunk < 1 ||
        axis.chunk > axis.extent || axis.chunk % axis.granule != 0)
      reject(d,
             fmt::format("pieces are multiples of {}, {} at most, not {}", axis.granule, axis.extent, size));
    if ((axis.folds || d.verb == Verb::Block) && axis.extent % axis.chunk != 0)
      reject(d, fmt::format("{} does not divide {}, and pieces must not overlap", size, axis.extent));
    if (d.verb == Verb::Block) axis.block = d.text();
    return axis;
  }

  int home_of(int stage) const { return flow_.home[static_cast<size_t>(stage)]; }

  int stage_named(const Decision& d, const std::string& wanted) const {
    for (size_t i = 0; i < program_.stages.size(); i++)
      if (program_.stages[i].name == wanted) return static_cast<int>(i);
    reject(d, fmt::format("no stage is called {}", wanted));
  }

  int dim_named(const Decision& d, int number) const {
    const Stage& s = program_.stages[static_cast<size_t>(number)];
    const std::vector<std::string>& names = s.level.loops;
    const auto at = std::find(names.begin(), names.end(), d.words[0]);
    if (at == names.end()) reject(d, fmt::format("the loops of {} are {}", s.name, fmt::join(names, ", ")));
    return static_cast<int>(at - names.begin());
  }

  void write_down() {
    for (const Axis& a : now_.axes) {
      const Stage& s = program_.stages[static_cast<size_t>(a.found_at)];
      Decision d{a.block.empty() ? Verb::Stream : Verb::Block, s.name};
      d.words = {s.level.loops[static_cast<size_t>(a.dim)], fmt::format("{}", a.chunk)};
      for (int g : a.groups)
        d.words.push_back(
            program_.stages[static_cast<size_t>(program_.groups[static_cast<size_t>(g)].founder)].name);
      program_.decided.add(std::move(d));
    }
    if (now_.axes.empty()) program_.decided.add({Verb::Stream, "none"});
  }

  bool shrink(double allowed) {
    std::optional<StreamPlan> best;
    double best_score = INFINITY;
    // Whether the streams are possible at all.
    auto consider = [&](const std::vector<Axis>& axes) {
      StreamPlan trial(program_, flow_, axes);
      if (!trial.order.possible) return false;
      const double before = static_cast<double>(now_.alive_at(now_.worst));
      const double after = static_cast<double>(trial.alive_at(now_.worst));
      if (after >= before || trial.cost > allowed || !trial.needs_less_than(now_)) return true;
      const double score = (trial.cost - now_.cost + 1) / std::log(before / std::max(after, 1.0));
      if (score < best_score) best_score = score, best.emplace(std::move(trial));
      return true;
    };
    for (size_t a = 0; a < now_.axes.size(); a++) {
      if (!now_.axes[a].has(now_.worst)) continue;
      std::vector<Axis> axes = now_.axes;
      while (smaller(axes[a]) && !consider(axes)) {}
    }
    for (Trial& t : with_fresh_axis())
      while (smaller(t.axes.back()) && !consider(t.axes)) {}
    if (!best) return false;
    now_ = std::move(*best);
    return true;
  }

  static bool smaller(Axis& axis) {
    for (int64_t size : axis.sizes())
      if (size < axis.chunk) return axis.chunk = size, true;
    return false;
  }

  // The axes with one more, along what is alive at the worst kernel and not streamed there yet.
  struct Trial {
    std::vector<Axis> axes;
    bool around;
  };
  std::vector<Trial> with_fresh_axis() {
    std::vector<Trial> found;
    why_not_.clear();
    const std::vector<int> stages = now_.largest();
    for (size_t n = 0; n < stages.size() && n < cost::streamed_along; n++) {
      const Stage& s = program_.stages[static_cast<size_t>(stages[n])];
      for (size_t d = 0; d < s.loops.size(); d++) {
        for (const bool around : {false, true}) {
          if (known(stages[n], static_cast<int>(d), around, found)) continue;
          std::vector<Axis> axes = now_.axes;
          Axis fresh = find_axis(
              program_, flow_,
              {stages[n], static_cast<int>(d), now_.worst, around, cost::little_memory(target_)}, axes);
          axes.push_back(std::move(fresh));
          if (!axes.back().groups.empty()) found.push_back({std::move(axes), around});
          else if (n < 2 && !around)
            why_not_ += fmt::format("  dimension {} of {}: {}\n", d, s.name, axes.back().why);
        }
      }
    }
    return found;
  }

  bool known(int stage, int dim, bool around, const std::vector<Trial>& found) const {
    auto runs_along = [&](const Axis& a) { return a.of(stage) && a.of(stage)->dim == dim; };
    auto found_before = [&](const Trial& t) { return t.around == around && runs_along(t.axes.back()); };
    auto streamed = [&](const Axis& a) { return runs_along(a) && a.has(now_.worst); };
    return std::any_of(found.begin(), found.end(), found_before) ||
           (!around && std::any_of(now_.axes.begin(), now_.axes.end(), streamed));
  }

  // Larger pieces where the budget has room for them.
  void grow() {
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t a = 0; a < now_.axes.size(); a++) {
        std::vector<Axis> axes = now_.axes;
        if (!larger(axes[a])) continue;
        StreamPlan trial(program_, flow_, std::move(axes));
        if (!trial.order.possible || trial.peak > target_.memory_budget || trial.cost >= now_.cost) continue;
        now_ = std::move(trial);
        changed = true;
      }
    }
  }

  static bool larger(Axis& axis) {
    const std::vector<int64_t> sizes = axis.sizes();
    for (size_t i = sizes.size(); i-- > 0;)
      if (sizes[i] > axis.chunk) return axis.chunk = sizes[i], true;
    return false;
  }

  void drop_whole() {
    std::vector<Axis> axes = now_.axes;
    std::erase_if(axes, [](const Axis& a) { return a.chunk == a.extent; });
    if (axes.size() != now_.axes.size()) now_ = StreamPlan(program_, flow_, std::move(axes));
  }

  const std::string& name_of(int group) const {
    return program_.stages[static_cast<size_t>(program_.groups[static_cast<size_t>(group)].stages.back())]
        .name;
  }

  void note(int64_t before) {
    program_.notes += fmt::format("stream: {} bytes of temporaries, {} in pieces, for a budget of {}\n",
                                  before, now_.peak, target_.memory_budget);
    for (const ScheduledStream& s : now_.order.streams)
      program_.notes +=
          fmt::format("stream {}: {} by {}, kernels {} to {}\n", s.name, s.extent, s.chunk, s.first, s.last);
    if (now_.peak > target_.memory_budget)
      program_.notes += fmt::format("stream: no more, since {} needs {} bytes\n{}", name_of(now_.worst),
                                    now_.alive_at(now_.worst), why_not_);
  }
};

bool is_ordered(const Decision& d) { return d.verb == Verb::Stream && d.stage == ordered; }

/// Bytes of temporaries without pieces, and with them.
struct Needs {
  int64_t whole, left;
};

Needs run_in_pieces(ProgramTree& program, const Target& target) {
  Choice choice(program, target);
  const int64_t whole = choice.whole();
  StreamPlan plan = choice.run();
  const int64_t left = plan.peak;
  if (!plan.axes.empty()) cut_to_pieces(program, choice.flow(), plan);
  return {whole, left};
}

}  // namespace

void stream(ProgramTree& program, const Target& target) {
  const bool given = program.given && program.given->has(Matter::Stream);
  if (program.groups.empty() || (target.memory_budget <= 0 && !given)) return;
  if (given && std::ranges::any_of(program.given->all(), is_ordered)) {
    order_for_memory(program, 0);
    program.decided.add({Verb::Stream, ordered});
  }
  std::optional<ProgramTree> before;
  if (!given) before = program;
  const Needs needs = run_in_pieces(program, target);
  if (given || needs.left <= target.memory_budget || !order_for_memory(*before, needs.whole)) return;
  before->decided.add({Verb::Stream, ordered});
  const double left = static_cast<double>(run_in_pieces(*before, target).left);
  if (left <= cost::order_worth * static_cast<double>(needs.left)) program = std::move(*before);
}

}  // namespace kontor
