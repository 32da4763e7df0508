// Finds layers and noise groups by who reads what: a Call stands for its arguments, a layer for its input.
#include "marketplace/feedback_parts.h"

#include <algorithm>

#include "base/error.h"
#include "graph/functions/unary.h"
#include "marketplace/sites.h"

namespace kontor::inline v0::marketplace {

namespace {

class Finder {
 public:
  Finder(const Leader& leader, std::span<const nn::Parameter> parameters)
      : marks_(leader.marks), parameters_(parameters), all_(topological(std::vector<Ref>{leader.part_loss})) {
    find_rows();
    for (const Node* n : all_) {
      const size_t weight = weight_of(*n);
      if (weight == SIZE_MAX) continue;
      for (const ProductLayer& l : out_.layers)
        if (l.weight == weight) fail("feedback: {} is the weight of two layers", parameters[weight].name);
      out_.layers.push_back({weight, {weight}, unmoved(n->src[1]), Ref(n), Ref(n)});
    }
    choose_order();
    std::erase_if(out_.layers, [&](const ProductLayer& l) { return !needed_.contains(l.product.get()); });
    if (out_.layers.empty()) fail("feedback: the model has no layers that multiply by a matrix");
  }

  FeedbackParts find() {
    for (ProductLayer& l : out_.layers) find_bias(l);
    find_embedding();
    for (size_t i = 0; i + 1 < out_.layers.size(); ++i) find_groups(i);
    check_head();
    for (const NoiseGroup& g : out_.groups) keep(g.value);
    for (const ProductLayer& l : out_.layers) keep(l.output);
    std::vector<const Node*> seeds;
    for (const NoiseGroup& g : out_.groups) seeds.push_back(g.value.get());
    if (!seeds.empty()) out_.residual = first_common(seeds);
    out_.order = order_;
    return std::move(out_);
  }

 private:
  const std::vector<Ref>& marks_;
  std::span<const nn::Parameter> parameters_;
  std::vector<const Node*> all_, order_;
  NodeSet needed_;
  FeedbackParts out_;

  void find_rows() {
    for (const Node* n : all_) {
      if (!n->is(Op::Call) || n->arg.text != "cross_entropy") continue;
      if (out_.rows) fail("feedback: the loss has two cross_entropy");
      out_.rows = Ref(n), out_.logits = n->src[1];
    }
    if (!out_.rows) fail("feedback: the loss is no mean of a cross_entropy");
  }

  size_t parameter(const Node* n) const {
    for (size_t i = 0; i < marks_.size(); ++i)
      if (marks_[i].get() == n) return i;
    return SIZE_MAX;
  }

  // Of a Call that is a layer; else SIZE_MAX.
  size_t weight_of(const Node& n) const {
    if (!n.is(Op::Call) || n.arg.text != "matmul") return SIZE_MAX;
    const Node* w = viewed(n.src[2].get());
    return w->rank() == 2 ? parameter(w) : SIZE_MAX;
  }

  std::span<const Ref> sources(const Node& n) const {
    const std::span<const Ref> all(n.src.begin(), n.src.end());
    if (!n.is(Op::Call)) return all;
    return weight_of(n) == SIZE_MAX ? all.subspan(1) : all.subspan(1, 1);
  }

  void choose_order() {
    needed_.insert(out_.rows.get());
    for (auto n = all_.rbegin(); n != all_.rend(); ++n)
      if (needed_.contains(*n))
        for (const Ref& s : sources(**n)) needed_.insert(s.get());
    for (const Node* n : all_)
      if (needed_.contains(n)) order_.push_back(n);
  }

  // What depends on the seeds, and they; `stops(node)`: is not entered.
  template <class Stops>
  NodeSet after(std::span<const Node* const> seeds, const Stops& stops) const {
    NodeSet out;
    for (const Node* s : seeds) out.insert(s);
    for (const Node* n : order_) {
      const auto on = [&](const Ref& s) { return out.contains(s.get()); };
      const std::span<const Ref> src = sources(*n);
      if (!out.contains(n) && std::any_of(src.begin(), src.end(), on) && !stops(n)) out.insert(n);
    }
    return out;
  }

  // The first value that depends on all seeds, and without which the losses depend on none.
  Ref first_common(std::span<const Node* const> seeds) const {
    std::vector<NodeSet> reach;
    const auto no = [](const Node*) { return false; };
    for (const Node* s : seeds) reach.push_back(after(std::vector<const Node*>{s}, no));
    for (const Node* n : order_) {
      const bool all =
          std::all_of(reach.begin(), reach.end(), [&](const NodeSet& r) { return r.contains(n); });
      if (!all || parameter(n) != SIZE_MAX || is_movement(n->op)) continue;
      std::vector<const Node*> others;
      for (const Node* s : seeds)
        if (s != n) others.push_back(s);
      if (!after(others, [&](const Node* m) { return m == n; }).contains(out_.rows.get())) return Ref(n);
    }
    return {};
  }

  std::vector<const Node*> readers(const Node* of) const {
    std::vector<const Node*> out;
    for (const Node* n : order_) {
      const std::span<const Ref> src = sources(*n);
      if (std::any_of(src.begin(), src.end(), [&](const Ref& s) { return s.get() == of; })) out.push_back(n);
    }
    return out;
  }

