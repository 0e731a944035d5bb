#include "degradation/degrade_batch.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <type_traits>
#include <utility>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <tbb/parallel_for.h>

#include "data/base/error.h"
#include "degradation/device/program.h"
#include "degradation/device/queue.h"
#include "degradation/pipeline.h"

namespace ultrasr {
namespace {

constexpr std::size_t alignment = 256;
constexpr std::size_t most_pixels = std::size_t{1} << 28;  // a plane's numbers stay in 32 bits

std::size_t aligned(std::size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

std::size_t plane_values(PixelSize size) {
    return static_cast<std::size_t>(size.width) * static_cast<std::size_t>(size.height);
}

bool has_usm(const Plan& plan) { return !plan.shared.empty() && plan.shared[0].name == "usm"; }

std::ptrdiff_t row_bytes(const BatchPixels& gt, PixelSize size) {
    return gt.row_bytes.value_or(gt.pixel_bytes * size.width);
}

void check(std::span<const BatchItem> items) {
    for (std::size_t i = 0; i < items.size(); ++i) {
        const BatchItem& item = items[i];
        require(item.plan && item.gt.pixels, "picture {} of the batch lacks {}", i,
                item.plan ? "its pixels" : "a plan");
        const Plan& plan = *item.plan;
        require(plan.gt.width >= 1 && plan.gt.height >= 1 && plane_values(plan.gt) <= most_pixels,
                "picture {} of the batch has {} x {} pixels; 1 to {} can be degraded", i,
                plan.gt.width, plan.gt.height, most_pixels);
        require(item.levels.size() == plan.levels.size(),
                "picture {} of the batch has {} results for {} levels", i, item.levels.size(),
                plan.levels.size());
        require(!item.gt_usm || has_usm(plan),
                "picture {} of the batch: sharpened GT is asked for and the plan does not sharpen",
                i);
        for (std::size_t l = 0; l < plan.levels.size(); ++l) {
            require(!item.levels[l].lr_up || !plan.levels[l].back.empty(),
                    "picture {} of the batch: level {} is asked for at GT's size and the plan does "
                    "not bring it back",
                    i, level_name(plan.levels[l]));
        }
    }
}

Planar planar_of(const BatchPixels& gt, PixelSize size) {
    const std::ptrdiff_t rows = row_bytes(gt, size);
    float level[256];
    for (int i = 0; i < 256; ++i) level[i] = static_cast<float>(i) / 255.0F;
    Planar picture(3, size);
    for (int c = 0; c < 3; ++c) {
        for (int y = 0; y < size.height; ++y) {
            const std::uint8_t* from = gt.pixels + y * rows + c * gt.channel_bytes;
            float* to = picture.row_(c, y);
            for (int x = 0; x < size.width; ++x) to[x] = level[from[x * gt.pixel_bytes]];
        }
    }
    return picture;
}

void copy_to(float* to, const Planar& picture) {
    if (to) std::memcpy(to, picture.data(), picture.values() * sizeof(float));
}

void run_on_cpu(std::span<const BatchItem> items) {
    tbb::parallel_for(std::size_t{0}, items.size(), [&](std::size_t i) {
        while_doing(fmt::format("picture {} of the batch", i), [&] {
            const BatchItem& item = items[i];
            const Degraded out = run_plan(*item.plan, planar_of(item.gt, item.plan->gt));
            copy_to(item.gt_usm, out.gt_usm);
            for (std::size_t l = 0; l < item.levels.size(); ++l) {
                copy_to(item.levels[l].lr, out.levels[l].lr);
                copy_to(item.levels[l].lr_up, out.levels[l].lr_up);
            }
        });
    });
}

std::unique_ptr<DeviceQueue> queue_of(const BatchDevice& device) {
    if (device.kind == BatchDevice::cpu) return nullptr;
    if (device.kind == BatchDevice::cuda_on_cpu) return host_queue();
#if ULTRASR_CUDA
    return cuda_queue(device.index, device.stream);
#else
    fail(Fault::device,
         "this build has no GPU kernels: degrade on the CPU, or install nvcc and use the preset "
         "cuda");
#endif
}

template <class Action>
auto on_device(Action&& action) {
    try {
        return action();
    } catch (const DeviceFailure& failure) {
        const bool full = std::string_view(failure.what()).find("memory") != std::string_view::npos;
        fail(Fault::device, "the GPU cannot degrade: {}; degrade {}", failure.what(),
             full ? "smaller batches, or on the CPU" : "on the CPU");
    }
}

/// Memory that grows with the largest batch and stays.
class Kept {
  public:
    Kept(DeviceQueue* queue, bool staging) : queue_(queue), staging_(staging) {}
    ~Kept() { release(); }
    Kept(const Kept&) = delete;
    Kept& operator=(const Kept&) = delete;

    std::byte* of(std::size_t bytes) {
        if (bytes > bytes_) {
            release();
            const std::size_t wanted = aligned(bytes + bytes / 8);  // batches differ a little
            memory_ = staging_ ? queue_->allocate_staging(wanted) : queue_->allocate(wanted);
            bytes_ = wanted;
        }
        return static_cast<std::byte*>(memory_);
    }
    std::size_t bytes() const { return bytes_; }

  private:
    void release() {
        if (!memory_) return;
        staging_ ? queue_->release_staging(memory_) : queue_->release(memory_);
        memory_ = nullptr;
        bytes_ = 0;
    }

    DeviceQueue* queue_;
    bool staging_;
    void* memory_ = nullptr;
    std::size_t bytes_ = 0;
};

/// A picture that leaves the device through the host's memory.
struct Leaving {
    float* to;
    std::uint64_t result;
    std::size_t values;
};

/// Where the parts of what is copied in begin.
struct Layout {
    std::size_t records = 0, floats = 0, ints = 0, pixels = 0, bytes = 0;

    Layout(const DeviceProgram& program, std::size_t pixel_bytes) {
        floats = aligned(program.records.size());
        ints = floats + aligned(program.floats.size() * sizeof(float));
        pixels = ints + aligned(program.ints.size() * sizeof(std::int32_t));
        bytes = pixels + aligned(pixel_bytes);
    }
};

}  // namespace

std::vector<Plan> make_plans(std::span<const PlanRequest> requests) {
    std::vector<Plan> plans(requests.size());
    tbb::parallel_for(std::size_t{0}, requests.size(),
                      [&](std::size_t i) { plans[i] = make_plan(requests[i]); });
    return plans;
}

struct DegradeBatch::Worker {
    explicit Worker(const BatchDevice& device)
        : queue(on_device([&] { return queue_of(device); })),
          tables(queue.get(), false),
          tables_in(queue.get(), true),
          incoming(queue.get(), false),
          incoming_staging(queue.get(), true),
          values(queue.get(), false),
          sets(queue.get(), false),
          results(queue.get(), false),
          results_staging(queue.get(), true) {}
    ~Worker() {
        if (!queue || !busy) return;
        try {
            queue->finish();
        } catch (const DeviceFailure&) {  // its memory is released all the same
        }
    }
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;

