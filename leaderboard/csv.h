// Comma-separated text (RFC 4180).
#pragma once
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ultrasr {

/// The text, in quotes where it holds commas, quotes or line ends.
std::string csv_field(std::string_view text);

/// The shortest form that reads back the same; "nan", "inf", "-inf".
std::string csv_number(double value);

/// A number that fills the whole field; "nan" and "inf" count.
std::optional<double> number_from_csv(std::string_view text);

struct CsvRow {
    std::size_t line = 0;             ///< on which it begins
    std::vector<std::string> fields;  ///< at least one
};

/// All rows, empty lines left out; LF or CRLF ends a line.
///
/// name   of the text, for messages
/// line   number of its first line
/// throws Error(input) naming the line of a quote that is not closed or has text behind it
std::vector<CsvRow> parse_csv(std::string_view text, const std::string& name, std::size_t line = 1);

}  // namespace ultrasr
