// The C interface: the bytes of run_plan, sizes said beforehand, faults as numbers and sentences.
#include <array>
#include <thread>
#include <vector>
#include <opencv2/core/mat.hpp>

#include "degradation/pipeline.h"
#include "tests/degradation/degrade_c_host.h"
#include "tests/degradation/plans.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

constexpr int count = 3, height = 41, width = 50;
constexpr std::array<std::uint64_t, count> ids{7, 0xFFFFFFFFFFFF, 7};
constexpr std::array scales{2, 4, 9};
constexpr auto level_count = static_cast<int>(scales.size());

std::vector<std::uint8_t> patches() {
    std::vector<std::uint8_t> bytes;
    Rng rng(4, 2);
    for (int i = 0; i < count * height * width * 3; ++i) {
        bytes.push_back(static_cast<std::uint8_t>(rng.below(256)));
    }
    return bytes;
}

ultrasr_degrade_options options_of(const char* preset, const char* couple, const char* tier,
                                   int threads) {
    ultrasr_degrade_options o{};
    o.preset = preset;
    o.scales = scales.data();
    o.levels = level_count;
    o.couple = couple;
    o.seed = 11;
    o.tier = tier;
    o.threads = threads;
    return o;
}

struct Results {
    std::array<host_result, level_count> of{};

    Results() = default;
    ~Results() { host_free(of.data(), level_count); }
    Results(const Results&) = delete;
    Results& operator=(const Results&) = delete;
};

/// The sentence of a failed call, after a look at its number.
std::string failed(int status, int wanted) {
    CHECK(status == wanted);
    return ultrasr_degrade_error();
}

/// As failed, of a degrader that must not be made.
std::string not_made(const ultrasr_degrade_options& o, int wanted = ultrasr_usage) {
    ultrasr_degrader* degrader = reinterpret_cast<ultrasr_degrader*>(&degrader);
    const int status = ultrasr_degrade_create(&o, &degrader);
    CHECK(degrader == nullptr);
    return failed(status, wanted);
}

