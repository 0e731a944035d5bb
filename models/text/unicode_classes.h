// What Unicode says about characters, as far as a tokenizer asks. The version of Unicode is that of
// the utf8proc installed: scripts added later are no letters yet (version 14 and newer: every
// package of Debian 12 and Ubuntu 22.04 on).
#pragma once
#include <string>
#include <string_view>

namespace ultrasr {

/// Code points of UTF-8. Bytes that are none become U+FFFD: one for each longest beginning of a
/// character that breaks off, as Python, browsers and Unicode 3.9 have it.
std::u32string decode_utf8(std::string_view text);

/// The inverse, for whole code points.
std::string encode_utf8(std::u32string_view text);

/// Normalization form C: "e" and a combining acute accent become one character.
std::u32string composed(std::u32string_view text);

/// Every character by itself: a sigma at the end of a word becomes the ordinary one, and of all
/// mappings to several characters only that of U+0130 is left (i and a dot above).
std::u32string lower_case(std::u32string_view text);

/// White_Space; categories L*, N*; everything else.
enum class CharacterClass { space, letter, number, other };
CharacterClass class_of(char32_t character);

}  // namespace ultrasr
