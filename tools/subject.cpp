// Runs of either kind, as a study asks for them.
#include "tools/subject.h"

#include <algorithm>

#include "base/error.h"
#include "tools/text_run.h"

namespace kontor::tools {

namespace {

constexpr Figure kAccuracies[] = {{"test accuracy", &Row::test, 100, "%", 2},
                                  {"old labels", &Row::old, 100, "%", 2},
                                  {"new label", &Row::fresh, 100, "%", 2}};
constexpr Figure kLosses[] = {{"validation loss", &Row::validation, 1, "nats a token", 4},
                              {"bits a byte", &Row::bits, 1, "bits", 3}};

// So often that a run which was stopped loses little.
template <class S>
S with_checkpoints(S s) {
  if (s.checkpoint_every == 0) s.checkpoint_every = std::max<int64_t>(1, s.steps / 20);
  return s;
}

Settings image_settings(const Training& t) { return with_checkpoints(settings_of(t.preset, t.arguments)); }

// No text is shown on the way: of several runs it would be read by none.
TextSettings text_settings(const Training& t) {
  TextSettings s = with_checkpoints(text_settings_of(t.preset, t.arguments));
  s.sample = 0;
  return s;
}

}  // namespace

std::string ImageSubject::about() const {
  return fmt::format("{} training and {} test images from `{}`", data_.train.count, data_.test.count,
                     data_.folder);
}

std::span<const Figure> ImageSubject::figures() const { return kAccuracies; }

Arguments ImageSubject::settings(const Training& training) const {
  return to_arguments(setting_table(), image_settings(training));
}

std::vector<Row> ImageSubject::train(const Training& t, const std::string& checkpoint) const {
  Run run(image_settings(t), data_, t.folder, t.label, checkpoint);
  run.execute();
  return run.rows();
}

std::string TextSubject::about() const { return fmt::format("Text `{}`", path_); }

std::span<const Figure> TextSubject::figures() const { return kLosses; }

Arguments TextSubject::settings(const Training& training) const {
  return to_arguments(text_setting_table(), text_settings(training));
}

std::vector<Row> TextSubject::train(const Training& t, const std::string& checkpoint) const {
  TextSettings s = text_settings(t);
  const Corpus corpus = checkpoint.empty() ? Corpus(path_, vocabulary_tokens(s.vocabulary))
                                           : Corpus(path_, vocabulary_of(checkpoint));
  if (!checkpoint.empty()) {  // which knows how many steps the time or the work is enough for
    const int64_t every = s.checkpoint_every;
    s = text_settings_to_resume(checkpoint, {});
    s.checkpoint_every = every, s.sample = 0;
  }
  TextRun run(s, corpus, t.folder, checkpoint, t.label);
  run.execute();
  return run.rows();
}

}  // namespace kontor::tools
