// Files of GPTs: what their metadata says, read with the distrust of any file.
#include "tools/text_model.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "nn/scaled_weights.h"

namespace kontor::tools {

namespace {

struct Size {
  const char* name;
  int64_t nn::GptOptions::* member;
  int64_t least, most;
};
// Limits that no model of this program reaches, so that what is allocated stays within what the file has.
constexpr Size kSizes[] = {
    {"layers", &nn::GptOptions::layers, 1, 1000},      {"width", &nn::GptOptions::width, 1, 1 << 16},
    {"heads", &nn::GptOptions::heads, 1, 1 << 16},     {"kv_heads", &nn::GptOptions::kv_heads, 0, 1 << 16},
    {"context", &nn::GptOptions::context, 1, 1 << 20},
};

// The JSON under "gpt" of a file's metadata.
Json description(const std::string& path) {
  const nn::Metadata metadata = nn::load_metadata(path);
  const auto kind = metadata.find("model"), about = metadata.find("gpt");
  if (kind == metadata.end() || kind->second != "gpt" || about == metadata.end())
    fail("{}: not a model of kontor train gpt{}", path,
         kind == metadata.end() ? "" : fmt::format(", but of kind '{}'", kind->second));
  Json out = parse_json(about->second, path + ": gpt");
  if (!out.is_object()) fail("{}: gpt: is no object", path);
  return out;
}

const Json& entry(const Json& about, const char* name, const std::string& path) {
  const auto it = about.find(name);
  if (it == about.end()) fail("{}: gpt: says nothing of '{}'", path, name);
  return *it;
}

// A list of whole numbers from 0 to `most`.
std::vector<int32_t> numbers_in(const Json& list, int32_t most, const char* what, const std::string& path) {
  std::vector<int32_t> out;
  if (!list.is_array()) fail("{}: gpt: the {} are no list", path, what);
  for (const Json& number : list) {
    if (!number.is_number_integer() || number < 0 || number > most)
      fail("{}: gpt: {} is none of the {}", path, number.dump(), what);
    out.push_back(number.get<int32_t>());
  }
  return out;
}

Vocabulary vocabulary_in(const Json& about, const std::string& path) {
  const std::vector<int32_t> bytes = numbers_in(entry(about, "vocabulary", path), 255, "bytes", path);
  std::vector<TokenPair> pairs;
  if (const auto list = about.find("pairs"); list != about.end()) {
    const std::vector<int32_t> tokens = numbers_in(*list, Vocabulary::most_tokens, "tokens", path);
    if (tokens.size() % 2 != 0) fail("{}: gpt: {} tokens are no pairs", path, tokens.size());
    for (size_t i = 0; i < tokens.size(); i += 2) pairs.emplace_back(tokens[i], tokens[i + 1]);
  }
  return Vocabulary({bytes.begin(), bytes.end()}, path, std::move(pairs));
}

nn::GptOptions options_in(const Json& about, const std::string& path) {
  nn::GptOptions o;
  for (const Size& size : kSizes) {
    const Json& value = entry(about, size.name, path);
    if (!value.is_number_integer() || value < size.least || value > size.most)
      fail("{}: gpt: {} is {}, not {} to {}", path, size.name, value.dump(), size.least, size.most);
    o.*size.member = value.get<int64_t>();
  }
  const Json& rotary = entry(about, "rotary", path);
  if (!rotary.is_boolean()) fail("{}: gpt: rotary is {}", path, rotary.dump());
  o.rotary = rotary.get<bool>();
  if (const auto dtype = about.find("dtype"); dtype != about.end()) {
    const std::string word = dtype->is_string() ? dtype->get<std::string>() : dtype->dump();
    if (word != "f32" && word != "bf16" && word != "f16") fail("{}: gpt: products of dtype {}", path, word);
    o.dtype = parse_dtype(word);
  }
  return o;
}

Tensor tensor(const std::vector<int32_t>& tokens, int64_t count) {
  return Tensor::from(tokens, {count, static_cast<int64_t>(tokens.size()) / count});
}

}  // namespace

nn::Metadata about_model(const nn::GptOptions& o, const Vocabulary& vocabulary) {
  Json about = Json::object();
  for (const Size& size : kSizes) about[size.name] = o.*size.member;
  about["rotary"] = o.rotary;
  about["dtype"] = name(o.dtype);
  about["vocabulary"] = vocabulary.bytes();
  Json pairs = Json::array();
  for (const auto& [left, right] : vocabulary.pairs()) pairs.push_back(left), pairs.push_back(right);
  if (!pairs.empty()) about["pairs"] = std::move(pairs);
  return {{"model", "gpt"}, {"gpt", about.dump()}};
}

TextModel load_text_model(const std::string& path) {
  const Json about = description(path);
  TextModel out{nullptr, vocabulary_in(about, path)};
  nn::GptOptions options = options_in(about, path);
  options.vocabulary = out.vocabulary.size();
  out.gpt = std::make_unique<nn::Gpt>(options);
  const std::vector<nn::Parameter> parameters = nn::parameters(*out.gpt);
  if (nn::load_metadata(path).contains("scales")) nn::load_scaled_parameters(path, parameters);
  else nn::load_parameters(path, parameters);
  return out;
}

void narrow_weights(TextModel& model, DType dtype) {
  model.gpt->options.dtype = dtype;
  for (nn::TransformerBlock& block : model.gpt->blocks) block.attention.options.dtype = dtype;
  for (const nn::Parameter& p : nn::parameters(*model.gpt)) {
    if (p.tensor->rank() < 2) continue;
    *p.tensor = p.tensor->cast(dtype);
    p.tensor->realize();
  }
}

Vocabulary vocabulary_of(const std::string& path) { return vocabulary_in(description(path), path); }

std::vector<int32_t> encode(const Vocabulary& vocabulary, std::string_view text, std::string_view what) {
  if (const size_t i = vocabulary.unknown(text); i < text.size())
    fail("{}: '{}' at offset {} is not among the {} bytes that the model knows", what, printable(text[i]), i,
         vocabulary.size());
  std::vector<int32_t> out;
  vocabulary.encode(text, out);
  return out;
}

int64_t first_token(const Vocabulary& vocabulary) { return std::max<int64_t>(vocabulary.token('\n'), 0); }

std::string printable(char byte) {
  const auto code = static_cast<unsigned char>(byte);
  const bool plain = (code >= 32 && code < 127) || byte == '\n' || byte == '\t';
  return plain ? std::string(1, byte) : fmt::format("\\x{:02x}", code);
}

std::string Printer::rest() {
  std::string out;
  for (const char c : std::exchange(begun_, {})) out += printable(c);
  return out;
}

// Whether a second byte belongs to a first one (Unicode 15, table 3-7); C1 controls, which steer terminals, do not.
static bool follows(unsigned char first, unsigned char second) {
  switch (first) {
    case 0xC2:
    case 0xE0: return second >= 0xA0;
    case 0xED: return second < 0xA0;
    case 0xF0: return second >= 0x90;
    case 0xF4: return second < 0x90;
    default:   return true;
  }
}

std::string Printer::put(std::string_view bytes) {
  std::string out;
  for (const char byte : bytes) out += put(byte);
  return out;
}

std::string Printer::put(char byte) {
  const auto code = static_cast<unsigned char>(byte);
  const bool goes_on = !begun_.empty() && (code & 0xC0) == 0x80 &&
                       (begun_.size() > 1 || follows(static_cast<unsigned char>(begun_[0]), code));
  if (goes_on) {
    begun_ += byte;
    return begun_.size() < length_ ? "" : std::exchange(begun_, {});
  }
  std::string out = rest();
  if (code < 0xC2 || code > 0xF4) return out + printable(byte);
  begun_ = byte, length_ = code < 0xE0 ? 2 : code < 0xF0 ? 3 : 4;
  return out;
}

Tensor ids_of(const Windows& windows) { return tensor(windows.ids, windows.count); }
Tensor next_of(const Windows& windows) { return tensor(windows.next, windows.count); }

TextEvaluation::TextEvaluation(const nn::Gpt& model, const Corpus& corpus)
    : TextEvaluation(model, corpus, nn::language_model(model)) {}

TextEvaluation::TextEvaluation(const nn::Gpt& model, const Corpus& corpus, nn::Objective objective)
    : model_(model), corpus_(corpus), evaluator_(std::move(objective)) {}

TextLoss TextEvaluation::loss(int64_t most_windows) {
  constexpr int64_t kMostTokens =
      1 << 19;  // their mean is sure to some 0.003 nats; a tenth of 10 GB would take hours
  constexpr int64_t kTokens = 2048;  // a batch: as many as fill the caches, whatever the context
  const int64_t context = model_.options.context, all = corpus_.validation_windows(context);
  const int64_t most = most_windows > 0 ? most_windows : std::max<int64_t>(kMostTokens / context, 1);
  const int64_t count = std::min(all, most), stride = all / count;
  const int64_t batch = std::clamp<int64_t>(kTokens / context, 1, count);
  int64_t bytes = 0;
  for (int64_t i = 0; i < count; i += batch) {
    const Windows windows = corpus_.validation_batch(i * stride, stride, std::min(batch, count - i), context);
    evaluator_.add(ids_of(windows), next_of(windows));
    bytes += windows.bytes;
  }
  const double nats = evaluator_.result().loss;
  return {nats, nats * static_cast<double>(count * context) / static_cast<double>(bytes) / std::log(2.0)};
}

std::string sample_of(nn::Generator& generator, const Vocabulary& vocabulary, int64_t count) {
  generator.restart();
  generator.read(first_token(vocabulary));
  std::string out;
  Printer printer;
  for (size_t bytes = 0; bytes < static_cast<size_t>(count);) {
    const std::string& text = vocabulary.text(generator.next());
    out += printer.put(text);
    bytes += text.size();
  }
  return out + printer.rest();
}

}  // namespace kontor::tools
