// Groups of parameters: from text, and which tensors of a model they mean.
#include "marketplace/groups.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "graph/index/index.h"
#include "graph/shape.h"
#include "graph/transforms/incremental.h"
#include "marketplace/sites.h"
#include "marketplace/step.h"
#include "nn/operations.h"

namespace kontor::inline v0::marketplace {

namespace {

std::vector<std::string> split(std::string_view text, char at) {
  std::vector<std::string> out;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(at, begin), text.size());
    std::string_view part = text.substr(begin, end - begin);
    while (part.starts_with(' ')) part.remove_prefix(1);
    while (part.ends_with(' ')) part.remove_suffix(1);
    if (part.empty()) fail("groups: '{}' has an empty part", text);
    out.emplace_back(part);
    begin = end + 1;
  }
  return out;
}

bool means(const std::string& member, const std::string& parameter) {
  return parameter == member || parameter.starts_with(member + ".");
}

std::string known(std::span<const nn::Parameter> parameters) {
  std::string out;
  for (const nn::Parameter& p : parameters) out += (out.empty() ? "" : ", ") + p.name;
  return out;
}

// Adds the parameters that `member` names to those of the group.
void add_member(std::vector<size_t>& group, const std::string& member, const std::string& group_name,
                std::span<const nn::Parameter> parameters, std::vector<std::string>& owner) {
  bool any = false;
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (!means(member, parameters[i].name)) continue;
    any = true;
    if (!owner[i].empty())
      fail("groups: {} is in '{}' and in '{}'", parameters[i].name, owner[i], group_name);
    owner[i] = group_name;
    group.push_back(i);
  }
  if (!any) fail("groups: no parameter or layer '{}'; there are {}", member, known(parameters));
}

void check_parameter(const nn::Parameter& p) {
  if (p.tensor->dtype() != DType::F32)
    fail("groups: {} is {}; deltas are made for f32", p.name, kontor::name(p.tensor->dtype()));
}

/// Neighbours joined into `count` groups or fewer, the first of them larger.
std::vector<Group> joined(const std::vector<Group>& groups, size_t count) {
  if (groups.size() <= count) return groups;
  std::vector<Group> out;
  for (size_t i = 0, at = 0; i < count; ++i) {
    out.push_back(groups[at]);
    const size_t size = groups.size() / count + (i < groups.size() % count ? 1 : 0);
    for (size_t k = 1; k < size; ++k) {
      const auto& more = groups[at + k].members;
      out.back().members.insert(out.back().members.end(), more.begin(), more.end());
    }
    at += size;
  }
  return out;
}

/// Operations of what depends on each group's parameters: what one vendor of it costs.
std::vector<double> suffix_costs(const Leader& leader, std::span<const std::vector<size_t>> members) {
  const std::vector<const Node*> order = topological(std::vector<Ref>{leader.loss});
  std::vector<double> out;
  for (const auto& group : members) {
    NodeSet depends;
    for (size_t i : group) depends.insert(leader.marks[i].get());
    double cost = 0;
    for (const Node* n : order) {
      const auto on = [&](const Ref& s) { return depends.count(s.get()) != 0; };
      if (std::none_of(n->src.begin(), n->src.end(), on)) continue;
      depends.insert(n);
      cost += nn::product_operations(*n);
    }
    out.push_back(cost);
  }
  return out;
}

/// Operations of one vendor for every channel of a group.
double channels_cost(const Leader& leader, const std::vector<size_t>& members) {
  const Ref channel = fn::mark(constant(DType::I64, int64_t{0}), "channel");
  std::vector<Slab> slabs;
  for (size_t i : members) {
    const Ref& mark = leader.marks[i];
    slabs.push_back(
        {mark, 0, channel, make(Op::Gather, {mark, fn::reshape(channel, {index(1)})}, {.ints = {0}})});
  }
  const std::vector<Ref> loss{leader.loss};
  const std::vector<const Node*> shared = topological(loss);
  return operations(incremental(loss, slabs)[0], {shared.begin(), shared.end()}) *
         static_cast<double>(extent(leader.marks[members[0]]->shape[0]));
}

