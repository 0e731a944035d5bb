#include "models/training/trainer.h"

#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <optional>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/log.h"
#include "data/file.h"
#include "models/training/curves.h"
#include "models/training/learner.h"
#include "models/training/learning_stages.h"
#include "models/training/run_folder.h"
#include "models/training/step_data.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

std::int64_t peak_memory_mb(const c10::Device& device) {
    if (device.is_cuda()) {
        auto* allocator = dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(c10::kCUDA));
        if (!allocator) return 0;
        const auto stats = allocator->getDeviceStats(device.index());
        return stats.allocated_bytes[0].peak >> 20;
    }
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss >> 10;
}

bool interrupted() {
    try {
        Progress::throw_if_interrupted();
    } catch (const Interrupted&) {
        return true;
    }
    return false;
}

class StageRun {
  public:
    StageRun(std::string_view name, const TrainSettings& settings, const Placement& placement,
             Processes& processes, Progress& progress)
        : name_(name),
          settings_(settings),
          own_(settings.of_stage(name)),
          placement_(placement),
          processes_(processes),
          progress_(progress),
          shares_(own_, processes, name),
          data_(data_options(settings, own_, name, placement.device)),
          stage_(make_stage(name, settings, placement)),
          learner_(*stage_, settings, own_, placement.dtype == at::kHalf) {}

    StageReport run();

  private:
    void checkpoint(std::int64_t step) const {
        if (processes_.rank() != 0) return;
        TrainingCheckpoint now = learner_.checkpoint(name_, step);
        now.state["pictures"] = data_.source().identity();
        write_checkpoint(settings_.out / "checkpoints", now,
                         static_cast<int>(settings_.keep_checkpoints));
    }

    const MicroBatch& validation_batch();
    NamedNumbers validate(std::int64_t step);
    void loop(std::int64_t start);
    LogLine line_of(std::int64_t done, const StepSum& sum, double norm) const;

    std::string name_;
    const TrainSettings& settings_;
    StageSettings own_;
    Placement placement_;
    Processes& processes_;
    Progress& progress_;
    Shares shares_;
    TrainingData data_;
    std::unique_ptr<LearningStage> stage_;
    Learner learner_;
    std::optional<MicroBatch> validation_, pairs_;
    std::optional<RunLog> log_;
    double last_loss_ = std::numeric_limits<double>::quiet_NaN();
};

const MicroBatch& StageRun::validation_batch() {
    if (!validation_) {
        const SampleLevels levels = stage_->levels(-1);
        const auto n = static_cast<int>(settings_.validation_count);
        const TrainingBatch batch = data_.batch(validation_samples, n, levels);
        validation_ = part_of(batch, validation_samples, -1, 0, n, placement_.device);
        pairs_ = validation_pairs(settings_, own_.patch, levels.scales.size(), placement_.device);
    }
    return *validation_;
}

NamedNumbers StageRun::validate(std::int64_t step) {
    if (processes_.rank() != 0) return {};
    Validation v = stage_->validate(validation_batch());
    if (pairs_) {
        for (const auto& [figure, value] : stage_->validate(*pairs_).figures) {
            v.figures.emplace_back("val_pairs_" + figure.substr(4), value);
        }
    }
    if (settings_.samples > 0 && !v.pictures.empty()) {
        for (SampleColumn& column : v.pictures) {
            const std::int64_t n = std::min(settings_.samples, column.pictures.size(0));
            column.pictures = column.pictures.narrow(0, 0, n);
        }
        write_samples(settings_.out / "samples" / fmt::format("{}_{:08}.png", name_, step),
                      v.pictures);
    }
    return v.figures;
}

LogLine StageRun::line_of(std::int64_t done, const StepSum& sum, double norm) const {
    LogLine line;
    line.stage = name_;
    line.step = done;
    line.steps = own_.steps;
    line.more = sum.more;
    line.losses.emplace_back("loss", sum.total);
    for (const auto& part : sum.parts) line.losses.push_back(part);
    line.gradient_norm = norm;
    line.learning_rate = learner_.rate(done - 1);
    line.skipped = learner_.skipped();
    if (learner_.scaled()) line.more.emplace_back("loss_scale", learner_.loss_scale());
    return line;
}

