// A folder that one process at a time fills.
#pragma once
#include <string>

namespace kontor::tools {

/// Makes the folder, holds it until this or the process dies, and removes what a killed process left half-written in it.
/// Throws Error if another process, or another of these, holds it.
class OwnFolder {
 public:
  explicit OwnFolder(std::string path);
  ~OwnFolder();
  OwnFolder(const OwnFolder&) = delete;
  OwnFolder& operator=(const OwnFolder&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int lock_;
};

}  // namespace kontor::tools
