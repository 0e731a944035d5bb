#include "models/training/run_folder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/file.h"
#include "data/pair_dataset.h"
#include "data/weights/weight_store.h"
#include "models/diffusers_folder.h"
#include "models/training/learning_stages.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

/// Settings that may change between the calls of one run.
bool may_change(const std::string& name) {
    static const std::set<std::string> free{
        "stage",          "out",        "checkpoint_every", "keep_checkpoints",
        "validate_every", "log_every",  "samples",          "cache_mb",
        "prefetch",       "validation", "validation_count", "data_threads"};
    return free.contains(name);
}

void list_changes(const Json& before, const Json& now, const std::string& prefix,
                  std::vector<std::string>& changed) {
    for (const auto& [key, value] : now.items()) {
        const std::string name = prefix + key;
        if (value.is_object()) {
            list_changes(before.value(key, Json::object()), value, name + ".", changed);
        } else if (!may_change(name) && (!before.contains(key) || before.at(key) != value)) {
            changed.push_back(name);
        }
    }
}

/// Whether a step was taken in OUT.
bool has_begun(const fs::path& out) {
    std::error_code none;
    const auto log = fs::file_size(out / "log.jsonl", none);
    if (!none && log > 0) return true;
    const fs::directory_iterator checkpoints(out / "checkpoints", none);
    return !none && checkpoints != fs::directory_iterator{};
}

/// Stages that have something to do.
bool is_wanted(const std::string& stage, const TrainSettings& settings) {
    // Nothing is trained that is given: an earlier run's folder is read, never written
    if (stage == "dml") return settings.dml.enabled && settings.encoder.empty();
    return stage != "teacher" || settings.teacher.empty();
}

bool is_missing(const fs::path& path) {
    std::error_code ignored;
    return !path.empty() && !fs::exists(path, ignored);
}

}  // namespace

void open_run_folder(const TrainSettings& settings, bool restart) {
    const fs::path record = settings.out / "run.json";
    std::error_code ignored;
    make_folders(settings.out);
    if (!fs::exists(record, ignored)) {
        // A run that was killed at once leaves its lock, or run.json under a name with a dot
        for (const auto& entry : fs::directory_iterator(settings.out)) {
            const std::string name = entry.path().filename().string();
            if (name == ".lock" || name.starts_with(".run.json.")) continue;
            fail(Fault::usage,
                 "{} holds something that sdd-train did not write ({}); name a new folder with out",
                 settings.out.string(), name);
        }
    } else {
        const Json before = parse_json(read_file(record), record.string());
        std::vector<std::string> changed;
        list_changes(before, settings.json(), "", changed);
        if (!changed.empty() && !restart && has_begun(settings.out)) {
            fail(Fault::usage,
                 "{} holds a run with other settings ({}); name another folder with out, or "
                 "--restart to throw that run away",
                 settings.out.string(), fmt::join(changed, ", "));
        }
        if (restart) {
            // In an order that a kill between any two of them leaves a run to go on from
            for (const char* part : {"stages.json", "checkpoints", "log.jsonl", "curves.svg",
                                     "samples", "base", "teacher", "encoder", "student"}) {
                fs::remove_all(settings.out / part, ignored);
            }
        }
    }
    for (const char* part :
         {"", "checkpoints", "samples", "base", "base/unet", "base/vae", "base/text_encoder",
          "base/tokenizer", "base/scheduler", "teacher", "encoder", "student"}) {
        if (fs::is_directory(settings.out / part, ignored)) {
            remove_stale_temporaries(settings.out / part);
        }
    }
    write_file(record, dump_json(settings.json()));
}

Json finished_stages(const fs::path& out) {
    const fs::path path = out / "stages.json";
    std::error_code ignored;
    return fs::exists(path, ignored) ? parse_json(read_file(path), path.string()) : Json::object();
}

