// A GPT with its vocabulary, as `kontor train gpt` leaves it in a file.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include <kontor/transformer.h>

#include "nn/corpus.h"

namespace kontor::tools {

struct TextModel {
  std::unique_ptr<nn::Gpt> gpt;
  Vocabulary vocabulary;
};

/// What a file says of a model beside its weights: kind, sizes and vocabulary.
nn::Metadata about_model(const nn::GptOptions& options, const Vocabulary& vocabulary);
/// The model of a file. Throws Error if the file is of another kind, or says what cannot be.
TextModel load_text_model(const std::string& path);
/// Its matrices and tables are of this dtype from now on, and so are products and what attention keeps; norms and what layers add up stay f32.
void narrow_weights(TextModel& model, DType dtype);
/// The vocabulary that a model or a checkpoint names. Throws Error as load_text_model().
Vocabulary vocabulary_of(const std::string& path);

/// Tokens of a text. Throws Error that names the first byte the vocabulary lacks.
std::vector<int32_t> encode(const Vocabulary& vocabulary, std::string_view text, std::string_view what);

/// Of the tokens that follow: the mean cross-entropy, and the same by the bytes that they stand for, whatever the vocabulary.
struct TextLoss {
  double nats = 0, bits_per_byte = 0;
};
/// The loss of the validation: of at most so many windows, evenly spaced; 0: of all, or of those with half a million
/// tokens together where a text has more to check by.
class TextEvaluation {
 public:
  TextEvaluation(const nn::Gpt& model, const Corpus& corpus);
  /// By another objective of the model than nn::language_model().
  TextEvaluation(const nn::Gpt& model, const Corpus& corpus, nn::Objective objective);
  TextLoss loss(int64_t most_windows = 0);

 private:
  const nn::Gpt& model_;
  const Corpus& corpus_;
  nn::Evaluator evaluator_;
};

/// The windows as tensors [count, context].
Tensor ids_of(const Windows& windows);
Tensor next_of(const Windows& windows);

/// What is read where nothing is given to go on from: a line's end, or the first token.
int64_t first_token(const Vocabulary& vocabulary);
/// Some text of `count` bytes or a little more that the model writes on from its first token, as it can be printed.
std::string sample_of(nn::Generator& generator, const Vocabulary& vocabulary, int64_t count);
/// A byte as a terminal shows it: what steers one, or is no letter by itself, comes as \xNN.
std::string printable(char byte);

/// Bytes as a terminal shows them, one after another: letters of several bytes (UTF-8) come when they are whole.
class Printer {
 public:
  std::string put(std::string_view bytes);
  std::string put(char byte);
  std::string rest();  ///< what was begun and not ended

 private:
  std::string begun_;
  size_t length_ = 0;
};

}  // namespace kontor::tools
