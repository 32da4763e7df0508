// Finds the layers of a recorded loss: from a weight's Mark to the Call that multiplies by it, and on to what reads the product.
#include "marketplace/sites.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "base/error.h"
#include "graph/index/index.h"
#include "graph/shape.h"
#include "graph/transforms/incremental.h"
#include "nn/operations.h"

namespace kontor::inline v0::marketplace {

const Node* viewed(const Node* n) {
  while (n->is(Op::Reshape) || n->is(Op::Permute) || n->is(Op::Expand)) n = n->src[0].get();
  return n;
}

Ref unmoved(Ref n) {
  while (is_movement(n->op)) n = n->src[0];
  return n;
}

namespace {

using Users = std::unordered_map<const Node*, std::vector<const Node*>>;

/// Who reads each node. Of a Call only its body is a source: its arguments are read there.
Users users_of(std::span<const Node* const> order) {
  Users users;
  for (const Node* n : order)
    for (size_t i = 0; i < (n->is(Op::Call) ? 1 : n->src.size()); ++i) users[n->src[i].get()].push_back(n);
  return users;
}

bool is_layer(const Node& n) { return n.is(Op::Call) && (n.arg.text == "conv2d" || n.arg.text == "matmul"); }

/// The product in the body of a layer's Call.
Ref product_in(const Node& call) {
  for (const Node* n : topological(std::vector<Ref>{call[0]}))
    if (n->is(Op::Reduce) && fold_in(*n) == Fold::Dot) {
      NodeSet below;  // of this Call's own arguments, not of a layer before it
      for (const Node* m : topological(std::vector<Ref>{call[1]})) below.insert(m);
      if (!below.count(n)) return Ref(n);
    }
  return {};
}

class Finder {
 public:
  explicit Finder(const Leader& leader)
      : leader_(leader), order_(topological(std::vector<Ref>{leader.part_loss})), users_(users_of(order_)) {}

  Site site(const Group& group, std::span<const size_t> members) const {
    Site s;
    for (size_t i : members) {
      const Ref& mark = leader_.marks[i];
      Ref& place = mark->rank() >= 2 ? s.weight : s.bias;
      if (place) fail("marketplace: group '{}' is more than one layer: {}", group.name, mark->arg.text);
      place = mark;
    }
    if (!s.weight) fail("marketplace: group '{}' has no weight of two axes or more", group.name);
    find_product(s, group);
    if (s.bias) find_bias(s, group);
    return s;
  }

  /// What is between y and the products that read it.
  void look_ahead(std::vector<Site>& sites) const {
    for (Site& s : sites) {
      NodeSet after;
      after.insert(s.output.get());
      NodeSet products;
      for (const Site& other : sites) products.insert(other.product.get());
      s.last = true;
      for (const Node* n : order_) {
        const auto on = [&](const Ref& source) { return after.count(source.get()) != 0; };
        if (std::none_of(n->src.begin(), n->src.end(), on)) continue;
        if (products.count(n) && n != s.product.get()) {
          s.last = false;
          continue;  // what follows belongs to that site
        }
        after.insert(n);
        if (!s.pool) find_pool(s, *n);
      }
      const auto readers = users_.find(s.output.get());
      s.relu = readers != users_.end() && reads_relu(readers->second);
    }
  }

 private:
  const Leader& leader_;
  std::vector<const Node*> order_;
  Users users_;

  void find_product(Site& s, const Group& group) const {
    const Node* call = nullptr;
    for (const Node* n : order_) {
      if (!is_layer(*n) || viewed(n->src[2].get()) != s.weight.get()) continue;
      if (call) fail("marketplace: group '{}': its weight is used more than once", group.name);
      call = n;
    }
    if (call) s.product = product_in(*call);
    if (!s.product)
      fail("marketplace: group '{}': {} is the weight of no matmul or conv2d of floats", group.name,
           s.weight->arg.text);
    s.input = unmoved(s.product->src[0]), s.output = Ref(call);
    const bool convolution = call->arg.text == "conv2d";
    s.channel_axis = convolution ? 1 : call->rank() - 1;
    const Node& as_read = *call->src[2];
    s.rows = convolution || (as_read.is(Op::Permute) && as_read.src[0] == s.weight && s.weight->rank() == 2);
    const bool within = convolution && call->src.size() == 4;  // with its bias
    if (within && viewed(call->src[3].get()) != s.bias.get())
      fail("marketplace: group '{}' lacks the bias of its layer", group.name);
  }

