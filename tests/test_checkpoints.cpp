// [checkpoints] numbers of a checkpoint that no option could have are refused before anything is changed, by every trainer.
#include "nn/safetensors.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/marketplace_net.h"
#include "tests/temporary_folder.h"

using namespace market_test;

namespace {

struct Damage {
  const char* key;
  const char* value;  // null: the entry is taken out
  const char* words;
};

constexpr Damage kOfAll[] = {
    {"steps", "9223372036854775807", "more than 1099511627776 steps"},
    {"steps", "99999999999999999999999", "not a number"},
    {"steps", "-1", "not a number"},
    {"steps", "2 ", "not a number"},
    {"steps", "1e3", "not a number"},
    {"steps", nullptr, "says nothing of 'steps'"},
    {"context_seed", "18446744073709551616", "not a number"},
    {"context_counter", "-1", "not a number"},
    {"lr", "nan", "not at least 0"},
    {"lr", "inf", "not at least 0"},
    {"lr", "-0.25", "not at least 0"},
    {"lr", "", "not a number"},
    {"lr", "0x10", "not a number"},
    {"lr_decay", "1", "below 1"},
    {"lr_decay", "nan", "below 1"},
};
constexpr Damage kOfMarketplace[] = {{"meta_lr_range", "1.5", "below 1"},
                                     {"meta_lr_range", nullptr, "says nothing of"}};
// Where the trainer has no groups of its own yet and takes those of the file.
constexpr Damage kOfGroups[] = {
    {"vendors", "many", "no list of counts"},    {"vendors", "3,-5,4", "no list of counts"},
    {"vendors", "3,5", "2 vendor counts for 3"}, {"vendors", nullptr, "says nothing of 'vendors'"},
    {"upstream", "0,x,0", "no list of counts"},  {"upstream", nullptr, "says nothing of 'upstream'"}};
constexpr Damage kOfAdam[] = {{"optimizer_steps", "1099511627777", "more than 1099511627776 steps"},
                              {"optimizer_steps", "-3", "not a number"}};

// Each damage is refused, with the file and the key in the message, and leaves the trainer as it was.
void check_refused(nn::Trainer& trainer, const std::string& whole, const TemporaryFolder& folder,
                   std::span<const Damage> damages) {
  for (const Damage& d : damages) {
    INFO(d.key << " = " << (d.value ? d.value : "nothing"));
    ArrayFile file = read_safetensors(whole);
    if (d.value) file.metadata[d.key] = d.value;
    else file.metadata.erase(d.key);
    const std::string path = folder / "damaged.safetensors";
    write_safetensors(path, file);
    const std::string error = error_of([&] { trainer.load(path); });
    CHECK(error.starts_with(path + ": "));
    CHECK(error.find(d.words) != std::string::npos);
    CHECK(trainer.steps() == 0);
  }
}

}  // namespace

TEST_CASE("[checkpoints] numbers that no option could have are refused, by backprop and by Marketplace") {
  OnDevice on("interp");
  TemporaryFolder folder;
  Net net;
  const std::string whole = folder / "whole.safetensors";
  nn::BackpropTrainer adam(nn::classification(net), std::make_unique<nn::Adam>(nn::parameters(net), 0.05));
  adam.save(whole);
  check_refused(adam, whole, folder, kOfAll);
  check_refused(adam, whole, folder, kOfAdam);
  mp::Trainer star(nn::parameters(net), nn::classification(net), options_of(mp::Plan::Star));
  star.save(whole);
  check_refused(star, whole, folder, kOfAll);
  check_refused(star, whole, folder, kOfMarketplace);
  mp::Options open = options_of(mp::Plan::Star);
  open.groups.clear();
  mp::Trainer none(nn::parameters(net), nn::classification(net), open);
  check_refused(none, whole, folder, kOfGroups);
}
