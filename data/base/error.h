// The one exception of the house, and the three ways to raise and enrich it.
#pragma once
#include <exception>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

namespace ultrasr {

/// Whose move it is. The values are the exit codes of the programs.
enum class Fault {
    internal = 1,  ///< ours: a bug
    usage = 2,     ///< unknown option, name or value
    input = 3,     ///< missing, broken or contradictory files
    device = 4,    ///< no such GPU, out of memory, a backend missing from this build
    storage = 5,   ///< disk full, not writable, locked by another run
};

/// A fault and one sentence: what, where, what to do.
class Error : public std::exception {
  public:
    Error(Fault fault, std::string sentence, std::source_location where);

    Fault fault() const noexcept { return fault_; }
    /// The sentence with all contexts in front, and the place in the source behind it.
    const char* what() const noexcept override { return text_.c_str(); }
    /// The sentence alone, for results and tests.
    const std::string& sentence() const noexcept { return sentence_; }

    /// The same error one level up: "context: sentence".
    Error with_context(std::string_view context) const;

  private:
    Fault fault_;
    std::string sentence_;
    std::source_location where_;
    std::string text_;
};

/// A format string that remembers the line it was written on.
template <class... Args>
struct FormatHere {
    fmt::format_string<Args...> text;
    std::source_location where;

    template <class Text>
    consteval FormatHere(const Text& t, std::source_location w = std::source_location::current())
        : text(t), where(w) {}
};

/// Throws Error(fault).
template <class... Args>
[[noreturn]] void fail(Fault fault, FormatHere<std::type_identity_t<Args>...> format,
                       Args&&... args) {
    throw Error(fault, fmt::format(format.text, std::forward<Args>(args)...), format.where);
}

/// Throws Error(input) unless `condition` holds.
template <class... Args>
void require(bool condition, FormatHere<std::type_identity_t<Args>...> format, Args&&... args) {
    if (!condition) {
        throw Error(Fault::input, fmt::format(format.text, std::forward<Args>(args)...),
                    format.where);
    }
}

/// Turns the exception in flight into an Error: an Error stays what it is, lack of memory is
/// `device`, anything foreign is `internal`.
Error current_error(std::source_location where = std::source_location::current());

/// Runs `action`; an exception leaves as an Error with "context: " in front of its sentence.
template <class Action>
auto while_doing(std::string_view context, Action&& action,
                 std::source_location where = std::source_location::current()) {
    try {
        return std::forward<Action>(action)();
    } catch (...) {
        throw current_error(where).with_context(context);
    }
}

}  // namespace ultrasr