  // y = matmul(x, weight) + bias, where the Call has none.
  void find_bias(Site& s, const Group& group) const {
    if (s.output->src.size() == 4) return;
    const auto readers = users_.find(s.output.get());
    if (readers != users_.end() && readers->second.size() == 1) {
      const Node& n = *readers->second[0];
      const auto is_bias = [&](const Ref& r) { return viewed(r.get()) == s.bias.get(); };
      if (n.is(Op::Add) && std::any_of(n.src.begin(), n.src.end(), is_bias)) {
        s.output = Ref(&n);
        return;
      }
    }
    fail("marketplace: group '{}': {} is not added to what its weight makes", group.name, s.bias->arg.text);
  }

  static void find_pool(Site& s, const Node& n) {
    if (!n.is(Op::Reduce) || fold_in(n) != Fold::Max) return;
    const Node* from = n.src[0].get();  // windows, or, where they don't overlap, a reshape
    while (is_movement(from->op) && !(from->shape == s.output->shape)) from = from->src[0].get();
    if (from->shape == s.output->shape && n.rank() == from->rank() && !(n.shape == from->shape))
      s.pool = Ref(&n), s.pool_input = Ref(from);
  }

  static bool reads_relu(std::span<const Node* const> readers) {
    const auto relu = [](const Node* n) {
      return n->is(Op::Max) && std::any_of(n->src.begin(), n->src.end(), [](const Ref& r) {
               const Node* other = viewed(r.get());
               return other->is_const() && const_float(*other) == 0;
             });
    };
    return !readers.empty() && std::all_of(readers.begin(), readers.end(), relu);
  }
};

}  // namespace

Ints Site::position_axes() const {
  Ints out;
  for (size_t a = 1; a < output->rank(); ++a)
    if (a != channel_axis) out.push_back(static_cast<int64_t>(a));
  return out;
}

int64_t Site::positions() const {
  int64_t n = 1;
  for (int64_t a : position_axes()) n *= extent(output->shape[static_cast<size_t>(a)]);
  return n;
}

int64_t Site::cells() const {
  if (!pool) return positions();
  int64_t n = 1;
  for (int64_t a : position_axes()) n *= extent(pool->shape[static_cast<size_t>(a)]);
  return n;
}

int64_t Site::fan_in() const { return extent(ix::product(weight->shape)) / channels() + (bias ? 1 : 0); }

double operations(const Ref& root, const NodeSet& but) {
  double total = 0;
  for (const Node* n : topological(std::vector<Ref>{root}))
    if (!but.count(n)) total += nn::product_operations(*n);
  return total;
}

/// Operations of one vendor for every channel of a site, of one sample.
static double vendors_cost(const Leader& leader, const Site& s) {
  const Ref channel = fn::mark(constant(DType::I64, int64_t{0}), "channel");
  const auto slab = [&](const Ref& node, size_t axis) {
    Dims one = node->shape;
    one[axis] = index(1);
    return Slab{node, static_cast<int64_t>(axis), channel, fn::mark(fn::fill(DType::F32, 1, one), "slab")};
  };
  std::vector<Slab> slabs;
  if (s.by_weights()) {
    slabs.push_back(slab(s.weight, 0));
    if (s.bias) slabs.push_back(slab(s.bias, 0));
  } else {
    slabs.push_back(slab(s.output, s.channel_axis));
  }
  const std::vector<Ref> loss{leader.part_loss};
  const std::vector<const Node*> shared = topological(loss);
  return operations(incremental(loss, slabs)[0], {shared.begin(), shared.end()}) *
         static_cast<double>(s.channels());
}

void choose_activity_vendors(std::span<Group> groups, const Leader& leader,
                             std::span<const std::vector<size_t>> members) {
  constexpr double share = 0.9;  // of the forward pass of the drawn samples
  constexpr int64_t most = 64;
  const auto power_of_two = [](double x) { return int64_t{1} << std::lround(std::log2(x)); };
  const std::vector<Site> sites = find_sites(leader, groups, members);
  for (size_t g = 0; g < groups.size(); ++g) {
    groups[g].vendors = groups[g].one_in = 1;
    if (sites[g].last) continue;
    const double forward = operations(leader.part_loss), cost = vendors_cost(leader, sites[g]);
    const double affordable = cost > 0 ? share * forward / cost : static_cast<double>(most);
    if (affordable < 1) groups[g].one_in = power_of_two(1 / affordable);
    else groups[g].vendors = std::min({power_of_two(affordable), sites[g].cells(), most});
    if (sites[g].by_weights()) groups[g].vendors = std::min<int64_t>(groups[g].vendors, sites[g].fan_in());
  }
}

std::vector<Site> find_sites(const Leader& leader, std::span<const Group> groups,
                             std::span<const std::vector<size_t>> members) {
  const Finder finder(leader);
  std::vector<Site> out;
  for (size_t g = 0; g < groups.size(); ++g) out.push_back(finder.site(groups[g], members[g]));
  finder.look_ahead(out);
  return out;
}

}  // namespace kontor::inline v0::marketplace
