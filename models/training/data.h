// Batches for training: HR patches with their low-resolution levels, degraded while the network
// works on the batch before.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "degradation/degrade_batch.h"
#include "degradation/plan.h"
#include "degradation/source_picture.h"
#include "models/training/hr_source.h"

namespace ultrasr {

/// What the pictures of a run are made from. Everything but the last block changes them.
struct TrainingDataOptions {
    std::vector<std::filesystem::path> roots;  ///< as HrOptions::roots
    SmallPolicy small = SmallPolicy::skip;
    int patch = 512;  ///< side P of HR patches, pixels
    /// Names or files, see load_preset: one for all levels, or one a level from mild to severe.
    /// Flips and sharpening are as the first one says; its patch side and second crop do not count.
    std::vector<std::string> presets{"osediff"};
    Couple couple = Couple::stage1;
    /// How LR comes back to P x P, all levels of a sample in one way; `drawn` draws it for each
    /// sample, as OSEDiff does. Unset: as the first preset says, which must not be none then.
    std::optional<ResizeBack> resize_back;
    std::uint64_t seed = 0;

    std::size_t cache_bytes = std::size_t{1} << 30;  ///< as HrOptions::cache_bytes
    int threads = 0;                                 ///< at work on a batch; 0 = half of the cores
    bool pin = false;                                ///< results in memory that a GPU can fetch
    BatchDevice::Kind worker = BatchDevice::cpu;     ///< what degrades; results lie on the CPU
    int gpu = 0;                                     ///< its number when that is a GPU
};

/// Scales of one step in ascending order: s_t, s_s, s_h, or fewer of them. None: HR alone.
struct SampleLevels {
    std::vector<int> scales;
};

struct TrainingBatch {
    at::Tensor hr;                   ///< N x 3 x P x P, RGB, float32, [0,1], CPU
    std::vector<at::Tensor> lr_up;   ///< one a scale, the same shape: LR brought back to HR's size
    std::vector<std::string> names;  ///< of the pictures, as HrSource::name
    double seconds = 0;              ///< that making it took
    double decode_seconds = 0;       ///< reading and cropping, summed over threads
    double degrade_seconds = 0;      ///< likewise; on a GPU, of the batch
};

/// The one who makes batches. Calls from several threads queue up.
///
/// Sample k, counted over the whole run, is picture perm_e(k mod n) of n, e = k div n, under a
/// permutation drawn for epoch e: each picture once an epoch. A picture that cannot be used gives
/// its place to the next usable one of that permutation. Crop, flips and degradation are drawn
/// from a stream of (seed, k) alone, so that a picture looks different each time, and a level's
/// pixels do not depend on the levels after it: scales {4, 8} give what {4, 8, 16} gives.
/// GT of presets that save it sharpened is sharpened.
class TrainingData {
  public:
    /// throws Error(usage) for unknown presets and options out of range; Error(input) as HrSource;
    ///        Error(device) when a GPU or pinned memory is asked for and there is none
    explicit TrainingData(const TrainingDataOptions& options);
    ~TrainingData();
    TrainingData(TrainingData&&) noexcept;
    TrainingData& operator=(TrainingData&&) noexcept;

    std::size_t pictures() const;
    const HrSource& source() const;

    /// Which picture sample k is, unusable or not.
    std::size_t picture_of(std::uint64_t sample) const;
    /// What sample k's numbers are drawn from.
    Stream stream_of(std::uint64_t sample) const;

    /// Samples first ... first + count - 1. A pure function of the options and the arguments:
    /// the same bytes from any number of threads, whatever was asked for before.
    ///
    /// stop    gives up as soon as it is asked to, at the latest when the samples at work are done
    /// throws  Error(usage) for count < 1, scales that descend or lie outside 1 to 63, more of
    ///         them than presets where those are several, or a scale that does not divide the
    ///         patch under exact_crop; Error(input) when no picture can be used; Error(device) as
    ///         DegradeBatch; BatchStopped
    TrainingBatch batch(std::uint64_t first, int count, const SampleLevels& levels,
                        const std::stop_token& stop = {}) const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

/// Thrown by TrainingData::batch() when its stop token was used.
struct BatchStopped {};

/// One call of TrainingData::batch().
struct TrainingRequest {
    std::uint64_t first = 0;
    int count = 1;
    SampleLevels levels;
};

/// Makes batches ahead in one thread of its own.
class Prefetch {
  public:
    /// data      outlives this object
    /// what      says what batch i is; called in that thread, i = first, first + 1, ...
    /// depth     batches that may lie ready or be in the making, at least 1
    /// throws    Error(usage) for another depth
    Prefetch(const TrainingData& data, std::function<TrainingRequest(std::uint64_t i)> what,
             std::uint64_t first, int depth);
    /// Stops at once: what is in the making is given up.
    ~Prefetch();
    Prefetch(const Prefetch&) = delete;
    Prefetch& operator=(const Prefetch&) = delete;

    /// The next batch, waited for if need be.
    ///
    /// throws  what making it has thrown, this time and every time after; Interrupted when the
    ///         user ends the program while it waits
    TrainingBatch next();

    double waited_seconds() const;  ///< that next() has waited, in sum

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace ultrasr
