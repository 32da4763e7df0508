// schedule(): the passes of codegen in order.
#include "codegen/schedule.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "codegen/moves/choose.h"
#include "codegen/moves/moves.h"
#include "codegen/program/blocks.h"
#include "codegen/stages/stage.h"
#include "codegen/tree/substitute.h"
#include "codegen/tree/verify.h"
#include "codegen/tree/walk.h"
#include "graph/index/index.h"
#include "graph/rules/rules.h"
#include "graph/transforms/pair_dots.h"
#include "graph/verify.h"

namespace kontor {

namespace {

std::string kernel_name(const ProgramTree& program, const Group& group, size_t number) {
  std::string name = fmt::format("k{}", number);
  for (int i : group.stages) {
    const Stage& s = program.stages[static_cast<size_t>(i)];
    if (!is_fold(s) || name.size() > 24) continue;
    name += fmt::format("_{}", s.scatter_at.empty() ? plain_name(static_cast<Fold>(s.fold)) : "scatter");
  }
  const Stage& root = program.stages[static_cast<size_t>(group.stages.back())];
  if (!is_fold(root)) name += root.given.empty() ? "_map" : "_sort";
  for (const Ref& l : root.loops)
    name += l->src[0]->is_const() ? fmt::format("_{}", extent(l->src[0])) : "_n";
  return name;
}

// What fusion decided for the stages of a kernel but the one whose loops they share.
std::string placements(const ProgramTree& program, const Group& group) {
  std::vector<std::string> placed;
  for (int i : group.stages)
    if (i != group.founder) placed.push_back(level_of(program.stages[static_cast<size_t>(i)]).text());
  return fmt::format("{}", fmt::join(placed, "; "));
}

// Whether such a device has the loops that a move makes.
bool has_loops_of(const Target& target, MoveKind move) {
  switch (move) {
    case MoveKind::Thread: return !target.gpu;
    case MoveKind::Global: return target.gpu;
    case MoveKind::Local:
    case MoveKind::Matrix:
    case MoveKind::Share:
    case MoveKind::Lane:   return target.lanes == warp;
    default:               return true;
  }
}

Moved given_moves(const Decision& given, const Ref& tree, const Target& target) {
  Moved moved{{}, tree};
  if (given.words[0] == "none") return moved;
  try {
    moved.moves = parse_moves(fmt::format("{}", fmt::join(given.words, " ")));
    for (const Move& m : moved.moves)
      if (!has_loops_of(target, m.kind)) fail("the device has no loops of '{}'", to_string(std::span(&m, 1)));
    moved.tree = apply_moves(tree, moved.moves);
    require_sound_tree(normalise(moved.tree), "its moves");
  } catch (const std::exception& error) {
    reject(given, error.what());
  }
  return moved;
}

// The moves of a kernel: as decided, else chosen. A kernel that stages were put into by hand may be one for which none are
// known: then it runs as it is.
Moved moves_of(ProgramTree& program, const Group& group, const Ref& tree, const Target& target) {
  const Stage& founder = program.stages[static_cast<size_t>(group.founder)];
  if (const Decision* given = program.given_of(Matter::Moves, founder))
    return given_moves(*given, tree, target);
  if (!program.given->has(Matter::Level)) return choose_moves(program, group, tree, target);
  try {
    return choose_moves(program, group, tree, target);
  } catch (const Error& error) {
    program.notes += fmt::format("{} has no moves: {}\n", founder.name, error.what());
    return {{}, tree};
  }
}

bool in_block(const ProgramTree& program, size_t group) {
  return std::any_of(program.streams.begin(), program.streams.end(), [&](const ScheduledStream& s) {
    return !s.block.empty() && s.first <= group && group <= s.last;
  });
}

std::vector<PlannedKernel> make_kernels(ProgramTree& program, const Target& target) {
  Target part = target;
  part.threads = 0;
  std::vector<PlannedKernel> kernels;
  for (size_t g = 0; g < program.groups.size(); g++) {
    const Group& group = program.groups[g];
    PlannedKernel made;
    ScheduledKernel& kernel = made.kernel;
    kernel.tree = normalise(build_tree(program, group, kernel_name(program, group, g), made.buffers));
    const Moved moved = moves_of(program, group, kernel.tree, in_block(program, g) ? part : target);
    kernel.tree = normalise(moved.tree);
    kernel.moves = to_string(moved.moves);
    const std::string& founder = program.stages[static_cast<size_t>(group.founder)].name;
    program.decided.add({Verb::Moves, founder, {kernel.moves.empty() ? "none" : kernel.moves}});
    kernel.placed = placements(program, group);
    kernel.work = work_of(program, group);
    kernel.shares = tree::work_items(*kernel.tree);
    kernel.checks = program.checks;
    kernels.push_back(std::move(made));
  }
  join_blocks(program, kernels, target);
  return kernels;
}

class Plan {
 public:
  explicit Plan(const ProgramTree& program) : program_(program) {
    for (size_t i = 0; i < program.inputs.size(); i++) {
      const Ref& p = program.inputs[i];
      const int number = static_cast<int>(i);
      add({BufferRef::Input, number}, {ScheduledBuffer::Input, number, p->dtype, p->src, false});
    }
    for (size_t o = 0; o < program.in_place.size(); o++)
      if (program.in_place[o] >= 0) {
        const Ref& p = program.inputs[static_cast<size_t>(program.in_place[o])];
        schedule_.buffers.push_back({ScheduledBuffer::Output, static_cast<int>(o), p->dtype, p->src, true});
      }
  }

