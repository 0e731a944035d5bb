#include "models/training/data.h"

#include <ATen/ops/empty.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <numeric>
#include <optional>
#include <thread>
#include <utility>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include "data/base/error.h"
#include "data/base/log.h"
#include "data/base/progress.h"
#include "data/base/random.h"
#include "data/tensor/device.h"
#include "degradation/draws.h"
#include "degradation/pipeline.h"

namespace ultrasr {
namespace {

using Clock = std::chrono::steady_clock;
using Order = std::vector<std::uint32_t>;  ///< of an epoch: picture by position

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

/// A seed of this file's own, so that no other user of the run's seed draws the same numbers.
std::uint64_t derived_seed(std::uint64_t seed, std::uint32_t use) {
    constexpr std::uint32_t name = 0x64617461;  // "data"
    const auto words = philox4x32({name, use, 0, 0}, {static_cast<std::uint32_t>(seed),
                                                      static_cast<std::uint32_t>(seed >> 32)});
    return std::uint64_t{words[0]} << 32 | words[1];
}

Order order_of(std::uint64_t seed, std::uint64_t epoch, std::size_t n) {
    Order order(n);
    std::iota(order.begin(), order.end(), 0U);
    Rng rng(seed, epoch);
    for (std::size_t i = n; i > 1; --i) {
        std::swap(order[i - 1], order[rng.below(static_cast<std::uint32_t>(i))]);
    }
    return order;
}

/// The one way back to HR's size of all levels of a sample. Levels that are unrelated otherwise
/// would each draw their own, and an encoder would tell them apart by the interpolation.
ResizeBack way_back(ResizeBack wanted, const Stream& stream) {
    constexpr std::array modes{ResizeBack::area, ResizeBack::bilinear, ResizeBack::bicubic};
    if (wanted != ResizeBack::drawn) return wanted;
    return modes[static_cast<std::size_t>(draw_unit(stream, slot::mode_to_gt, 0) * modes.size())];
}

void check_options(const TrainingDataOptions& o) {
    constexpr int most = 16384;
    if (o.patch < 1 || o.patch > most) {
        fail(Fault::usage, "a training patch has 1 to {} pixels a side, not {}", most, o.patch);
    }
    if (o.presets.empty()) fail(Fault::usage, "name a preset of the degradation");
    if (o.threads < 0) fail(Fault::usage, "{} threads cannot make training data", o.threads);
}

std::vector<Preset> load_presets(const std::vector<std::string>& names) {
    std::vector<Preset> presets;
    for (const std::string& name : names) {
        ImportedPreset loaded = load_preset(name);
        for (const std::string& notice : loaded.notices) info("{}", notice);
        presets.push_back(std::move(loaded.preset));
    }
    return presets;
}

ResizeBack resize_back_of(const std::optional<ResizeBack>& wanted, const Preset& preset) {
    const ResizeBack back = wanted.value_or(preset.resize_back);
    if (back == ResizeBack::none) {
        fail(Fault::usage,
             "a network is trained on LR brought back to HR's size, which {}; choose drawn, area, "
             "bilinear or bicubic",
             wanted ? "'none' is not" : fmt::format("preset '{}' does not do", preset.name));
    }
    return back;
}

int thread_count(int wanted) {
    if (wanted > 0) return wanted;
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency() / 2));
}

/// Degrades on a GPU beside what the network does there, not after it.
DegradeBatch open_gpu(BatchDevice::Kind kind, int number) {
    BatchDevice device{.kind = kind, .index = number};
    if (kind == BatchDevice::cuda) {
        const at::Device gpu = open_device(fmt::format("cuda:{}", number));
        const c10::impl::VirtualGuardImpl guard(at::kCUDA);
        device.stream = guard.getStreamFromGlobalPool(gpu).native_handle();
    }
    return DegradeBatch(device);
}

float* picture_at(const at::Tensor& pictures, std::size_t i) {
    return pictures.data_ptr<float>() + static_cast<std::int64_t>(i) * pictures.stride(0);
}

