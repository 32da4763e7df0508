// A program's own passes: graphs as Tensors for the functions of the public headers, and what they make refused or taken.
#pragma once
#include <kontor/jit.h>

#include "graph/transforms/passes.h"

namespace kontor {

/// The function as a pass over graphs. It throws Error, which names the pass, for whatever leaves the function, and where
/// what it returns is no graph for the same outputs: another number, dtype or shape of them, or values that the graph lacks.
GraphPass pass_of(std::string name, Pass function);

}  // namespace kontor
