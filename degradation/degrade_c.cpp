#include "degradation/degrade_c.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <string>
#include <vector>
#include <fmt/format.h>
#include <opencv2/core/mat.hpp>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include "data/base/error.h"
#include "degradation/pipeline.h"

/// The type that the header keeps closed.
struct ultrasr_degrader {
    std::vector<ultrasr::LevelRequest> levels;
    ultrasr::Couple couple = ultrasr::Couple::stage1;
    ultrasr::Tier tier = ultrasr::Tier::exact;
    std::uint64_t seed = 0;
    int threads = tbb::task_arena::automatic;
};

namespace ultrasr {
namespace {

constexpr std::int64_t most_pixels = std::int64_t{1} << 28;
constexpr int most_threads = 4096;

thread_local std::string last_sentence;

int failed(Fault fault, const char* sentence) noexcept {
    try {
        last_sentence = sentence;
    } catch (...) {  // no memory for words: an old sentence would mislead
        last_sentence.clear();
    }
    return static_cast<int>(fault);
}

/// Runs `action` and turns what it throws into a number and a sentence.
template <class Action>
int guarded(Action&& action) noexcept {
    try {
        action();
        return ultrasr_done;
    } catch (const Error& error) {
        return failed(error.fault(), error.sentence().c_str());
    } catch (const std::exception& error) {
        return failed(Fault::internal, error.what());
    } catch (...) {
        return failed(Fault::internal, "an unknown exception");
    }
}

void require_use(bool holds, const char* sentence) {
    if (!holds) fail(Fault::usage, "{}", sentence);
}

std::vector<std::string> split(const std::string& list) {
    std::vector<std::string> parts(1);
    for (const char c : list) {
        if (c == ',') {
            parts.emplace_back();
        } else {
            parts.back() += c;
        }
    }
    return parts;
}

Tier tier_of(const char* word) {
    const std::string name = word ? word : "exact";
    if (name != "exact" && name != "fast") {
        fail(Fault::usage, "unknown tier '{}'; known: exact, fast", name);
    }
    return name == "fast" ? Tier::fast : Tier::exact;
}

std::unique_ptr<ultrasr_degrader> made(const ultrasr_degrade_options& o) {
    require_use(o.preset && o.scales && o.levels >= 1,
                "a degrader takes a preset and the scales of at least one level");
    const std::vector<std::string> names = split(o.preset);
    const auto levels = static_cast<std::size_t>(o.levels);
    if (names.size() != 1 && names.size() != levels) {
        fail(Fault::usage, "{} presets are named for {} levels; name one, or one a level",
             names.size(), levels);
    }
    if (o.threads < 0 || o.threads > most_threads) {
        fail(Fault::usage, "'threads' lies in 0 (all) to {}, not at {}", most_threads, o.threads);
    }
    auto degrader = std::make_unique<ultrasr_degrader>();
    for (std::size_t i = 0; i < levels; ++i) {
        degrader->levels.push_back(
            {o.scales[i], load_preset(names[names.size() == 1 ? 0 : i]).preset});
    }
    degrader->couple = couple(o.couple ? o.couple : "stage1");
    degrader->tier = tier_of(o.tier);
    degrader->seed = o.seed;
    if (o.threads > 0) degrader->threads = o.threads;
    // Plan once: levels that cannot be are refused here, not at the first batch
    make_plan({{}, {64, 64}, degrader->levels, degrader->couple, degrader->tier});
    return degrader;
}

PixelSize patch_size(int height, int width) {
    if (height < 1 || width < 1 || std::int64_t{height} * width > most_pixels) {
        fail(Fault::usage, "GT has {} x {} pixels; 1 to {} can be degraded", width, height,
             most_pixels);
    }
    return {width, height};
}

/// `store(picture, level, LR)` takes each result.
template <class Store>
void run(const ultrasr_degrader* degrader, const std::uint8_t* gt, int count, PixelSize size,
         const std::uint64_t* ids, std::uint32_t variant, Store&& store) {
    require_use(degrader && gt && ids && count >= 0,
                "a batch takes a degrader, GT, one id a patch and a count from 0 up");
    require_use(variant <= 0xFFFF, "'variant' lies in 0 to 65535");
    for (int i = 0; i < count; ++i) {
        require_use(ids[i] >> 48 == 0, "an id has 48 bits; this one has more");
    }
    const std::size_t bytes =
        3 * static_cast<std::size_t>(size.width) * static_cast<std::size_t>(size.height);
    tbb::task_arena arena(degrader->threads);
    arena.execute([&] {
        tbb::parallel_for(0, count, [&](int i) {
            while_doing(fmt::format("picture {} of the batch", i), [&] {
                const auto n = static_cast<std::size_t>(i);
                const Plan plan = make_plan({{degrader->seed, ids[i], variant},
                                             size,
                                             degrader->levels,
                                             degrader->couple,
                                             degrader->tier});
                // OpenCV wants a writable pointer, also for what is only read
                const cv::Mat rgb(size.height, size.width, CV_8UC3,
                                  const_cast<std::uint8_t*>(gt + n * bytes));
                const Degraded out = run_plan(plan, planar_of_rgb(rgb));
                for (std::size_t l = 0; l < out.levels.size(); ++l) store(n, l, out.levels[l].lr);
            });
        });
    });
}

}  // namespace
}  // namespace ultrasr

