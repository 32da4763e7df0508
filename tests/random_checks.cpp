// See random_checks.h.
#include "tests/random_checks.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <sstream>

#include "backends/gpu.h"
#include "base/error.h"
#include "base/threefry.h"
#include "codegen/tree/text.h"
#include "graph/text/text.h"
#include "graph/transforms/gradient.h"

namespace kontor {

namespace {

/// Where the evaluator reports an error, values may not be computed that a smaller program leaves out: an error that is
/// only the evaluator's is none, and one in what is cut away may be reported.
std::string against(const Run& run, Evaluation wanted) {
  if (run.error.empty()) wanted.error.clear();
  else if (wanted.error.empty() && !wanted.cut_away.empty()) wanted.error = run.error;
  return difference(run, wanted);
}

// ---- decisions ------------------------------------------------------------------------------------------------------------

/// Kernels, their memory and streams, without the notes.
std::string outline(const Schedule& s) {
  std::string out;
  for (const ScheduledKernel& k : s.kernels)
    out += fmt::format("{}buffers {}\n", tree::print(k.tree), fmt::join(k.buffers, " "));
  for (const ScheduledStream& t : s.streams)
    out += fmt::format("stream {} {} {} {} {}\n", t.name, t.first, t.last, t.extent, t.chunk);
  return out;
}

/// Draws from what there is: most decisions stay, a few go or become others of their kind.
class Changes {
 public:
  Changes(const Decisions& of, uint64_t seed) : list_(of.all()), seed_(seed) {
    for (const Decision& d : list_) {
      const bool joins = d.verb == Verb::At || d.verb == Verb::Inline || d.verb == Verb::Fuse;
      if (joins) kernels_.push_back(d.words[0]);
      if (d.verb == Verb::Store) kernels_.push_back(d.stage);
      if (d.verb == Verb::Layout) loops_.emplace_back(d.stage, d.words[0]);
    }
  }

  Decisions make() {
    Decisions out;
    const uint64_t rate = 2 + draw(2 * list_.size());
    bool streams = false;
    for (const Decision& d : list_) {
      Decision changed{d.verb, d.stage, d.words};
      if (d.verb == Verb::Stream && d.stage == "none") continue;
      if (one_in(rate) && !change(changed)) continue;
      streams = streams || changed.verb == Verb::Stream || changed.verb == Verb::Block;
      out.add(std::move(changed));
    }
    if (!streams && one_in(2) && !loops_.empty()) {
      const auto& [stage, loop] = loops_[draw(loops_.size())];
      out.add({one_in(3) ? Verb::Stream : Verb::Block, stage, {loop, fmt::format("{}", 1 + draw(4))}});
    }
    return out;
  }

 private:
  const std::vector<Decision>& list_;
  std::vector<std::string> kernels_;                        // what a level may name: stages and loops
  std::vector<std::pair<std::string, std::string>> loops_;  // of stages
  uint64_t seed_, count_ = 0;

  uint64_t draw(uint64_t n) { return (random_bits64(seed_, count_++) >> 20) % n; }
  bool one_in(uint64_t n) { return draw(n) == 0; }

