// Degrades many GT patches at once, on the CPU or on a GPU, for training on the fly: no file in
// between, memory kept from one batch to the next.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/base/geometry.h"
#include "degradation/plan.h"

namespace ultrasr {

/// What does the work.
struct BatchDevice {
    enum Kind {
        cpu,         ///< run_plan, one picture a thread
        cuda,        ///< a GPU
        cuda_on_cpu  ///< what a GPU would do, done by the CPU: for tests, slow
    };
    Kind kind = cpu;
    int index = 0;  ///< of the GPU
    void* stream =
        nullptr;  ///< a cudaStream_t of that GPU; null: the default one. Outlives the batch.
};

/// In whose memory pixels lie. On the CPU both are the same.
enum class BatchMemory { host, device };

/// One GT patch, RGB, 8 bits: byte of channel c at (x, y) is
/// pixels[y row_bytes + x pixel_bytes + c channel_bytes].
struct BatchPixels {
    const std::uint8_t* pixels = nullptr;
    std::optional<std::ptrdiff_t> row_bytes;  ///< none: pixel_bytes times the width
    std::ptrdiff_t pixel_bytes = 3, channel_bytes = 1;
};

/// Where one level's pictures go: 3 x height x width float32, RGB, [0,1]. Null: not wanted.
struct BatchLevel {
    float* lr = nullptr;     ///< of LevelPlan::lr's size
    float* lr_up = nullptr;  ///< of GT's size; only when the plan brings LR back to it
};

struct BatchItem {
    const Plan* plan = nullptr;  ///< of the patch's size
    BatchPixels gt;
    float* gt_usm = nullptr;  ///< sharpened GT; only when the plan sharpens. Null: not wanted
    std::vector<BatchLevel> levels;  ///< one for each level of the plan
};

/// Where the time of a run went, on the device.
struct BatchTime {
    std::string what;  ///< "copy_in", the name of a kernel, "copy_out"
    int launches = 0;
    double milliseconds = 0;
};

/// Draws the plans of a batch, several at once.
std::vector<Plan> make_plans(std::span<const PlanRequest> requests);

/// Runs batches on one device. Not for several threads at once.
class DegradeBatch {
  public:
    /// throws Error(device) when CUDA is asked for and this build has none, or this machine no
    ///        such GPU
    explicit DegradeBatch(const BatchDevice& device = {});
    ~DegradeBatch();
    DegradeBatch(DegradeBatch&&) noexcept;
    DegradeBatch& operator=(DegradeBatch&&) noexcept;

    /// The same bytes as run_plan's on any device (degradation.md 4.3).
    ///
    /// items   pictures may differ in size and plan; results must not overlap each other or GT
    /// input   where GT lies; output  where results go. Results in the device's memory are there
    ///         when the stream has come so far: the call does not wait for them.
    /// throws  Error(input) for missing pixels or a result that the plan does not make;
    ///         Error(device) that names the step when one has no kernel (a real JPEG codec, steps
    ///         with given noise, the BSRGAN family's own), before anything is run; Error(device)
    ///         when the GPU refuses
    void run(std::span<const BatchItem> items, BatchMemory input = BatchMemory::host,
             BatchMemory output = BatchMemory::host);

    /// Measures every run from now on, which makes it wait for its end.
    void measure(bool on);
    /// Of the last run, in the order of first use; empty on the CPU.
    const std::vector<BatchTime>& times() const;
    /// Bytes on the device that are kept for the next batch.
    std::size_t device_bytes() const;

  private:
    struct Worker;
    std::unique_ptr<Worker> worker_;
};

}  // namespace ultrasr
