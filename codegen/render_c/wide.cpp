// Accesses of several elements at once: what an unrolled loop of a GPU's kernel reads and stores side by side.
#include <algorithm>

#include "base/error.h"
#include "codegen/render_c/renderer.h"
#include "codegen/tree/shape_accesses.h"
#include "graph/index/index.h"
#include "graph/index/sum.h"

namespace kontor::clike {

namespace {

constexpr int64_t widest = 16;  // bytes of one access

/// What a body of nothing but stores, folds and unrolled loops accesses, and the ranges of those loops.
struct Accesses {
  std::vector<const Node*> loads = {}, stores = {};
  std::vector<Ref> inner = {};

  bool add(std::span<const Ref> body) {  // false of a body with anything else
    for (const Ref& s : body) {
      if (s->op == Op::Loop && tree::kind(*s) == LoopKind::Unroll) {
        inner.push_back(s->src[0]);
        if (!add(tree::body(*s))) return false;
        continue;
      }
      if (s->op != Op::Store && s->op != Op::FoldStep) return false;
      if (s->op == Op::Store) stores.push_back(s.get());
      for (const Node* n : topological(std::span(s->src).subspan(1)))
        if (n->op == Op::Load) loads.push_back(n);
    }
    return true;
  }

  /// Whether an access goes to the same elements whatever the inner loops are at.
  bool is_known(const Ref& position) const {
    return std::ranges::none_of(inner, [&](const Ref& r) { return ix::depends_on(position, r); });
  }
};

}  // namespace

/// Of an access along a loop of `count`: where the elements that its iterations have together begin, and which of these is
/// an iteration's; nothing if they are not side by side or begin at no multiple of what one access takes.
std::optional<Renderer::Wide> Renderer::wide_along(const Node& access, const Ref& range) {
  const PlaceState& p = places_[access.src[0].get()];
  if ((p.local && !p.shared) || (access.op == Op::Load && tree::guard(access))) return std::nullopt;
  const std::optional<Along> found = along(position(access), range);
  if (!found || found->apart < 1 || found->apart > 2) return std::nullopt;
  const auto& [start, apart] = *found;
  const int64_t size = item_size(access.src[0]->dtype), elements = apart * extent(range->src[0]),
                bytes = elements * size;
  const int64_t once = std::min(bytes, widest) / size;
  if (bytes > 64 || once < 2 || !std::has_single_bit(static_cast<uint64_t>(bytes))) return std::nullopt;
  const int64_t c = ix::sum_of(start).c, within = ((c % apart) + apart) % apart;
  if (!is_multiple(ix::sub(start, within), once)) return std::nullopt;
  return Wide{.place = access.src[0],
              .start = ix::sub(start, within),
              .elements = elements,
              .element = ix::add(ix::mul(range, apart), within)};
}

std::string Renderer::wide_copy(const std::string& to, const std::string& from, int64_t bytes) {
  const std::string_view type = bytes >= 16 ? "int4" : bytes == 8 ? "int2" : bytes == 4 ? "int" : "short";
  return fmt::format("*({0}*)&{1} = *(const {0}*)&{2};", type, to, from);
}

/// Before an unrolled loop: what it reads side by side is loaded into arrays, what it stores so is to go through one. Returns
/// those accesses.
std::vector<const Node*> Renderer::open_wide(const Node& loop) {
  Accesses found;
  std::vector<const Node*> through;
  if (!c_.dialect().gpu || tree::kind(loop) != LoopKind::Unroll || !found.add(tree::body(loop)))
    return through;
  const auto& [loads, stores, inner] = found;
  const auto is_written = [&](const Node& access) {
    const std::vector<const Node*>& list = writes_[&loop];
    return std::find(list.begin(), list.end(), access.src[0].get()) != list.end();
  };
  NodeSet taken;  // loads that are copies
  for (const Node* n : stores)
    if (found.is_known(position(*n)) && copy_ahead(*n, loop.src[0]))
      through.push_back(n), taken.insert(tree::values(*n)[0].get());
  for (const Node* n : loads)
    if (!taken.contains(n) && !wide_.contains(n) && !is_written(*n) && found.is_known(position(*n)))
      if (std::optional<Wide> wide = wide_along(*n, loop.src[0]))
        load_wide(*n, std::move(*wide)), through.push_back(n);
  for (const Node* n : stores)
    if (found.is_known(position(*n)) && copy_wide(*n, loop.src[0])) through.push_back(n);
  for (const Node* n : stores) {
    const auto reads = [&](const Node* l) { return l->src[0] == n->src[0]; };
    if (copied_.contains(n) || !(in_nest_ || in_lanes_) || wide_.contains(n) ||
        !found.is_known(position(*n)) || std::any_of(loads.begin(), loads.end(), reads))
      continue;
    std::optional<Wide> wide = wide_along(*n, loop.src[0]);
    const bool is_whole = wide && wide->elements == extent(loop.src[0]->src[0]);  // none between is another's
    if (!is_whole || std::count_if(stores.begin(), stores.end(),
                                   [&](const Node* s) { return s->src[0] == n->src[0]; }) > 1)
      continue;
    wide->name = fmt::format("v{}", values_++);
    roots_.insert(roots_.end(), {wide->start, wide->element});
    line(fmt::format("__align__(16) {} {}[{}];", c_.memory_type(n->src[0]->dtype), wide->name,
                     wide->elements));
    wide_[n] = std::move(*wide);
    through.push_back(n);
  }
  return through;
}

/// A store of what lies side by side to elements of the thread's own that do too: memory goes there as it is, since to take it
/// apart would be to wait for it.
bool Renderer::copy_wide(const Node& store, const Ref& range) {
  const Ref& value_stored = tree::values(store)[0];
  const Node* load = value_stored->op == Op::Bitcast ? value_stored->src[0].get() : value_stored.get();
  PlaceState& p = places_[store.src[0].get()];
  const auto wide = wide_.find(load);
  if (wide == wide_.end() || !p.own || p.in_memory() ||
      item_size(store.src[0]->dtype) != item_size(load->dtype))
    return false;
  if (is_narrow(store.src[0]->dtype) || wide->second.element != range ||
      wide->second.elements != extent(range->src[0]))
    return false;
  const std::optional<Along> found = along(position(store), range);
  if (!found || found->apart != 1) return false;
  const Ref& start = found->start;
  roots_.push_back(start);
  const int64_t bytes = wide->second.elements * item_size(load->dtype);
  if (bytes > widest || !is_multiple(start, wide->second.elements)) return false;
  line(wide_copy(fmt::format("{}[{}]", p.name, value(start).text), fmt::format("{}[0]", wide->second.name),
                 bytes));
  copied_.insert(&store);
  return true;
}

/// A store of 16 bytes, as they lie in a parameter, to a panel that is filled ahead: a copy that nobody waits for yet.
bool Renderer::copy_ahead(const Node& store, const Ref& range) {
  const Node &place = *store.src[0], &load = *tree::values(store)[0];
  if (tree::space(place) != Space::Shared || tree::shared_as(place).ahead == 0 || load.op != Op::Load ||
      tree::space(*load.src[0]) != Space::Param || load.dtype != place.dtype)
    return false;
  const std::optional<Wide> to = wide_along(store, range), from = wide_along(load, range);
  for (const std::optional<Wide>* w : {&to, &from})
    if (!*w || (*w)->element != range || (*w)->elements * item_size(place.dtype) != widest ||
        (*w)->elements != extent(range->src[0]))
      return false;
  roots_.insert(roots_.end(), {to->start, from->start});
  const std::string there = value(to->start).text, here = value(from->start).text;
  line(fmt::format("{}(&{}[{}], &{}[{}]);", c_.ptx(Ptx::Copy), place_of(place).name, there,
                   place_of(*load.src[0]).name, here));
  copied_.insert(&store);
  return true;
}

void Renderer::load_wide(const Node& load, Wide wide) {
  const Node& place = *wide.place;
  PlaceState& p = place_of(place);
  roots_.insert(roots_.end(), {wide.start, wide.element});
  const std::string start = value(wide.start).text;
  const int level =
      std::max({p.level, pin_level(), p.written ? p.write_level : 0, memo_[wide.start.get()].level});
  for (const auto& [other, known] : wide_)  // a second load of the same elements
    if (known.place == wide.place && known.start == wide.start && known.level <= level &&
        known.serial == p.version && frames_[static_cast<size_t>(known.level)].serial == known.frame &&
        other->op == Op::Load) {
      wide.name = known.name, wide.level = known.level, wide.frame = known.frame, wide.serial = known.serial;
      wide_[&load] = std::move(wide);
      return;
    }
  wide.name = fmt::format("v{}", values_++);
  wide.level = level, wide.frame = frames_[static_cast<size_t>(level)].serial, wide.serial = p.version;
  const int64_t size = item_size(place.dtype), once = std::min(widest / size, wide.elements);
  line(level, fmt::format("__align__(16) {} {}[{}];", c_.memory_type(place.dtype), wide.name, wide.elements));
  for (int64_t e = 0; e < wide.elements; e += once)
    line(level,
         wide_copy(fmt::format("{}[{}]", wide.name, e),
                   fmt::format("{}[{}{}]", p.name, in({start, Sum}, Sum), e ? fmt::format(" + {}", e) : ""),
                   once * size));
  wide_[&load] = std::move(wide);
}

/// After the loop: its stores go to memory.
void Renderer::close_wide(std::span<const Node* const> through) {
  for (const Node* n : through) {
    if (copied_.erase(n)) {
      touch(place_of(*n->src[0]));
      continue;
    }
    const Wide wide = wide_.at(n);
    wide_.erase(n);
    if (n->op == Op::Load) continue;
    const Node& place = *wide.place;
    const int64_t size = item_size(place.dtype), once = std::min(widest / size, wide.elements);
    const std::string start = value(wide.start).text;
    for (int64_t e = 0; e < wide.elements; e += once)
      line(wide_copy(fmt::format("{}[{}{}]", place_of(place).name, start, e ? fmt::format(" + {}", e) : ""),
                     fmt::format("{}[{}]", wide.name, e), once * size));
  }
}

}  // namespace kontor::clike
