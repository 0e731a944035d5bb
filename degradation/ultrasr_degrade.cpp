// ultrasr-degrade: photographs become LR-HR pairs by a recorded, replayable degradation.
#include <charconv>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "data/base/cli.h"
#include "data/base/error.h"
#include "data/base/log.h"
#include "data/file.h"
#include "degradation/apply_step.h"
#include "degradation/degrade_run.h"
#include "degradation/record.h"
#include "degradation/replay.h"
#include "degradation/sheet.h"
#include "degradation/statistics.h"

using namespace ultrasr;
namespace fs = std::filesystem;

namespace {

/// What the command line says, before it becomes a DegradeRun.
struct Words {
    std::vector<std::string> preset{"ultra-severe"};
    int scale = 0;
    std::vector<int> levels;
    std::string couple = "stage1", tier = "exact", format = "folder", small = "skip",
                alpha = "drop", id = "path", names = "id", filter = "none", gate = "none",
                layout = "plain";
    std::string jpeg, antialias, size_rule, back;
    std::vector<std::string> set, save{"gt", "lr"};
    int patch = -1, paired_crop = -1, lr_size = 0;
    double max_megapixels = 268.435456;
    std::string shard;
    bool dry_run = false, parity8 = false, ignore_exif = false;
};

std::pair<std::string, std::string> split_assignment(const std::string& text, const char* option) {
    const std::size_t at = text.find('=');
    if (at == std::string::npos || at == 0 || at + 1 == text.size()) {
        fail(Fault::usage, "{} takes NAME=VALUE, not '{}'", option, text);
    }
    return {text.substr(0, at), text.substr(at + 1)};
}

void add_what(CLI::App& app, Words& w, DegradeRun& run) {
    app.add_option("in", run.in, "folder of photographs (PNG, JPEG; with sub-folders), or one");
    app.add_option("out", run.out, "folder of the results; an unfinished run goes on there");
    app.add_option("--preset", w.preset,
                   "name (see: ultrasr-degrade presets), .json or Real-ESRGAN .yml; one for all "
                   "levels or one a level")
        ->delimiter(',')
        ->capture_default_str();
    app.add_option("--scale", w.scale, "factor between GT and LR [4]")->check(CLI::Range(1, 63));
    app.add_option("--levels", w.levels, "several factors for each GT, from mild to severe")
        ->delimiter(',')
        ->check(CLI::Range(1, 63));
    app.add_option("--couple", w.couple,
                   "how levels hang together: stage1, comonotone, params, independent, cascade")
        ->capture_default_str();
    app.add_option("--patch", w.patch, "side of GT in pixels, 0 = whole pictures [as the preset]")
        ->check(CLI::Range(0, 65536));
    app.add_option("--paired-crop", w.paired_crop,
                   "side of a second crop of GT and LR after degrading, 0 = none [as the preset]")
        ->check(CLI::Range(0, 65536));
    app.add_option("--per-image", run.per_image, "patches of each picture")
        ->check(CLI::Range(1, 4096))
        ->capture_default_str();
    app.add_option("--set", w.set, "KEY=VALUE: an option of the presets, such as usm=false")
        ->allow_extra_args(false);
    app.add_option("--jpeg", w.jpeg,
                   "diff (as in training) or turbo (a real codec) [as the preset]")
        ->check(CLI::IsMember({"diff", "turbo"}));
    app.add_option("--resize-antialias", w.antialias, "off, on or prob:P [as the preset]");
    app.add_option("--lr-size-rule", w.size_rule,
                   "floor, round, ceil, exact_crop or fixed_lr [as the preset]")
        ->check(CLI::IsMember({"floor", "round", "ceil", "exact_crop", "fixed_lr"}));
    app.add_option("--lr-size", w.lr_size, "side of LR under fixed_lr; GT is that times the scale")
        ->check(CLI::Range(1, 4096));
    app.add_option("--resize-back", w.back,
                   "bring LR back to GT's size: none, random, area, bilinear, bicubic [as the "
                   "preset]")
        ->check(CLI::IsMember({"none", "random", "area", "bilinear", "bicubic"}));
    app.add_option("--tier", w.tier, "exact: the same bytes everywhere; fast: nearly the same")
        ->check(CLI::IsMember({"exact", "fast"}))
        ->capture_default_str();
    app.add_option("--triplet-filter", w.filter,
                   "order: draw again until PSNR falls from level to level, at most 8 times")
        ->check(CLI::IsMember({"none", "order"}))
        ->capture_default_str();
}

void add_sources(CLI::App& app, Words& w, DegradeRun& run) {
    app.add_option("--small", w.small, "pictures smaller than the patch: skip, pad, upscale, error")
        ->capture_default_str();
    app.add_option("--alpha", w.alpha,
                   "transparent pixels: drop, or blend over white, black or "
                   "RRGGBB")
        ->capture_default_str();
    app.add_flag("--parity8", w.parity8, "of 16-bit PNG take the high byte, as the references do");
    app.add_flag("--ignore-exif", w.ignore_exif, "do not apply EXIF orientations");
    app.add_flag("--allow-truncated", run.source.decode.allow_truncated,
                 "keep JPEG files that end too early");
    app.add_flag("--gray-lr", run.gray_lr, "LR of grey pictures is grey");
    app.add_option("--max-bad", run.max_bad, "share of broken files above which the run fails")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();
    app.add_option("--max-megapixels", w.max_megapixels, "larger pictures count as broken")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--gate", w.gate, "rule for GT: none, or stablesr (384 px, 100 kB)")
        ->check(CLI::IsMember({"none", "stablesr"}))
        ->capture_default_str();
    GtGate& gate = run.source.gate;
    app.add_option("--min-side", gate.min_side, "least short side of GT's picture, pixels");
    app.add_option("--min-kilobytes", gate.min_kilobytes, "least size of its file");
    app.add_option("--min-bytes-per-pixel", gate.min_bytes_per_pixel, "least size by pixel");
    app.add_option("--max-blockiness", gate.max_blockiness,
                   "most contrast at borders of 8 x 8 blocks against elsewhere, 1 = none");
    app.add_option("--min-sharpness", gate.min_sharpness, "least variance of the Laplacian");
}

void add_output(CLI::App& app, Words& w, DegradeRun& run) {
    app.add_option("--format", w.format, "folder of PNG, hdf5 or tar shards")
        ->check(CLI::IsMember({"folder", "hdf5", "tar"}))
        ->capture_default_str();
    app.add_option("--save", w.save, "of gt, gt_usm, lr, lr_up (LR at GT's size)")
        ->delimiter(',')
        ->check(CLI::IsMember({"gt", "gt_usm", "lr", "lr_up"}))
        ->capture_default_str();
    app.add_option("--layout", w.layout,
                   "folder names: plain (lr_x8 ...), seesr (gt, lr, sr_bicubic), tsdsr (gt, lr, "
                   "lr_bicubic); the last two for one scale")
        ->check(CLI::IsMember({"plain", "seesr", "tsdsr"}))
        ->capture_default_str();
    app.add_option("--names", w.names, "of files: id, or path (of the source)")
        ->check(CLI::IsMember({"id", "path"}))
        ->capture_default_str();
    app.add_option("--id", w.id, "whose random streams: path, or index (in the sorted list)")
        ->check(CLI::IsMember({"path", "index"}))
        ->capture_default_str();
    app.add_option("--png-level", run.png_level, "zlib effort of PNG files")
        ->check(CLI::Range(1, 9))
        ->capture_default_str();
    app.add_option("--shard-size", run.shard_size, "outputs in an HDF5 or tar file")
        ->check(CLI::Range(1, 1000000))
        ->capture_default_str();
    app.add_option("--dump-steps", run.dump_steps, "folder for every intermediate (safetensors)");
    app.add_option("--shard", w.shard, "i/n: only every n-th picture, for several machines");
    app.add_flag("--merge", run.merge, "join what shards have done");
    app.add_flag("--restart", run.restart, "throw earlier results away");
    app.add_flag("--dry-run", w.dry_run, "try a few pictures and tell speed and disk space");
}

std::array<unsigned char, 3> colour_of(const std::string& word) {
    if (word == "white") return {255, 255, 255};
    if (word == "black") return {0, 0, 0};
    unsigned value = 0;
    const auto [end, code] = std::from_chars(word.data(), word.data() + word.size(), value, 16);
    if (word.size() != 6 || code != std::errc() || end != word.data() + 6) {
        fail(Fault::usage, "--alpha takes drop, white, black or RRGGBB, not '{}'", word);
    }
    return {static_cast<unsigned char>(value >> 16), static_cast<unsigned char>(value >> 8),
            static_cast<unsigned char>(value)};
}

/// The options that stand over the presets' own.
Json overrides_of(const Words& w) {
    Json over = Json::object();
    for (const std::string& text : w.set) {
        const auto [key, value] = split_assignment(text, "--set");
        Json parsed = Json::parse(value, nullptr, false);
        over[key] = parsed.is_discarded() ? Json(value) : parsed;
    }
    if (!w.jpeg.empty()) over["jpeg_backend"] = w.jpeg;
    if (!w.size_rule.empty()) over["lr_size_rule"] = w.size_rule;
    if (!w.back.empty()) over["resize_back"] = w.back;
    if (w.antialias.starts_with("prob:")) {
        over["resize_antialias"] = "drawn";
        double p = -1;
        const char* end = w.antialias.data() + w.antialias.size();
        const auto [at, code] = std::from_chars(w.antialias.data() + 5, end, p);
        if (code != std::errc() || at != end || p < 0 || p > 1) {
            fail(Fault::usage,
                 "--resize-antialias takes off, on or prob:P with P in [0,1], not "
                 "'{}'",
                 w.antialias);
        }
        over["resize_antialias_prob"] = p;
    } else if (w.antialias == "on" || w.antialias == "off") {
        over["resize_antialias"] = w.antialias;
    } else if (!w.antialias.empty()) {
        fail(Fault::usage, "--resize-antialias takes off, on or prob:P, not '{}'", w.antialias);
    }
    return over;
}

void take_levels(const Words& w, DegradeRun& run) {
    if (w.scale != 0 && !w.levels.empty()) fail(Fault::usage, "give --scale or --levels, not both");
    std::vector<int> scales = w.levels;
    if (scales.empty()) scales.push_back(w.scale == 0 ? 4 : w.scale);
    if (w.preset.size() != 1 && w.preset.size() != scales.size()) {
        fail(Fault::usage, "--preset names {} presets for {} levels; name one, or one a level",
             w.preset.size(), scales.size());
    }
    const Json over = overrides_of(w);
    for (std::size_t i = 0; i < scales.size(); ++i) {
        const ImportedPreset loaded = load_preset(w.preset[w.preset.size() == 1 ? 0 : i]);
        ImportedPreset changed = preset_from_json(over, loaded.preset, "--set");
        if (i < w.preset.size()) {
            for (const std::string& notice : loaded.notices) warn("{}", notice);
        }
        if (i == 0) {
            for (const std::string& notice : changed.notices) warn("{}", notice);
        }
        run.levels.push_back({scales[i], std::move(changed.preset)});
    }
    run.couple = couple(w.couple);
    const Preset& first = run.levels[0].preset;
    run.patch = w.patch >= 0 ? w.patch : first.patch;
    run.paired_crop = w.paired_crop >= 0 ? w.paired_crop : first.paired_crop;
    if (first.lr_size_rule == LrSizeRule::fixed_lr) {
        if (scales.size() > 1) {
            fail(Fault::usage,
                 "fixed_lr makes GT as large as the scale wants, so it takes one "
                 "--scale, not {} levels",
                 scales.size());
        }
        run.patch = (w.lr_size > 0 ? w.lr_size : 64) * scales[0];
    } else if (w.lr_size > 0) {
        fail(Fault::usage, "--lr-size goes with --lr-size-rule fixed_lr");
    }
}

void take_over(const Words& w, DegradeRun& run) {
    if (run.in.empty() || run.out.empty()) {
        fail(Fault::usage,
             "name the folder of photographs and the folder of results: "
             "ultrasr-degrade IN OUT");
    }
    take_levels(w, run);
    run.tier = w.tier == "fast" ? Tier::fast : Tier::exact;
    run.format = w.format == "hdf5"  ? OutputFormat::hdf5
                 : w.format == "tar" ? OutputFormat::tar
                                     : OutputFormat::folder;
    run.save = {w.save.begin(), w.save.end()};
    run.filter_order = w.filter == "order";
    run.id_by_index = w.id == "index";
    run.name_by_path = w.names == "path";
    if (w.layout != "plain") {
        if (run.levels.size() > 1) {
            fail(Fault::usage, "--layout {} has one LR folder, so it takes one --scale", w.layout);
        }
        const std::string level = fmt::format("x{}", run.levels[0].scale);
        run.folder_names = {{"lr_" + level, "lr"},
                            {"lr_up_" + level, w.layout == "seesr" ? "sr_bicubic" : "lr_bicubic"}};
    }
    SourceOptions& source = run.source;
    source.small = small_policy(w.small);
    source.decode.keep_16_bits = !w.parity8;
    source.decode.orient = !w.ignore_exif;
    source.decode.max_pixels = static_cast<std::size_t>(w.max_megapixels * 1e6);
    if (w.alpha != "drop") source.decode.over = colour_of(w.alpha);
    if (w.gate == "stablesr") {
        source.gate.min_side = std::max(source.gate.min_side, 384);
        source.gate.min_kilobytes = std::max(source.gate.min_kilobytes, 100.0);
    }
    const bool wants_up = run.save.contains("lr_up");
    for (const LevelRequest& level : run.levels) {
        if (wants_up && level.preset.resize_back == ResizeBack::none) {
            fail(Fault::usage,
                 "preset '{}' brings no LR back to GT's size; add --resize-back "
                 "bicubic, or leave lr_up out of --save",
                 level.preset.name);
        }
        if (run.save.contains("gt_usm") && !level.preset.usm) {
            fail(Fault::usage,
                 "preset '{}' sharpens nothing; add --set usm=true, or leave gt_usm "
                 "out of --save",
                 level.preset.name);
        }
    }
    if (!w.shard.empty()) {
        int used = 0;
        if (std::sscanf(w.shard.c_str(), "%d/%d%n", &run.shard, &run.shards, &used) != 2 ||
            used != static_cast<int>(w.shard.size()) || run.shard < 1 || run.shards < 1 ||
            run.shard > run.shards) {
            fail(Fault::usage, "--shard takes i/n with 1 <= i <= n, not '{}'", w.shard);
        }
    }
    const fs::path inside =
        fs::weakly_canonical(run.out).lexically_relative(fs::weakly_canonical(run.in));
    if (!inside.empty() && *inside.begin() != ".." && fs::is_directory(run.in)) {
        fail(Fault::usage,
             "{} lies in {}, where results would pass for photographs; choose a "
             "folder of results outside of it",
             run.out.string(), run.in.string());
    }
}

/// A preset as a Real-ESRGAN-style yml.
std::string yml_of(const Preset& preset) {
    std::string text = fmt::format("# {}\n# Source: {}\n", preset.title, preset.source);
    const Json options = preset.json();
    for (const auto& [key, value] : options.items()) {
        text += fmt::format("{}: {}\n", key,
                            value.is_string() ? value.get<std::string>() : dump_json_line(value));
    }
    return text;
}

Answer show_presets(const std::string& show, const std::string& as) {
    if (!show.empty()) {
        const ImportedPreset loaded = load_preset(show);
        for (const std::string& notice : loaded.notices) warn("{}", notice);
        const Json json = loaded.preset.json();
        return {as == "yml" ? yml_of(loaded.preset) : dump_json(json), [json] { return json; }};
    }
    std::string text;
    Json list = Json::array();
    for (const Preset& p : presets()) {
        text += fmt::format("{:<16} {}\n{:16} {}\n", p.name, p.title, "", p.source);
        list.push_back({{"name", p.name}, {"title", p.title}, {"source", p.source}});
    }
    return {text, [list] { return Json{{"presets", list}}; }};
}

Answer list_steps() {
    std::string text;
    Json list = Json::array();
    for (const DegradationInfo* info : degradations()) {
        text += fmt::format("{:<20} {}\n{:20} {}\n", info->name, info->title, "",
                            dump_json_line(parse_json(info->example, "example")));
        list.push_back({{"name", info->name},
                        {"title", info->title},
                        {"source", info->source},
                        {"example", parse_json(info->example, "example")}});
    }
    return {text, [list] { return Json{{"steps", list}}; }};
}

/// A file's text, or the text itself.
std::string text_or_file(const std::string& word) {
    std::error_code code;
    return fs::is_regular_file(word, code) ? read_file(word) : word;
}

struct ReplayWords {
    ReplayOptions options;
    bool explain = false;
};

void add_replay(CLI::App& app, ReplayWords& words) {
    ReplayOptions& o = words.options;
    app.add_option("records", o.records, "records.jsonl, one record as .json, or an HDF5 shard")
        ->required();
    app.add_option("--in", o.in, "folder of the photographs");
    app.add_option("--out", o.out, "folder for the pictures");
    app.add_option("--id", o.ids, "only these records")->delimiter(',');
    app.add_option("--override", o.overrides,
                   "NAME=VALUE: another value for a parameter, such as jpeg2_q=40 or "
                   "x8.stage2.noise.sigma=5")
        ->allow_extra_args(false);
    app.add_option("--dump-steps", o.dump_steps, "folder for every intermediate (safetensors)");
    app.add_option("--png-level", o.png_level, "zlib effort of PNG files")
        ->check(CLI::Range(1, 9))
        ->capture_default_str();
    app.add_flag("--explain", words.explain, "print the chain of steps, make nothing");
    app.footer(
        "Examples:\n"
        "  ultrasr-degrade replay out/records.jsonl --in photographs --out again\n"
        "  ultrasr-degrade replay out/records.jsonl --in photographs --out softer --override "
        "jpeg2_q=90");
}

Answer run_replay(ReplayWords& words, const CommonOptions& common, Progress& progress) {
    ReplayOptions& o = words.options;
    if (words.explain) {
        std::vector<Json> records = read_records(o.records);
        std::string text;
        Json kept = Json::array();
        for (Json& record : records) {
            if (!o.ids.empty() &&
                std::find(o.ids.begin(), o.ids.end(), record.value("id", "")) == o.ids.end()) {
                continue;
            }
            for (const std::string& assignment : o.overrides) {
                override_parameter_(record, assignment);
            }
            text += explained(record);
            kept.push_back(std::move(record));
        }
        require(!kept.empty(), "{} holds no record with that id", o.records.string());
        return {text, [kept] { return Json{{"records", kept}}; }};
    }
    if (o.in.empty() || o.out.empty()) {
        fail(Fault::usage, "replay needs --in (the photographs) and --out (a folder)");
    }
    o.threads = common.threads;
    const Json result = replay(o, progress);
    if (result["different"].get<std::size_t>() > 0) {
        fail(Fault::input,
             "{} of {} pictures differ from their records ({} the first); they are "
             "in {}: another version of the program made them",
             result["different"].get<std::size_t>(), result["replayed"].get<std::size_t>(),
             result["different_ids"][0].get<std::string>(), o.out.string());
    }
    const std::string text = o.overrides.empty()
                                 ? fmt::format("{} replayed, all equal to their records\n",
                                               result["replayed"].get<std::size_t>())
                                 : fmt::format("{} replayed with other parameters\n",
                                               result["replayed"].get<std::size_t>());
    return {text, [result] { return result; }};
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{
        "Makes LR-HR training pairs from photographs: Real-ESRGAN's degradation and its kin at x4 "
        "to x14, every draw recorded.",
        "ultrasr-degrade"};
    CommonOptions common;
    DegradeRun run;
    Words words;
    add_what(app, words, run);
    add_sources(app, words, run);
    add_output(app, words, run);
    app.footer(
        "Examples:\n"
        "  ultrasr-degrade photographs/ pairs/ --preset realesrgan --scale 4\n"
        "  ultrasr-degrade photographs/ pairs/ --levels 4,8,14 --per-image 4 --format hdf5\n"
        "  ultrasr-degrade sheet pairs/ --out sheet.png");

    CLI::App* presets_app = app.add_subcommand("presets", "list the parameter sets, or show one");
    std::string show, as = "json";
    presets_app->add_option("--show", show, "a preset's name, .json or .yml: all its options");
    presets_app->add_option("--as", as, "json or yml")
        ->check(CLI::IsMember({"json", "yml"}))
        ->capture_default_str();
    presets_app->footer("Example:\n  ultrasr-degrade presets --show ultra-severe");

    CLI::App* replay_app =
        app.add_subcommand("replay", "make the pictures of records again, or with other values");
    ReplayWords replay_words;
    add_replay(*replay_app, replay_words);

    CLI::App* stats_app =
        app.add_subcommand("stats", "what was drawn, and what LR looks like, as curves");
    StatisticsOptions stats;
    stats_app->add_option("source", stats.source, "folder of results, or records.jsonl")
        ->required();
    stats_app->add_option("--against", stats.against,
                          "other results, or a folder of real LR pictures, to compare with");
    stats_app->add_option("--svg", stats.svg, "picture of all histograms to write");
    stats_app->add_option("--csv", stats.csv, "table of all histograms to write");
    stats_app->footer("Example:\n  ultrasr-degrade stats pairs/ --svg draws.svg");

    CLI::App* sheet_app =
        app.add_subcommand("sheet", "contact sheet: GT beside its levels with captions");
    SheetOptions sheet;
    sheet_app->add_option("source", sheet.source, "folders of results, one below the other")
        ->required();
    sheet_app->add_option("--out", sheet.out, "PNG to write")->required();
    sheet_app->add_option("--count", sheet.count, "how many GT pictures")
        ->check(CLI::Range(1, 64))
        ->capture_default_str();
    sheet_app->add_option("--id", sheet.ids, "only these records")->delimiter(',');
    sheet_app->add_option("--side", sheet.side, "side of a picture on the sheet, pixels")
        ->check(CLI::Range(64, 1024))
        ->capture_default_str();
    sheet_app->footer("Example:\n  ultrasr-degrade sheet pairs/ --out sheet.png --count 4");

    CLI::App* step_app = app.add_subcommand(
        "apply-step", "one primitive with everything given, for comparison with other programs");
    std::string step, params = "{}";
    fs::path step_in, step_out;
    bool list = false;
    step_app->add_option("--step", step, "kernel, sinc, batch, or a step of --list");
    step_app->add_option("--params", params, "JSON, or a file of it")->capture_default_str();
    step_app->add_option("--in", step_in, "safetensors with image and what else the step takes");
    step_app->add_option("--out", step_out, "safetensors to write");
    step_app->add_flag("--list", list, "list the steps with an example of their parameters");
    step_app->footer(
        "Example:\n  ultrasr-degrade apply-step --step jpeg --params '{\"quality\": 40}' --in "
        "in.safetensors --out out.safetensors");

    return run_tool(app, argc, argv, common, [&](Progress& progress) -> Answer {
        require_cpu(common, "ultrasr-degrade");
        if (*presets_app) return show_presets(show, as);
        if (*replay_app) return run_replay(replay_words, common, progress);
        if (*stats_app) {
            stats.threads = common.threads;
            const Json result = statistics(stats, progress);
            return {statistics_text(result), [result] { return result; }};
        }
        if (*sheet_app) {
            const Json result = contact_sheet(sheet);
            return {fmt::format("{} pictures in {}\n", result["pictures"].get<int>(),
                                sheet.out.string()),
                    [result] { return result; }};
        }
        if (*step_app) {
            if (list) return list_steps();
            if (step.empty() || step_out.empty()) {
                fail(Fault::usage, "apply-step needs --step and --out, or --list");
            }
            const Json result =
                apply_step(step, parse_json(text_or_file(params), "--params"), step_in, step_out);
            return {fmt::format("{} written\n", step_out.string()), [result] { return result; }};
        }
        take_over(words, run);
        run.seed = common.seed;
        run.threads = common.threads;
        const Json summary =
            words.dry_run ? estimate_run(run, progress) : degrade_folder(run, progress);
        return {summary_text(summary), [summary] { return summary; }};
    });
}
