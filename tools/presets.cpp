// Settings by name. The first row of a method, of a plan and of an optimizer is what that is trained with if nothing else
// is said.
#include "tools/settings.h"

namespace kontor::tools {

namespace {

// Sources: the articles' scripts (docs/marketplace.md, "as published"), and bench/RESULTS.md for ours.
// clang-format off
constexpr Preset kPresets[] = {
    {"activity",      "one sample and channel of a layer's output at a time: the most accurate for its work",
                      "--plan=activity --update=adam --beta2=0.99 --batch=128 --lr=2e-3 --lr-schedule=linear --probe-scale=10 --steps=450"},
    {"activity-3",    "activity for 3 TFLOP",
                      "--plan=activity --update=adam --beta2=0.99 --batch=128 --lr=2e-3 --lr-schedule=linear --probe-scale=10 --tflop=3"},
    {"activity-16",   "activity for 16.5 TFLOP",
                      "--plan=activity --update=adam --beta2=0.99 --batch=128 --lr=2e-3 --lr-schedule=linear --probe-scale=10 --tflop=16.5 --steps=4000"},
    {"block-star",    "one channel of weights at a time from the leader's activations: losses and seeds alone say what it learned",
                      "--plan=block-star --batch=64 --lr=0.3 --lr-decay=6e-3 --probe-scale=0.0033333 --steps=350"},
    {"star",  "one group at a time around a leader, settings that learn well from data/mnist-12k",
              "--plan=star --batch=32 --lr=0.25 --lr-decay=1e-3 --probe-scale=0.01 --steps=2400"},
    {"block-star-3",  "block-star for 3 TFLOP",
                      "--plan=block-star --vendors=4,2,8,8,64 --batch=64 --lr=0.4 --lr-decay=2e-2 --probe-scale=0.0025 --tflop=3"},
    {"block-star-16", "block-star for 16.5 TFLOP",
                      "--plan=block-star --vendors=4,2,8,8,64 --batch=64 --lr=0.3 --lr-decay=4e-3 --probe-scale=0.0033333 --tflop=16.5 --steps=2000"},
    {"block-star-33", "block-star for 33 TFLOP",
                      "--plan=block-star --vendors=4,2,8,8,64 --batch=64 --lr=0.4 --lr-decay=2.5e-3 --probe-scale=0.0033333 --tflop=33 --steps=4000"},
    {"block-star-continual", "block-star learns a new label from a small pool",
                      "--plan=block-star --vendors=2,1,4,4,64 --batch=256 --lr=0.03 --probe-scale=0.033333 --steps=40"},
    {"low-rank", "a vendor of rank 1 and its opposite for each sample (EGGROLL)",
                 "--plan=low-rank --update=adam --beta2=0.99 --batch=64 --lr=2e-3 --lr-schedule=linear --probe-scale=0.5 --steps=1000"},
    {"v2",    "Marketplace V2 as published, 8 vendors a spec",
              "--plan=full --vendors=8,8,8 --batch=512 --lr=0.1 --lr-decay=1e-5 --probe-scale=0.1 --steps=1000"},
    {"v2-16", "V2 as published beside backprop, 16 vendors a spec",
              "--plan=full --vendors=16,16,16 --batch=512 --lr=0.1 --lr-decay=1e-5 --probe-scale=0.1 --steps=1000"},
    {"v2-meta-lr", "V2 with a second forward pass that chooses each spec's lr",
              "--plan=full --vendors=8,8,8 --batch=512 --lr=0.1 --lr-decay=1e-5 --probe-scale=0.1 --meta-lr=0.1 --steps=1000"},
    {"v2-small", "V2 with 4 vendors a spec and small batches: the same algorithm at an eighth of the work",
              "--plan=full --vendors=4,4,4 --batch=64 --lr=0.1 --lr-decay=1e-5 --probe-scale=0.1 --steps=1000"},
    {"v2-vendor16", "V2 of the published study of 16 vendors",
              "--plan=full --vendors=16,16,16 --batch=512 --lr=0.08 --lr-decay=1e-5 --probe-scale=0.1 --steps=1000"},
    {"v2-base", "V2 as the published base of continual learning",
              "--plan=full --vendors=16,16,16 --unit=whole --batch=512 --lr=0.3 --lr-decay=1e-5 --probe-scale=0.01 --steps=2000"},
    {"v1",    "Marketplace V1 as published: the best path is taken over",
              "--plan=v1 --vendors=8,8,8 --batch=512 --lr=1e-3 --lr-decay=1e-4 --probe-scale=1 --steps=1000"},
    {"continual", "continual learning as published: a random path for each sample",
              "--plan=per-sample --vendors=4,4,4 --unit=whole --batch=256 --lr=1e-2 --probe-scale=1 --steps=2000"},
    {"adam",  "backprop by Adam",  "--method=backprop --optimizer=adam --batch=64 --lr=1e-3 --steps=400"},
    {"sgd",   "backprop by SGD",   "--method=backprop --optimizer=sgd --batch=64 --lr=1e-2 --steps=400"},
};
// clang-format on

}  // namespace

std::span<const Preset> presets() { return kPresets; }

}  // namespace kontor::tools