  // False: it is taken out, and the pass chooses.
  bool change(Decision& d) {
    if (one_in(3)) return false;
    switch (d.verb) {
      case Verb::Layout:
        d.words[0] =
            one_in(3) ? "-" : std::string(1, static_cast<char>('i' + draw(3))) + d.words[0].substr(1);
        return true;
      case Verb::Store:
      case Verb::At:
      case Verb::Inline:
      case Verb::Fuse:
        if (one_in(2)) d = {Verb::Store, d.stage};
        else d = {Verb::At, d.stage, {kernels_[draw(kernels_.size())]}};
        return true;
      case Verb::Stream:
      case Verb::Block:
        if (one_in(2)) d.verb = Verb::Block;
        else d.words[1] = fmt::format("{}", 1 + draw(8));
        return true;
      case Verb::Moves: d.words = {"none"}; return true;
    }
    return true;
  }
};

bool is_of_a_decision(const std::string& error) { return error.starts_with("the decision '"); }

// ---- gradients by finite differences ----------------------------------------------------------------------------------

/// sum(output * weights) over the float outputs, and how large its terms are.
struct Loss {
  Ref value, magnitude;
  std::vector<Ref> leaves;
};

Loss loss_of(const Graph& graph) {
  Loss loss;
  for (const Ref& o : graph.outputs) {
    if (!is_float(o->dtype)) continue;
    Ref flat = fn::cast(fn::reshape(o, {index(-1)}), DType::F64);
    Ref weight = fn::unary("sin", fn::cast(fn::iota(flat->shape[0], DType::I64), DType::F64));
    Ref term = fn::mul(flat, fn::add(weight, 1.5));
    Ref part = fn::sum(term, {}, false), size = fn::sum(fn::abs(term), {}, false);
    loss.value = loss.value ? fn::add(loss.value, part) : part;
    loss.magnitude = loss.magnitude ? fn::add(loss.magnitude, size) : size;
  }
  for (const Ref& i : graph.inputs)
    if (is_float(i->dtype)) loss.leaves.push_back(i);
  return loss;
}

/// The inputs of `graph` in its own order, those of `c`.
std::vector<Array> inputs_for(const Graph& graph, const Case& c) {
  std::vector<Array> out;
  for (const Ref& i : graph.inputs)
    for (size_t k = 0; k < c.graph.inputs.size(); k++)
      if (c.graph.inputs[k] == i) out.push_back(c.inputs[k]);
  return out;
}

/// Never 0, and of few bits: an element of 10^9 moves by just so much too.
double direction(size_t input, int64_t element) {
  const uint64_t bits = random_bits64(input + 17, static_cast<uint64_t>(element)) >> 56;
  return static_cast<double>(2 * bits + 1) / 256 - 1;
}

/// An op whose value jumps: a staircase of fine steps has another slope from afar than anywhere on it.
bool jumps(const Node& n) {
  bool of_floats = !n.src.empty() && is_float(n.src[0]->dtype);
  return n.op == Op::Floor || n.op == Op::Ceil ||
         (of_floats && (has(n.op, Comparison) || (n.op == Op::Cast && !is_float(n.dtype))));
}

class Slope {
 public:
  Slope(const Case& c, const Loss& loss) : c_(c), graph_(make_graph({loss.value})) {
    std::vector<Ref> steps;
    for (const Node* n : topological(graph_.outputs))
      if (jumps(*n)) steps.push_back(Ref(n));
    steps_ = make_graph(steps);
  }

  double at(double step) const { return to_double(DType::F64, moved(graph_, step)[0].get(0)); }
  /// The slope by two steps, that of the shorter one less what both say that it is wrong by.
  double extrapolated(double h) const {
    const double wide = (at(h) - at(-h)) / (2 * h), narrow = (at(h / 2) - at(-h / 2)) / h;
    return (4 * narrow - wide) / 3;
  }
  /// Whether something jumps between here and there.
  bool jumps_within(double step) const {
    return moved(steps_, 0) != moved(steps_, step) || moved(steps_, 0) != moved(steps_, -step);
  }

 private:
  const Case& c_;
  Graph graph_, steps_;

  std::vector<Array> moved(const Graph& graph, double step) const {
    std::vector<Array> inputs = inputs_for(graph, c_);
    for (size_t i = 0; i < inputs.size(); i++)
      for (int64_t k = 0; is_float(inputs[i].dtype) && k < inputs[i].size(); k++) {
        double value =
            to_double(inputs[i].dtype, inputs[i].get(k)) + step * direction(number(graph.inputs[i]), k);
        inputs[i].set(k, from_double(inputs[i].dtype, value));
      }
    return evaluate_graph(graph, inputs, scalars_of(graph)).outputs;
  }