void StageRun::loop(std::int64_t start) {
    Prefetch prefetch(
        data_,
        [&](std::uint64_t i) {
            const auto step = static_cast<std::int64_t>(i);
            return TrainingRequest{.first = shares_.first(step),
                                   .count = static_cast<int>(shares_.own),
                                   .levels = stage_->levels(step)};
        },
        static_cast<std::uint64_t>(start), static_cast<int>(settings_.prefetch));

    auto since = Clock::now();
    double waited_before = 0.0;
    std::int64_t logged = start;
    for (std::int64_t step = start; step < own_.steps; ++step) {
        // A step that was interrupted while it waited for pictures has not begun
        std::optional<TrainingBatch> batch;
        try {
            batch = prefetch.next();
        } catch (const Interrupted&) {
        }
        if (processes_.any(!batch || interrupted())) {
            checkpoint(step);
            throw Interrupted{};
        }
        StepSum sum =
            accumulate(*stage_, *batch, step, shares_, learner_.loss_scale(), placement_.device);
        if (processes_.size() > 1) processes_.average_(learner_.gradients());
        const bool finite = !processes_.any(!std::isfinite(sum.total));
        const double norm = learner_.step(step, finite);
        const std::int64_t done = step + 1;

        // What others want to see
        const bool last = done == own_.steps;
        const bool validated =
            last || (settings_.validate_every > 0 && done % settings_.validate_every == 0);
        if (done % settings_.log_every == 0 || validated) {
            sum.average_over(processes_);
            LogLine line = line_of(done, sum, norm);
            last_loss_ = sum.total;
            const double seconds = seconds_since(since);
            const double waited = prefetch.waited_seconds() - waited_before;
            line.images_per_second = static_cast<double>((done - logged) * shares_.batch) / seconds;
            line.wait_share = std::clamp(waited / seconds, 0.0, 1.0);
            line.memory_mb = peak_memory_mb(placement_.device);
            if (validated) {
                for (auto& figure : validate(done)) line.more.push_back(std::move(figure));
            }
            if (log_) log_->append(line);
            if (validated && log_) {
                write_curves(settings_.out / "log.jsonl", settings_.out / "curves.svg");
            }
            waited_before = prefetch.waited_seconds();
            since = Clock::now();
            logged = done;
            if (processes_.rank() == 0) {
                try {
                    progress_.step(name_, static_cast<std::size_t>(done),
                                   static_cast<std::size_t>(own_.steps), progress_note(line));
                } catch (const Interrupted&) {  // met again at the next step, by all processes
                }
            }
        }
        if (last || done % settings_.checkpoint_every == 0) checkpoint(done);
    }
}

StageReport StageRun::run() {
    const auto begun = Clock::now();
    std::int64_t start = 0;
    if (const auto found = newest_checkpoint(settings_.out / "checkpoints", name_)) {
        learner_.restore(*found);
        start = found->step;
        const std::string pictures = data_.source().identity();
        if (processes_.rank() == 0 && found->state.value("pictures", pictures) != pictures) {
            warn(
                "data has other pictures than when step {} of stage {} was taken; it goes on with "
                "these, and ends otherwise than an undisturbed run would",
                start, name_);
        }
        if (processes_.rank() == 0) {
            remove_old_checkpoints(settings_.out / "checkpoints", name_, start,
                                   static_cast<int>(settings_.keep_checkpoints));
        }
    }
    if (processes_.rank() == 0) {
        log_.emplace(settings_.out / "log.jsonl", name_, start);
        for (const LogLine& line : read_log(settings_.out / "log.jsonl")) {
            if (line.stage == name_) last_loss_ = line.losses.at(0).second;
        }
        validation_batch();  // what is wrong with it is said before the first step
    }
    if (start < own_.steps) loop(start);

    if (processes_.rank() == 0) {
        stage_->look_at(validation_batch());
        stage_->write(learner_.learnt());
    }
    processes_.barrier();
    return {.stage = name_,
            .steps = own_.steps,
            .skipped = learner_.skipped(),
            .loss = last_loss_,
            .seconds = seconds_since(begun),
            .result = result_of_stage(name_, settings_).string()};
}

}  // namespace

