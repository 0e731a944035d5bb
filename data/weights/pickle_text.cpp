#include "data/weights/pickle_text.h"

#include <algorithm>
#include <charconv>

namespace ultrasr {
namespace {

template <class Number, class... Base>
std::optional<Number> parse_whole(std::string_view text, Base... base) {
    Number value{};
    const auto [end, fault] =
        std::from_chars(text.data(), text.data() + text.size(), value, base...);
    if (fault != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

/// The code point as one to four bytes.
void append_utf8(std::string& out, std::uint32_t code) {
    const auto put = [&](std::uint32_t byte) { out += static_cast<char>(byte); };
    if (code < 0x80) {
        put(code);
    } else if (code < 0x800) {
        put(0xc0 | code >> 6);
        put(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        put(0xe0 | code >> 12);
        put(0x80 | (code >> 6 & 0x3f));
        put(0x80 | (code & 0x3f));
    } else {
        put(0xf0 | code >> 18);
        put(0x80 | (code >> 12 & 0x3f));
        put(0x80 | (code >> 6 & 0x3f));
        put(0x80 | (code & 0x3f));
    }
}

}  // namespace

std::optional<std::int64_t> parse_integer(std::string_view text) {
    return parse_whole<std::int64_t>(text, 10);
}

std::optional<double> parse_real(std::string_view text) { return parse_whole<double>(text); }

bool is_decimal(std::string_view text) {
    if (text.starts_with('-')) text.remove_prefix(1);
    return !text.empty() &&
           std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::optional<std::string> unescape_string(std::string_view quoted) {
    if (quoted.size() < 2 || quoted.front() != quoted.back() ||
        (quoted.front() != '\'' && quoted.front() != '"')) {
        return std::nullopt;
    }
    const std::string_view text = quoted.substr(1, quoted.size() - 2);
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\\') {
            out += text[i];
            continue;
        }
        if (++i == text.size()) return std::nullopt;
        constexpr std::string_view letters = "\\'\"abfnrtv", meanings = "\\'\"\a\b\f\n\r\t\v";
        const std::size_t known = letters.find(text[i]);
        if (known != std::string_view::npos) {
            out += meanings[known];
        } else if (text[i] == 'x') {
            const auto byte = parse_whole<std::uint8_t>(text.substr(i + 1, 2), 16);
            if (!byte || i + 2 >= text.size()) return std::nullopt;
            out += static_cast<char>(*byte);
            i += 2;
        } else {
            std::size_t n = 0;
            while (n < 3 && i + n < text.size() && text[i + n] >= '0' && text[i + n] <= '7') ++n;
            const auto byte = parse_whole<std::uint8_t>(text.substr(i, n), 8);
            if (!byte) return std::nullopt;
            out += static_cast<char>(*byte);
            i += n - 1;
        }
    }
    return out;
}

std::optional<std::string> unescape_unicode(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const std::size_t digits = !text.substr(i).starts_with('\\')     ? 0
                                   : text.substr(i + 1).starts_with('u') ? 4
                                   : text.substr(i + 1).starts_with('U') ? 8
                                                                         : 0;
        if (digits == 0) {
            append_utf8(out, static_cast<unsigned char>(text[i]));
            continue;
        }
        const std::string_view hex = text.substr(i + 2, digits);
        const auto code = parse_whole<std::uint32_t>(hex, 16);
        const bool surrogate = code && *code >= 0xd800 && *code < 0xe000;
        if (hex.size() < digits || !code || *code > 0x10ffff || surrogate) return std::nullopt;
        append_utf8(out, *code);
        i += 1 + digits;
    }
    return out;
}

bool is_utf8(std::string_view text) {
    for (std::size_t i = 0; i < text.size();) {
        const auto byte = [&](std::size_t k) { return static_cast<unsigned char>(text[k]); };
        const unsigned first = byte(i);
        const std::size_t length = first < 0x80   ? 1
                                   : first < 0xc2 ? 0
                                   : first < 0xe0 ? 2
                                   : first < 0xf0 ? 3
                                   : first < 0xf5 ? 4
                                                  : 0;
        if (length == 0 || i + length > text.size()) return false;
        for (std::size_t k = 1; k < length; ++k) {
            if ((byte(i + k) & 0xc0) != 0x80) return false;
        }
        // Neither overlong forms nor surrogates nor anything above U+10FFFF
        const unsigned second = length > 1 ? byte(i + 1) : 0;
        if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second >= 0xa0) ||
            (first == 0xf0 && second < 0x90) || (first == 0xf4 && second >= 0x90)) {
            return false;
        }
        i += length;
    }
    return true;
}

}  // namespace ultrasr
