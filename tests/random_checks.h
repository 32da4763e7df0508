// What is asked of a random graph: that its loop trees, a device, or its gradients agree with the graph evaluator.
#pragma once
#include <functional>
#include <string>

#include "codegen/target.h"
#include "tests/random_graph.h"
#include "tests/run_graph.h"

namespace kontor {

/// "" where the case holds, else what differs.
using Check = std::function<std::string(const Case&)>;

/// The loop trees that schedule() makes, on the interpreter, against evaluate_graph.
Check lowered(const Target& target);
/// Decisions: what schedule() chose, read back, makes the same kernels; without fusion, streams and moves the results are
/// those of evaluate_graph; and so they are by lists that are changed at random, where these can be followed.
Check decided(const Target& target, uint64_t seed);
/// The last of these on a device.
Check decided(Backend& backend, uint64_t seed);
/// One of several CPUs, GPUs and memory budgets, by the seed.
Target some_target(uint64_t seed);
/// Schedule, render, compile and run on a device.
Check on_device(Backend& backend);
/// Gradients of a smooth case: as evaluate_graph has them, against finite differences; and as loop trees.
/// `measured` tells whether finite differences could tell.
std::string check_gradients(const Case& c, const Target& target, bool* measured = nullptr);

/// The same check in a process of its own, so that a crash is a difference too.
Check isolated(Check check);

/// One seed: makes the case, checks it, and says all about a failure, shrunk. "" where nothing failed.
/// `shrinks`: false leaves the first difference and the whole graph.
struct Trial {
  std::string difference = {};  ///< of the case as it was made
  std::string report = {};      ///< the seed, the difference, the shrunk graph and its kernels
};
Trial try_seed(uint64_t seed, const CaseOptions& options, const Check& check, bool shrinks = true,
               Coverage* coverage = nullptr);
/// What failures of one cause have in common: the first words of the text, without those that hold digits.
std::string kind_of_failure(const std::string& text);
/// The check's word on a case; what is thrown becomes text.
std::string verdict(const Case& c, const Check& check);

}  // namespace kontor