std::vector<StageReport> train(const TrainSettings& settings, const ComputeOptions& compute,
                               bool restart, Progress& progress) {
    if (settings.out.empty()) fail(Fault::usage, "no folder to write to; set out");
    const std::vector<std::string> stages = wanted_stages(settings);
    check_run_inputs(settings, stages);
    check_run_needs(settings, stages);
    ComputeOptions options = compute;
    options.precision = settings.precision;
    const Launch launch = find_launch();
    if (launch.size > 1 && options.device == "cuda") {
        // Each its own; Slurm may show a process no GPU but that one
        open_device("cuda");
        options.device =
            fmt::format("cuda:{}", launch.local_rank % static_cast<int>(at::getNumGPUs()));
    }
    const Placement placement = place(options);
    const auto processes = Processes::open(launch, placement.device);
    for (const std::string& stage : stages) Shares(settings.of_stage(stage), *processes, stage);
    std::optional<FolderLock> lock;
    if (processes->rank() == 0) {
        make_folders(settings.out);
        lock.emplace(settings.out);
        open_run_folder(settings, restart);
    }
    processes->barrier();

    std::vector<StageReport> reports;
    for (const std::string& stage : stages) {
        const StageSettings own = settings.of_stage(stage);
        const Json done = finished_stages(settings.out);
        const bool was_done = done.contains(stage) && done.at(stage).at("steps") == own.steps;
        processes->barrier();
        if (was_done) {
            reports.push_back({.stage = stage,
                               .steps = own.steps,
                               .skipped = done.at(stage).at("skipped").get<std::int64_t>(),
                               .loss = number_from_json(done.at(stage).at("loss")),
                               .was_done = true,
                               .result = result_of_stage(stage, settings).string()});
            continue;
        }
        StageRun run(stage, settings, placement, *processes, progress);
        reports.push_back(run.run());
        if (processes->rank() == 0) {
            Json now = finished_stages(settings.out);
            now[stage] = {{"steps", own.steps},
                          {"skipped", reports.back().skipped},
                          {"loss", json_number(reports.back().loss)}};
            write_file(settings.out / "stages.json", dump_json(now));
            write_curves(settings.out / "log.jsonl", settings.out / "curves.svg");
        }
        processes->barrier();
    }
    return reports;
}

std::vector<StageEstimate> estimate(const TrainSettings& asked, const ComputeOptions& compute,
                                    Progress& progress, std::int64_t measured) {
    const std::vector<std::string> stages = wanted_stages(asked);
    check_run_inputs(asked, stages);
    ComputeOptions options = compute;
    options.precision = asked.precision;
    const Placement placement = place(options);
    const auto alone = Processes::open({}, placement.device);
    constexpr std::int64_t warm_up = 1;

    std::vector<StageEstimate> estimates;
    for (const std::string& stage : stages) {
        // Networks of the right size stand for those that are not trained yet
        TrainSettings settings = asked;
        StageEstimate e{.stage = stage, .note = {}};
        const RunFolders folders(settings);
        std::error_code ignored;
        if ((stage == "dml" || stage == "rsd") && !fs::exists(folders.teacher, ignored)) {
            settings.teacher = folders.base;
            e.note = "measured with the base in the teacher's place";
        }
        if (stage == "rsd" && !fs::exists(folders.encoder, ignored)) settings.dml.enabled = false;

        const StageSettings own = settings.of_stage(stage);
        const Shares shares(own, *alone, stage);
        const TrainingData data(data_options(settings, own, stage, placement.device));
        const auto network = make_stage(stage, settings, placement);
        Learner learner(*network, settings, own, placement.dtype == at::kHalf);
        double seconds = 0.0, data_seconds = 0.0;
        for (std::int64_t step = 0; step < warm_up + measured; ++step) {
            progress.step("measuring " + stage, static_cast<std::size_t>(step),
                          static_cast<std::size_t>(warm_up + measured));
            const TrainingBatch batch =
                data.batch(shares.first(step), static_cast<int>(shares.own), network->levels(step));
            const auto start = Clock::now();
            const StepSum sum =
                accumulate(*network, batch, step, shares, learner.loss_scale(), placement.device);
            learner.step(step, std::isfinite(sum.total));
            if (step < warm_up) continue;
            seconds += seconds_since(start);
            data_seconds += batch.seconds;
        }
        e.steps = own.steps;
        e.parameters = learner.parameters();
        e.seconds_a_step = seconds / static_cast<double>(measured);
        e.data_seconds = data_seconds / static_cast<double>(measured);
        e.memory_mb = peak_memory_mb(placement.device);
        estimates.push_back(std::move(e));
    }
    return estimates;
}

}  // namespace ultrasr
