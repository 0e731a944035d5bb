// Numbers and strings as the oldest pickle protocol writes them: as lines of text.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ultrasr {

/// A whole decimal number; empty when it is none or beyond 64 bits.
std::optional<std::int64_t> parse_integer(std::string_view text);

/// A floating-point number as Python's repr writes it, nan and inf included; empty when it is none.
std::optional<double> parse_real(std::string_view text);

/// True for digits with at most one minus sign in front.
bool is_decimal(std::string_view text);

/// The bytes meant by a quoted string literal with backslash escapes; empty when it is none.
std::optional<std::string> unescape_string(std::string_view quoted);

/// UTF-8 of Latin-1 text with \uXXXX and \UXXXXXXXX escapes; empty when one is broken.
std::optional<std::string> unescape_unicode(std::string_view text);

/// True for well-formed UTF-8 (RFC 3629).
bool is_utf8(std::string_view text);

}  // namespace ultrasr
