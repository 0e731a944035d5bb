// Where MANIQA looks: the grid, numpy's draws, the enlargement (metrics.md 10).
#include "metrics/maniqa_crops.h"

#include <set>

#include "data/base/error.h"
#include "data/base/json.h"
#include "data/file.h"
#include "tests/test.h"

#include <nlohmann/json.hpp>

namespace ultrasr {
namespace {

std::size_t different(const std::vector<CropCorner>& crops) {
    return std::set<CropCorner>(crops.begin(), crops.end()).size();
}

TEST_SUITE("unit") {
    TEST_CASE("maniqa_crops: uniform is four rows of five, the fifth row left out") {
        // Steps: floor((512 - 224) / 4) = 72 both ways
        const auto square = maniqa_crops({512, 512}, Crops::uniform);
        REQUIRE(square.size() == 20);
        CHECK(square[0] == CropCorner{0, 0});
        CHECK(square[1] == CropCorner{72, 0});
        CHECK(square[4] == CropCorner{288, 0});
        CHECK(square[5] == CropCorner{0, 72});
        CHECK(square[19] == CropCorner{288, 216});

        // 97 / 4 and 35 / 4 are rounded down
        const auto wide = maniqa_crops({321, 259}, Crops::uniform);
        CHECK(wide[1] == CropCorner{24, 0});
        CHECK(wide[5] == CropCorner{0, 8});
        CHECK(wide[19] == CropCorner{96, 24});
    }

    TEST_CASE("maniqa_crops: numpy's first draws for a range of 289, row before column") {
        // metrics.md 10: 98 230 17 83 106 123 57 214
        for (const Crops rule : {Crops::random123, Crops::random_each}) {
            const auto crops = maniqa_crops({512, 512}, rule);
            REQUIRE(crops.size() == 20);
            CHECK(crops[0] == CropCorner{230, 98});
            CHECK(crops[1] == CropCorner{83, 17});
            CHECK(crops[2] == CropCorner{123, 106});
            CHECK(crops[3] == CropCorner{214, 57});
        }
    }

    TEST_CASE("maniqa_crops: random123 goes on where the pictures before it ended") {
        const std::vector<PixelSize> before{{320, 256}, {200, 150}};
        const PixelSize size{512, 512};
        const auto first = maniqa_crops(size, Crops::random123);
        const auto third = maniqa_crops(size, Crops::random123, before);
        CHECK(first != third);
        CHECK(maniqa_crops(size, Crops::random_each, before) == first);
        CHECK(maniqa_crops(size, Crops::uniform, before) == maniqa_crops(size, Crops::uniform));
    }

    TEST_CASE("maniqa_crops: a side with one place left draws nothing") {
        // 300 x 168 becomes 401 x 224: columns alone are drawn, from 178
        const std::vector<PixelSize> twice{{300, 168}, {300, 168}};
        CHECK(maniqa_enlarged({300, 168}) == PixelSize{401, 224});
        const auto crops = maniqa_crops({300, 168}, Crops::random123);
        for (const CropCorner& corner : crops) {
            CHECK(corner.y == 0);
            CHECK(corner.x <= 401 - 224);
        }
        CHECK(different(crops) > 10);

        // 168 x 168 becomes 224 x 224: nothing is drawn, so the next picture starts the stream
        const std::vector<PixelSize> none{{168, 168}, {168, 168}};
        CHECK(different(maniqa_crops({168, 168}, Crops::random123)) == 1);
        CHECK(maniqa_crops({512, 512}, Crops::random123, none) ==
              maniqa_crops({512, 512}, Crops::random123));
        CHECK(maniqa_crops({512, 512}, Crops::random123, twice) !=
              maniqa_crops({512, 512}, Crops::random123));
    }

    TEST_CASE("maniqa_enlarged: up to 224 pixels a side is brought to 225, from 225 on kept") {
        CHECK(maniqa_enlargement({200, 150}) == 1.5);
        CHECK(maniqa_enlarged({200, 150}) == PixelSize{300, 225});
        CHECK(maniqa_enlarged({150, 200}) == PixelSize{225, 300});
        CHECK(maniqa_enlargement({224, 500}) == 225.0 / 224.0);
        CHECK(maniqa_enlarged({224, 500}) == PixelSize{225, 502});  // 502.2
        CHECK(maniqa_enlargement({225, 500}) == 1.0);
        CHECK(maniqa_enlarged({225, 500}) == PixelSize{225, 500});
        CHECK(maniqa_enlarged({1, 1}) == PixelSize{225, 225});
        for (int side = 1; side <= 224; ++side) {
            const PixelSize size = maniqa_enlarged({side, side});
            CAPTURE(side);
            CHECK(size.width >= 224);
            CHECK(size.width <= 225);
        }
    }

    TEST_CASE("maniqa_crops: an empty picture is an error that names its size") {
        try {
            maniqa_crops({7, 0}, Crops::uniform);
            FAIL("no error");
        } catch (const Error& error) {
            CHECK(error.fault() == Fault::input);
            CHECK(error.sentence().find("7x0") != std::string::npos);
        }
    }

    TEST_CASE("crops_name: the names that results print") {
        CHECK(std::string(crops_name(Crops::uniform)) == "uniform");
        CHECK(std::string(crops_name(Crops::random123)) == "random123");
        CHECK(std::string(crops_name(Crops::random_each)) == "random_each");
    }
}

TEST_SUITE("golden") {
    TEST_CASE("maniqa_crops: both random rules draw what pyiqa drew, picture after picture") {
        const auto path = test::source_folder() / "tests" / "golden" / "metrics_maniqa_crops.json";
        const Json golden = parse_json(read_file(path), path.string());
        for (const auto& [name, rule] :
             {std::pair{"stream", Crops::random123}, std::pair{"reseeded", Crops::random_each}}) {
            std::vector<PixelSize> before;
            for (const Json& picture : golden.at(name)) {
                const PixelSize size{picture.at("width").get<int>(),
                                     picture.at("height").get<int>()};
                CAPTURE(name);
                CAPTURE(size.width);
                CAPTURE(size.height);
                std::vector<CropCorner> expected;
                for (const Json& place : picture.at("crops")) {
                    expected.push_back({place[1].get<int>(), place[0].get<int>()});
                }
                CHECK(maniqa_crops(size, rule, before) == expected);
                before.push_back(size);
            }
            CHECK(before.size() >= 8);
        }
    }
}

}  // namespace
}  // namespace ultrasr