bool has_channels(const Leader& leader, const std::vector<size_t>& members) {
  const Node& first = *leader.marks[members[0]];
  return std::all_of(members.begin(), members.end(), [&](size_t i) {
    const Node& p = *leader.marks[i];
    return p.rank() > 0 && p.shape[0] == first.shape[0];
  });
}

/// Costs of groups perturbed one channel at a time; those for which that is dear are to be perturbed whole.
void use_channels(std::vector<Group>& groups, std::vector<double>& costs, const Leader& leader,
                  std::span<const std::vector<size_t>> members) {
  constexpr double most = 6;  // forward passes that a vendor for every channel may cost
  const double forward = operations(leader.loss);
  for (size_t g = 0; g < groups.size(); ++g) {
    const double cost = has_channels(leader, members[g]) ? channels_cost(leader, members[g]) : HUGE_VAL;
    groups[g].whole = cost > most * forward;
    if (!groups[g].whole) costs[g] = cost;
  }
}

}  // namespace

std::vector<Group> parse_groups(std::string_view text, std::span<const int64_t> vendors) {
  const std::vector<std::string> parts = split(text, '|');
  if (parts.size() != vendors.size())
    fail("groups: {} vendor counts for {} groups: {}", vendors.size(), parts.size(), text);
  std::vector<Group> out;
  for (size_t i = 0; i < parts.size(); ++i) {
    std::string_view part = parts[i];
    const bool whole = part.starts_with("whole(") && part.ends_with(")");
    if (whole) part = part.substr(6, part.size() - 7);
    out.push_back({std::string(part), split(part, '+'), vendors[i]});
    out.back().whole = whole;
  }
  return out;
}

std::vector<Group> mnist_groups(Plan plan, std::span<const int64_t> vendors) {
  static constexpr int64_t star[] = {4, 4, 8, 16, 128}, block_star[] = {4, 2, 8, 8, 64};
  const PlanRow& row = row_of(plan);
  if (row.channels)
    return parse_groups("whole(conv1)|conv2+norm1|conv3|conv4+norm2|linear",
                        vendors.empty() ? std::span<const int64_t>(block_star) : vendors);
  if (plan == Plan::Activity) {
    static constexpr int64_t activity[] = {1, 1, 8, 9, 1}, one_in[] = {8, 4, 1, 1, 1};
    std::vector<Group> out = parse_groups("conv1|conv2|conv3|conv4|linear",
                                          vendors.empty() ? std::span<const int64_t>(activity) : vendors);
    for (size_t g = 0; g < out.size(); ++g) out[g].one_in = one_in[g];
    return out;
  }
  static constexpr int64_t one_each[] = {1, 1, 1, 1, 1};
  const std::vector<int64_t> crossed(3, row.vendors);
  std::span<const int64_t> usual = row.leader ? std::span<const int64_t>(crossed) : star;
  if (plan == Plan::LowRank) usual = one_each;
  return parse_groups(row.leader ? "conv1+conv2+norm1|conv3+conv4+norm2|linear"
                                 : "conv1|conv2+norm1|conv3|conv4+norm2|linear",
                      vendors.empty() ? usual : vendors);
}

std::vector<Group> find_groups(std::span<const nn::Parameter> parameters, Plan plan) {
  std::vector<Group> out;
  std::string last;
  for (const nn::Parameter& p : parameters) {
    const std::string layer = p.name.substr(0, p.name.rfind('.'));
    const bool begins = layer != last && p.tensor->rank() >= 2, alone = row_of(plan).layers;
    if (begins || (out.empty() && !alone)) out.push_back({"", {}, row_of(plan).vendors});
    if (begins || (layer != last && !alone)) out.back().members.push_back(layer);
    last = layer;
  }
  if (out.empty())
    fail("groups: the model has no {}",
         parameters.empty() ? "parameters" : "layers with weights of two axes");
  if (row_of(plan).leader) out = joined(out, 3);
  for (Group& g : out) g.name = fmt::format("{}", fmt::join(g.members, "+"));
  return out;
}