fs::path result_of_stage(std::string_view stage, const TrainSettings& settings) {
    const RunFolders folders(settings);
    return stage == "teacher" ? folders.teacher
           : stage == "dml"   ? folders.encoder
           : stage == "rsd"   ? folders.student
                              : folders.own_base;
}
void check_run_inputs(const TrainSettings& settings, const std::vector<std::string>& stages) {
    if (settings.data.empty()) {
        fail(Fault::usage,
             "no HR pictures to train from; set data to a folder, a list or an HDF5 file");
    }
    if (settings.base.empty()) {
        fail(Fault::usage,
             "no model family to train from; set base to a folder in diffusers' layout (sdd-train "
             "init makes one)");
    }
    for (const fs::path& path : settings.data) {
        require(!is_missing(path),
                "data: {} is missing; name a folder of pictures, a list of them (.txt) or an HDF5 "
                "file",
                path.string());
    }
    // Sides that the VAE can halve
    const fs::path vae = open_family(settings.base).vae / "config.json";
    const Json config = parse_json(read_file(vae), vae.string());
    const std::size_t blocks = config.value("block_out_channels", Json::array()).size();
    const std::int64_t factor = std::int64_t{1}
                                << (blocks > 0 ? std::min<std::size_t>(blocks, 8) - 1 : 3);
    for (const std::string& stage : stages) {
        const std::int64_t patch = settings.of_stage(stage).patch;
        if (patch % factor != 0) {
            fail(Fault::usage,
                 "a patch of {} pixels (stage {}) is no multiple of {}, by which the VAE of {} "
                 "makes pictures smaller; choose {}",
                 patch, stage, factor, settings.base.string(),
                 std::max(patch / factor, std::int64_t{1}) * factor);
        }
    }
}

void check_run_needs(const TrainSettings& settings, const std::vector<std::string>& stages) {
    const auto runs = [&](std::string_view stage) { return std::ranges::count(stages, stage) > 0; };

    // What earlier stages or runs have made
    const RunFolders folders(settings);
    for (const char* stage : {"dml", "rsd"}) {
        if (!runs(stage) || (runs("teacher") && settings.teacher.empty())) continue;
        if (!settings.teacher.empty()) {
            require(!is_missing(settings.teacher),
                    "the teacher {} is missing; set teacher to osediff.pkl or to the teacher "
                    "folder of an earlier run",
                    settings.teacher.string());
        } else {
            require(!is_missing(folders.teacher / "config.json"),
                    "stage {} learns from a teacher, and {} has none; run stage teacher first, or "
                    "set teacher to osediff.pkl or to the teacher folder of an earlier run",
                    stage, settings.out.string());
        }
    }
    if (runs("rsd") && settings.dml.enabled && !(runs("dml") && settings.encoder.empty())) {
        require(!is_missing(folders.encoder / "config.json"),
                "stage rsd starts from the encoder of stage dml, and {} holds none; run stage dml "
                "first, set encoder to the encoder folder of an earlier run, or dml.enabled=false "
                "for the teacher's",
                folders.encoder.string());
    }

    // Files for the losses and prompts
    const auto needs_lpips = [&](const char* stage, const char* setting, double lambda) {
        if (!runs(stage) || !(lambda > 0)) return;
        for (const char* file : {"vgg16-397923af.pth", "LPIPS_v0.1_vgg-a78928a0.pth"}) {
            require(have_weights(file),
                    "stage {} has an LPIPS loss, whose weights are missing: {}; or {}=0 trains "
                    "without it",
                    stage, how_to_get_weights(file), setting);
        }
    };
    needs_lpips("vae", "vae_stage.lambda_lpips", settings.vae_stage.lambda_lpips);
    needs_lpips("teacher", "teacher_stage.lambda_lpips", settings.teacher_stage.lambda_lpips);
    needs_lpips("rsd", "loss.lpips", settings.loss_lpips);
    require(!is_missing(settings.prompt_file),
            "prompt.file: {} is missing; leave prompt.file empty to have prompt.text read by the "
            "base's text encoder",
            settings.prompt_file.string());
    require(!is_missing(settings.prompt_folder),
            "prompt.folder: {} is missing; it holds a STEM.txt for each picture",
            settings.prompt_folder.string());
    if (!settings.validation.empty()) {
        while_doing("validation", [&] { find_pair_sets(settings.validation); });
    }
}

std::vector<std::string> wanted_stages(const TrainSettings& settings) {
    std::vector<std::string> stages;
    for (const std::string& stage : settings.stages) {
        if (is_wanted(stage, settings)) stages.push_back(stage);
    }
    if (stages.empty()) {
        fail(Fault::usage,
             "nothing to train: stage is {}, which the settings leave out (teacher or encoder is "
             "given, or dml.enabled is false)",
             fmt::join(settings.stages, ", "));
    }
    return stages;
}

}  // namespace ultrasr
