// Kernels of a block, joined in a loop over its pieces.
#include "codegen/program/blocks.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "codegen/cost.h"
#include "codegen/moves/moves.h"
#include "codegen/tree/substitute.h"
#include "graph/index/index.h"

namespace kontor {

namespace {

using Body = std::vector<Ref>;

[[noreturn]] void reject(const ScheduledStream& block, const std::string& why) {
  fail("the decision '{}' can't be followed: {}", block.block, why);
}

using Touched = std::map<BufferRef, std::pair<size_t, size_t>>;  // first and last kernel

class Join {
 public:
  Join(const ProgramTree& program, std::span<const PlannedKernel> kernels, const Touched& touched,
       const Target& target)
      : program_(program), kernels_(kernels), streams_(program.streams), touched_(touched), target_(target) {}

  // The kernels of block number `first`, which is in no other.
  PlannedKernel run(size_t block) {
    const ScheduledStream& s = streams_[block];
    make_params(s);
    Body body = {piece_loop(block)};
    require_room(s);
    PlannedKernel out;
    out.kernel.tree = tree::kernel(name(s), params_, std::move(body));
    out.buffers = buffers_;
    out.kernel.tree = shared_out(normalise(out.kernel.tree));
    for (size_t k = s.first; k <= s.last; k++) {
      const ScheduledKernel& part = kernels_[k].kernel;
      out.kernel.work += part.work * pieces_of(k);
      add(out.kernel.moves, part.moves);
      add(out.kernel.placed, part.placed);
      out.kernel.checks = part.checks;
    }
    out.kernel.shares = tree::work_items(*out.kernel.tree);
    return out;
  }

 private:
  const ProgramTree& program_;
  std::span<const PlannedKernel> kernels_;
  std::span<const ScheduledStream> streams_;
  const Touched& touched_;
  const Target& target_;
  int64_t kept_bytes_ = 0;  // of the places of a piece
  std::vector<Ref> params_;
  std::vector<BufferRef> buffers_;
  std::map<BufferRef, Ref>
      memory_;             // of what kernels touch: a parameter, or a place inside of loops over pieces
  Substitution slots_;     // where pieces begin
  std::vector<Ref> kept_;  // what the keys of maps are

  static void add(std::string& list, const std::string& more) {
    if (!more.empty()) list += (list.empty() ? "" : "; ") + more;
  }

  static constexpr std::string_view suffix = "_block";
  static std::string loop_name(const ScheduledStream& s) { return fmt::format("{}{}", s.name, suffix); }

  // Of the kernels and of what is cut: k0_to_k2_block_i0_j0.
  std::string name(const ScheduledStream& of) const {
    auto number = [&](size_t k) {
      const std::string& text = kernels_[k].kernel.tree->arg.text;
      return text.substr(0, text.find('_'));
    };
    std::string out = fmt::format("{}_to_{}{}", number(of.first), number(of.last), suffix);
    for (const ScheduledStream& s : streams_)
      if (!s.block.empty() && of.first <= s.first && s.last <= of.last) out += "_" + s.name;
    return out;
  }

  double pieces_of(size_t kernel) const {
    double n = 1;
    for (const ScheduledStream& s : streams_)
      if (!s.block.empty() && s.first <= kernel && kernel <= s.last) n *= static_cast<double>(s.pieces());
    return n;
  }

  Ref piece_loop(size_t block) {
    const ScheduledStream& s = streams_[block];
    const Ref piece = ix::range(s.pieces(), loop_name(s));
    for (const ScheduledStream::Slot& slot : s.slots) {
      const Ref was =
          tree::slot(DType::I64, static_cast<int64_t>(slot.number), {0, (s.extent - s.chunk) / slot.divisor});
      kept_.push_back(was);
      slots_.emplace(was.get(), ix::mul(piece, index(s.chunk / slot.divisor)));
    }
    Body body = places(s);
    for (size_t k = s.first, next = block + 1; k <= s.last;) {
      while (next < streams_.size() && streams_[next].first < k) next++;
      if (next < streams_.size() && streams_[next].first == k) {
        if (streams_[next].block.empty())
          reject(s, fmt::format("stream {} lies inside, whose pieces are launches", streams_[next].name));
        body.push_back(piece_loop(next));
        k = streams_[next++].last + 1;
      } else {
        Body part = statements(s, kernels_[k++]);
        body.insert(body.end(), part.begin(), part.end());
      }
    }
    return tree::loop(LoopKind::Loop, piece, std::move(body));
  }

  // What no kernel outside of the block touches lives in it.
  bool lives_in(const ScheduledStream& s, const BufferRef& b) const {
    if (b.kind != BufferRef::Value || stage(b).output >= 0) return false;
    const auto [first, last] = touched_.at(b);
    return s.first <= first && last <= s.last;
  }

  // What is written stands last, as in the kernel's text.
  void make_params(const ScheduledStream& s) {
    NodeSet written;
    for (size_t k = s.first; k <= s.last; k++)
      for (const Node* n : topological(tree::body(*kernels_[k].kernel.tree)))
        if (n->op == Op::Store || n->op == Op::FoldStep) written.insert(n->src[0].get());
    for (const bool wanted : {false, true})
      for (size_t k = s.first; k <= s.last; k++)
        for (size_t p = 0; p < kernels_[k].buffers.size(); p++) {
          const BufferRef& b = kernels_[k].buffers[p];
          const Ref& param = tree::params(*kernels_[k].kernel.tree)[p];
          if (lives_in(s, b) || written.contains(param.get()) != wanted || memory_.count(b)) continue;
          params_.push_back(tree::param(param->dtype, {tree::dims(*param).begin(), tree::dims(*param).end()},
                                        static_cast<int64_t>(params_.size()), param->arg.text));
          buffers_.push_back(b);
          memory_[b] = params_.back();
        }
  }