void copy_to(float* to, const Planar& picture) {
    std::memcpy(to, picture.data(), picture.values() * sizeof(float));
}

}  // namespace

struct TrainingData::State {
    explicit State(const TrainingDataOptions& given)
        : options((check_options(given), given)),
          presets(load_presets(given.presets)),
          resize_back(resize_back_of(given.resize_back, presets[0])),
          source({given.roots, given.patch, given.small, given.cache_bytes}),
          stream_seed(derived_seed(given.seed, 0)),
          order_seed(derived_seed(given.seed, 1)),
          arena(thread_count(given.threads)) {
        if (options.pin) open_device("cuda");
        if (options.worker != BatchDevice::cpu) gpu = open_gpu(options.worker, options.gpu);
    }

    std::shared_ptr<const Order> order(std::uint64_t epoch);
    Stream stream(std::uint64_t sample) const;
    PlanRequest request(const Stream& stream, const std::vector<int>& scales) const;
    Plan plan(const Stream& stream, const std::vector<int>& scales) const;
    void check(int count, const std::vector<int>& scales) const;
    std::size_t take_picture(const Order& order, std::uint64_t sample, cv::Mat& rgb) const;

    TrainingDataOptions options;
    std::vector<Preset> presets;
    ResizeBack resize_back;
    HrSource source;
    std::uint64_t stream_seed, order_seed;

    std::mutex batch_mutex;  ///< one batch at a time
    tbb::task_arena arena;
    std::optional<DegradeBatch> gpu;
    std::mutex order_mutex;
    std::map<std::uint64_t, std::shared_ptr<const Order>> orders;  ///< of the last epochs asked for
};

std::shared_ptr<const Order> TrainingData::State::order(std::uint64_t epoch) {
    constexpr std::size_t most = 4;
    const std::scoped_lock lock(order_mutex);
    if (const auto at = orders.find(epoch); at != orders.end()) return at->second;
    if (orders.size() >= most) orders.clear();
    return orders[epoch] =
               std::make_shared<const Order>(order_of(order_seed, epoch, source.size()));
}

Stream TrainingData::State::stream(std::uint64_t sample) const {
    constexpr int id_bits = 48;
    return {stream_seed, sample & ((std::uint64_t{1} << id_bits) - 1),
            static_cast<std::uint32_t>(sample >> id_bits)};
}

void TrainingData::State::check(int count, const std::vector<int>& scales) const {
    if (count < 1) fail(Fault::usage, "a training batch has at least one sample, not {}", count);
    if (!std::is_sorted(scales.begin(), scales.end())) {
        fail(Fault::usage, "the scales {} of a training batch must ascend",
             fmt::join(scales, ", "));
    }
    if (presets.size() > 1 && scales.size() > presets.size()) {
        fail(Fault::usage, "{} levels came with {} presets; name one, or one a level",
             scales.size(), presets.size());
    }
    for (std::size_t i = 0; i < scales.size(); ++i) {
        const Preset& preset = presets[presets.size() == 1 ? 0 : i];
        if (preset.lr_size_rule == LrSizeRule::exact_crop && options.patch % scales[i] != 0) {
            fail(Fault::usage,
                 "scale {} does not divide the training patch of {}, as preset '{}' wants "
                 "(lr_size_rule exact_crop)",
                 scales[i], options.patch, preset.name);
        }
    }
}

PlanRequest TrainingData::State::request(const Stream& stream,
                                         const std::vector<int>& scales) const {
    PlanRequest request{stream, {options.patch, options.patch}, {}, options.couple, Tier::exact};
    const ResizeBack back = way_back(resize_back, stream);
    for (std::size_t i = 0; i < scales.size(); ++i) {
        LevelRequest& level = request.levels.emplace_back(
            LevelRequest{scales[i], presets[presets.size() == 1 ? 0 : i]});
        level.preset.resize_back = back;
    }
    return request;
}

