#include "models/text/unicode_classes.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include "data/base/error.h"

namespace ultrasr {
namespace {

constexpr char32_t replacement = U'\uFFFD';

/// Bytes of the character that begins with `lead`, and the range its second byte may have; 0 bytes
/// where nothing begins so. Source: Unicode 15, table 3-7.
struct Sequence {
    int bytes = 0;
    unsigned char low = 0x80, high = 0xBF;
};

Sequence sequence_of(unsigned char lead) {
    if (lead < 0x80) return {1};
    if (lead < 0xC2) return {};
    if (lead < 0xE0) return {2};
    if (lead == 0xE0) return {3, 0xA0, 0xBF};  // shorter ones have two bytes
    if (lead == 0xED) return {3, 0x80, 0x9F};  // surrogates
    if (lead < 0xF0) return {3};
    if (lead == 0xF0) return {4, 0x90, 0xBF};
    if (lead < 0xF4) return {4};
    if (lead == 0xF4) return {4, 0x80, 0x8F};  // beyond U+10FFFF
    return {};
}

}  // namespace

std::u32string decode_utf8(std::string_view text) {
    std::u32string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size();) {
        const auto lead = static_cast<unsigned char>(text[i++]);
        const Sequence sequence = sequence_of(lead);
        if (sequence.bytes < 2) {
            out.push_back(sequence.bytes == 1 ? lead : replacement);
            continue;
        }
        char32_t character = lead & (0x7FU >> sequence.bytes);
        unsigned char low = sequence.low, high = sequence.high;
        int more = sequence.bytes - 1;
        for (; more > 0 && i < text.size(); --more, ++i) {
            const auto byte = static_cast<unsigned char>(text[i]);
            if (byte < low || byte > high) break;
            character = character << 6 | (byte & 0x3FU);
            low = 0x80, high = 0xBF;
        }
        out.push_back(more == 0 ? character : replacement);
    }
    return out;
}

std::string encode_utf8(std::u32string_view text) {
    std::string out;
    out.reserve(text.size());
    for (const char32_t c : text) {
        const auto tail = [&](int shift) {
            out.push_back(static_cast<char>(0x80 | (c >> shift & 0x3F)));
        };
        if (c < 0x80) {
            out.push_back(static_cast<char>(c));
        } else if (c < 0x800) {
            out.push_back(static_cast<char>(0xC0 | c >> 6));
            tail(0);
        } else if (c < 0x10000) {
            out.push_back(static_cast<char>(0xE0 | c >> 12));
            tail(6), tail(0);
        } else {
            out.push_back(static_cast<char>(0xF0 | c >> 18));
            tail(12), tail(6), tail(0);
        }
    }
    return out;
}

std::u32string composed(std::u32string_view text) {
    // Below U+0300 every text is its own form C
    if (std::all_of(text.begin(), text.end(), [](char32_t c) { return c < 0x300; })) {
        return std::u32string(text);
    }
    const std::string bytes = encode_utf8(text);
    std::uint8_t* result = nullptr;
    const utf8proc_ssize_t size =
        utf8proc_map(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                     static_cast<utf8proc_ssize_t>(bytes.size()), &result,
                     static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    const std::unique_ptr<std::uint8_t, decltype(&std::free)> holder(result, &std::free);
    if (size == UTF8PROC_ERROR_NOMEM) throw std::bad_alloc();
    if (size < 0) fail(Fault::internal, "utf8proc: {}", utf8proc_errmsg(size));
    return decode_utf8({reinterpret_cast<const char*>(result), static_cast<std::size_t>(size)});
}

std::u32string lower_case(std::u32string_view text) {
    std::u32string out;
    out.reserve(text.size());
    for (const char32_t c : text) {
        if (c == U'\u0130') {  // capital I with a dot above, the one with two in SpecialCasing.txt
            out += U"i\u0307";
        } else {
            out.push_back(
                static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
        }
    }
    return out;
}

CharacterClass class_of(char32_t character) {
    switch (utf8proc_category(static_cast<utf8proc_int32_t>(character))) {
        case UTF8PROC_CATEGORY_LU:
        case UTF8PROC_CATEGORY_LL:
        case UTF8PROC_CATEGORY_LT:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_LO:
            return CharacterClass::letter;
        case UTF8PROC_CATEGORY_ND:
        case UTF8PROC_CATEGORY_NL:
        case UTF8PROC_CATEGORY_NO:
            return CharacterClass::number;
        case UTF8PROC_CATEGORY_ZS:
        case UTF8PROC_CATEGORY_ZL:
        case UTF8PROC_CATEGORY_ZP:
            return CharacterClass::space;
        default: {
            const bool space = (character >= 0x9 && character <= 0xD) || character == 0x85;
            return space ? CharacterClass::space : CharacterClass::other;
        }
    }
}

}  // namespace ultrasr