  void find_bias(ProductLayer& l) {
    const std::vector<const Node*> r = readers(l.product.get());
    if (r.size() != 1 || !r[0]->is(Op::Add)) return;
    for (const Ref& s : r[0]->src) {
      const size_t i = parameter(viewed(s.get()));
      if (i == SIZE_MAX || marks_[i]->rank() != 1) continue;
      l.output = Ref(r[0]), l.parameters.push_back(i);
    }
  }

  void find_embedding() {
    std::vector<const Node*> seeds;
    for (size_t i = 0; i < marks_.size(); ++i) {
      if (marks_[i]->rank() < 2 || !needed_.contains(marks_[i].get())) continue;
      out_.tables.push_back(i), seeds.push_back(marks_[i].get());
    }
    if (seeds.empty()) return;
    out_.embedding = first_common(seeds);
    if (!out_.embedding) fail("feedback: its tables are not added up before the layers");
    out_.embedding_group = out_.groups.size();
    out_.groups.push_back({"embedding", out_.embedding, out_.embedding});
  }

  size_t group_of(const std::string& name, const Ref& value, const Ref& seen) {
    for (size_t g = 0; g < out_.groups.size(); ++g)
      if (out_.groups[g].value == value) return g;
    out_.groups.push_back({name, value, seen});
    return out_.groups.size() - 1;
  }

  // What layer i makes, up to the layers that read it.
  void find_groups(size_t i) {
    ProductLayer& l = out_.layers[i];
    const auto is_layer = [&](const Node* n) { return weight_of(*n) != SIZE_MAX; };
    const NodeSet seen = after(std::vector<const Node*>{l.output.get()}, is_layer);
    bool attended = false, head_alone = true;
    const ProductLayer* next = nullptr;
    for (const Node* n : order_)
      attended = attended || (seen.contains(n) && n->is(Op::Call) && n->arg.text == "attention");
    for (const ProductLayer& other : out_.layers) {
      if (!seen.contains(other.input.get()) || &other == &l) continue;
      head_alone = head_alone && &other == &out_.layers.back();
      if (!next) next = &other;
    }
    const std::string& name = parameters_[l.weight].name;
    if (attended) {
      if (!next) fail("feedback: {}: no layer reads what attention makes of it", name);
      l.mixed = group_of(name + " attended", next->input, next->product->src[1]);
      return;
    }
    const size_t g = group_of(name, l.output, l.output);
    out_.groups[g].exact = head_alone;
    const std::vector<const Node*> r = readers(l.output.get());
    if (r.size() == 1 && r[0]->shape == l.output->shape &&
        (r[0]->is(Op::Max) || (r[0]->is(Op::Call) && find_unary(r[0]->arg.text))))
      out_.groups[g].activation = Ref(r[0]);
  }

  void check_head() const {
    const ProductLayer& head = out_.layers.back();
    const NodeSet seen =
        after(std::vector<const Node*>{head.output.get()}, [](const Node*) { return false; });
    if (!seen.contains(out_.logits.get()) || head.output->shape.size() != out_.logits->shape.size() ||
        !(head.output->shape.back() == out_.logits->shape.back()))
      fail("feedback: the logits are not what the last layer, {}, makes", parameters_[head.weight].name);
  }

  void keep(const Ref& value) {
    if (std::find(out_.kept.begin(), out_.kept.end(), value) == out_.kept.end()) out_.kept.push_back(value);
  }
};

}  // namespace

std::vector<Ref> FeedbackParts::behind(const Ref& value) const {
  std::vector<Ref> out;
  NodeSet below;
  for (const Ref& k : kept) {
    if (k == value) continue;
    const std::vector<const Node*> needs = topological(std::vector<Ref>{k});
    if (std::find(needs.begin(), needs.end(), value.get()) != needs.end()) out.push_back(k);
  }
  return out;
}

Ref in_place_of_value(const NoiseGroup& group, const Ref& x) {
  Ref out = x;
  for (const Node* n = group.seen.get(); n != group.value.get(); n = n->src[0].get()) {
    if (n->is(Op::Reshape)) {
      out = fn::reshape(out, n->src[0]->shape);
      continue;
    }
    if (!n->is(Op::Permute)) fail("feedback: {} is read in parts", group.name);
    Ints back(n->rank());
    for (size_t a = 0; a < back.size(); ++a)
      back[static_cast<size_t>(n->arg.ints[a])] = static_cast<int64_t>(a);
    out = fn::permute(out, back);
  }
  return out;
}

Leader without_checkpoints(Leader leader) {
  const std::vector<Ref> roots{leader.loss, leader.part_loss};
  const std::vector<Ref> plain = mapped(roots, [](const Node& n, std::vector<Ref> src) {
    return n.is(Op::Call) && n.arg.text == "checkpoint" ? src[0] : with_sources(n, src);
  });
  leader.loss = plain[0], leader.part_loss = plain[1];
  return leader;
}

FeedbackParts find_feedback_parts(const Leader& leader, std::span<const nn::Parameter> parameters) {
  return Finder(leader, parameters).find();
}

}  // namespace kontor::inline v0::marketplace
