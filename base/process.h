// What a library must know of its process: whether it was forked, and whether something would end it.
#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace kontor {

/// Another number in a forked child than in its parent. Threads, and what belongs to a driver, exist only where the number
/// is the one of the time when they were made.
uint32_t process_generation() noexcept;

/// Tries something in a forked child first, so that what ends a process (a driver that aborts) ends that one. "" where the
/// child came through, an exception of `action` included, or could not be made; else how it ended: "it ended by signal 6
/// (Aborted)". The child writes nothing to the terminal. Files that `action` writes are real.
std::string how_it_ends(const std::function<void()>& action, std::chrono::milliseconds limit);

}  // namespace kontor
