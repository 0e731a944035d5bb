// Names out of files, made fit for a message.
#pragma once
#include <string>
#include <string_view>

namespace ultrasr {

/// At most 80 bytes; control characters shown as '?'.
inline std::string shown_name(std::string_view name) {
    std::string text(name.substr(0, 80));
    for (char& c : text) {
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    }
    return text;
}

}  // namespace ultrasr
