// Laws that every metric keeps, and the edges of metrics.md 2, 3 and 6.8.
#include "metrics/metric.h"

#include <cmath>
#include <limits>
#include <set>
#include <thread>

#include "data/base/error.h"
#include "data/image.h"
#include "tests/metrics/pictures.h"
#include "tests/sentence.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

using test::contains, test::sentence_of;

constexpr std::array profiles{Profile::cuda, Profile::cpu};

/// The metrics that need no weights; network_metrics_test.cpp has the same laws for the others.
std::vector<const MetricInfo*> plain_metrics() {
    std::vector<const MetricInfo*> plain;
    for (const MetricInfo* info : all_metrics()) {
        if (info->weight_files.empty()) plain.push_back(info);
    }
    return plain;
}

double score(const std::string& metric, const Image& sr, const Image& hr,
             Profile profile = Profile::cuda) {
    return find_metric(metric).make({.profile = profile})->score(sr, hr);
}

TEST_SUITE("unit") {
    TEST_CASE("find_metric: an unknown name lists the known ones") {
        const std::string sentence = sentence_of(Fault::usage, [] { find_metric("psnr"); });
        CHECK(contains(sentence, "'psnr'"));
        for (const MetricInfo* info : all_metrics()) CHECK(contains(sentence, info->name));
        CHECK(&find_metric("niqe") != &find_metric("niqe-y601"));
    }

    TEST_CASE("psnr: equal pictures give exactly 80 dB and nothing gives more") {
        const auto pair = test::picture("texture", {33, 20});
        Image almost(pair.hr.mat().clone());
        almost.row_(7)[31] += 1.0F / 255.0F;
        for (const char* name : {"psnr-y601", "psnr-yiq", "psnr-rgb"}) {
            CAPTURE(name);
            CHECK(score(name, pair.hr, pair.hr) == 80.0);
            CHECK(score(name, almost, pair.hr) < 80.0);
            CHECK(score(name, almost, pair.hr) > 70.0);
        }
    }

    TEST_CASE("psnr: the peak is 1 although studio luma spans 219 / 255 of it") {
        const Image black = test::flat({5, 4}, 0, 0, 0);
        const Image white = test::flat({5, 4}, 255, 255, 255);
        // Closed forms; 1e-5 because luma is float32
        CHECK(score("psnr-y601", black, white) ==
              doctest::Approx(20.0 * std::log10(255.0 / 219.0)).epsilon(1e-5));
        CHECK(std::abs(score("psnr-yiq", black, white)) < 1e-5);
        CHECK(std::abs(score("psnr-rgb", black, white)) < 1e-5);
    }

    TEST_CASE("psnr: a picture may have any size, one pixel too") {
        CHECK(score("psnr-rgb", test::flat({1, 1}, 51, 0, 0), test::flat({1, 1}, 0, 0, 0)) ==
              doctest::Approx(10.0 * std::log10(3.0 / 0.04)).epsilon(1e-5));
        CHECK(contains(sentence_of(Fault::input, [] { score("psnr-rgb", Image(), Image()); }),
                       "0x0"));
    }

    TEST_CASE("psnr-yiq: a grey pair scores 20 log10(255 / 219) below psnr-y601, as on RGB") {
        // A grey picture is RGB: studio luma compresses its differences. 1e-4 dB: near 31 dB the
        // added 1e-8 is 6e-5 dB for one and 5e-5 dB for the other
        const auto pair = test::picture("grey", {70, 50});
        const double y601 = score("psnr-y601", pair.sr, pair.hr);
        CHECK(std::abs(y601 - score("psnr-yiq", pair.sr, pair.hr) - 1.3219) < 2e-4);
        CHECK(std::abs(y601 - score("psnr-rgb", pair.sr, pair.hr) - 1.3219) < 2e-4);
    }

    TEST_CASE("ssim: 11 pixels are enough, 10 are an error that says so") {
        for (const char* name : {"ssim-y601", "ssim-yiq"}) {
            CAPTURE(name);
            const auto pair = test::picture("texture", {11, 11});
            const double value = score(name, pair.sr, pair.hr);
            CHECK(value > 0.0);
            CHECK(value < 1.0);
            const auto small = test::picture("texture", {40, 10});
            const std::string sentence =
                sentence_of(Fault::input, [&] { score(name, small.sr, small.hr); });
            CHECK(contains(sentence, "11"));
            CHECK(contains(sentence, "40x10"));
        }
    }

    TEST_CASE("ssim-yiq: the default of pyiqa's ssim, not studio luma") {
        const auto pair = test::picture("texture", {60, 60});
        CHECK(score("ssim-y601", pair.sr, pair.hr) - score("ssim-yiq", pair.sr, pair.hr) > 0.005);
    }

    TEST_CASE("ms-ssim: 161 pixels are enough, 160 are an error that says so") {
        const auto pair = test::picture("texture", {161, 161});
        CHECK(score("ms-ssim", pair.sr, pair.hr) > 0.5);
        const auto small = test::picture("texture", {200, 160});
        const std::string sentence =
            sentence_of(Fault::input, [&] { score("ms-ssim", small.sr, small.hr); });
        CHECK(contains(sentence, "161"));
        CHECK(contains(sentence, "200x160"));
    }

    TEST_CASE("ms-ssim: contrast that is negative everywhere gives 0, not NaN") {
        const auto pair = test::picture("texture", {170, 170});
        Image inverted(pair.hr.size());
        for (int y = 0; y < 170; ++y) {
            for (int i = 0; i < 3 * 170; ++i) {
                const float level = 255.0F - std::nearbyint(255.0F * pair.hr.row(y)[i]);
                inverted.row_(y)[i] = level / 255.0F;
            }
        }
        const double value = score("ms-ssim", inverted, pair.hr);
        CHECK(value >= 0.0);
        CHECK(value < 0.05);
    }

    TEST_CASE("niqe: a side of 95 is an error that names the minimum, one block is enough") {
        const auto small = test::picture("texture", {300, 95});
        for (const char* name : {"niqe", "niqe-y601"}) {
            CAPTURE(name);
            const std::string sentence =
                sentence_of(Fault::input, [&] { score(name, small.sr, Image()); });
            CHECK(contains(sentence, "96"));
            CHECK(contains(sentence, "300x95"));
            CHECK(std::isfinite(score(name, test::picture("texture", {96, 96}).sr, Image())));
        }
    }

    TEST_CASE("niqe: what whole blocks do not cover takes no part") {
        const auto pair = test::picture("texture", {191, 150});
        const Image covered(pair.sr.mat()(cv::Rect(0, 0, 96, 96)).clone());
        CHECK(score("niqe", pair.sr, Image()) == score("niqe", covered, Image()));
    }

    TEST_CASE("niqe: a flat picture of any level gives NaN") {
        for (const int level : {0, 1, 37, 128, 254, 255}) {
            CAPTURE(level);
            const Image image = test::flat({200, 100}, level, level, level);
            for (const Profile profile : profiles) {
                CHECK(std::isnan(score("niqe", image, Image(), profile)));
                CHECK(std::isnan(score("niqe-y601", image, Image(), profile)));
            }
        }
    }

    TEST_CASE("full-reference metrics: different sizes are an error that names both") {
        const Image a = test::flat({200, 180}, 9, 9, 9);
        for (const MetricInfo* info : plain_metrics()) {
            CAPTURE(info->name);
            const auto metric = info->make({});
            for (const PixelSize size : {PixelSize{200, 181}, PixelSize{201, 180}}) {
                const Image b = test::flat(size, 9, 9, 9);
                if (info->reference == Reference::none) {
                    CHECK_NOTHROW(metric->score(a, b));
                    continue;
                }
                const std::string sentence =
                    sentence_of(Fault::input, [&] { metric->score(a, b); });
                CHECK(contains(sentence, "200x180"));
                CHECK(contains(sentence, fmt::format("{}x{}", size.width, size.height)));
                CHECK(contains(sentence, info->name));
            }
        }
    }
}

