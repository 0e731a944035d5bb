// Text inside HTML and SVG.
#pragma once
#include <string>
#include <string_view>

namespace ultrasr {

/// &, <, > and both quotes as entities, so that a text is what it is in elements and attributes;
/// control characters, which XML does not allow at all, as blanks.
std::string escape_markup(std::string_view text);

}  // namespace ultrasr