Plan TrainingData::State::plan(const Stream& stream, const std::vector<int>& scales) const {
    if (!scales.empty()) return make_plan(request(stream, scales));
    // HR alone: of a plan with any level, what is done to GT
    Plan plan = make_plan(request(stream, {1}));
    plan.levels.clear();
    plan.shared.resize(presets[0].usm ? 1 : 0);
    return plan;
}

std::size_t TrainingData::State::take_picture(const Order& order, std::uint64_t sample,
                                              cv::Mat& rgb) const {
    const std::size_t n = order.size(), position = sample % n;
    for (std::size_t tried = 0; tried < n; ++tried) {
        const std::size_t picture = order[(position + tried) % n];
        rgb = source.get(picture);
        if (!rgb.empty()) return picture;
    }
    fail(Fault::input,
         "none of the {} pictures can be trained on ({}); name others, or where they are small "
         "choose a smaller patch, or have them padded or enlarged (small=pad, small=upscale)",
         n, source.first_reason());
}

TrainingData::TrainingData(const TrainingDataOptions& options)
    : state_(std::make_unique<State>(options)) {}
TrainingData::~TrainingData() = default;
TrainingData::TrainingData(TrainingData&&) noexcept = default;
TrainingData& TrainingData::operator=(TrainingData&&) noexcept = default;

std::size_t TrainingData::pictures() const { return state_->source.size(); }
const HrSource& TrainingData::source() const { return state_->source; }

std::size_t TrainingData::picture_of(std::uint64_t sample) const {
    return (*state_->order(sample / pictures()))[sample % pictures()];
}

Stream TrainingData::stream_of(std::uint64_t sample) const { return state_->stream(sample); }

TrainingBatch TrainingData::batch(std::uint64_t first, int count, const SampleLevels& levels,
                                  const std::stop_token& stop) const {
    State& s = *state_;
    s.check(count, levels.scales);
    const std::scoped_lock lock(s.batch_mutex);
    const auto start = Clock::now();

    // Room for the results
    const auto n = static_cast<std::size_t>(count);
    const std::int64_t side = s.options.patch;
    const auto pictures = [&] {
        return at::empty({count, 3, side, side},
                         at::TensorOptions().dtype(at::kFloat).pinned_memory(s.options.pin));
    };
    TrainingBatch batch;
    batch.hr = pictures();
    for (std::size_t l = 0; l < levels.scales.size(); ++l) batch.lr_up.push_back(pictures());
    batch.names.resize(n);
    const bool save_usm = s.presets[0].usm && s.presets[0].gt_saved == GtSaved::usm;
    const bool plans_needed = save_usm || !levels.scales.empty();

    // A GPU takes all samples at once, as bytes; a thread of the CPU goes through with its own
    std::vector<Plan> plans(s.gpu ? n : 0);
    std::vector<cv::Mat> bytes(s.gpu ? n : 0);
    std::vector<double> decode(n), degrade(n);
    const auto make = [&](std::size_t i) {
        if (stop.stop_requested()) throw BatchStopped();
        const auto decode_start = Clock::now();
        const std::uint64_t sample = first + i;
        const Stream stream = s.stream(sample);
        cv::Mat rgb;
        const std::size_t picture = s.take_picture(*s.order(sample / s.source.size()), sample, rgb);
        batch.names[i] = s.source.name(picture);
        const PatchPlace place =
            draw_place(stream, {rgb.cols, rgb.rows}, s.options.patch, s.presets[0]);
        const Planar gt = patch_of(rgb, place);
        if (!save_usm) copy_to(picture_at(batch.hr, i), gt);
        decode[i] = seconds_since(decode_start);
        if (!plans_needed) return;

        const auto degrade_start = Clock::now();
        Plan plan = s.plan(stream, levels.scales);
        if (s.gpu) {
            plans[i] = std::move(plan);
            bytes[i] = rgb8_of_planar(gt);
        } else {
            const Degraded out = run_plan(plan, gt);
            if (save_usm) copy_to(picture_at(batch.hr, i), out.gt_usm);
            for (std::size_t l = 0; l < out.levels.size(); ++l) {
                copy_to(picture_at(batch.lr_up[l], i), out.levels[l].lr_up);
            }
        }
        degrade[i] = seconds_since(degrade_start);
    };
    s.arena.execute([&] { tbb::parallel_for(std::size_t{0}, n, make); });

    if (s.gpu && plans_needed) {
        if (stop.stop_requested()) throw BatchStopped();
        const auto degrade_start = Clock::now();
        std::vector<BatchItem> items(n);
        for (std::size_t i = 0; i < n; ++i) {
            items[i].plan = &plans[i];
            items[i].gt.pixels = bytes[i].data;
            if (save_usm) items[i].gt_usm = picture_at(batch.hr, i);
            for (const at::Tensor& up : batch.lr_up) {
                items[i].levels.push_back({nullptr, picture_at(up, i)});
            }
        }
        s.arena.execute([&] { s.gpu->run(items); });
        batch.degrade_seconds = seconds_since(degrade_start);
    }
    batch.decode_seconds = std::accumulate(decode.begin(), decode.end(), 0.0);
    batch.degrade_seconds += std::accumulate(degrade.begin(), degrade.end(), 0.0);
    batch.seconds = seconds_since(start);
    return batch;
}