  void add_kernel(ScheduledKernel kernel, const std::vector<BufferRef>& buffers) {
    for (const BufferRef& b : buffers) kernel.buffers.push_back(number_of(b));
    schedule_.kernels.push_back(std::move(kernel));
  }

  Schedule take() { return std::move(schedule_); }

 private:
  const ProgramTree& program_;
  Schedule schedule_;
  std::map<BufferRef, int> number_;
  int temporaries_ = 0;

  int add(BufferRef ref, ScheduledBuffer b) {
    schedule_.buffers.push_back(std::move(b));
    return number_[ref] = static_cast<int>(schedule_.buffers.size()) - 1;
  }

  int number_of(BufferRef ref) {
    if (auto it = number_.find(ref); it != number_.end()) return it->second;
    const Stage& s = program_.stages[static_cast<size_t>(ref.number)];
    if (ref.kind == BufferRef::Accumulator) {
      const std::span<const Ref> dims = tree::dims(*s.piece.accumulator.place);
      return add(ref, {ScheduledBuffer::Temporary,
                       temporaries_++,
                       s.place->dtype,
                       {dims.begin(), dims.end()},
                       false,
                       s.piece.accumulator.stream});
    }
    const bool output = s.output >= 0;
    return add(ref, {output ? ScheduledBuffer::Output : ScheduledBuffer::Temporary,
                     output ? s.output : temporaries_++, s.place->dtype,
                     in_memory_order(program_, s.place, tree::dims(*s.place)), false});
  }
};

}  // namespace

// A kernel within a stream touches what outlives a piece in every piece.
std::vector<Lifetime> lifetimes(const Schedule& schedule) {
  std::vector<std::vector<int>> touched(schedule.buffers.size());
  for (size_t k = 0; k < schedule.kernels.size(); k++)
    for (int b : schedule.kernels[k].buffers) touched[static_cast<size_t>(b)].push_back(static_cast<int>(k));
  std::vector<Lifetime> lives;
  for (size_t b = 0; b < schedule.buffers.size(); b++)
    lives.push_back(lifetime(touched[b], schedule.streams, schedule.buffers[b].stream));
  return lives;
}

Lifetime lifetime(std::span<const int> touched, std::span<const ScheduledStream> streams, int kept) {
  Lifetime life;
  if (touched.empty()) return life;
  life.first = *std::min_element(touched.begin(), touched.end());
  life.last = *std::max_element(touched.begin(), touched.end());
  for (size_t i = streams.size(); i-- > 0;) {  // inner ones first
    const int first = static_cast<int>(streams[i].first), last = static_cast<int>(streams[i].last);
    const bool apart = life.last < first || last < life.first;
    const bool within = first <= life.first && life.last <= last && static_cast<int>(i) != kept;
    if (apart || within) continue;
    const bool used =
        std::any_of(touched.begin(), touched.end(), [&](int k) { return first <= k && k <= last; });
    if (!used) continue;
    life.first = std::min(life.first, first);
    life.last = std::max(life.last, last);
  }
  return life;
}

#ifdef NDEBUG
static constexpr bool verifies = false;
#else
static constexpr bool verifies = true;  // debug builds, and so the tests of one
#endif

std::vector<GraphPass> passes_of(const Target& target) {
  std::vector<GraphPass> passes;
  if (target.fast && target.natives.bf16_pairs) passes.push_back({"pair_dots", with_pair_dots});
  passes.push_back({"rules", [](const Graph& graph) {
                      Graph out = graph;
                      out.outputs = canonical(graph.outputs);
                      return out;
                    }});
  return passes;
}

Schedule schedule(const Graph& recorded, const Target& target, const Decisions& given) {
  const Graph graph = run_passes(recorded, passes_of(target), [](const GraphPass& pass, const Graph& made) {
    if (verifies) require_sound(made, pass.name);
  });
  ProgramTree program = lower(graph, target);
  program.in_place = graph.target;
  program.slots = graph.scalars.size();
  program.given = &given;
  choose_layouts(program, target);
  fuse(program, target);
  stream(program, target);
  choose_in_place(program);
  std::vector<PlannedKernel> kernels = make_kernels(program, target);
  given.require_followed();
  Plan plan(program);
  for (PlannedKernel& k : kernels) {
    if (verifies) require_sound_tree(k.kernel.tree, k.kernel.moves);
    plan.add_kernel(std::move(k.kernel), k.buffers);
  }
  Schedule out = plan.take();
  out.streams = std::move(program.streams);
  out.notes = std::move(program.notes);
  out.decisions = std::move(program.decided);
  return out;
}

std::string failed_check(std::span<const std::string> checks, int64_t error) {
  const int64_t id = error & ((int64_t{1} << tree::check_id_bits) - 1), shown = error >> tree::check_id_bits;
  if (id == 0 || id > static_cast<int64_t>(checks.size())) return fmt::format("a kernel's error {}", error);
  std::string text = checks[static_cast<size_t>(id) - 1];
  const bool cut = shown == tree::most_shown || shown == -tree::most_shown;
  if (const size_t at = text.find("{}"); at != std::string::npos)
    text.replace(at, 2, fmt::format("{}{}", shown, cut ? " or beyond" : ""));
  return text;
}

}  // namespace kontor
