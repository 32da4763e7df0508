// What the products of a recorded graph cost.
#pragma once
#include "graph/node.h"

namespace kontor::inline v0::nn {

/// Operations of one node if it is a product (a fold of dot): two a multiply-add; else 0.
double product_operations(const Node& node);

}  // namespace kontor::inline v0::nn