std::vector<Group> find_groups(std::span<const nn::Parameter> parameters, Plan plan,
                               const nn::Objective& objective, const Tensor& x, const Tensor& labels) {
  constexpr double most = 128;
  std::vector<Group> groups = find_groups(parameters, plan);
  if (row_of(plan).leader || plan == Plan::LowRank) return groups;
  if (row_of(plan).layers) {
    const Leader leader = record_leader(objective, x, labels, parameters, x.rank() == 0 ? 1 : x.size(0));
    choose_activity_vendors(groups, leader, resolve(groups, plan, parameters));
    return groups;
  }
  const Leader leader = record_leader(objective, x, labels, parameters, 1);
  const auto members = resolve(groups, plan, parameters);
  std::vector<double> costs = suffix_costs(leader, members);
  if (row_of(plan).channels) use_channels(groups, costs, leader, members);
  const double dearest = *std::max_element(costs.begin(), costs.end());
  for (size_t g = 0; g < groups.size(); ++g) {
    const auto least = static_cast<double>(row_of(plan).vendors);
    const double count = costs[g] > 0 ? least * std::sqrt(dearest / costs[g]) : most;
    groups[g].vendors = int64_t{1} << std::lround(std::log2(std::clamp(count, least, most)));
  }
  return groups;
}

std::string to_text(std::span<const Group> groups) {
  std::string out;
  for (const Group& g : groups)
    out += fmt::format("{}{}{}{}", out.empty() ? "" : "|", g.whole ? "whole(" : "", fmt::join(g.members, "+"),
                       g.whole ? ")" : "");
  return out;
}

static std::string counts_text(std::span<const Group> groups, int64_t Group::* count) {
  std::string out;
  for (const Group& g : groups) out += fmt::format("{}{}", out.empty() ? "" : ",", g.*count);
  return out;
}

std::string upstream_text(std::span<const Group> groups) { return counts_text(groups, &Group::upstream); }
std::string vendors_text(std::span<const Group> groups) { return counts_text(groups, &Group::vendors); }
std::string one_in_text(std::span<const Group> groups) { return counts_text(groups, &Group::one_in); }

std::vector<std::vector<size_t>> resolve(std::span<const Group> groups, Plan plan,
                                         std::span<const nn::Parameter> parameters) {
  if (groups.empty()) fail("groups: there are none");
  const int64_t least = row_of(plan).leader ? 2 : 1;
  std::vector<std::string> owner(parameters.size());
  std::vector<std::vector<size_t>> out;
  int64_t total = 0;
  for (const Group& g : groups) {
    if (g.vendors < least || g.vendors > most_vendors)
      fail("groups: {} vendors for '{}'; {} to {} are possible", g.vendors, g.name, least, most_vendors);
    total += seeds_of(g);
    if (g.members.empty()) fail("groups: '{}' names no parameters", g.name);
    out.emplace_back();
    for (const std::string& member : g.members) add_member(out.back(), member, g.name, parameters, owner);
    for (size_t i : out.back()) check_parameter(parameters[i]);
  }
  if (total > most_vendors) fail("groups: {} vendors in all; at most {} are possible", total, most_vendors);
  return out;
}

void find_channels(std::span<Group> groups, Plan plan, std::span<const nn::Parameter> parameters,
                   std::span<const std::vector<size_t>> members) {
  for (size_t g = 0; g < groups.size(); ++g) {
    groups[g].channels = 1;
    if (!row_of(plan).channels || groups[g].whole) continue;
    const nn::Parameter& first = parameters[members[g][0]];
    for (size_t i : members[g]) {
      const nn::Parameter& p = parameters[i];
      if (p.tensor->rank() == 0 || p.tensor->shape()[0] != first.tensor->shape()[0])
        fail("groups: '{}' has no output channels in common: {} is {}, {} is {}; say whole({})",
             groups[g].name, first.name, describe(*node_of(*first.tensor)), p.name,
             describe(*node_of(*p.tensor)), groups[g].name);
    }
    groups[g].channels = first.tensor->shape()[0];
    if (seeds_of(groups[g]) > most_vendors)
      fail("groups: {} vendors for each of {} channels of '{}'; {} in all are possible", groups[g].vendors,
           groups[g].channels, groups[g].name, most_vendors);
  }
}

}  // namespace kontor::inline v0::marketplace