extern "C" {

int ultrasr_degrade_create(const ultrasr_degrade_options* options, ultrasr_degrader** degrader) {
    using namespace ultrasr;
    if (degrader) *degrader = nullptr;
    return guarded([&] {
        require_use(options && degrader, "a degrader takes options and a place to put it");
        *degrader = made(*options).release();
    });
}

void ultrasr_degrade_destroy(ultrasr_degrader* degrader) { delete degrader; }

int ultrasr_degrade_lr_size(const ultrasr_degrader* degrader, int level, int height, int width,
                            int* lr_height, int* lr_width) {
    using namespace ultrasr;
    return guarded([&] {
        require_use(degrader && lr_height && lr_width,
                    "a size takes a degrader and two places to put it");
        if (level < 0 || static_cast<std::size_t>(level) >= degrader->levels.size()) {
            fail(Fault::usage, "there is no level {} among {}, counted from 0", level,
                 degrader->levels.size());
        }
        const LevelRequest& l = degrader->levels[static_cast<std::size_t>(level)];
        const PixelSize lr = lr_size(patch_size(height, width), l.scale, l.preset.lr_size_rule);
        *lr_height = lr.height;
        *lr_width = lr.width;
    });
}

int ultrasr_degrade_batch_f32(const ultrasr_degrader* degrader, const uint8_t* gt, int count,
                              int height, int width, const uint64_t* ids, uint32_t variant,
                              float* const* lr) {
    using namespace ultrasr;
    return guarded([&] {
        require_use(lr != nullptr, "a batch takes a place for each level's LR");
        run(degrader, gt, count, patch_size(height, width), ids, variant,
            [&](std::size_t i, std::size_t level, const Planar& picture) {
                if (!lr[level]) return;
                std::copy_n(picture.data(), picture.values(), lr[level] + i * picture.values());
            });
    });
}

int ultrasr_degrade_batch_u8(const ultrasr_degrader* degrader, const uint8_t* gt, int count,
                             int height, int width, const uint64_t* ids, uint32_t variant,
                             uint8_t* const* lr) {
    using namespace ultrasr;
    return guarded([&] {
        require_use(lr != nullptr, "a batch takes a place for each level's LR");
        run(degrader, gt, count, patch_size(height, width), ids, variant,
            [&](std::size_t i, std::size_t level, const Planar& picture) {
                if (!lr[level]) return;
                const cv::Mat rgb = rgb8_of_planar(picture);
                std::copy_n(rgb.ptr<std::uint8_t>(), picture.values(),
                            lr[level] + i * picture.values());
            });
    });
}

const char* ultrasr_degrade_error(void) { return ultrasr::last_sentence.c_str(); }

}  // extern "C"
