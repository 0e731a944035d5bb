// Training batches: what is in them, that nothing but options and arguments decides it, and what
// becomes of bad pictures.
#include <ATen/ops/empty.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <set>
#include <thread>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>
#include <unistd.h>

#include "data/base/progress.h"
#include "data/base/random.h"
#include "data/file.h"
#include "data/image_io.h"
#include "data/pair_store.h"
#include "degradation/draws.h"
#include "degradation/pipeline.h"
#include "degradation/shard_file.h"
#include "models/training/data.h"
#include "tests/sentence.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

namespace fs = std::filesystem;
using test::contains;
using test::sentence_of;

constexpr int patch = 32;

/// Slopes under noise, all bytes in use.
cv::Mat photograph(int width, int height, std::uint64_t seed) {
    cv::Mat rgb(height, width, CV_8UC3);
    Rng rng(seed, 3);
    for (int y = 0; y < height; ++y) {
        for (int x = 0; x < 3 * width; ++x) {
            const int slope = (5 * x + 11 * y + 40 * static_cast<int>(seed)) % 200;
            rgb.ptr(y)[x] = static_cast<unsigned char>(slope + static_cast<int>(rng.below(56)));
        }
    }
    return rgb;
}

void put(const fs::path& path, const cv::Mat& rgb) { write_file(path, encode_png(rgb)); }

/// `n` photographs of several sizes, a.png, b.png ...
void put_photographs(const fs::path& folder, int n) {
    for (int i = 0; i < n; ++i) {
        put(folder / (std::string(1, static_cast<char>('a' + i)) + ".png"),
            photograph(40 + 7 * i, 36 + 5 * (i % 3), static_cast<std::uint64_t>(i)));
    }
}

TrainingDataOptions options_of(const fs::path& root) {
    TrainingDataOptions options;
    options.roots = {root};
    options.patch = patch;
    options.seed = 5;
    options.threads = 1;
    return options;
}

bool same(const at::Tensor& a, const at::Tensor& b) {
    return a.sizes() == b.sizes() &&
           std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0;
}

bool same(const TrainingBatch& a, const TrainingBatch& b) {
    return same(a.hr, b.hr) && a.names == b.names &&
           std::equal(a.lr_up.begin(), a.lr_up.end(), b.lr_up.begin(), b.lr_up.end(),
                      [](const at::Tensor& x, const at::Tensor& y) { return same(x, y); });
}

/// Samples `from` ... of a batch are the samples of `part`.
bool is_part(const TrainingBatch& whole, std::int64_t from, const TrainingBatch& part) {
    const std::int64_t n = part.hr.size(0);
    TrainingBatch cut;
    cut.hr = whole.hr.narrow(0, from, n);
    for (const at::Tensor& up : whole.lr_up) cut.lr_up.push_back(up.narrow(0, from, n));
    cut.names.assign(whole.names.begin() + from, whole.names.begin() + from + n);
    return same(cut, part);
}

bool same(const at::Tensor& pictures, std::int64_t i, const Planar& by_hand) {
    const at::Tensor one = pictures.select(0, i);
    return static_cast<std::size_t>(one.numel()) == by_hand.values() &&
           std::memcmp(one.const_data_ptr(), by_hand.data(), one.nbytes()) == 0;
}

/// Sample k made step by step.
struct ByHand {
    Planar gt;
    Degraded out;
};
ByHand by_hand(const TrainingData& data, const fs::path& folder, std::uint64_t sample,
               const Preset& preset, Couple couple, const std::vector<int>& scales) {
    const Stream stream = data.stream_of(sample);
    const cv::Mat rgb = read_rgb8(folder / data.source().name(data.picture_of(sample)));
    ByHand made;
    made.gt = patch_of(rgb, draw_place(stream, {rgb.cols, rgb.rows}, patch, preset));
    PlanRequest request{stream, {patch, patch}, {}, couple, Tier::exact};
    for (const int scale : scales) request.levels.push_back({scale, preset});
    made.out = run_plan(make_plan(request), made.gt);
    return made;
}

/// What is written to stderr meanwhile.
template <class Action>
std::string stderr_of(const Action& action) {
    const test::TemporaryFolder folder;
    const fs::path path = folder.path() / "stderr";
    std::fflush(stderr);
    const int kept = ::dup(2), file = ::open(path.c_str(), O_CREAT | O_WRONLY, 0600);
    ::dup2(file, 2);
    action();
    std::fflush(stderr);
    ::dup2(kept, 2);
    ::close(file);
    ::close(kept);
    return read_file(path);
}

