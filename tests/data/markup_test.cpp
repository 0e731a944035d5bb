#include "data/markup.h"

#include "tests/test.h"

using namespace ultrasr;

TEST_SUITE("unit") {
    TEST_CASE("escape_markup: what could end a text or an attribute becomes an entity") {
        CHECK(escape_markup("a < b && c > \"d\"'") ==
              "a &lt; b &amp;&amp; c &gt; &quot;d&quot;&#39;");
        CHECK(escape_markup("x\x01\ty\n") == "x  y ");
        CHECK(escape_markup("\u00D7 8, \u03B8") == "\u00D7 8, \u03B8");
        CHECK(escape_markup("") == "");
    }
}