struct Prefetch::State {
    const TrainingData* data;
    std::function<TrainingRequest(std::uint64_t)> what;
    std::size_t depth;

    std::mutex mutex;
    std::condition_variable_any changed;
    std::deque<TrainingBatch> ready;
    std::exception_ptr failure;
    double waited = 0;
    std::jthread thread;  ///< the last one, so that it ends before what it uses

    void run(const std::stop_token& stop, std::uint64_t i);
    void make(const std::stop_token& stop, std::uint64_t i);
};

/// Makes batch i once there is room for it.
void Prefetch::State::make(const std::stop_token& stop, std::uint64_t i) {
    {
        std::unique_lock lock(mutex);
        if (!changed.wait(lock, stop, [&] { return ready.size() < depth; })) throw BatchStopped();
    }
    const TrainingRequest request = what(i);
    TrainingBatch batch = data->batch(request.first, request.count, request.levels, stop);
    const std::scoped_lock lock(mutex);
    ready.push_back(std::move(batch));
    changed.notify_all();
}

void Prefetch::State::run(const std::stop_token& stop, std::uint64_t i) {
    try {
        for (;; ++i) make(stop, i);
    } catch (const BatchStopped&) {
        return;
    } catch (const Error& error) {
        const std::scoped_lock lock(mutex);
        failure = std::make_exception_ptr(error.with_context(fmt::format("training batch {}", i)));
    } catch (...) {
        const std::scoped_lock lock(mutex);
        failure = std::current_exception();
    }
    changed.notify_all();
}

Prefetch::Prefetch(const TrainingData& data, std::function<TrainingRequest(std::uint64_t i)> what,
                   std::uint64_t first, int depth)
    : state_(std::make_unique<State>()) {
    if (depth < 1) fail(Fault::usage, "at least one batch is made ahead, not {}", depth);
    state_->data = &data;
    state_->what = std::move(what);
    state_->depth = static_cast<std::size_t>(depth);
    State* s = state_.get();
    s->thread = std::jthread([s, first](const std::stop_token& stop) { s->run(stop, first); });
}

Prefetch::~Prefetch() = default;

TrainingBatch Prefetch::next() {
    using namespace std::chrono_literals;
    State& s = *state_;
    const auto start = Clock::now();
    std::unique_lock lock(s.mutex);
    while (s.ready.empty() && !s.failure) {
        s.changed.wait_for(lock, 100ms);
        Progress::throw_if_interrupted();
    }
    s.waited += seconds_since(start);
    if (s.ready.empty()) std::rethrow_exception(s.failure);
    TrainingBatch batch = std::move(s.ready.front());
    s.ready.pop_front();
    s.changed.notify_all();
    return batch;
}

double Prefetch::waited_seconds() const {
    const std::scoped_lock lock(state_->mutex);
    return state_->waited;
}

}  // namespace ultrasr