TEST_SUITE("property") {
    TEST_CASE("all metrics: names differ, and each says what it is") {
        std::set<std::string> names;
        for (const MetricInfo* info : all_metrics()) {
            CAPTURE(info->name);
            CHECK(names.insert(info->name).second);
            CHECK(&find_metric(info->name) == info);
            CHECK_FALSE(info->title.empty());
            CHECK_FALSE(info->source.empty());
            CHECK(info->settings.contains("setting"));
            CHECK(info->min_side >= 1);
            CHECK((info->reference == Reference::set) == static_cast<bool>(info->make_set));
            CHECK((info->reference == Reference::set) != static_cast<bool>(info->make));
        }
    }

    TEST_CASE("full-reference metrics: equal pictures score best") {
        const auto pair = test::picture("patches", {180, 170});
        for (const MetricInfo* info : plain_metrics()) {
            if (info->reference == Reference::none) continue;
            CAPTURE(info->name);
            for (const Profile profile : profiles) {
                const auto metric = info->make({.profile = profile});
                const double equal = metric->score(pair.hr, pair.hr);
                const double other = metric->score(pair.sr, pair.hr);
                CHECK((info->better == Better::higher ? equal > other : equal < other));
                if (contains(info->name, "ssim"))
                    CHECK(equal == doctest::Approx(1.0).epsilon(1e-12));
                if (contains(info->name, "psnr")) CHECK(equal == 80.0);
            }
        }
    }

    TEST_CASE("full-reference metrics: the order of the two pictures does not matter") {
        const auto pair = test::picture("texture", {175, 163});
        for (const MetricInfo* info : plain_metrics()) {
            if (info->reference == Reference::none) continue;
            CAPTURE(info->name);
            const auto metric = info->make({});
            CHECK(metric->score(pair.sr, pair.hr) == metric->score(pair.hr, pair.sr));
        }
    }

    TEST_CASE("all metrics: noise makes a picture worse") {
        const PixelSize size{200, 196};
        const auto pair = test::picture("texture", size);
        const auto noisy = [&](unsigned amplitude) {
            Image image(size);
            for (int y = 0; y < size.height; ++y) {
                for (int i = 0; i < 3 * size.width; ++i) {
                    const auto noise = static_cast<float>(test::hash32(i, y, 50) % amplitude) -
                                       static_cast<float>(amplitude / 2);
                    const float level = 255.0F * pair.hr.row(y)[i] + noise;
                    image.row_(y)[i] = std::nearbyint(std::clamp(level, 0.0F, 255.0F)) / 255.0F;
                }
            }
            return image;
        };
        const Image a_little = noisy(31);
        const Image a_lot = noisy(151);
        for (const MetricInfo* info : plain_metrics()) {
            CAPTURE(info->name);
            for (const Profile profile : profiles) {
                const auto metric = info->make({.profile = profile});
                const double little = metric->score(a_little, pair.hr);
                const double lot = metric->score(a_lot, pair.hr);
                CHECK((info->better == Better::higher ? little > lot : little < lot));
            }
        }
    }

    TEST_CASE("all metrics: four threads on one object give the bits of one thread") {
        const auto pair = test::picture("texture", {170, 165});
        for (const MetricInfo* info : plain_metrics()) {
            CAPTURE(info->name);
            for (const Profile profile : profiles) {
                const auto metric = info->make({.profile = profile});
                std::array<double, 4> scores{};
                std::vector<std::thread> threads;
                for (double& out : scores) {
                    threads.emplace_back([&] { out = metric->score(pair.sr, pair.hr); });
                }
                for (std::thread& thread : threads) thread.join();
                const double alone = metric->score(pair.sr, pair.hr);
                for (const double value : scores) CHECK(value == alone);
            }
        }
    }

    TEST_CASE("all metrics: nothing is written into the pictures, a part of a picture will do") {
        const auto pair = test::picture("texture", {190, 180});
        const Image sr_part(pair.sr.mat()(cv::Rect(3, 5, 170, 165)));
        const Image hr_part(pair.hr.mat()(cv::Rect(3, 5, 170, 165)));
        const cv::Mat before = pair.sr.mat().clone();
        for (const MetricInfo* info : plain_metrics()) {
            CAPTURE(info->name);
            const auto metric = info->make({});
            CHECK(metric->score(sr_part, hr_part) ==
                  metric->score(Image(sr_part.mat().clone()), Image(hr_part.mat().clone())));
        }
        CHECK(std::equal(before.begin<cv::Vec3f>(), before.end<cv::Vec3f>(),
                         pair.sr.mat().begin<cv::Vec3f>()));
    }
}

}  // namespace
}  // namespace ultrasr
