// What a Trainer needs of Groups beside their text.
#pragma once
#include <kontor/marketplace.h>

namespace kontor::inline v0::marketplace {

/// Vendors of all groups; the numbers below it tell the seeds of a step apart.
inline constexpr int64_t most_vendors = 1 << 20;

/// For each group the indexes of its parameters. Throws Error if they do not fit; see Trainer.
std::vector<std::vector<size_t>> resolve(std::span<const Group> groups, Plan plan,
                                         std::span<const nn::Parameter> parameters);
/// Sets the channels of groups that `plan` perturbs one output channel at a time: the extent of the first axis of their
/// parameters. Throws Error if these differ.
void find_channels(std::span<Group> groups, Plan plan, std::span<const nn::Parameter> parameters,
                   std::span<const std::vector<size_t>> members);
/// Seeds that a step draws for a group.
inline int64_t seeds_of(const Group& group) { return group.vendors * group.channels; }
std::string to_text(std::span<const Group> groups);        ///< "whole(conv1)|conv2+norm1"
std::string vendors_text(std::span<const Group> groups);   ///< "4,4"
std::string one_in_text(std::span<const Group> groups);    ///< "8,4"
std::string upstream_text(std::span<const Group> groups);  ///< "0,4"

}  // namespace kontor::inline v0::marketplace