    void run(std::span<const BatchItem> items, BatchMemory input, BatchMemory output);
    void upload_tables();
    void measure_begin(const char* what);
    void measure_end();

    std::unique_ptr<DeviceQueue> queue;  ///< null on the CPU
    Kept tables, tables_in, incoming, incoming_staging, values, sets, results, results_staging;
    DeviceMemory memory;
    bool busy = false;  ///< a run may still use the staging memory
    bool measured = false;
    std::vector<const char*> marks;
    std::vector<BatchTime> times;
};

/// Constant tables, once.
void DegradeBatch::Worker::upload_tables() {
    if (memory.normal) return;
    const PoissonTable& poisson = poisson_table();
    const std::size_t entries = aligned(sizeof normal_table);
    const std::size_t thresholds = entries + aligned(poisson_entries * sizeof(PoissonEntry));
    const std::size_t bytes = thresholds + poisson.threshold_count * sizeof(std::uint32_t);
    std::byte* staging = tables_in.of(bytes);
    std::memcpy(staging, normal_table, sizeof normal_table);
    std::memcpy(staging + entries, poisson.entries, poisson_entries * sizeof(PoissonEntry));
    std::memcpy(staging + thresholds, poisson.thresholds,
                poisson.threshold_count * sizeof(std::uint32_t));
    std::byte* device = tables.of(bytes);
    queue->copy_in(device, staging, bytes);
    memory.poisson = reinterpret_cast<const PoissonEntry*>(device + entries);
    memory.thresholds = reinterpret_cast<const std::uint32_t*>(device + thresholds);
    memory.normal = reinterpret_cast<const float*>(device);
}

void DegradeBatch::Worker::measure_begin(const char* what) {
    if (!measured) return;
    queue->mark(marks.size());
    marks.push_back(what);
}

void DegradeBatch::Worker::measure_end() {
    times.clear();
    if (!measured) return;
    for (std::size_t i = 0; i + 1 < marks.size(); ++i) {
        const auto found = std::find_if(times.begin(), times.end(),
                                        [&](const BatchTime& t) { return t.what == marks[i]; });
        BatchTime& time = found != times.end() ? *found : times.emplace_back(BatchTime{marks[i]});
        ++time.launches;
        time.milliseconds += queue->milliseconds(i, i + 1);
    }
}

void DegradeBatch::Worker::run(std::span<const BatchItem> items, BatchMemory input,
                               BatchMemory output) {
    // Say where each picture comes from and goes to
    const bool through_host = output == BatchMemory::host;
    std::vector<Leaving> leaving;
    std::uint64_t result_values = 0;
    const auto output_of = [&](float* to, PixelSize size) {
        DeviceOutput out;
        out.wanted = to != nullptr;
        if (!out.wanted || !through_host) {
            out.given = to;
            return out;
        }
        out.result = result_values;
        leaving.push_back({to, result_values, 3 * plane_values(size)});
        result_values += 3 * plane_values(size);
        return out;
    };
    std::vector<DevicePicture> pictures;
    std::size_t pixel_bytes = 0;
    for (const BatchItem& item : items) {
        const Plan& plan = *item.plan;
        DevicePicture picture{&plan, {}, output_of(item.gt_usm, plan.gt), {}};
        if (input == BatchMemory::host) {
            picture.input = {nullptr, pixel_bytes, 3 * std::int64_t{plan.gt.width}, 3, 1};
            pixel_bytes += 3 * plane_values(plan.gt);
        } else {
            const BatchPixels& gt = item.gt;
            picture.input = {gt.pixels, 0, row_bytes(gt, plan.gt), gt.pixel_bytes,
                             gt.channel_bytes};
        }
        for (std::size_t l = 0; l < plan.levels.size(); ++l) {
            picture.levels.push_back({output_of(item.levels[l].lr, plan.levels[l].lr),
                                      output_of(item.levels[l].lr_up, plan.gt)});
        }
        pictures.push_back(std::move(picture));
    }
    const DeviceProgram program = device_program(pictures);
    const Layout layout(program, pixel_bytes);

    // The run before may still be read from the memory that is now written
    if (busy) queue->finish();
    marks.clear();
    upload_tables();
    std::byte* staging = incoming_staging.of(layout.bytes);
    std::copy(program.records.begin(), program.records.end(), staging);
    std::copy(program.floats.begin(), program.floats.end(),
              reinterpret_cast<float*>(staging + layout.floats));
    std::copy(program.ints.begin(), program.ints.end(),
              reinterpret_cast<std::int32_t*>(staging + layout.ints));
    if (input == BatchMemory::host) {
        tbb::parallel_for(std::size_t{0}, items.size(), [&](std::size_t i) {
            const PixelSize size = items[i].plan->gt;
            const BatchPixels& gt = items[i].gt;
            const std::ptrdiff_t rows = row_bytes(gt, size);
            auto* to =
                reinterpret_cast<std::uint8_t*>(staging + layout.pixels) + pictures[i].input.pixels;
            for (int y = 0; y < size.height; ++y) {
                const std::uint8_t* row = gt.pixels + y * rows;
                for (int x = 0; x < size.width; ++x, row += gt.pixel_bytes) {
                    for (int c = 0; c < 3; ++c) *to++ = row[c * gt.channel_bytes];
                }
            }
        });
    }

    // Memory for everything, then all the work in one go
    std::byte* device = incoming.of(layout.bytes);
    memory.floats = reinterpret_cast<const float*>(device + layout.floats);
    memory.ints = reinterpret_cast<const std::int32_t*>(device + layout.ints);
    memory.pixels = reinterpret_cast<const std::uint8_t*>(device + layout.pixels);
    memory.values = reinterpret_cast<float*>(values.of(program.values * sizeof(float)));
    const std::size_t set_bytes = std::size_t{program.sets} * 8 * sizeof(std::uint32_t);
    memory.seen = reinterpret_cast<std::uint32_t*>(sets.of(std::max<std::size_t>(set_bytes, 1)));
    const std::size_t result_bytes = result_values * sizeof(float);
    if (!leaving.empty()) memory.results = reinterpret_cast<float*>(results.of(result_bytes));
    busy = true;
    measure_begin("copy_in");
    queue->copy_in(device, staging, layout.bytes);
    if (set_bytes > 0) queue->zero(memory.seen, set_bytes);
    for (const DeviceLaunch& launch : program.launches) {
        DeviceElements::with_kind(launch.kind, [&](auto* type) {
            measure_begin(std::remove_pointer_t<decltype(type)>::name);
        });
        queue->launch(launch, device, memory);
    }
    std::byte* out = nullptr;
    if (!leaving.empty()) {
        out = results_staging.of(result_bytes);
        measure_begin("copy_out");
        queue->copy_out(out, memory.results, result_bytes);
    }
    measure_begin("end");
    queue->seal();

    // Wait where somebody looks at the results at once
    if (!leaving.empty() || measured) {
        queue->finish();
        busy = false;
    }
    for (const Leaving& l : leaving) {
        std::memcpy(l.to, out + l.result * sizeof(float), l.values * sizeof(float));
    }
    measure_end();
}

DegradeBatch::DegradeBatch(const BatchDevice& device) : worker_(std::make_unique<Worker>(device)) {}
DegradeBatch::~DegradeBatch() = default;
DegradeBatch::DegradeBatch(DegradeBatch&&) noexcept = default;
DegradeBatch& DegradeBatch::operator=(DegradeBatch&&) noexcept = default;

void DegradeBatch::run(std::span<const BatchItem> items, BatchMemory input, BatchMemory output) {
    check(items);
    if (items.empty()) return;
    if (!worker_->queue) return run_on_cpu(items);
    on_device([&] { worker_->run(items, input, output); });
}

void DegradeBatch::measure(bool on) { worker_->measured = on; }

const std::vector<BatchTime>& DegradeBatch::times() const { return worker_->times; }

std::size_t DegradeBatch::device_bytes() const {
    const Worker& w = *worker_;
    return w.tables.bytes() + w.incoming.bytes() + w.values.bytes() + w.sets.bytes() +
           w.results.bytes();
}

}  // namespace ultrasr
