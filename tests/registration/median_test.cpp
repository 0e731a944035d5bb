#include "registration/median.h"

#include "tests/test.h"

using namespace ultrasr;

TEST_SUITE("unit") {
    TEST_CASE("median_of: by hand, of odd, even and no counts") {
        CHECK(median_of({5}) == 5);
        CHECK(median_of({9, 1, 4}) == 4);
        CHECK(median_of({8, 1, 2, 4}) == 3);
        CHECK(median_of({2, 1}) == 1.5);
        CHECK(std::isnan(median_of({})));
    }
}
