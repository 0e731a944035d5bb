// Runs the stages of a training, resumable at any moment.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/base/progress.h"
#include "data/compute.h"
#include "models/training/settings.h"

namespace ultrasr {

struct StageReport {
    std::string stage;
    std::int64_t steps = 0;
    std::int64_t skipped = 0;  ///< steps whose loss or gradient was not finite
    double loss = 0.0;         ///< of the last line of the log; NaN where no step was taken
    double seconds = 0.0;      ///< of this call
    bool was_done = false;     ///< by an earlier call
    std::string result;        ///< folder that it wrote
};

/// Trains what `settings.stages` names, one after another, in OUT:
///
///     run.json  log.jsonl  curves.svg  samples/<stage>_<step>.png
///     checkpoints/step_<stage>_<step>.safetensors + .json
///     base/ (stages vae, base)  teacher/  encoder/ (dml)  student/ (rsd)
///
/// The same call goes on from the newest checkpoint and ends, on a CPU, with the same bytes as an
/// uninterrupted one with as many threads. Interrupted, it writes a checkpoint first. With several
/// processes (processes.h) each calls this with the same settings; the first one writes.
///
/// compute  device, threads and precision
/// restart  throw away what OUT holds
/// throws   Error(usage) when base, data or out is not set, OUT holds a run of other settings or
///          something else, or batches do not divide among the processes; Error(input) for data
///          and models; Error(storage); Interrupted
std::vector<StageReport> train(const TrainSettings& settings, const ComputeOptions& compute,
                               bool restart, Progress& progress);

/// What a stage would cost, measured with a few of its steps; nothing is written.
struct StageEstimate {
    std::string stage;
    std::int64_t steps = 0;
    std::int64_t parameters = 0;  ///< that learn
    double seconds_a_step = 0.0;
    double data_seconds = 0.0;   ///< that a step's pictures take, beside the network's work
    std::int64_t memory_mb = 0;  ///< peak so far: of the process, or of the GPU
    std::string note;            ///< what stands for what is not there yet
};

/// measured  steps, after one that warms up
std::vector<StageEstimate> estimate(const TrainSettings& settings, const ComputeOptions& compute,
                                    Progress& progress, std::int64_t measured = 2);

}  // namespace ultrasr
