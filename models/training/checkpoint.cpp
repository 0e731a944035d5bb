#include "models/training/checkpoint.h"

#include <ATen/TensorOperators.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <system_error>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/log.h"
#include "data/file.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view format_name = "ultrasr training checkpoint 1";

void check_stage(std::string_view stage) {
    const bool good = !stage.empty() && std::all_of(stage.begin(), stage.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    });
    if (!good) fail(Fault::internal, "\"{}\" is no name of a stage", stage);
}

fs::path file_of(const fs::path& folder, std::string_view stage, std::int64_t step,
                 std::string_view extension) {
    return folder / fmt::format("step_{}_{:08d}{}", stage, step, extension);
}

/// Steps of a stage of which there is at least one file, ascending.
std::set<std::int64_t> steps_in(const fs::path& folder, std::string_view stage) {
    const std::string prefix = fmt::format("step_{}_", stage);
    std::set<std::int64_t> steps;
    std::error_code code;
    for (fs::directory_iterator entry(folder, code), end; !code && entry != end;
         entry.increment(code)) {
        const fs::path name = entry->path().filename();
        const std::string stem = name.stem().string(), extension = name.extension().string();
        if ((extension != ".json" && extension != ".safetensors") || !stem.starts_with(prefix)) {
            continue;
        }
        const char* const first = stem.data() + prefix.size();
        const char* const last = stem.data() + stem.size();
        std::int64_t step = 0;
        const auto [rest, error] = std::from_chars(first, last, step);
        if (last - first >= 8 && error == std::errc() && rest == last && step >= 0) {
            steps.insert(step);
        }
    }
    return steps;
}

bool is_there(const fs::path& path) {
    std::error_code ignored;
    return fs::is_regular_file(path, ignored);
}

/// throws Error(input) on half or damaged pairs
TrainingCheckpoint read_pair(const fs::path& folder, std::string_view stage, std::int64_t step) {
    const fs::path state = file_of(folder, stage, step, ".json"),
                   tensors = file_of(folder, stage, step, ".safetensors");
    require(is_there(state), "its {} is missing", state.filename().string());
    require(is_there(tensors), "its {} is missing", tensors.filename().string());

    // What the JSON says
    const Json json = parse_json(read_file(state), state.filename().string());
    TrainingCheckpoint checkpoint;
    std::uintmax_t bytes = 0;
    std::string hash;
    try {
        require(json.at("format").get<std::string>() == format_name, "it is of another format");
        checkpoint.stage = json.at("stage").get<std::string>();
        checkpoint.step = json.at("step").get<std::int64_t>();
        bytes = json.at("tensors").at("bytes").get<std::uintmax_t>();
        hash = json.at("tensors").at("sha256").get<std::string>();
        checkpoint.state = json.at("state");
    } catch (const nlohmann::json::exception& error) {
        require(false, "{} is not as it was written: {}", state.filename().string(), error.what());
    }
    require(checkpoint.stage == stage && checkpoint.step == step, "{} belongs to step {} of {}",
            state.filename().string(), checkpoint.step, checkpoint.stage);

    // The tensors, if they are the ones that it means
    require(fs::file_size(tensors) == bytes && sha256_of_file(tensors) == hash,
            "{} is not what was written", tensors.filename().string());
    for (const auto& [name, tensor] : load_tensors(tensors)) {
        checkpoint.tensors[name] = tensor.clone();
    }
    return checkpoint;
}

}  // namespace

void write_checkpoint(const fs::path& folder, const TrainingCheckpoint& checkpoint, int keep) {
    check_stage(checkpoint.stage);
    if (checkpoint.step < 0 || keep < 1) {
        fail(Fault::internal, "checkpoint of step {}, keeping {}", checkpoint.step, keep);
    }
    make_folders(folder);
    remove_stale_temporaries(folder);

    const fs::path tensors = file_of(folder, checkpoint.stage, checkpoint.step, ".safetensors");
    save_tensors(tensors, checkpoint.tensors,
                 {{"stage", checkpoint.stage}, {"step", std::to_string(checkpoint.step)}});
    const Json json{
        {"format", format_name},
        {"stage", checkpoint.stage},
        {"step", checkpoint.step},
        {"tensors", {{"bytes", fs::file_size(tensors)}, {"sha256", sha256_of_file(tensors)}}},
        {"state", checkpoint.state}};
    write_file(file_of(folder, checkpoint.stage, checkpoint.step, ".json"), dump_json(json));

    remove_old_checkpoints(folder, checkpoint.stage, checkpoint.step, keep);
}

void remove_old_checkpoints(const fs::path& folder, std::string_view stage, std::int64_t step,
                            int keep) {
    // All but the newest `keep` pairs up to `step`, and halves below them
    const std::set<std::int64_t> steps = steps_in(folder, stage);
    int kept = 0;
    for (auto at = std::make_reverse_iterator(steps.upper_bound(step)); at != steps.rend(); ++at) {
        const fs::path state = file_of(folder, stage, *at, ".json"),
                       tensors = file_of(folder, stage, *at, ".safetensors");
        if (kept < keep) {
            if (is_there(state) && is_there(tensors)) ++kept;
            continue;
        }
        // The JSON first: a pair is never whole with less than all its bytes
        std::error_code code;
        fs::remove(state, code);
        if (!code) fs::remove(tensors, code);
        if (code) {
            warn("cannot remove the old checkpoint {}: {}; remove it by hand", tensors.string(),
                 code.message());
        }
    }
}

std::optional<TrainingCheckpoint> newest_checkpoint(const fs::path& folder,
                                                    std::string_view stage) {
    check_stage(stage);
    const std::set<std::int64_t> steps = steps_in(folder, stage);
    for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
        try {
            return read_pair(folder, stage, *step);
        } catch (const std::exception& error) {
            const Error* const ours = dynamic_cast<const Error*>(&error);
            warn("the checkpoint {} is skipped, the one before it is used: {}",
                 file_of(folder, stage, *step, "").string(),
                 ours ? ours->sentence() : std::string(error.what()));
        }
    }
    return std::nullopt;
}

}  // namespace ultrasr
