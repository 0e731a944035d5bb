// Two kinds of remark on stderr; the result of a program never goes here.
#pragma once
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace ultrasr {

/// Silences info(); warnings always show.
void set_quiet(bool quiet);

/// Writes one line to stderr, above a progress bar if one is showing.
void write_log_line(std::string_view prefix, std::string_view text);

/// Shows (or, given an empty text, removes) the line that stays at the bottom of a terminal.
void write_status_line(std::string_view text);

bool is_quiet();

template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
    if (!is_quiet()) write_log_line("", fmt::format(format, std::forward<Args>(args)...));
}

/// Says what is odd and what the user can do about it.
template <class... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
    write_log_line("warning: ", fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace ultrasr