std::size_t count_of(const std::string& text, const std::string& part) {
    std::size_t n = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
        ++n;
    }
    return n;
}

std::set<std::string> names_of(const TrainingData& data) {
    const auto n = static_cast<int>(data.pictures());
    const TrainingBatch epoch = data.batch(0, n, {});
    return {epoch.names.begin(), epoch.names.end()};
}

TEST_SUITE("unit") {
    TEST_CASE("TrainingData: levels are what a plan gives") {
        const test::TemporaryFolder folder;
        put_photographs(folder.path(), 3);
        TrainingDataOptions options = options_of(folder.path());
        options.seed = 0x123456789abcdef0;
        for (const char* name : {"osediff", "seesr"}) {
            options.presets = {name};
            const Preset preset = load_preset(name).preset;
            const TrainingData data(options);
            for (const std::uint64_t first : {std::uint64_t{0}, (std::uint64_t{7} << 48) + 5}) {
                const TrainingBatch batch = data.batch(first, 6, {{2, 4, 8}});
                REQUIRE(batch.lr_up.size() == 3);
                REQUIRE(batch.hr.sizes() == at::IntArrayRef({6, 3, patch, patch}));
                for (std::int64_t i = 0; i < 6; ++i) {
                    const auto sample = first + static_cast<std::uint64_t>(i);
                    const ByHand hand =
                        by_hand(data, folder.path(), sample, preset, Couple::stage1, {2, 4, 8});
                    const bool sharpened = preset.gt_saved == GtSaved::usm;
                    CHECK(same(batch.hr, i, sharpened ? hand.out.gt_usm : hand.gt));
                    for (std::size_t l = 0; l < 3; ++l) {
                        CHECK(same(batch.lr_up[l], i, hand.out.levels[l].lr_up));
                    }
                    CHECK(batch.names[static_cast<std::size_t>(i)] ==
                          data.source().name(data.picture_of(sample)));
                }
            }
        }
    }

    TEST_CASE("TrainingData: unrelated levels come back in one way, and a wish counts") {
        const test::TemporaryFolder folder;
        put_photographs(folder.path(), 2);
        TrainingDataOptions options = options_of(folder.path());
        options.couple = Couple::independent;
        Preset preset = load_preset("osediff").preset;
        REQUIRE(preset.resize_back == ResizeBack::drawn);
        constexpr std::array modes{ResizeBack::area, ResizeBack::bilinear, ResizeBack::bicubic};
        const TrainingData data(options);
        const TrainingBatch batch = data.batch(0, 8, {{4, 8}});
        std::set<ResizeBack> seen;
        for (std::int64_t i = 0; i < 8; ++i) {
            const Stream stream = data.stream_of(static_cast<std::uint64_t>(i));
            preset.resize_back =
                modes[static_cast<std::size_t>(3 * draw_unit(stream, slot::mode_to_gt, 0))];
            seen.insert(preset.resize_back);
            const ByHand hand = by_hand(data, folder.path(), static_cast<std::uint64_t>(i), preset,
                                        Couple::independent, {4, 8});
            CHECK(same(batch.lr_up[0], i, hand.out.levels[0].lr_up));
            CHECK(same(batch.lr_up[1], i, hand.out.levels[1].lr_up));
        }
        CHECK(seen.size() > 1);

        options.resize_back = ResizeBack::bicubic;
        preset.resize_back = ResizeBack::bicubic;
        const TrainingData wished(options);
        const TrainingBatch bicubic = wished.batch(0, 4, {{4, 8}});
        for (std::int64_t i = 0; i < 4; ++i) {
            const ByHand hand = by_hand(wished, folder.path(), static_cast<std::uint64_t>(i),
                                        preset, Couple::independent, {4, 8});
            CHECK(same(bicubic.lr_up[1], i, hand.out.levels[1].lr_up));
        }
    }

    TEST_CASE("TrainingData: values are 8 bits in [0,1], and HR alone is the same HR") {
        const test::TemporaryFolder folder;
        put_photographs(folder.path(), 3);
        TrainingDataOptions options = options_of(folder.path());
        for (const char* name : {"osediff", "seesr"}) {
            options.presets = {name};
            const TrainingData data(options);
            const TrainingBatch batch = data.batch(2, 5, {{4, 14}}), alone = data.batch(2, 5, {});
            CHECK(alone.lr_up.empty());
            CHECK(same(alone.hr, batch.hr));
            CHECK(batch.seconds > 0);
            CHECK(batch.decode_seconds > 0);
            CHECK(batch.degrade_seconds > 0);
            if (name != std::string("osediff")) continue;
            std::size_t between = 0, outside = 0;
            for (const at::Tensor& pictures : {batch.hr, batch.lr_up[0], batch.lr_up[1]}) {
                const float* v = pictures.const_data_ptr<float>();
                for (std::int64_t i = 0; i < pictures.numel(); ++i) {
                    const float level = v[i] * 255;
                    if (!(v[i] >= 0 && v[i] <= 1)) ++outside;
                    if (std::abs(level - std::round(level)) > 1e-4F) ++between;
                }
            }
            CHECK(between == 0);
            CHECK(outside == 0);
        }
    }

    TEST_CASE("TrainingData: one preset a level") {
        const test::TemporaryFolder folder;
        put_photographs(folder.path(), 2);
        TrainingDataOptions options = options_of(folder.path());
        options.presets = {"ultra-mild", "ultra-moderate", "ultra-severe"};
        options.couple = Couple::comonotone;
        options.resize_back = ResizeBack::bilinear;
        const TrainingData data(options);
        const TrainingBatch batch = data.batch(0, 3, {{4, 4, 8}});
        const Stream stream = data.stream_of(1);
        const cv::Mat rgb = read_rgb8(folder.path() / data.source().name(data.picture_of(1)));
        PlanRequest request{stream, {patch, patch}, {}, Couple::comonotone, Tier::exact};
        for (std::size_t l = 0; l < 3; ++l) {
            Preset preset = load_preset(options.presets[l]).preset;
            preset.resize_back = ResizeBack::bilinear;
            request.levels.push_back({l < 2 ? 4 : 8, preset});
        }
        const Planar gt = patch_of(
            rgb, draw_place(stream, {rgb.cols, rgb.rows}, patch, request.levels[0].preset));
        const Degraded hand = run_plan(make_plan(request), gt);
        for (std::size_t l = 0; l < 3; ++l) CHECK(same(batch.lr_up[l], 1, hand.levels[l].lr_up));
        CHECK(contains(sentence_of(Fault::usage,
                                   [&] {
                                       data.batch(0, 1, {{2, 4, 8, 16}});
                                   }),
                       "4 levels came with 3 presets"));
    }

    TEST_CASE("TrainingData: a GPU's worker makes what the CPU makes") {
        const test::TemporaryFolder folder;
        put_photographs(folder.path(), 3);
        TrainingDataOptions options = options_of(folder.path());
        for (const char* name : {"osediff", "seesr"}) {
            options.presets = {name};
            options.worker = BatchDevice::cpu;
            const TrainingData cpu(options);
            std::vector<BatchDevice::Kind> kinds{BatchDevice::cuda_on_cpu};
            try {
                options.worker = BatchDevice::cuda;
                const TrainingData tried(options);
                kinds.push_back(BatchDevice::cuda);
            } catch (const Error& error) {
                CHECK(error.fault() == Fault::device);
                MESSAGE("the GPU itself is not tested: " << error.sentence());
            }
            for (const BatchDevice::Kind kind : kinds) {
                options.worker = kind;
                const TrainingData gpu(options);
                for (const SampleLevels& levels :
                     {SampleLevels{{2, 4, 8}}, SampleLevels{{4}}, SampleLevels{}}) {
                    CHECK(same(gpu.batch(3, 4, levels), cpu.batch(3, 4, levels)));
                }
            }
        }
    }

    TEST_CASE("TrainingData: each sample has a stream of its own") {
        const test::TemporaryFolder folder;
        put_photographs(folder.path(), 1);
        const TrainingData data(options_of(folder.path()));
        const Stream near = data.stream_of(5), far = data.stream_of((std::uint64_t{7} << 48) + 5);
        CHECK(near.id == 5);
        CHECK(near.variant == 0);
        CHECK(far.id == 5);
        CHECK(far.variant == 7);
        CHECK(near.seed == far.seed);
        CHECK(near.seed != 5);  // other users of the run's seed draw other numbers
        TrainingDataOptions other = options_of(folder.path());
        other.seed += std::uint64_t{1} << 32;
        CHECK(TrainingData(other).stream_of(5).seed != near.seed);
    }

    TEST_CASE("TrainingData: options that cannot be") {
        const test::TemporaryFolder folder;
        put_photographs(folder.path(), 1);
        const auto fault = [&](auto&& change) {
            TrainingDataOptions options = options_of(folder.path());
            change(options);
            return sentence_of(Fault::usage, [&] { TrainingData{options}; });
        };
        using Options = TrainingDataOptions;
        CHECK(contains(fault([](Options& o) { o.patch = 0; }), "1 to 16384 pixels"));
        CHECK(contains(fault([](Options& o) { o.threads = -1; }), "-1 threads"));
        CHECK(contains(fault([](Options& o) { o.roots.clear(); }), "name a folder"));
        CHECK(contains(fault([](Options& o) { o.presets.clear(); }), "name a preset"));
        CHECK(contains(fault([](Options& o) { o.presets = {"nobody"}; }), "osediff"));
        CHECK(contains(fault([](Options& o) { o.presets = {"realesrgan"}; }), "'realesrgan'"));
        CHECK(contains(fault([](Options& o) { o.resize_back = ResizeBack::none; }), "bicubic"));
        CHECK(fault([](Options& o) {
                  o.presets = {"realesrgan"};
                  o.resize_back = ResizeBack::area;
              }) == "no error");

        const TrainingData data(options_of(folder.path()));
        const auto asked = [&](int count, std::vector<int> scales) {
            return sentence_of(Fault::usage, [&] { data.batch(0, count, {std::move(scales)}); });
        };
        CHECK(contains(asked(0, {4}), "at least one sample"));
        CHECK(contains(asked(1, {4, 16, 8}), "4, 16, 8"));
        CHECK(contains(asked(1, {64}), "1 to 63"));
        CHECK(contains(asked(1, {0}), "1 to 63"));
        CHECK(asked(1, {1, 63}) == "no error");
        CHECK(asked(1, {4, 4, 8}) == "no error");

        const fs::path preset = folder.path() / "exact.json";
        write_file(preset, R"({"base": "osediff", "lr_size_rule": "exact_crop"})");
        TrainingDataOptions options = options_of(folder.path());
        options.presets = {preset.string()};
        const TrainingData exact(options);
        CHECK(contains(sentence_of(Fault::usage,
                                   [&] {
                                       exact.batch(0, 1, {{4, 14}});
                                   }),
                       "scale 14 does not divide the training patch of 32"));
        CHECK(exact.batch(0, 1, {{4, 8}}).lr_up.size() == 2);
    }

    TEST_CASE("TrainingData: pinned memory where there is a GPU") {
        const test::TemporaryFolder folder;
        put_photographs(folder.path(), 1);
        TrainingDataOptions options = options_of(folder.path());
        options.pin = true;
        try {
            const TrainingData data(options);
            const TrainingBatch batch = data.batch(0, 2, {{4}});
            CHECK(batch.hr.is_pinned());
            CHECK(batch.lr_up[0].is_pinned());
        } catch (const Error& error) {
            CHECK(error.fault() == Fault::device);
        }
    }

    TEST_CASE("HrSource: HDF5 of ultrasr-degrade and ultrasr-register") {
        const test::TemporaryFolder folder;
        const cv::Mat large = photograph(60, 50, 9);
        const fs::path shards = folder.path() / "shards", pairs = folder.path() / "pairs.h5";
        for (const std::size_t s : {0U, 1U}) {
            write_shard(shards / ("shard_000" + std::to_string(s) + ".h5"), 2, "{}",
                        [&](std::size_t i) {
                            return ShardItem{.id = std::to_string(s) + std::to_string(i),
                                             .record = "{}",
                                             .pictures = {{"gt", photograph(40, 36, 2 * s + i)},
                                                          {"lr_x4", photograph(10, 9, i)}}};
                        });
        }
        cv::Mat deep(50, 60, CV_16UC3);
        for (int y = 0; y < 50; ++y) {
            for (int x = 0; x < 3 * 60; ++x) {
                deep.ptr<std::uint16_t>(y)[x] =
                    static_cast<std::uint16_t>(256 * large.ptr(y)[x] + 255);
            }
        }
        const auto pair = [&](double scale, const cv::Mat& hr) {
            StoredPair made;
            made.scene = "pier";
            made.scale = {scale};
            made.lr = photograph(6, 5, 1);
            made.hr = hr;
            return made;
        };
        write_pair_store(pairs, {pair(8, deep), pair(10, large)}, StoreLayout::packed);

        const HrSource from_shards({.roots = {shards}, .min_side = patch});
        REQUIRE(from_shards.size() == 4);
        for (std::size_t i = 0; i < 4; ++i) {
            CHECK(from_shards.name(i) == std::to_string(i / 2) + std::to_string(i % 2));
            CHECK(cv::norm(from_shards.get(i), photograph(40, 36, i), cv::NORM_INF) == 0);
        }
        const HrSource from_pairs({.roots = {pairs}, .min_side = patch});
        REQUIRE(from_pairs.size() == 2);
        CHECK(from_pairs.name(0) == "pier/x8");
        CHECK(from_pairs.name(1) == "pier/x10");
        for (std::size_t i = 0; i < 2; ++i) {
            REQUIRE(from_pairs.get(i).type() == CV_8UC3);  // of 16 bits the high byte
            CHECK(cv::norm(from_pairs.get(i), large, cv::NORM_INF) == 0);
        }

        // Mixed with a folder and one picture; small ones are found here too
        const fs::path photographs = folder.path() / "photographs";
        put_photographs(photographs, 2);
        const HrSource all(
            {.roots = {pairs, photographs, shards / "shard_0001.h5", photographs / "b.png"},
             .min_side = 37});
        REQUIRE(all.size() == 7);
        const std::vector<std::string> names{"pier/x8", "pier/x10", "a.png", "b.png",
                                             "10",      "11",       "b.png"};
        for (std::size_t i = 0; i < 7; ++i) CHECK(all.name(i) == names[i]);
        const std::string told = stderr_of([&] {
            for (std::size_t i = 0; i < 7; ++i) CHECK(all.get(i).empty() == (i == 2 || i / 2 == 2));
        });
        CHECK(count_of(told, "warning") == 3);
        CHECK(contains(told, "11: 40 x 36 is smaller than the patch of 37"));
        CHECK(all.unusable() == 3);

        // Of no use
        const auto fault = [&](const fs::path& path) {
            return sentence_of(Fault::input, [&] { HrSource({.roots = {path}}); });
        };
        write_shard(folder.path() / "lr.h5", 1, "{}", [&](std::size_t) {
            return ShardItem{.id = "a", .record = "{}", .pictures = {{"lr_x4", large}}};
        });
        CHECK(contains(fault(folder.path() / "lr.h5"), "--save gt"));
        const std::string bytes = read_file(pairs);
        write_file(folder.path() / "cut.h5", bytes.substr(0, bytes.size() / 2));
        CHECK(contains(fault(folder.path() / "cut.h5"), "cut.h5"));
        CHECK(contains(fault(folder.path() / "none.h5"), "none.h5 is missing"));
    }

    TEST_CASE("HrSource: lists") {
        const test::TemporaryFolder folder;
        put_photographs(folder.path() / "set one", 3);
        const fs::path list = folder.path() / "train.txt";
        const std::string absolute = (folder.path() / "set one" / "a.png").string();
        write_file(list, "\xEF\xBB\xBF# photographs\r\n\r\n  set one/c.png \r\n" + absolute +
                             "\nset one/c.png");
        const HrSource source({.roots = {list}, .min_side = patch});
        REQUIRE(source.size() == 3);
        CHECK(source.name(0) == "set one/c.png");
        CHECK(source.name(1) == absolute);
        CHECK(cv::norm(source.get(1), photograph(40, 36, 0), cv::NORM_INF) == 0);
        CHECK(cv::norm(source.get(2), photograph(54, 46, 2), cv::NORM_INF) == 0);

        const auto fault = [&](const std::string& text) {
            write_file(list, text);
            return sentence_of(Fault::input, [&] { HrSource({.roots = {list}}); });
        };
        const std::string missing = fault("# one\nset one/a.png\n\nset one/z.png\n");
        for (const char* part : {"train.txt, line 4", "z.png", "missing"}) {
            CHECK(contains(missing, part));
        }
        CHECK(contains(fault("set one\n"), "line 1"));
        CHECK(contains(fault("# nothing\n"), "names no picture"));
        CHECK(contains(fault(""), "names no picture"));
    }

    TEST_CASE("HrSource: what its names are hashed to") {
        const test::TemporaryFolder folder;
        const fs::path one = folder.path() / "one", two = folder.path() / "two";
        put_photographs(one, 2);
        put_photographs(two, 2);
        const auto identity = [](std::vector<fs::path> roots) {
            return HrSource({.roots = std::move(roots)}).identity();
        };
        CHECK(identity({one}) == identity({two}));
        CHECK(identity({one, two}) != identity({one}));
        put_photographs(two, 3);
        CHECK(identity({one}) != identity({two}));
    }

    TEST_CASE("HrSource: empty and missing folders") {
        const test::TemporaryFolder folder;
        write_file(folder.path() / "readme", "no picture");
        CHECK(contains(sentence_of(Fault::input, [&] { HrSource({.roots = {folder.path()}}); }),
                       "holds no PNG or JPEG"));
        CHECK(
            contains(sentence_of(Fault::input, [&] { HrSource({.roots = {folder.path() / "x"}}); }),
                     "is missing"));
        CHECK(contains(
            sentence_of(Fault::input, [&] { HrSource({.roots = {folder.path() / "readme"}}); }),
            "not a PNG or JPEG"));
    }

    TEST_CASE("HrSource: small pictures are padded, enlarged or refused") {
        const test::TemporaryFolder folder;
        put(folder.path() / "small.png", photograph(20, 24, 1));
        const auto source = [&](SmallPolicy small) {
            return HrSource({.roots = {folder.path()}, .min_side = patch, .small = small});
        };
        const cv::Mat rgb = photograph(20, 24, 1);
        CHECK(cv::norm(source(SmallPolicy::pad).get(0), enlarged(rgb, patch, SmallPolicy::pad),
                       cv::NORM_INF) == 0);
        CHECK(cv::norm(source(SmallPolicy::upscale).get(0),
                       enlarged(rgb, patch, SmallPolicy::upscale), cv::NORM_INF) == 0);
        CHECK(contains(sentence_of(Fault::input, [&] { source(SmallPolicy::error).get(0); }),
                       "20 x 24 is smaller than the patch of 32"));
        // A broken one is no error, whatever becomes of small ones
        write_file(folder.path() / "small.png", encode_png(photograph(64, 64, 1)).substr(0, 500));
        stderr_of([&] { CHECK(source(SmallPolicy::error).get(0).empty()); });
    }

    TEST_CASE("HrSource: one warning, however many threads find out") {
        const test::TemporaryFolder folder;
        const std::string whole = encode_png(photograph(900, 900, 1));
        write_file(folder.path() / "a.png", whole.substr(0, whole.size() - 1000));
        for (int turn = 0; turn < 3; ++turn) {
            const HrSource source({.roots = {folder.path()}, .min_side = patch});
            const std::string told = stderr_of([&] {
                std::vector<std::jthread> threads;
                for (int i = 0; i < 4; ++i) {
                    threads.emplace_back([&] { CHECK(source.get(0).empty()); });
                }
            });
            CHECK(count_of(told, "warning") == 1);
            CHECK(source.unusable() == 1);
        }
    }

    TEST_CASE("HrSource: the cache fills up and stays") {
        const test::TemporaryFolder folder;
        for (const char* name : {"a.png", "b.png", "c.png"}) {
            put(folder.path() / name, photograph(40, 40, 1));
        }
        constexpr std::size_t bytes = 3 * 40 * 40;
        for (const std::size_t fits : {0U, 1U, 2U, 3U}) {
            const HrSource source({.roots = {folder.path()},
                                   .min_side = patch,
                                   .cache_bytes = fits * bytes + bytes / 2});
            for (int turn = 0; turn < 3; ++turn) {
                for (std::size_t i = 0; i < 3; ++i) REQUIRE(source.get(i).rows == 40);
            }
            CHECK(source.cached_bytes() == fits * bytes);
            CHECK(source.decoded() == fits + 3 * (3 - fits));
        }
        const HrSource none({.roots = {folder.path()}, .min_side = patch, .cache_bytes = 0});
        none.get(0);
        CHECK(none.cached_bytes() == 0);
    }

    TEST_CASE("TrainingData: broken and small pictures give their place away") {
        const test::TemporaryFolder folder;
        put_photographs(folder.path(), 5);
        write_file(folder.path() / "broken.png", encode_png(photograph(64, 64, 1)).substr(0, 900));
        put(folder.path() / "tiny.png", photograph(31, 99, 1));
        TrainingDataOptions options = options_of(folder.path());
        TrainingBatch first, again;
        std::size_t unusable = 0;
        const std::string told = stderr_of([&] {
            const TrainingData data(options);
            REQUIRE(data.pictures() == 7);
            first = data.batch(0, 28, {{4}});
            again = data.batch(0, 28, {{4}});
            unusable = data.source().unusable();
        });
        CHECK(unusable == 2);
        CHECK(count_of(told, "warning") == 2);
        CHECK(count_of(told, "broken.png: ") == 1);
        CHECK(count_of(told, "tiny.png: 31 x 99 is smaller") == 1);
        CHECK(same(first, again));
        std::multiset<std::string> names(first.names.begin(), first.names.end());
        CHECK(names.count("broken.png") + names.count("tiny.png") == 0);
        for (const char* name : {"a.png", "b.png", "c.png", "d.png", "e.png"}) {
            CHECK(names.count(name) >= 4);  // once an epoch, and for others
        }
        // Another order of asking, several threads
        options.threads = 3;
        options.cache_bytes = 0;
        stderr_of([&] {
            const TrainingData data(options);
            CHECK(is_part(first, 20, data.batch(20, 8, {{4}})));
            CHECK(is_part(first, 3, data.batch(3, 9, {{4}})));
        });
    }

    TEST_CASE("TrainingData: nothing usable at all") {
        const test::TemporaryFolder folder;
        put(folder.path() / "a.png", photograph(20, 20, 1));
        put(folder.path() / "b.png", photograph(20, 20, 2));
        const std::string told = stderr_of([&] {
            const TrainingData data(options_of(folder.path()));
            const std::string sentence =
                sentence_of(Fault::input, [&] { data.batch(0, 2, {{4}}); });
            CHECK(contains(sentence, "none of the 2 pictures"));
            CHECK(contains(sentence, "20 x 20 is smaller than the patch of 32"));
        });
        CHECK(count_of(told, "warning") == 2);
    }

    TEST_CASE("Prefetch: batches in order, whatever its depth") {
        const test::TemporaryFolder folder;
        put_photographs(folder.path(), 3);
        const TrainingData data(options_of(folder.path()));
        const auto what = [](std::uint64_t i) {
            return TrainingRequest{3 * i, 3, {i % 2 == 0 ? std::vector{4, 8} : std::vector{2}}};
        };
        for (const int depth : {1, 2, 7}) {
            Prefetch prefetch(data, what, 2, depth);
            for (const std::uint64_t i : {2U, 3U, 4U, 5U}) {
                const TrainingRequest request = what(i);
                CHECK(same(prefetch.next(),
                           data.batch(request.first, request.count, request.levels)));
            }
            CHECK(prefetch.waited_seconds() > 0);
        }
        CHECK(contains(sentence_of(Fault::usage, [&] { Prefetch(data, what, 0, 0); }), "not 0"));
    }

    TEST_CASE("Prefetch: makes no more than its depth") {
        const test::TemporaryFolder folder;
        put_photographs(folder.path(), 1);
        const TrainingData data(options_of(folder.path()));
        std::atomic<int> asked = 0;
        Prefetch prefetch(
            data,
            [&](std::uint64_t i) {
                ++asked;
                return TrainingRequest{i, 1, {}};
            },
            0, 3);
        prefetch.next();
        for (int i = 0; i < 1000 && asked < 4; ++i) {
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        CHECK(asked == 4);
    }

    TEST_CASE("Prefetch: an error comes after the batches before it, and again") {
        const test::TemporaryFolder folder;
        put_photographs(folder.path(), 1);
        const TrainingData data(options_of(folder.path()));
        Prefetch prefetch(
            data,
            [](std::uint64_t i) {
                return TrainingRequest{i, i == 12 ? 0 : 1, {{4}}};
            },
            10, 3);
        prefetch.next();
        prefetch.next();
        for (int turn = 0; turn < 2; ++turn) {
            const std::string sentence = sentence_of(Fault::usage, [&] { prefetch.next(); });
            CHECK(contains(sentence, "training batch 12: a training batch has at least one"));
        }
        // What is no Error passes too
        Prefetch other(
            data, [](std::uint64_t) -> TrainingRequest { throw 7; }, 0, 1);
        CHECK_THROWS_AS(other.next(), int);
    }

    TEST_CASE("Prefetch: stops at once") {
        const test::TemporaryFolder folder;
        put_photographs(folder.path(), 1);
        TrainingDataOptions options = options_of(folder.path());
        options.patch = 4;
        const TrainingData data(options);
        std::stop_source stopped;
        stopped.request_stop();
        CHECK_THROWS_AS(data.batch(0, 1, {}, stopped.get_token()), BatchStopped);

        // A batch of a minute or so
        std::atomic<bool> begun = false;
        const auto what = [&](std::uint64_t) {
            begun = true;
            return TrainingRequest{0, 300000, {{1, 2, 2}}};
        };
        const auto start = std::chrono::steady_clock::now();
        {
            Prefetch prefetch(data, what, 0, 1);
            while (!begun) std::this_thread::yield();
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
        const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
        CHECK(taken.count() < 5);

        // So does the user
        Prefetch prefetch(data, what, 0, 1);
        Progress::interrupt();
        CHECK_THROWS_AS(prefetch.next(), Interrupted);
        Progress::resume();
    }
}

TEST_SUITE("property") {
    TEST_CASE("TrainingData: a pure function of options and arguments") {
        const test::TemporaryFolder folder;
        put_photographs(folder.path(), 5);
        TrainingDataOptions options = options_of(folder.path());
        const SampleLevels levels{{2, 4, 8}};
        const TrainingData data(options);
        const TrainingBatch whole = data.batch(2, 12, levels);
        CHECK(same(data.batch(2, 12, levels), whole));
        // In parts, backwards
        for (const std::int64_t from : {8, 4, 0}) {
            CHECK(
                is_part(whole, from, data.batch(2 + static_cast<std::uint64_t>(from), 4, levels)));
        }
        // Threads, cache, where the pictures lie
        const test::TemporaryFolder other;
        put_photographs(other.path(), 5);
        for (const int threads : {0, 2, 5}) {
            for (const std::size_t cache : {std::size_t{0}, std::size_t{9000}}) {
                options.threads = threads;
                options.cache_bytes = cache;
                options.roots = {threads == 2 ? other.path() : folder.path()};
                CHECK(same(TrainingData(options).batch(2, 12, levels), whole));
            }
        }
        // From several threads at once
        std::vector<TrainingBatch> parts(3);
        {
            std::vector<std::jthread> threads;
            for (std::size_t i = 0; i < 3; ++i) {
                threads.emplace_back([&, i] { parts[i] = data.batch(2 + 4 * i, 4, levels); });
            }
        }
        for (std::size_t i = 0; i < 3; ++i) {
            CHECK(is_part(whole, 4 * static_cast<std::int64_t>(i), parts[i]));
        }
        options.seed = 6;
        CHECK_FALSE(same(TrainingData(options).batch(2, 12, levels), whole));
    }

    TEST_CASE("TrainingData: the first levels do not depend on those after them") {
        const test::TemporaryFolder folder;
        put_photographs(folder.path(), 3);
        write_file(folder.path() / "nested.json",
                   R"({"base": "ultra-severe", "noise2_field": "nested"})");
        TrainingDataOptions options = options_of(folder.path());
        options.resize_back = ResizeBack::drawn;
        for (const std::string& preset :
             {std::string("osediff"), std::string("seesr"), std::string("ultra-severe"),
              std::string("bsrgan"), (folder.path() / "nested.json").string()}) {
            options.presets = {preset};
            for (const Couple couple : {Couple::stage1, Couple::comonotone, Couple::params,
                                        Couple::independent, Couple::cascade}) {
                options.couple = couple;
                const TrainingData data(options);
                for (const std::vector<int>& scales :
                     {std::vector{2, 4, 8}, std::vector{4, 4, 8}, std::vector{1, 6, 14}}) {
                    INFO(preset, " ", couple_name(couple), " x", scales[0]);
                    const TrainingBatch three = data.batch(0, 6, {scales});
                    const TrainingBatch two = data.batch(0, 6, {{scales[0], scales[1]}});
                    const TrainingBatch one = data.batch(0, 6, {{scales[0]}});
                    CHECK(same(three.hr, two.hr));
                    CHECK(same(three.lr_up[0], two.lr_up[0]));
                    CHECK(same(three.lr_up[1], two.lr_up[1]));
                    CHECK(same(three.lr_up[0], one.lr_up[0]));
                    CHECK_FALSE(same(three.lr_up[1], three.lr_up[2]));
                }
            }
        }
    }

    TEST_CASE("TrainingData: an epoch is a permutation, and no picture looks the same twice") {
        const test::TemporaryFolder folder;
        put_photographs(folder.path(), 5);
        const TrainingData data(options_of(folder.path()));
        const std::set<std::string> all = names_of(data);
        REQUIRE(all.size() == 5);
        std::set<std::vector<std::string>> orders;
        std::set<std::string> patches;
        for (std::uint64_t epoch = 0; epoch < 12; ++epoch) {
            const TrainingBatch batch = data.batch(5 * epoch, 5, {});
            CHECK(std::set<std::string>(batch.names.begin(), batch.names.end()) == all);
            orders.insert(batch.names);
            for (std::int64_t i = 0; i < 5; ++i) {
                const at::Tensor one = batch.hr.select(0, i);
                patches.insert(
                    sha256({static_cast<const char*>(one.const_data_ptr()), one.nbytes()}));
            }
        }
        CHECK(orders.size() > 9);
        CHECK(patches.size() > 50);  // few places in such small pictures
        // Each place of the order is each picture's about as often
        std::map<std::string, int> first;
        for (std::uint64_t epoch = 0; epoch < 1000; ++epoch) {
            ++first[data.source().name(data.picture_of(5 * epoch))];
        }
        for (const auto& [name, times] : first) CHECK(std::abs(times - 200) < 60);
    }
}

}  // namespace
}  // namespace ultrasr
