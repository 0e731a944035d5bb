// Photographs on disk as GT patches: which files, where the patch lies, how it is turned.
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "data/file.h"
#include "degradation/source_picture.h"
#include "degradation/steps/blur_pixel.h"
#include "tests/degradation/plans.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

namespace fs = std::filesystem;

/// Every pixel and channel another value, as far as the bits reach.
cv::Mat numbered(int width, int height, int depth = CV_8U) {
    cv::Mat rgb(height, width, CV_MAKETYPE(depth, 3));
    for (int y = 0; y < height; ++y) {
        for (int x = 0; x < 3 * width; ++x) {
            const int value = 3 * width * y + x;
            if (depth == CV_8U) {
                rgb.ptr<std::uint8_t>(y)[x] = static_cast<std::uint8_t>(value * 7 % 256);
            } else {
                rgb.ptr<std::uint16_t>(y)[x] = static_cast<std::uint16_t>(value * 97 % 65536);
            }
        }
    }
    return rgb;
}

bool equal(const cv::Mat& a, const cv::Mat& b) {
    return a.size() == b.size() && a.type() == b.type() && cv::norm(a, b, cv::NORM_INF) == 0;
}

void put(const fs::path& path, const cv::Mat& rgb) { write_file(path, encode_png(rgb)); }

std::vector<std::string> names_of(const SourceList& list) {
    std::vector<std::string> names;
    for (const SourceFile& file : list.files) names.push_back(file.name);
    return names;
}

