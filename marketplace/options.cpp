// Options as text for checkpoints, and what they must fulfil.
#include "marketplace/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "marketplace/groups.h"
#include "marketplace/plans.h"

namespace kontor::inline v0::marketplace {

namespace {

void check_takes(const Options& o) {
  const PlanRow& row = row_of(o.plan);
  const bool upstream =
      std::any_of(o.groups.begin(), o.groups.end(), [](const Group& g) { return g.upstream != 0; });
  const struct {
    Takes option;
    bool wanted;
    const char* name;
  } options[] = {{Upstream, upstream, "upstream sampling"},
                 {MetaLr, o.meta_lr != 0, "meta-lr"},
                 {AdamUpdate, o.update == Update::Adam, "update by Adam"},
                 {Antithetic, o.antithetic, "antithetic vendors"},
                 {RademacherNoise, o.noise == Noise::Rademacher, "Rademacher noise"},
                 {Passes, o.forward_passes != 1, "forward passes beside one"},
                 {WholeUnit, o.unit == Unit::Whole, "unit over all groups"}};
  for (const auto& option : options)
    if (option.wanted && !(row.takes & option.option))
      fail("marketplace: the {} plan has no {}", row.name, option.name);
}

std::vector<int64_t> numbers(const std::string& text) {
  std::vector<int64_t> out;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    int64_t value = 0;
    const auto [stop, code] = std::from_chars(&text[begin], &text[begin] + (end - begin), value);
    if (code != std::errc() || stop != &text[begin] + (end - begin) || value < 0)
      fail("'{}' is no list of counts", text);
    out.push_back(value);
    begin = end + 1;
  }
  return out;
}

}  // namespace

void check_options(const Options& o) {
  if (!(o.lr > 0 && std::isfinite(o.lr))) fail("marketplace: a learning rate of {}", o.lr);
  if (!(o.lr_decay >= 0 && o.lr_decay < 1)) fail("marketplace: a learning rate decay of {}", o.lr_decay);
  if (!(o.probe_scale > 0 && std::isfinite(o.probe_scale)))
    fail("marketplace: a probe scale of {}", o.probe_scale);
  if (!(o.meta_lr >= 0 && o.meta_lr < 1)) fail("marketplace: a meta-lr of {}; it is a part of lr", o.meta_lr);
  if (o.forward_passes < 1) fail("marketplace: {} forward passes", o.forward_passes);
  if (!(o.beta2 >= 0 && o.beta2 < 1)) fail("marketplace: a beta2 of {}; it is below 1", o.beta2);
  check_takes(o);
  if (o.meta_lr > 0 && o.update == Update::Adam)
    fail("marketplace: meta-lr {} chooses the length of a unit step; Adam's steps have their own", o.meta_lr);
  const int64_t leaders = row_of(o.plan).leader ? 1 : 0;
  for (const Group& g : o.groups) {
    if (o.antithetic && (g.vendors - leaders) % 2 != 0)
      fail("groups: {} perturbed vendors of '{}' are no pairs of opposites; their number must be even",
           g.vendors - leaders, g.name);
    if (g.one_in < 1) fail("groups: vendors of '{}' for one in {} samples", g.name, g.one_in);
    if (g.one_in != 1 && o.plan != Plan::Activity)
      fail("marketplace: the {} plan has no vendors for one in {} samples", name(o.plan), g.one_in);
    if (g.upstream < 0) fail("groups: '{}' continues {} paths", g.name, g.upstream);
  }
}

nn::Metadata settings_text(const Options& o) {
  nn::Metadata all{{"method", "marketplace"},
                   {"plan", std::string(name(o.plan))},
                   {"unit", o.unit == Unit::Whole ? "whole" : "per-group"},
                   {"noise", o.noise == Noise::Uniform ? "uniform" : "rademacher"},
                   {"update", o.update == Update::Unit ? "unit" : "adam"},
                   {"antithetic", o.antithetic ? "yes" : "no"},
                   {"meta_lr", fmt::format("{}", o.meta_lr)},
                   {"forward_passes", std::to_string(o.forward_passes)},
                   {"probe_scale", fmt::format("{}", o.probe_scale)},
                   {"seed", std::to_string(o.seed)}};
  if (!o.groups.empty()) {
    all["groups"] = to_text(o.groups);
    all["vendors"] = vendors_text(o.groups);
    all["upstream"] = upstream_text(o.groups);
    if (o.plan == Plan::Activity) all["one_in"] = one_in_text(o.groups);
  }
  if (o.update == Update::Adam) all["beta2"] = fmt::format("{}", o.beta2);
  if (row_of(o.plan).fixed_sigma) all["first_lr"] = fmt::format("{}", o.lr);  // sets sigma
  return all;
}

std::vector<Group> groups_of(const nn::Metadata& settings) {
  for (const char* key : {"groups", "vendors", "upstream"})
    if (!settings.contains(key)) fail("is no checkpoint: it says nothing of '{}'", key);
  std::vector<Group> out = parse_groups(settings.at("groups"), numbers(settings.at("vendors")));
  const std::vector<int64_t> upstream = numbers(settings.at("upstream"));
  for (size_t g = 0; g < out.size() && g < upstream.size(); ++g) out[g].upstream = upstream[g];
  const auto one_in = settings.find("one_in");
  const std::vector<int64_t> parts =
      one_in == settings.end() ? std::vector<int64_t>() : numbers(one_in->second);
  for (size_t g = 0; g < out.size() && g < parts.size(); ++g) out[g].one_in = parts[g];
  return out;
}

}  // namespace kontor::inline v0::marketplace
