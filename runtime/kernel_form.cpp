// Which constants of a tree may be slots, and the tree with them. A constant may where it is a value that is stored or computed
// with, or a distance that is added to a position (where a slice begins). One that says how often something runs, how large a
// place is, how far apart elements lie, or what is divided by, is a part of the form: how the tree runs was chosen by it.
#include "runtime/kernel_form.h"

#include <algorithm>

#include "graph/scalar.h"

namespace kontor {

namespace {

/// What a node's value is used for, among all its uses: the strictest counts.
enum class Role : uint8_t { Value, Position, Fixed };

class Uses {
 public:
  explicit Uses(const Ref& tree) : order_(topological(std::span(&tree, 1))) {
    for (size_t i = order_.size(); i-- > 0;) note_sources(*order_[i]);  // users before sources
  }

  const std::vector<const Node*>& order() const { return order_; }

  bool may_be_slot(const Node& user, size_t source) const {
    const Node& c = *user.src[source];
    if (!c.is_const() || c.dtype == DType::Bool || c.dtype == DType::Void) return false;
    if (user.op == Op::Load || user.op == Op::Store) {
      if (user.op == Op::Store && source + 1 == user.src.size()) return true;
      return tree::space(*user.src[0]) == Space::Param && source >= 1 && source <= tree::at(user).size();
    }
    if (!is_elementwise(user.op) || user.src.size() < 2) return false;
    if (user.op == Op::IDiv || user.op == Op::Mod || user.op == Op::Shl || user.op == Op::Shr) return false;
    const Role role = role_of(user);
    return role == Role::Value || (role == Role::Position && (user.op == Op::Add || user.op == Op::Sub));
  }

 private:
  std::vector<const Node*> order_;
  NodeMap<Role> role_;

  Role role_of(const Node& node) const {
    const auto it = role_.find(&node);
    return it == role_.end() ? Role::Value : it->second;
  }
  void use(const Ref& node, Role role) {
    if (role == Role::Value) return;
    Role& strictest = role_[node.get()];
    strictest = std::max(strictest, role);
  }

  void note_sources(const Node& n) {
    switch (n.op) {
      case Op::Range:
      case Op::Place:
        for (const Ref& s : n.src) use(s, Role::Fixed);
        return;
      case Op::Load:
      case Op::Store:
      case Op::FoldStep:
      case Op::Merge:
        for (const Ref& at : tree::at(n))
          use(at, tree::space(*n.src[0]) == Space::Param ? Role::Position : Role::Fixed);
        if (n.op == Op::Load && tree::guard(n)) use(n.src.back(), Role::Position);
        return;
      case Op::If:
      case Op::Check: return use(n.src[0], Role::Position);
      default:
        if (!is_elementwise(n.op)) return;
        for (const Ref& s : n.src) use(s, role_of(n));
    }
  }
};

void append(std::string& out, uint64_t word) {
  out.append(reinterpret_cast<const char*>(&word), sizeof(word));
}

uint64_t head(const Node& n) {
  return static_cast<uint64_t>(n.op) | static_cast<uint64_t>(n.dtype) << 8 | uint64_t{n.src.size()} << 16 |
         uint64_t{n.arg.ints.size()} << 40;
}

int64_t bits_of(const Node& constant) { return static_cast<int64_t>(value_of(constant).bits); }

// Positions are computed in fewer bits where they are known to be small.
Bounds bounds_of(const Node& constant) {
  if (constant.dtype != DType::I64) return {};
  const int64_t value = constant.at(0);
  if (value >= 0 && value <= INT32_MAX) return {0, INT32_MAX};
  return value >= INT32_MIN && value < 0 ? Bounds{INT32_MIN, -1} : Bounds{};
}

}  // namespace

KernelForm form_of(const Ref& tree) {
  constexpr uint64_t constant_here = 1ull << 63, slot_here = 1ull << 62;
  KernelForm form;
  const Uses uses(tree);
  NodeMap<uint64_t> number;
  for (const Node* n : uses.order()) {
    if (n->is_const()) continue;  // stands where it is used
    append(form.key, head(*n));
    if (n->op == Op::Slot) {
      auto at = std::find(form.scalars.begin(), form.scalars.end(), n->at(0));
      append(form.key, static_cast<uint64_t>(at - form.scalars.begin()));
      if (at == form.scalars.end()) form.scalars.push_back(n->at(0));
    }
    const size_t first = n->op == Op::Range || n->op == Op::Place || n->op == Op::Slot ? 1 : 0;  // ids
    for (size_t i = first; i < n->arg.ints.size(); i++)
      append(form.key, static_cast<uint64_t>(n->arg.ints[i]));
    for (size_t i = 0; i < n->src.size(); i++) {
      const Node& s = *n->src[i];
      if (!s.is_const()) {
        append(form.key, number.at(&s));
        continue;
      }
      const bool open = uses.may_be_slot(*n, i);
      append(form.key, (open ? slot_here : constant_here) | head(s));
      if (open) form.constants.push_back(bits_of(s));
      else append(form.key, static_cast<uint64_t>(s.at(0)));
    }
    number.emplace(n, number.size());
  }
  return form;
}

Ref with_own_slots(const Ref& tree, const KernelForm& form, const std::vector<bool>& lifted) {
  const auto count = static_cast<int64_t>(form.scalars.size());
  const bool numbered = std::is_sorted(form.scalars.begin(), form.scalars.end()) &&
                        (count == 0 || form.scalars.back() == count - 1);
  if (numbered && std::find(lifted.begin(), lifted.end(), true) == lifted.end()) return tree;
  const Uses uses(tree);
  Substitution made;
  size_t constant = 0;
  int64_t next = count;
  map_nodes(uses.order(), made, [&](const Node& n) -> Ref {
    if (n.op == Op::Slot) {
      const auto at = std::find(form.scalars.begin(), form.scalars.end(), n.at(0)) - form.scalars.begin();
      return tree::slot(n.dtype, at, n.arg.ints.size() > 1 ? n.bounds : Bounds{});
    }
    std::vector<Ref> sources;
    sources.reserve(n.src.size());
    for (size_t i = 0; i < n.src.size(); i++) {
      const Ref& s = n.src[i];
      const bool slot = uses.may_be_slot(n, i) && !lifted.empty() && lifted[constant];
      constant += uses.may_be_slot(n, i);
      sources.push_back(slot ? tree::slot(s->dtype, next++, bounds_of(*s)) : made.at(s.get()));
    }
    return with_sources(n, std::move(sources));
  });
  return made.at(tree.get());
}

std::vector<SlotSource> slots_of(const KernelForm& form, const std::vector<bool>& lifted) {
  std::vector<SlotSource> slots;
  for (int64_t scalar : form.scalars) slots.push_back({scalar, 0});
  for (size_t i = 0; i < lifted.size(); i++)
    if (lifted[i]) slots.push_back({-1, form.constants[i]});
  return slots;
}

}  // namespace kontor
