// JSON as the project reads and writes it: key order kept, NaN and infinity spelt out.
#pragma once
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace ultrasr {

using Json = nlohmann::ordered_json;

/// Parses a whole document.
///
/// text   UTF-8 JSON; comments are allowed in files that people write
/// name   what the text is, for the message (a file's path)
/// throws Error(input) with line and column of the first fault
Json parse_json(std::string_view text, std::string_view name);

/// Two-space indented text with a final newline. Invalid UTF-8 (a file's name may hold any byte)
/// is replaced by U+FFFD.
std::string dump_json(const Json& value);

/// The same on one line, without the newline.
std::string dump_json_line(const Json& value);

/// A number, or the string "nan", "inf", "-inf", which JSON's numbers cannot express.
Json json_number(double value);

/// Inverse of json_number. throws Error(input) on anything else.
double number_from_json(const Json& value);

}  // namespace ultrasr
