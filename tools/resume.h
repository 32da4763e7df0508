// What a checkpoint says of the run that wrote it, and the settings to go on from it with.
#pragma once
#include <string>

#include "tools/settings.h"

namespace kontor::tools {

/// For Trainer::save: the settings that must be equal to go on, and the preset that the others are of.
nn::Metadata about_run(const Settings& settings, const std::string& preset);

/// What `kontor train --resume` trains with: the checkpoint's own settings, the rest from its preset, and what was `given`
/// over both; with a `preset`, that and what was given. Throws Error that names each setting in which the checkpoint was
/// trained with another value. A checkpoint that says nothing of settings (not written by kontor train) takes any.
Settings settings_to_resume(const std::string& checkpoint, const std::string& preset, const Arguments& given);

}  // namespace kontor::tools