  // The places of a piece: what lives in this block and in none inside of it.
  Body places(const ScheduledStream& s) {
    Body out;
    for (size_t k = s.first; k <= s.last; k++)
      for (size_t p = 0; p < kernels_[k].buffers.size(); p++) {
        const BufferRef& b = kernels_[k].buffers[p];
        if (b.kind == BufferRef::Accumulator && &streams_[goes_on_in(b)] == &s)
          reject(s, fmt::format("the fold of {} goes on from piece to piece", stage(b).name));
        if (memory_.count(b) || !lives_in(s, b) || inner_has(s, b)) continue;
        const Ref& param = tree::params(*kernels_[k].kernel.tree)[p];
        memory_[b] =
            tree::place(param->dtype, {tree::dims(*param).begin(), tree::dims(*param).end()}, stage(b).name);
        kept_bytes_ += cost::rounded(cost::most_bytes(param->dtype, tree::dims(*param)));
        out.push_back(memory_[b]);
      }
    return out;
  }

  bool inner_has(const ScheduledStream& s, const BufferRef& b) const {
    return std::any_of(streams_.begin(), streams_.end(), [&](const ScheduledStream& inner) {
      return &inner > &s && s.first <= inner.first && inner.last <= s.last && lives_in(inner, b);
    });
  }

  size_t goes_on_in(const BufferRef& accumulator) const {
    return static_cast<size_t>(stage(accumulator).piece.accumulator.stream);
  }

  void require_room(const ScheduledStream& s) const {
    if (const int64_t room = cost::block_bytes(target_); kept_bytes_ > room)
      reject(s, fmt::format("a piece would keep {} bytes on chip, where {} have room", kept_bytes_, room));
    if (target_.budget_is_asked && kept_bytes_ * target_.threads > target_.memory_budget)
      reject(s, fmt::format("pieces on {} threads would keep {} bytes, for a budget of {}", target_.threads,
                            kept_bytes_ * target_.threads, target_.memory_budget));
  }

  const Stage& stage(const BufferRef& b) const { return program_.stages[static_cast<size_t>(b.number)]; }

  Body statements(const ScheduledStream& s, const PlannedKernel& part) {
    const Ref& kernel = part.kernel.tree;
    if (tree::parallel_loop(*kernel))
      reject(s, fmt::format("kernel {} has a parallel loop of its own; its moves may have none",
                            kernel->arg.text));
    Substitution map = slots_;
    for (size_t p = 0; p < part.buffers.size(); p++) {
      const Ref& param = tree::params(*kernel)[p];
      map[param.get()] = memory_.at(part.buffers[p]);
    }
    return replace(tree::body(*kernel), map);
  }

  // The loop over pieces that is all of the statements, or null.
  static const Node* pieces_alone(std::span<const Ref> body) {
    const bool alone = body.size() == 1 && body[0]->op == Op::Loop;
    return alone && body[0]->src[0]->arg.text.ends_with(suffix) ? body[0].get() : nullptr;
  }

  // Pieces are shared out to threads, those of a block within a block together.
  static Ref shared_out(Ref kernel) {
    const Node* outer = pieces_alone(tree::body(*kernel));
    if (!outer) return kernel;  // of one piece
    const std::string name = outer->src[0]->arg.text;
    if (const Node* inner = pieces_alone(tree::body(*outer)))
      kernel = merge(kernel, name, inner->src[0]->arg.text);
    return parallel(kernel, name, LoopKind::Thread);
  }
};

}  // namespace

void join_blocks(ProgramTree& program, std::vector<PlannedKernel>& kernels, const Target& target) {
  std::vector<ScheduledStream>& streams = program.streams;
  const auto is_block = [](const ScheduledStream& s) { return !s.block.empty(); };
  if (std::none_of(streams.begin(), streams.end(), is_block)) return;
  Touched touched;
  for (size_t k = 0; k < kernels.size(); k++)
    for (const BufferRef& b : kernels[k].buffers) {
      auto [it, fresh] = touched.try_emplace(b, k, k);
      it->second.second = k;
    }
  std::vector<PlannedKernel> joined;
  std::vector<size_t> place(kernels.size());  // of each kernel, after
  for (size_t k = 0; k < kernels.size();) {
    const auto block = std::find_if(streams.begin(), streams.end(),
                                    [&](const ScheduledStream& s) { return is_block(s) && s.first == k; });
    const size_t last = block == streams.end() ? k : block->last;
    std::fill(place.begin() + static_cast<ptrdiff_t>(k), place.begin() + static_cast<ptrdiff_t>(last) + 1,
              joined.size());
    if (block == streams.end()) joined.push_back(std::move(kernels[k]));
    else
      joined.push_back(
          Join(program, kernels, touched, target).run(static_cast<size_t>(block - streams.begin())));
    k = last + 1;
  }
  kernels = std::move(joined);
  // What goes on from piece to piece knows its stream by number.
  std::vector<int> number(streams.size(), -1);
  int left = 0;
  for (size_t i = 0; i < streams.size(); i++)
    if (!is_block(streams[i])) number[i] = left++;
  for (Stage& s : program.stages)
    if (int& stream = s.piece.accumulator.stream; stream >= 0) stream = number[static_cast<size_t>(stream)];
  std::erase_if(streams, is_block);
  for (ScheduledStream& s : streams) s.first = place[s.first], s.last = place[s.last];
}

}  // namespace kontor
