// Options as text for checkpoints, and what they must fulfil.
#pragma once
#include <kontor/marketplace.h>

namespace kontor::inline v0::marketplace {

/// Throws Error naming the value that cannot be, or the option that the plan does not have.
void check_options(const Options& options);
/// What has to be equal for a run to go on from a checkpoint; without groups if there are none yet.
nn::Metadata settings_text(const Options& options);
/// The groups of settings_text().
std::vector<Group> groups_of(const nn::Metadata& settings);

}  // namespace kontor::inline v0::marketplace
