// All of Kontor: what most programs include.
#pragma once
#include <kontor/functions.h>
#include <kontor/jit.h>
#include <kontor/marketplace.h>
#include <kontor/nn.h>
#include <kontor/tensor.h>
#include <kontor/transformer.h>
#include <kontor/types.h>
