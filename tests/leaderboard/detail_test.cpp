#include "leaderboard/detail.h"
#include "data/base/error.h"
#include "tests/test.h"

using namespace ultrasr;

TEST_SUITE("unit") {
    TEST_CASE("most_textured: finds the only part that is not flat, also at the border") {
        for (const int at : {0, 37, 83}) {
            Image image(PixelSize{100, 60});
            for (int y = 40; y < 56; ++y) {
                for (int x = at; x < at + 16; ++x) {
                    for (int c = 0; c < 3; ++c)
                        image.row_(y)[3 * x + c] = (x + y) % 2 ? 1.0F : 0.0F;
                }
            }
            const PixelRect part = most_textured(image, {20, 20});
            CAPTURE(at);
            CHECK(part.width == 20);
            CHECK(part.x <= at);
            CHECK(part.x + 20 >= at + 16);
            CHECK(part.y <= 40);
            CHECK(part.y + 20 >= 56);
        }
        CHECK(most_textured(Image(PixelSize{5, 3}), {20, 20}) == PixelRect{0, 0, 5, 3});
        CHECK(most_textured(Image(PixelSize{1, 1}), {20, 20}) == PixelRect{0, 0, 1, 1});
    }

    TEST_CASE("crop: a copy; a box outside the picture is refused with the picture's size") {
        Image image(PixelSize{8, 6});
        image.row_(2)[3 * 3] = 0.5F;
        const Image part = crop(image, {3, 2, 4, 4});
        CHECK(part.size() == PixelSize{4, 4});
        CHECK(part.row(0)[0] == 0.5F);
        image.row_(2)[3 * 3] = 0.75F;
        CHECK(part.row(0)[0] == 0.5F);
        for (const PixelRect& bad :
             {PixelRect{-1, 0, 2, 2}, {7, 0, 2, 2}, {0, 5, 2, 2}, {0, 0, 0, 2}}) {
            CHECK_THROWS_AS(crop(image, bad), Error);
        }
    }
}
