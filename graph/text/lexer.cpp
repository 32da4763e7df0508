// Splits a text into tokens at once.
#include "graph/text/lexer.h"

#include <algorithm>

#include "base/error.h"

namespace kontor {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool starts_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool in_name(char c) { return starts_name(c) || is_digit(c); }

std::string shown(char c) {  // bytes that are no printable ASCII as \x..
  if (c >= ' ' && c <= '~') return fmt::format("'{}'", c);
  return fmt::format("'\\x{:02x}'", static_cast<unsigned char>(c));
}

struct Scanner {
  std::string_view text;
  std::string what;
  size_t at = 0;
  int line = 1;
  std::vector<Token> tokens = {};

  char look(size_t ahead = 0) const { return at + ahead < text.size() ? text[at + ahead] : '\0'; }
  void add(Token::Kind kind, std::string word, std::string suffix = {}) {
    tokens.push_back({kind, std::move(word), std::move(suffix), line, 0});
  }

  void run() {
    bool fresh = true;  // no token of this line yet
    int indent = 0;
    while (at < text.size()) {
      char c = look();
      if (c == '\n') {
        fresh = true, indent = 0, line++, at++;
      } else if (c == ' ' || c == '\t' || c == '\r') {
        indent++, at++;
      } else if (c == '#') {
        while (at < text.size() && look() != '\n') at++;
      } else {
        if (fresh) tokens.push_back({Token::Line, "end of line", {}, line, indent});
        fresh = false;
        token();
      }
    }
    add(Token::End, "end of text");
  }

  bool sigil() const {  // %12 and $3 are names where no operand stands before
    if ((look() != '%' && look() != '$') || !is_digit(look(1))) return false;
    return at == 0 || look() == '$' ||
           std::string_view(" \n\t([{,-!").find(text[at - 1]) != std::string_view::npos;
  }

  void token() {
    size_t begin = at;
    if (starts_name(look()) || sigil()) {
      at++;
      while (in_name(look())) at++;
      return add(Token::Name, std::string(text.substr(begin, at - begin)));
    }
    if (is_digit(look())) return number();
    if (look() == '"') return quoted_text();
    static constexpr std::string_view pairs[] = {"<-", "->", "<=", ">=", "==", "!=", "<<", ">>", "//", ".."};
    for (std::string_view p : pairs)
      if (text.substr(at, 2) == p) return at += 2, add(Token::Symbol, std::string(p));
    if (std::string_view("()[]{},;:=<>+-*/%&|^!.").find(look()) == std::string_view::npos)
      fail("{}, line {}: character {} is not expected", what, line, shown(look()));
    add(Token::Symbol, std::string(1, text[at++]));
  }

  template <class Digit>
  size_t digits(const Digit& digit) {
    size_t begin = at;
    while (digit(look())) at++;
    return at - begin;
  }

  // Whether what follows is a number of the form that lexer.h states.
  bool read_number() {
    bool hex = look() == '0' && look(1) == 'x';
    auto digit = [hex](char c) {
      return is_digit(c) || (hex && ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')));
    };
    if (hex) at += 2;
    bool zero = !hex && look() == '0';
    size_t whole = digits(digit);
    if (whole == 0 || (zero && whole > 1)) return false;
    if (look() == '.' && look(1) != '.') at++, digits(digit);
    if (look() != (hex ? 'p' : 'e')) return !hex;
    at += look(1) == '+' || look(1) == '-' ? 2 : 1;
    return digits(is_digit) > 0;
  }

  void number() {
    size_t begin = at;
    bool fits = read_number();
    std::string word(text.substr(begin, at - begin));
    begin = at;
    while (in_name(look())) at++;
    if (!fits || (at > begin && text[begin] != '_'))
      fail("{}, line {}: '{}' is not a number", what, line,
           word + std::string(text.substr(begin, at - begin)));
    add(Token::Number, word, at > begin ? std::string(text.substr(begin + 1, at - begin - 1)) : "");
  }

  void quoted_text() {
    std::string out;
    for (at++; look() != '"'; at++) {
      if (at >= text.size() || look() == '\n') fail("{}, line {}: a quote is not closed", what, line);
      if (look() != '\\') {
        out += look();
        continue;
      }
      at++;
      out += look() == 'n' ? '\n' : look();
    }
    at++;
    add(Token::Text, out);
  }
};

}  // namespace

Lexer::Lexer(std::string_view text, std::string what) : what_(what) {
  Scanner scanner{text, std::move(what)};
  scanner.run();
  tokens_ = std::move(scanner.tokens);
}

void Lexer::enter() {
  if (level_ == deepest_nesting) error(fmt::format("nested more than {} deep", deepest_nesting));
  level_++;
}

const Token& Lexer::peek(size_t ahead) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }

Token Lexer::next() {
  Token token = peek();
  if (at_ + 1 < tokens_.size()) at_++;
  return token;
}

bool Lexer::is(std::string_view word) const {
  const Token& t = peek();
  return (t.kind == Token::Symbol || t.kind == Token::Name) && t.text == word;
}

bool Lexer::take(std::string_view word) { return is(word) && (next(), true); }

void Lexer::expect(std::string_view word) {
  if (!take(word)) error(fmt::format("'{}' expected before {}", word, quoted(peek().text)));
}

std::string Lexer::name(std::string_view role) {
  if (peek().kind != Token::Name) error(fmt::format("{} expected before {}", role, quoted(peek().text)));
  return next().text;
}

void Lexer::error(const std::string& message) const {
  bool ended = peek().kind == Token::Line || peek().kind == Token::End;
  error_at(ended && at_ > 0 ? tokens_[at_ - 1].line : peek().line, message);
}
void Lexer::error_at(int line, const std::string& message) const {
  fail("{}, line {}: {}", what_, line, message);
}

std::string name_text(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (!in_name(c)) c = '_';
  if (out.empty() || !starts_name(out[0])) out = "v" + out;
  return out;
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c == '\n' ? std::string("\\n") : std::string(1, c);
  }
  return out + '"';
}

}  // namespace kontor
