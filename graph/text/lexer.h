// Tokens of the text forms of graphs and loop trees: names, numbers, symbols, and lines with their indentation.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace kontor {

struct Token {
  enum Kind { End, Line, Name, Number, Text, Symbol } kind = End;
  std::string text;    ///< as written; of a Number without its suffix, of a Text without quotes and escapes
  std::string suffix;  ///< dtype of a Number ("_f64"), empty if none
  int line = 1;
  int indent = 0;  ///< of a Line: spaces before what follows
};

/// How deep parentheses, calls, signs and loops may stand in each other in any text that is read: the readers are
/// recursive. What Kontor prints nests less (it names what lies deeper).
inline constexpr int deepest_nesting = 512;

/// Numbers: decimals (`0`, `12`, `1.5`, `2e-3`; no zeros in front), and hexadecimals with a power of two for exact floats
/// (`0x1.8p-3`). All else that starts with a digit is an Error.
/// Reads a text token by token. `#` starts a comment; empty lines are no tokens; every line starts with a Line token.
class Lexer {
 public:
  /// `what` opens every message: "graph text".
  Lexer(std::string_view text, std::string what);

  const Token& peek(size_t ahead = 0) const;
  Token next();
  bool is(std::string_view symbol_or_name) const;  ///< whether the next token is this symbol or name
  bool take(std::string_view symbol_or_name);      ///< skips it if it is next
  void expect(std::string_view symbol_or_name);
  std::string name(std::string_view role);                    ///< the next token, which must be a name
  [[noreturn]] void error(const std::string& message) const;  ///< Error "graph text, line 3: message"
  [[noreturn]] void error_at(int line, const std::string& message) const;

  /// One level of nesting, as long as it lives; an Error beyond the deepest.
  class Level {
   public:
    explicit Level(Lexer& lexer) : lexer_(lexer) { lexer_.enter(); }
    ~Level() { lexer_.level_--; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Lexer& lexer_;
  };

 private:
  void enter();
  int level_ = 0;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  std::string what_;
};

/// `text` with every character that a name may not hold replaced by '_'; never empty.
std::string name_text(std::string_view text);
/// In double quotes, with \" \\ \n escaped.
std::string quoted(std::string_view text);

}  // namespace kontor
