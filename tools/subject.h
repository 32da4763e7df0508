// What is trained when several ways are compared: a network on images, or a GPT on a text.
#pragma once
#include <string>
#include <vector>

#include "nn/corpus.h"
#include "tools/run.h"

namespace kontor::tools {

/// A figure that runs are compared by: a column of their metrics, how it is called, and what it is shown times.
struct Figure {
  const char* name;
  double Row::* column;
  double scale;
  const char* unit;
  int digits;
};

/// One training: a preset with arguments over it, its folder, what stands before its progress.
struct Training {
  std::string preset;
  Arguments arguments;
  std::string folder, label;
};

class Subject {
 public:
  virtual ~Subject() = default;
  virtual std::string source() const = 0;               ///< the path of the data
  virtual std::string about() const = 0;                ///< of the data, for reports
  virtual int64_t samples() const { return 0; }         ///< training images
  virtual std::span<const Column> columns() const = 0;  ///< of metrics.csv
  /// The first is drawn over work and time too.
  virtual std::span<const Figure> figures() const = 0;
  /// All settings that differ from the usual ones. Throws Error if they do not fit.
  virtual Arguments settings(const Training& training) const = 0;
  /// Of the default Context; goes on from a checkpoint, if one is named. What was done, also where a signal came.
  virtual std::vector<Row> train(const Training& training, const std::string& checkpoint) const = 0;
};

class ImageSubject final : public Subject {
 public:
  explicit ImageSubject(const Data& data) : data_(data) {}
  std::string source() const override { return data_.folder; }
  std::string about() const override;
  int64_t samples() const override { return data_.train.count; }
  std::span<const Column> columns() const override { return image_columns(); }
  std::span<const Figure> figures() const override;
  Arguments settings(const Training& training) const override;
  std::vector<Row> train(const Training& training, const std::string& checkpoint) const override;

 private:
  const Data& data_;
};

/// Each vocabulary is learned from the text when a run has it.
class TextSubject final : public Subject {
 public:
  explicit TextSubject(std::string path) : path_(std::move(path)) {}
  std::string source() const override { return path_; }
  std::string about() const override;
  std::span<const Column> columns() const override { return text_columns(); }
  std::span<const Figure> figures() const override;
  Arguments settings(const Training& training) const override;
  std::vector<Row> train(const Training& training, const std::string& checkpoint) const override;

 private:
  std::string path_;
};

}  // namespace kontor::tools