TEST_SUITE("unit") {
    TEST_CASE("list_sources: by content, not by name, below folders too, sorted") {
        const test::TemporaryFolder folder;
        const fs::path root = folder.path();
        const std::string png = encode_png(numbered(5, 4));
        write_file(root / "b.png", png);
        write_file(root / "a" / "c.PNG", png);
        write_file(root / "a.txt", png);  // a picture by another name
        write_file(root / "Z.jpeg", "\xFF\xD8\xFF\xE0 and so on");
        write_file(root / "notes.png", "not a picture");
        write_file(root / "empty.png", "");
        fs::create_directories(root / "folder.png");
        write_file(root / "folder.png" / "inside.png", png);
        write_file(root / ".hidden.png", png);
        const SourceList list = list_sources(root);
        CHECK(names_of(list) == std::vector<std::string>{".hidden.png", "Z.jpeg", "a.txt",
                                                         "a/c.PNG", "b.png",
                                                         "folder.png/inside.png"});
        CHECK(list.others == 2);
        CHECK(list.files[3].path == root / "a" / "c.PNG");
        // A single file goes by its own name
        const SourceList one = list_sources(root / "a.txt");
        CHECK(names_of(one) == std::vector<std::string>{"a.txt"});
    }

    TEST_CASE("list_sources: links are followed, in a circle only once") {
        const test::TemporaryFolder folder, other;
        write_file(folder.path() / "in" / "a.png", encode_png(numbered(5, 4)));
        write_file(other.path() / "b.png", encode_png(numbered(5, 4)));
        fs::create_directory_symlink(other.path(), folder.path() / "elsewhere");
        fs::create_symlink(folder.path() / "nowhere.png", folder.path() / "broken.png");
        CHECK(names_of(list_sources(folder.path())) ==
              std::vector<std::string>{"elsewhere/b.png", "in/a.png"});
        fs::create_directory_symlink(folder.path(), folder.path() / "in" / "again");
        CHECK(names_of(list_sources(folder.path())) ==
              std::vector<std::string>{"elsewhere/b.png", "in/a.png"});
    }

    TEST_CASE("list_sources: nothing there") {
        const test::TemporaryFolder folder;
        const auto fault = [](const fs::path& path) {
            return test::sentence_of([&] { list_sources(path); });
        };
        CHECK(test::has(fault(folder.path() / "none"), "is missing"));
        CHECK(test::has(fault(folder.path()), "holds no PNG or JPEG"));
        write_file(folder.path() / "x.png", "text");
        CHECK(test::has(fault(folder.path()), "1 other files"));
        CHECK(test::has(fault(folder.path() / "x.png"), "not a PNG or JPEG"));
    }

    TEST_CASE("patch_of: every turn against its definition, and the source stays as it is") {
        for (const int depth : {CV_8U, CV_16U}) {
            const cv::Mat source = numbered(11, 9, depth);
            const cv::Mat before = source.clone();
            const float white = depth == CV_8U ? 255 : 65535;
            for (const cv::Rect& area : {cv::Rect(0, 0, 11, 9), cv::Rect(2, 3, 7, 4),
                                         cv::Rect(10, 8, 1, 1), cv::Rect(4, 0, 5, 5)}) {
                for (int turn = 0; turn < 8; ++turn) {
                    PatchPlace place;
                    place.crop = {area.x, area.y, area.width, area.height};
                    place.hflip = turn & 1;
                    place.vflip = turn & 2;
                    place.transpose = turn & 4;
                    const Planar patch = patch_of(source, place);
                    const int w = place.transpose ? area.height : area.width;
                    const int h = place.transpose ? area.width : area.height;
                    REQUIRE(patch.size() == PixelSize{w, h});
                    for (int y = 0; y < h; ++y) {
                        for (int x = 0; x < w; ++x) {
                            // Crop, then transpose, then flips
                            int u = place.hflip ? w - 1 - x : x, v = place.vflip ? h - 1 - y : y;
                            if (place.transpose) std::swap(u, v);
                            for (int c = 0; c < 3; ++c) {
                                const int column = 3 * (area.x + u) + c;
                                const float value =
                                    depth == CV_8U ? before.ptr<std::uint8_t>(area.y + v)[column]
                                                   : before.ptr<std::uint16_t>(area.y + v)[column];
                                REQUIRE(patch.row(c, y)[x] == value / white);
                            }
                        }
                    }
                    REQUIRE(equal(source, before));
                }
            }
        }
    }

    TEST_CASE("patch_of: a place outside of the picture is refused") {
        const cv::Mat source = numbered(11, 9);
        for (const PixelRect& crop :
             {PixelRect{1, 0, 11, 9}, {0, 1, 11, 9}, {-1, 0, 5, 5}, {0, 0, 12, 1}, {0, 0, 1, 10}}) {
            PatchPlace place;
            place.crop = crop;
            CHECK(test::has(test::sentence_of([&] { patch_of(source, place); }),
                            "does not lie in a picture of 11 x 9"));
        }
    }

    TEST_CASE("PatchPlace: to JSON and back") {
        for (int turn = 0; turn < 8; ++turn) {
            PatchPlace place;
            place.crop = {3, 5, 70, 64};
            place.hflip = turn & 1;
            place.vflip = turn & 2;
            place.transpose = turn & 4;
            const PatchPlace again = PatchPlace::from_json(Json::parse(place.json().dump()));
            CHECK(again.json() == place.json());
            CHECK(again.hflip == place.hflip);
            CHECK(again.vflip == place.vflip);
            CHECK(again.transpose == place.transpose);
            CHECK(again.crop.height == 64);
        }
    }

    TEST_CASE("draw_place: a patch of 0 is the whole picture, a large one its smaller sides") {
        const Preset& p = test::preset("osediff");
        const auto crop = [&](PixelSize picture, int patch) {
            return draw_place({.seed = 1, .id = 2}, picture, patch, p).crop;
        };
        for (const PixelRect& whole : {crop({70, 50}, 0), crop({70, 50}, 70)}) {
            CHECK(whole.x == 0);
            CHECK(whole.y == 0);
            CHECK(whole.width == 70);
            CHECK(whole.height == 50);
        }
        const PixelRect wide = crop({700, 50}, 64);
        CHECK(wide.width == 64);
        CHECK(wide.height == 50);
        CHECK(wide.y == 0);
    }

    TEST_CASE("enlarged: mirrored as often as needed, or bicubic; larger pictures pass") {
        const cv::Mat small = numbered(3, 2);
        const cv::Mat padded = enlarged(small, 8, SmallPolicy::pad);
        REQUIRE(padded.size() == cv::Size(8, 8));
        for (int y = 0; y < 8; ++y) {
            for (int x = 0; x < 8; ++x) {
                CHECK(padded.at<cv::Vec3b>(y, x) ==
                      small.at<cv::Vec3b>(reflected(y, 2), reflected(x, 3)));
            }
        }
        for (const int depth : {CV_8U, CV_16U}) {
            const cv::Mat source = numbered(30, 20, depth), before = source.clone();
            const cv::Mat larger = enlarged(source, 64, SmallPolicy::upscale);
            CHECK(larger.size() == cv::Size(96, 64));  // in proportion
            CHECK(larger.type() == source.type());
            CHECK(equal(source, before));
            CHECK(std::abs(cv::mean(larger)[1] / cv::mean(source)[1] - 1) < 0.05);
            for (const SmallPolicy policy : {SmallPolicy::pad, SmallPolicy::upscale}) {
                CHECK(equal(enlarged(source, 20, policy), source));
                CHECK(equal(enlarged(source, 0, policy), source));
            }
        }
    }

    TEST_CASE("read_source: small ones by the policy, facts for the record") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "a.png";
        put(path, numbered(30, 20));
        const auto read = [&](SmallPolicy policy, int patch) {
            SourceOptions options;
            options.small = policy;
            return read_source({path, "a.png"}, patch, options);
        };
        const SourcePicture fits = read(SmallPolicy::skip, 20);
        CHECK(fits.skipped.empty());
        CHECK(equal(fits.rgb, numbered(30, 20)));
        CHECK(fits.facts.at("size") == Json{20, 30});
        CHECK(fits.sha256 == sha256_of_file(path));
        CHECK(test::has(read(SmallPolicy::skip, 21).skipped, "30 x 20 is smaller"));
        CHECK(read(SmallPolicy::pad, 40).rgb.size() == cv::Size(40, 40));
        CHECK(read(SmallPolicy::pad, 40).facts.at("padded") == true);
        CHECK(read(SmallPolicy::upscale, 40).rgb.size() == cv::Size(60, 40));
        CHECK(read(SmallPolicy::upscale, 40).facts.at("upscaled") == true);
        CHECK(test::has(test::sentence_of([&] { read(SmallPolicy::error, 40); }), "a.png"));
        CHECK(test::has(test::sentence_of([] { small_policy("drop"); }, Fault::usage), "upscale"));
    }

    TEST_CASE("blockiness_of, sharpness_of: blocks and blur by hand") {
        // Steps of 40 at each eighth column, of 10 elsewhere
        cv::Mat blocks(4, 64, CV_8U);
        for (int y = 0; y < 4; ++y) {
            int value = 100;
            for (int x = 0; x < 64; ++x) {
                if (x > 0) value += (x % 8 == 0 ? 40 : 10) * (x % 2 == 0 ? 1 : -1);
                blocks.at<std::uint8_t>(y, x) = static_cast<std::uint8_t>(value);
            }
        }
        // The walk must stay in 0 ... 255 for the steps to be what they say
        double low = 0, high = 0;
        cv::minMaxLoc(blocks, &low, &high);
        CHECK(low >= 0);
        CHECK(high <= 255);
        CHECK(std::abs(blockiness_of(blocks.colRange(0, 33)) - 4) < 1e-12);
        CHECK(blockiness_of(cv::Mat(8, 8, CV_8U, cv::Scalar(9))) == 1);
        CHECK(sharpness_of(cv::Mat(8, 8, CV_8U, cv::Scalar(9))) == 0);
        cv::Mat sharp(32, 32, CV_8U), soft;
        cv::randu(sharp, 0, 256);
        cv::GaussianBlur(sharp, soft, {5, 5}, 1);
        CHECK(sharpness_of(sharp) > 10 * sharpness_of(soft));
    }
}