  size_t number(const Ref& input) const {
    for (size_t k = 0; k < c_.graph.inputs.size(); k++)
      if (c_.graph.inputs[k] == input) return k;
    broken("an input of another graph");
  }
};

/// "" if the slope along the direction is `wanted`, or cannot be measured: at a kink or a jump.
std::string against_slope(const Slope& loss, double wanted, double scale, double magnitude, bool& measured) {
  constexpr double h = 1.0 / 4096;
  double zero = loss.at(0), far[] = {loss.at(h), loss.at(-h)}, near[] = {loss.at(h / 2), loss.at(-h / 2)};
  double wide = (far[0] - far[1]) / (2 * h), narrow = (near[0] - near[1]) / h;
  double bend = (far[0] - 2 * zero + far[1]) / h, half_bend = (near[0] - 2 * zero + near[1]) / (h / 2);
  double slope = (4 * narrow - wide) / 3, kink = 2 * half_bend - bend;
  double noise = 1e-13 * (magnitude + std::fabs(zero)) / h, tolerance = 1e-5 * scale + noise;
  measured = std::isfinite(wanted) && std::isfinite(slope) &&
             std::fabs(wide - narrow) < 1e-3 * scale + noise && std::fabs(kink) < tolerance &&
             noise < 1e-2 * scale + 1e-6;
  if (!measured || std::fabs(slope - wanted) <= tolerance) return "";
  if (loss.jumps_within(h)) return measured = false, "";
  // How far the slope is from that of steps an eighth as long is what it may be wrong by: a line that bends much.
  const double finer = loss.extrapolated(h / 8);
  if (std::fabs(finer - wanted) <= tolerance + 7 * noise) return "";
  if (std::fabs(finer - slope) > tolerance + 7 * noise) return measured = false, "";
  return fmt::format("gradient along the direction is {}, finite differences say {} (scale {})", wanted,
                     slope, scale);
}

/// The slope along the direction by the gradients, and how large its terms are.
struct Along {
  double slope = 0, scale = 1e-6;
};

Along along(const Case& c, const Loss& loss, std::span<const Array> gradients) {
  Along sum;
  for (size_t k = 0; k < loss.leaves.size(); k++) {
    size_t input = 0;
    while (c.graph.inputs[input] != loss.leaves[k]) input++;
    for (int64_t e = 0; e < gradients[k].size(); e++) {
      const double part = to_double(gradients[k].dtype, gradients[k].get(e)) * direction(input, e);
      sum.slope += part;
      sum.scale += std::fabs(part);
    }
  }
  return sum;
}

/// The inputs, each float `step` aside, on another line than direction()'s: on line 1, 2, ..
std::vector<Array> beside(std::vector<Array> inputs, double step, size_t line = 1) {
  for (size_t i = 0; i < inputs.size(); i++)
    for (int64_t k = 0; is_float(inputs[i].dtype) && k < inputs[i].size(); k++)
      inputs[i].set(k, from_double(inputs[i].dtype, to_double(inputs[i].dtype, inputs[i].get(k)) +
                                                        step * direction(i + 99 * line, k)));
  return inputs;
}

/// How little the slope is to be believed. How far that of the loss times a factor is from the factor times the slope: where
/// large terms cancel, roundings are left, others for each factor. And how far it is from the slope beside: a kink need not
/// bend the line through it (the largest of several equal elements is positive both ways).
double unrest(const Case& c, const Loss& loss, double slope) {
  const Graph same = make_graph(gradient(loss.value, loss.leaves));
  const Evaluation there = evaluate_graph(same, beside(inputs_for(same, c), 1e-9), scalars_of(same));
  double most = std::fabs(along(c, loss, there.outputs).slope - slope);
  for (double factor : {1.1, 0.7, 1.3, 0.9}) {
    const Graph scaled = make_graph(gradient(fn::mul(loss.value, factor), loss.leaves));
    const Evaluation found = evaluate_graph(scaled, inputs_for(scaled, c), scalars_of(scaled));
    most = std::max(most, std::fabs(along(c, loss, found.outputs).slope / factor - slope));
  }
  return most;
}

/// Whether the slope jumps beside: what it changes by is as much half as far away. Of several elements that a sort takes for equal
/// (their keys may be coarser than they are) the first is the median, and a line through all of them has no kink.
bool jumps_beside(const Case& c, const Loss& loss, double slope, double scale) {
  const Graph same = make_graph(gradient(loss.value, loss.leaves));
  const auto change = [&](double step, size_t line) {
    const Evaluation there = evaluate_graph(same, beside(inputs_for(same, c), step, line), scalars_of(same));
    return std::fabs(along(c, loss, there.outputs).slope - slope);
  };
  for (size_t line = 1; line <= 8; line++)
    if (const double far = change(1e-4, line); far > 1e-3 * scale && change(0.5e-4, line) > 0.9 * far)
      return true;
  return false;
}

}  // namespace

std::string check_gradients(const Case& c, const Target& target, bool* measured) {
  bool unused = false;
  if (!measured) measured = &unused;
  *measured = false;
  Loss loss = loss_of(c.graph);
  if (!loss.value || loss.leaves.empty()) return "";
  std::vector<Ref> outputs{loss.value, loss.magnitude};
  std::vector<Ref> slopes = gradient(loss.value, loss.leaves);
  outputs.insert(outputs.end(), slopes.begin(), slopes.end());
  Case with{make_graph(outputs), {}};
  with.inputs = inputs_for(with.graph, c);
  with.scalars = scalars_of(with.graph);
  Evaluation found = evaluate_graph(with.graph, with.inputs, with.scalars);
  const auto [wanted, scale] = along(c, loss, std::span(found.outputs).subspan(2));
  const double magnitude = to_double(DType::F64, found.outputs[1].get(0));
  const Slope slope(c, loss);
  std::string wrong = against_slope(slope, wanted, scale, magnitude, *measured);
  if (!wrong.empty())  // asked only now, since it takes as long as all the rest
    wrong = against_slope(slope, wanted, scale + 1e6 * unrest(c, loss, wanted), magnitude, *measured);
  if (!wrong.empty() && jumps_beside(c, loss, wanted, scale)) *measured = false, wrong.clear();
  if (!wrong.empty()) return wrong;
  wrong = against(run_trees(with.graph, target, with.inputs, with.scalars), found);
  return wrong.empty() ? "" : "gradient as loop trees: " + wrong;
}

Target some_target(uint64_t seed) {
  switch (seed % 8) {
    case 0: return {.vector_bytes = 32, .vector_registers = 16, .threads = 2};
    case 1:
      return {.vector_bytes = 16,
              .vector_registers = 16,
              .l1 = 4096,
              .l2 = 32768,
              .place_bytes = 2048,
              .threads = 4};
    case 2:  return {.threads = 2, .memory_budget = 1, .budget_is_asked = true};
    case 3:  return {.threads = 2, .memory_budget = 256, .budget_is_asked = true};
    case 4:  return gpu_target();
    case 5:  return {.vector_bytes = 32, .threads = 1, .memory_budget = 2048, .budget_is_asked = true};
    default: return {.threads = 2};
  }
}

Check lowered(const Target& target) {
  return [target](const Case& c) {
    return against(run_trees(c.graph, target, c.inputs, c.scalars),
                   evaluate_graph(c.graph, c.inputs, c.scalars));
  };
}

/// What `run` says by lists changed at random, where these can be followed: "" or what differs, and by which list.
static std::string by_changed(const Decisions& chosen, uint64_t seed, uint64_t lists,
                              const std::function<std::string(const Decisions&)>& run) {
  for (uint64_t k = 0; k < lists; k++) {
    const Decisions changed = Changes(chosen, seed * lists + k).make();
    std::string wrong;
    try {
      wrong = run(changed);
    } catch (const std::exception& error) {
      if (!is_of_a_decision(error.what())) wrong = std::string("throws: ") + error.what();
    }
    if (!wrong.empty()) return fmt::format("decided otherwise: {}\n{}", wrong, print(changed));
  }
  return "";
}

Check decided(const Target& target, uint64_t seed) {
  return [target, seed](const Case& c) -> std::string {
    const Schedule chosen = schedule(c.graph, target);
    const std::string text = print(chosen.decisions);
    if (outline(schedule(c.graph, target, parse_decisions(text))) != outline(chosen))
      return "its own decisions make other kernels:\n" + text;
    const Evaluation wanted = evaluate_graph(c.graph, c.inputs, c.scalars);
    const auto with = [&](const Decisions& given) {
      return against(run_trees(c.graph, target, c.inputs, c.scalars, given), wanted);
    };
    if (std::string wrong = with(unfused(chosen.decisions)); !wrong.empty()) return "unfused: " + wrong;
    return by_changed(chosen.decisions, seed, 4, with);
  };
}

Check decided(Backend& backend, uint64_t seed) {
  return [&backend, seed](const Case& c) -> std::string {
    const Evaluation wanted = evaluate_graph(c.graph, c.inputs, c.scalars);
    return by_changed(schedule(c.graph, backend.target()).decisions, seed, 2, [&](const Decisions& given) {
      return against(run_graph(c.graph, backend, c.inputs, c.scalars, 0, given), wanted);
    });
  };
}

Check on_device(Backend& backend) {
  return [&backend](const Case& c) {
    return against(run_graph(c.graph, backend, c.inputs, c.scalars),
                   evaluate_graph(c.graph, c.inputs, c.scalars));
  };
}

std::string kind_of_failure(const std::string& text) {
  std::string out;
  std::istringstream words(text.substr(0, text.find('\n')));
  for (std::string word; words >> word && out.size() < 60;)
    out += (out.empty() ? "" : " ") + (word.find_first_of("0123456789") == std::string::npos ? word : "#");
  return out;
}

std::string verdict(const Case& c, const Check& check) {
  try {
    return check(c);
  } catch (const std::exception& thrown) {
    return std::string("throws: ") + thrown.what();
  }
}

Check isolated(Check check) {
  return [check = std::move(check)](const Case& c) {
    int ends[2];
    if (::pipe(ends) != 0) broken("no pipe");
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(20);                                                  // a hang is a crash too
      const std::string found = verdict(c, check).substr(0, 4000);  // a pipe holds that much without a reader
      ::_exit(::write(ends[1], found.data(), found.size()) == static_cast<ssize_t>(found.size()) ? 0 : 1);
    }
    ::close(ends[1]);
    std::string found(4096, ' ');
    ssize_t got = 0, part = 0;
    while ((part = ::read(ends[0], found.data() + got, found.size() - static_cast<size_t>(got))) > 0)
      got += part;
    ::close(ends[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) return fmt::format("crash, signal {}", WTERMSIG(status));
    return found.substr(0, static_cast<size_t>(got));
  };
}

Trial try_seed(uint64_t seed, const CaseOptions& options, const Check& check, bool shrinks,
               Coverage* coverage) {
  Trial trial;
  try {
    Case c = random_case(seed, options);
    if (coverage) coverage->add(c);
    trial.difference = verdict(c, check);
    if (trial.difference.empty()) return trial;
    trial.report = fmt::format("seed {}: {}\n", seed, trial.difference);
    if (shrinks) {
      const std::string kind = kind_of_failure(trial.difference);
      Case small =
          shrink(c, [&](const Case& smaller) { return kind_of_failure(verdict(smaller, check)) == kind; });
      trial.report += fmt::format("shrunk: {}\n{}", verdict(small, check), describe(small));
    } else {
      trial.report += print(c.graph);
    }
  } catch (const std::exception& thrown) {
    trial.difference = std::string("while it was made: ") + thrown.what();
    trial.report += fmt::format("seed {}: {}\n", seed, trial.difference);
  }
  return trial;
}

}  // namespace kontor
