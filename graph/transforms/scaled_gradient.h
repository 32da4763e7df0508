// What a Call "scaled_product" (graph/functions/scaled_product.h) hands back: products of rounded operands again.
#pragma once
#include "graph/transforms/tape.h"

namespace kontor {

void scaled_product_back(Tape& to, const Node& n, const Term& g);

}  // namespace kontor