TEST_SUITE("property") {
    TEST_CASE("draw_place: every place alike, inside the picture, each turn by its odds") {
        Preset p = test::preset("bsrgan");  // all three turns one time in two
        p.vflip_prob = 0.25;
        p.transpose_prob = 0;
        const PixelSize picture{41, 30};
        std::vector<double> xs(10, 0);
        double hflips = 0, vflips = 0;
        constexpr int n = 4000;
        const int patch = 30 + 2;  // higher than the picture: y has one place, x has ten
        for (std::uint32_t i = 0; i < n; ++i) {
            // Variants are further patches of one picture
            const PatchPlace place =
                draw_place({.seed = 1, .id = 7, .variant = i}, picture, patch, p);
            REQUIRE(place.crop.y == 0);
            REQUIRE(place.crop.height == 30);
            REQUIRE(place.crop.width == 32);
            ++xs.at(static_cast<std::size_t>(place.crop.x));
            hflips += place.hflip;
            vflips += place.vflip;
            REQUIRE_FALSE(place.transpose);
        }
        CHECK(test::even_odds(xs) > 1e-3);
        CHECK(test::count_deviations(hflips, n, 0.5) < 3.3);
        CHECK(test::count_deviations(vflips, n, 0.25) < 3.3);
        // Both axes, over pictures: 4 x 6 places
        std::vector<double> places(24, 0);
        for (std::uint64_t id = 0; id < n; ++id) {
            const PixelRect crop = draw_place({.seed = 1, .id = id}, {19, 21}, 16, p).crop;
            places.at(static_cast<std::size_t>(crop.y * 4 + crop.x))++;
        }
        CHECK(test::even_odds(places) > 1e-3);
    }
}

}  // namespace
}  // namespace ultrasr
