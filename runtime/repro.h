// with_repro(graph, f): a defect of ours on the way from a graph to its result leaves the graph as text behind, which
// `kontor dump` reads.
#pragma once
#include <utility>

#include "base/error.h"
#include "base/guard.h"
#include "runtime/inspect.h"

namespace kontor {

template <class F>
decltype(auto) with_repro(const Graph& graph, F&& f) {
  try {
    return guarded("computing a graph", std::forward<F>(f));
  } catch (const InternalError& error) {
    throw InternalError(fmt::format("{}\n{}", error.what(), inspect::write_repro(graph)));
  }
}

}  // namespace kontor
