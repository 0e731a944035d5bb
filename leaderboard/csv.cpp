#include "leaderboard/csv.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "data/base/error.h"

namespace ultrasr {

std::string csv_number(double value) {
    return std::isnan(value) ? "nan" : fmt::format("{}", value);  // never "-nan"
}

std::optional<double> number_from_csv(std::string_view text) {
    double value = 0;
    const char* end = text.data() + text.size();
    const auto [stop, fault] = std::from_chars(text.data(), end, value);
    if (fault != std::errc{} || stop != end) return std::nullopt;
    return value;
}

std::string csv_field(std::string_view text) {
    if (text.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(text);
    std::string quoted = "\"";
    for (const char c : text) {
        if (c == '"') quoted += '"';
        quoted += c;
    }
    return quoted + '"';
}

std::vector<CsvRow> parse_csv(std::string_view text, const std::string& name, std::size_t line) {
    std::vector<CsvRow> rows;
    std::size_t at = 0;
    if (text.starts_with("\xEF\xBB\xBF")) at = 3;  // the mark that spreadsheets put in front
    while (at < text.size()) {
        CsvRow row{line, {}};
        bool more = true;
        while (more) {
            std::string field;
            if (at < text.size() && text[at] == '"') {
                for (++at;; ++at) {
                    require(at < text.size(), "{}, line {}: a quote is not closed", name, row.line);
                    if (text[at] == '"' && text.substr(at + 1).starts_with('"'))
                        ++at;
                    else if (text[at] == '"')
                        break;
                    if (text[at] == '\n') ++line;
                    field += text[at];
                }
                ++at;
                require(
                    at == text.size() || text[at] == ',' || text[at] == '\n' || text[at] == '\r',
                    "{}, line {}: text follows a closing quote", name, line);
            } else {
                const std::size_t end = std::min(text.find_first_of(",\n", at), text.size());
                field = text.substr(at, end - at);
                at = end;
                if (field.ends_with('\r') && (at == text.size() || text[at] == '\n')) {
                    field.pop_back();
                }
            }
            if (at < text.size() && text[at] == '\r') ++at;
            more = at < text.size() && text[at] == ',';
            ++at;
            row.fields.push_back(std::move(field));
        }
        ++line;
        if (row.fields.size() > 1 || !row.fields[0].empty()) rows.push_back(std::move(row));
    }
    return rows;
}

}  // namespace ultrasr
