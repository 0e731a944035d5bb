#include "models/text/unicode_classes.h"

#include <utility>
#include <vector>

#include "tests/test.h"

using namespace ultrasr;
using namespace std::string_literals;

TEST_SUITE("unit") {
    TEST_CASE("decode_utf8: one U+FFFD for each beginning that breaks off") {
        const std::vector<std::pair<std::string, std::u32string>> cases{
            {"a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x99\x82", U"aé€🙂"},
            {"\0z"s, U"\0z"s},
            {"\x80\xBF", U"\uFFFD\uFFFD"},  // nothing begun
            {"\xC0\xAF", U"\uFFFD\uFFFD"},  // too long for what it says
            {"\xE0\x80\xAF", U"\uFFFD\uFFFD\uFFFD"},
            {"\xED\xB0\x80", U"\uFFFD\uFFFD\uFFFD"},            // half of a surrogate pair
            {"\xF4\x90\x80\x80", U"\uFFFD\uFFFD\uFFFD\uFFFD"},  // beyond the last
            {"\xF0\x9F\x99"
             "A",
             U"\uFFFD"
             "A"},  // three of four bytes
            {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF"
             "A",
             U"\uFFFD\uFFFD\uFFFD\uFFFD"
             "A"}};
        for (const auto& [bytes, expected] : cases) {
            CAPTURE(bytes);
            CHECK(decode_utf8(bytes) == expected);
        }
        for (const char32_t c :
             {U'\x7F', U'\x80', U'\u07FF', U'\u0800', U'\uFFFF', U'\U00010000', U'\U0010FFFF'}) {
            CHECK(decode_utf8(encode_utf8({&c, 1})) == std::u32string(1, c));
        }
    }

    TEST_CASE("composed: form C, with marks in order and without the excluded characters") {
        CHECK(composed(U"e\u0301") == U"\u00E9");
        CHECK(composed(U"e\u0302\u0323") == U"\u1EC7");       // marks are sorted first
        CHECK(composed(U"\u1100\u1161\u11A8") == U"\uAC01");  // Hangul by arithmetic
        CHECK(composed(U"\u212B") == U"\u00C5");
        CHECK(composed(U"\u0958") == U"\u0915\u093C");
        CHECK(composed(U"\0\u0301"s) == U"\0\u0301"s);
        CHECK(composed(U"plain") == U"plain");
        CHECK(composed(U"") == U"");
    }

    TEST_CASE("lower_case: character by character") {
        CHECK(lower_case(U"AÉΣẞǅÅ") == U"aéσßǆå");
        CHECK(lower_case(U"ΟΔΟΣ") == U"οδοσ");  // no final sigma
        CHECK(lower_case(U"İI") == U"i\u0307i");
        CHECK(lower_case(U"straße ſ ²") == U"straße ſ ²");
    }

    TEST_CASE("class_of: letters, numbers and white space of Unicode") {
        for (const char32_t c : U"aßΩж中가ªʰ𐐨"s) CHECK(class_of(c) == CharacterClass::letter);
        for (const char32_t c : U"0²½Ⅷ①٣〇"s) CHECK(class_of(c) == CharacterClass::number);
        for (const char32_t c : U"\t\n\v\f\r \u0085\u00A0\u1680\u2003\u2028\u2029\u202F\u3000"s) {
            CHECK(class_of(c) == CharacterClass::space);
        }
        for (const char32_t c : U"_'!€🙂\u0301\u200B\u200D\uFEFF\x1C\x1F\0\uE000\uFFFF"s) {
            CHECK(class_of(c) == CharacterClass::other);
        }
    }
}