TEST_SUITE("unit") {
    TEST_CASE("degrade_c: a C host gets the bytes of run_plan, whatever the threads") {
        const std::vector<std::uint8_t> gt = patches();
        struct Case {
            const char *preset, *couple, *tier;
            std::array<const char*, level_count> presets;
            Couple how;
            Tier what;
        };
        const char* all = "ultra-mild,ultra-moderate,ultra-severe";
        for (const Case& c : {Case{"realesrgan",
                                   nullptr,
                                   nullptr,
                                   {"realesrgan", "realesrgan", "realesrgan"},
                                   Couple::stage1,
                                   Tier::exact},
                              Case{all,
                                   "comonotone",
                                   "fast",
                                   {"ultra-mild", "ultra-moderate", "ultra-severe"},
                                   Couple::comonotone,
                                   Tier::fast}}) {
            for (const int threads : {0, 1, 2}) {
                CAPTURE(c.preset);
                CAPTURE(threads);
                const ultrasr_degrade_options o = options_of(c.preset, c.couple, c.tier, threads);
                Results results;
                REQUIRE(host_run(&o, gt.data(), count, height, width, ids.data(),
                                 results.of.data()) == ultrasr_done);
                std::vector<LevelRequest> levels;
                for (std::size_t l = 0; l < scales.size(); ++l) {
                    levels.push_back({scales[l], test::preset(c.presets[l])});
                }
                for (std::size_t i = 0; i < count; ++i) {
                    const cv::Mat rgb(height, width, CV_8UC3,
                                      const_cast<std::uint8_t*>(&gt[i * height * width * 3]));
                    const Degraded wanted = run_plan(
                        make_plan({{11, ids[i], 3}, {width, height}, levels, c.how, c.what}),
                        planar_of_rgb(rgb));
                    for (std::size_t l = 0; l < scales.size(); ++l) {
                        const Planar& lr = wanted.levels[l].lr;
                        const host_result& r = results.of[l];
                        REQUIRE(lr.size() == PixelSize{r.width, r.height});
                        const float* floats = r.floats + i * lr.values();
                        CHECK(std::equal(floats, floats + lr.values(), lr.data()));
                        const std::uint8_t* bytes = r.bytes + i * lr.values();
                        const cv::Mat lr8 = rgb8_of_planar(lr);
                        CHECK(std::equal(bytes, bytes + lr.values(), lr8.ptr<std::uint8_t>()));
                    }
                }
            }
        }
    }

    TEST_CASE("degrade_c: levels that are not wanted are left out, and no patch at all is fine") {
        const std::vector<std::uint8_t> gt = patches();
        const ultrasr_degrade_options o = options_of("adcsr", nullptr, nullptr, 1);
        ultrasr_degrader* degrader = nullptr;
        REQUIRE(ultrasr_degrade_create(&o, &degrader) == ultrasr_done);
        int h = 0, w = 0;
        REQUIRE(ultrasr_degrade_lr_size(degrader, 2, height, width, &h, &w) == ultrasr_done);
        CHECK(h == height / 9);
        CHECK(w == width / 9);
        std::vector<float> last(static_cast<std::size_t>(3 * h * w), -1.0F);
        const std::array<float*, level_count> into{nullptr, nullptr, last.data()};
        const auto run = [&](int n) {
            return ultrasr_degrade_batch_f32(degrader, gt.data(), n, height, width, ids.data(), 0,
                                             into.data());
        };
        CHECK(run(0) == ultrasr_done);
        CHECK(last[0] == -1.0F);
        CHECK(run(1) == ultrasr_done);
        CHECK(std::all_of(last.begin(), last.end(), [](float v) { return v >= 0 && v <= 1; }));
        ultrasr_degrade_destroy(degrader);
        ultrasr_degrade_destroy(nullptr);
    }

    TEST_CASE("degrade_c: what cannot be made says why") {
        const auto with = [](const char* preset) {
            return options_of(preset, nullptr, nullptr, 0);
        };
        CHECK(test::has(not_made(with("realesrgam")), "unknown preset 'realesrgam'; known:"));
        CHECK(test::has(not_made(with("adcsr,adcsr")), "2 presets are named for 3 levels"));
        CHECK(test::has(not_made(with("/nowhere/a.json"), ultrasr_input), "/nowhere/a.json"));
        CHECK(test::has(not_made(options_of("adcsr", "tight", nullptr, 0)),
                        "unknown coupling 'tight'"));
        CHECK(test::has(not_made(options_of("adcsr", nullptr, "slow", 0)), "unknown tier 'slow'"));
        CHECK(test::has(not_made(options_of("adcsr", nullptr, nullptr, -1)), "'threads' lies in"));
        CHECK(test::has(not_made(with(nullptr)), "a degrader takes a preset and the scales"));
        ultrasr_degrade_options o = with("adcsr");
        o.levels = 0;
        CHECK(test::has(not_made(o), "at least one level"));
        o = with("adcsr");
        const std::array large{2, 64, 2};
        o.scales = large.data();
        CHECK(test::has(not_made(o), "64"));
        CHECK(test::has(failed(ultrasr_degrade_create(&o, nullptr), ultrasr_usage), "a place"));
    }

    TEST_CASE("degrade_c: what cannot be run says why, to the thread that asked") {
        const std::vector<std::uint8_t> gt = patches();
        const ultrasr_degrade_options o = options_of("adcsr", nullptr, nullptr, 1);
        ultrasr_degrader* degrader = nullptr;
        REQUIRE(ultrasr_degrade_create(&o, &degrader) == ultrasr_done);
        const std::array<std::uint8_t*, level_count> into{};
        const auto fault = [&](const std::uint8_t* from, int n, int h, const std::uint64_t* names,
                               std::uint32_t variant, std::uint8_t* const* to) {
            return failed(ultrasr_degrade_batch_u8(degrader, from, n, h, width, names, variant, to),
                          ultrasr_usage);
        };
        const std::uint64_t long_id = std::uint64_t{1} << 48;
        CHECK(test::has(fault(nullptr, 1, height, ids.data(), 0, into.data()), "GT, one id"));
        CHECK(test::has(fault(gt.data(), 1, height, nullptr, 0, into.data()), "one id a patch"));
        CHECK(test::has(fault(gt.data(), -1, height, ids.data(), 0, into.data()), "from 0 up"));
        CHECK(test::has(fault(gt.data(), 1, 0, ids.data(), 0, into.data()), "GT has 50 x 0"));
        CHECK(test::has(fault(gt.data(), 1, 1 << 28, ids.data(), 0, into.data()), "1 to 2684354"));
        CHECK(test::has(fault(gt.data(), 1, height, &long_id, 0, into.data()), "48 bits"));
        CHECK(test::has(fault(gt.data(), 1, height, ids.data(), 65536, into.data()), "'variant'"));
        CHECK(test::has(fault(gt.data(), 1, height, ids.data(), 0, nullptr), "each level's LR"));
        int h = 0, w = 0;
        for (const int level : {-1, level_count}) {
            CHECK(test::has(
                failed(ultrasr_degrade_lr_size(degrader, level, 9, 9, &h, &w), ultrasr_usage),
                "there is no level"));
        }
        std::string elsewhere = "nobody asked";
        std::thread([&] { elsewhere = ultrasr_degrade_error(); }).join();
        CHECK(elsewhere.empty());
        CHECK(test::has(ultrasr_degrade_error(), "there is no level"));
        ultrasr_degrade_destroy(degrader);
    }
}

}  // namespace
}  // namespace ultrasr
