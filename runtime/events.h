// KONTOR_TRACE: what was scheduled, compiled and launched when and for how long, as a file that ui.perfetto.dev opens.
#pragma once
#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kontor::events {

using Time = std::chrono::steady_clock::time_point;

/// Whether events are wanted; all else is to be called only then.
bool on();
/// Where they go from now on; "" is off.
void open(const std::string& path);
/// An event of this thread. `details` are shown when it is clicked on.
void add(std::string_view category, std::string_view name, Time from, Time to,
         const std::vector<std::pair<std::string_view, int64_t>>& details = {});
/// Writes all events so far (Chrome's trace event format, JSON object form), as the end of a Context and of the process
/// do. A failure is said on stderr.
void write();

}  // namespace kontor::events
