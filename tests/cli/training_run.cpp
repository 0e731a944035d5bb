#include "tests/cli/training_run.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <sstream>
#include <thread>

#include <fmt/format.h>

#include "data/file.h"
#include "tests/cli/degrade_pictures.h"
#include "tests/cli/disk.h"

namespace ultrasr::test {
namespace fs = std::filesystem;

const char* const tiny_family = R"({
  "unet": {"block_out_channels": [8, 16], "attention_head_dim": [2, 2], "norm_num_groups": 4,
           "cross_attention_dim": 8, "layers_per_block": 1,
           "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
           "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]},
  "vae": {"block_out_channels": [8, 16], "norm_num_groups": 4, "layers_per_block": 1,
          "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
          "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"]},
  "text_encoder": {"hidden_size": 8, "intermediate_size": 20, "num_hidden_layers": 2,
                   "num_attention_heads": 2, "vocab_size": 600}})";

Workplace::Workplace() {
    make_photographs(photographs, 4, 48);
    write_file(folder.path() / "tiny.json", tiny_family);
    const Ended made =
        run_program("sdd-train", {"init", "--config", (folder.path() / "tiny.json").string(),
                                  "--out", base.string(), "--seed", "1", "--threads", "1"});
    REQUIRE_MESSAGE(made.exit == 0, made.err);
    first = run_program("sdd-train", words(whole));
}

Words Workplace::words(const fs::path& out, const Json& settings, const Words& more) const {
    Json run{{"base", base.string()},
             {"data", photographs.string()},
             {"out", out.string()},
             {"stage", "vae,base,teacher,dml,rsd"},
             {"steps", 3},
             {"batch", 2},
             {"patch", 32},
             {"checkpoint_every", 1},
             {"validate_every", 2},
             {"validation_count", 2},
             {"samples", 2},
             {"data_threads", 1},
             {"learning_rate", 1e-3},
             {"teacher_stage", {{"lambda_lpips", 0}}},
             {"scales", {{"student", {8, 12}}}},
             {"threads", 1},
             {"seed", 5}};
    run.update(settings, /*merge_objects=*/true);
    const std::string text = dump_json(run);
    const fs::path file = folder.path() / ("run_" + sha256(text).substr(0, 12) + ".json");
    write_file(file, text);
    Words all{"--config", file.string()};
    all.insert(all.end(), more.begin(), more.end());
    return all;
}

Json Workplace::after_whole(const char* stage) const {
    return {{"stage", stage},
            {"teacher", (whole / "teacher").string()},
            {"encoder", (whole / "encoder").string()}};
}

const Workplace& workplace() {
    static const Workplace place;
    return place;
}

Ended train(const Words& words) { return run_program("sdd-train", words); }

std::string lasting(const fs::path& out) {
    std::string all;
    for (const std::string& file : files_in(out)) {
        if (file == "run.json" || file == "log.jsonl" || file == "curves.svg") continue;
        all += file + " " + sha256_of_file(out / file) + "\n";
    }
    return all;
}

std::string difference(const std::string& a, const std::string& b) {
    std::string all;
    const auto only = [&](const std::string& here, const std::string& there, const char* mark) {
        std::istringstream lines(here);
        for (std::string line; std::getline(lines, line);) {
            if (!holds("\n" + there, "\n" + line + "\n")) all += mark + line + "\n";
        }
    };
    only(a, b, "- ");
    only(b, a, "+ ");
    return all.empty() && a != b ? "a line twice, or another order" : all;
}

std::string weights_in(const fs::path& out) {
    std::string all;
    for (const std::string& file : files_in(out)) {
        if (!file.ends_with(".safetensors")) continue;
        all += file + " " + sha256_of_file(out / file) + "\n";
    }
    return all;
}

std::vector<Json> log_of(const fs::path& out) {
    std::vector<Json> lines;
    std::istringstream text(read_file(out / "log.jsonl"));
    for (std::string line; std::getline(text, line);) lines.push_back(parse_json(line, "log"));
    return lines;
}

std::string log_without_speed(const fs::path& out) {
    std::string all;
    for (Json line : log_of(out)) {
        for (const char* field : {"images_per_second", "wait_share", "memory_mb"}) {
            CHECK(line.erase(field) == 1);
        }
        all += dump_json_line(line) + "\n";
    }
    return all;
}

std::size_t lines_in(const fs::path& out) {
    std::ifstream file(out / "log.jsonl", std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    return static_cast<std::size_t>(std::ranges::count(text, '\n'));
}

std::vector<std::int64_t> checkpoints(const fs::path& out, const std::string& stage) {
    std::vector<std::int64_t> steps;
    for (const std::string& file : files_in(out / "checkpoints")) {
        const std::string head = "step_" + stage + "_";
        if (!file.starts_with(head) || !file.ends_with(".json")) continue;
        if (fs::exists(out / "checkpoints" / fs::path(file).replace_extension(".safetensors"))) {
            steps.push_back(std::stoll(file.substr(head.size())));
        }
    }
    std::ranges::sort(steps);
    return steps;
}

std::string last_checkpoint(const fs::path& out, const std::string& stage) {
    const auto step = checkpoints(out, stage).back();
    const fs::path stem = out / "checkpoints" / fmt::format("step_{}_{:08}", stage, step);
    return read_file(stem.string() + ".safetensors") + read_file(stem.string() + ".json");
}

bool wait_for(const std::function<bool()>& condition) {
    for (int i = 0; i < 15000; ++i) {
        if (condition()) return true;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return false;
}

}  // namespace ultrasr::test
