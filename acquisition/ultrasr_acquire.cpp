// ultrasr-acquire: plans, checks and simulates zoom series. Only the command line; the work is in
// capture_plan.h, capture_check.h and camera_simulator.h.
#include <tbb/global_control.h>

#include <CLI/CLI.hpp>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "acquisition/camera_simulator.h"
#include "acquisition/capture_check.h"
#include "acquisition/capture_plan.h"
#include "data/base/cli.h"
#include "data/base/error.h"
#include "data/base/progress.h"

namespace {

using namespace ultrasr;

// ---- plan ----

void add_plan(CLI::App& app, PlanOptions& options) {
    app.add_option("--wide", options.wide_mm, "focal length of the wide frame, mm")
        ->capture_default_str();
    app.add_option("--longest", options.longest_mm, "the lens' longest focal length, mm")
        ->capture_default_str();
    app.add_option("--scales", options.scales, "factors, comma-separated: a tele frame each")
        ->delimiter(',')
        ->capture_default_str();
    app.add_option("--f-number", options.f_number, "of all frames")->capture_default_str();
    app.add_option("--distance", options.distance_m, "of the thing in the middle, metres")
        ->capture_default_str();
    app.add_option("--pixel", options.pixel_um, "pixel pitch of the camera, micrometres")
        ->capture_default_str();
    app.add_option("--pupil-shift", options.pupil_shift_m,
                   "how far the entrance pupil moves from wide to tele, metres")
        ->capture_default_str();
    app.footer("Example:\n  ultrasr-acquire plan --scales 8,14 --distance 50");
}

Answer plan(const PlanOptions& options) {
    const CapturePlan result = plan_capture(options);
    return {plan_text(result), [result] { return plan_json(result); }};
}

// ---- check ----

const std::map<std::string, bool> preferred_files{{"raw", false}, {"jpeg", true}};

void add_check(CLI::App& app, CheckOptions& options) {
    app.add_option("raw", options.folder, "folder of the captures")->required();
    app.add_option("--scales", options.scales, "factors that are wanted, comma-separated")
        ->delimiter(',')
        ->capture_default_str();
    app.add_option("--gap", options.grouping.gap_s, "a longer pause starts a new scene, seconds")
        ->capture_default_str();
    add_choice(app, "--prefer", options.grouping.prefer_jpeg, preferred_files,
               "which of two files with one stem; JPEG is faster");
    app.add_option_function<std::vector<std::string>>(
           "--focal",
           [&options](const std::vector<std::string>& words) {
               for (const std::string& word : words) {
                   const std::size_t at = word.rfind('=');
                   char* end = nullptr;
                   const double mm =
                       at == std::string::npos ? 0 : std::strtod(word.c_str() + at + 1, &end);
                   if (!(mm > 0) || *end != '\0' || at == 0) {
                       throw CLI::ValidationError("--focal", "takes FILE=mm, not " + word);
                   }
                   options.grouping.focal_mm[word.substr(0, at)] = mm;
               }
           },
           "focal length of a file that does not say it")
        ->type_name("FILE=mm");
    app.footer("Example:\n  ultrasr-acquire check raw --scales 8,14 --json");
}

Answer check(const CheckOptions& options, Progress& progress) {
    const CheckReport report = check_capture(options, progress);
    return {check_text(report), [report] { return check_json(report); }};
}

// ---- simulate ----

const std::map<std::string, TeleLens> tele_lenses{{"corrected", TeleLens::corrected},
                                                  {"uncorrected", TeleLens::uncorrected},
                                                  {"mixed", TeleLens::mixed}};
const std::map<std::string, RawFiles> raw_files{
    {"none", RawFiles::none}, {"dng", RawFiles::bayer}, {"linear-dng", RawFiles::linear}};
const std::map<std::string, Orientations> orientations{{"upright", Orientations::upright},
                                                       {"rolling", Orientations::rolling}};

PixelSize parse_size(const std::string& text) {
    if (text == "full") return {6048, 4024};
    if (text == "half") return {3024, 2012};
    PixelSize size;
    int read = 0;
    if (std::sscanf(text.c_str(), "%dx%d%n", &size.width, &size.height, &read) != 2 ||
        static_cast<std::size_t>(read) != text.size()) {
        throw CLI::ValidationError("--size", "takes full, half or WIDTHxHEIGHT, not " + text);
    }
    return size;
}

void add_simulate(CLI::App& app, SimulatorOptions& options) {
    app.add_option("out", options.out, "folder to write")->required();
    app.add_option("--scales", options.scales, "factors, comma-separated: a tele frame each")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->capture_default_str();
    app.add_option("--count", options.count, "scenes")->capture_default_str();
    app.add_option("--photos", options.photos,
                   "folder of photographs to look at (default: generated dead leaves)");
    app.add_option_function<std::vector<std::string>>(
           "--fault",
           [&options](const std::vector<std::string>& names) {
               options.faults = names;
               if (names != std::vector<std::string>{"all"}) return;
               options.faults.assign(simulator_faults().begin() + 1, simulator_faults().end());
           },
           fmt::format("what goes wrong, one a scene in turn: {}, or all",
                       fmt::join(simulator_faults(), ", ")))
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("NAME,...")
        ->default_str("none");
    app.add_option_function<std::string>(
           "--size", [&options](const std::string& text) { options.size = parse_size(text); },
           "of the frames: full (6048x4024), half or WIDTHxHEIGHT")
        ->type_name("SIZE")
        ->default_str("full");
    add_choice(app, "--tele", options.tele, tele_lenses, "distortion of the tele lens");
    add_choice(app, "--raw", options.raw, raw_files,
               "raw files beside the JPEGs: Bayer mosaic, or whole linear colours");
    add_choice(app, "--orientation", options.orientations, orientations,
               "EXIF orientation: all upright, or differing tags");
    app.add_option("--exposure", options.exposure_ev,
                   "tele frames are a third of this to this lighter or darker, EV")
        ->capture_default_str();
    app.add_option("--chromatic", options.chromatic_px,
                   "red and blue too large and too small by this in the wide corner, pixels")
        ->capture_default_str();
    app.add_option("--haze", options.haze_lr_px,
                   "RMS of local shifts by the air in every tele frame, LR pixels")
        ->capture_default_str();
    app.add_flag("!--no-s-curve", options.s_curve, "a plain sRGB tone curve in the camera");
    app.add_flag("!--no-sharpening", options.sharpening, "no sharpening in the camera");
    app.add_flag("--restart", options.restart, "redo finished scenes");
    app.footer(
        "Example:\n  ultrasr-acquire simulate series --scales 8,14 --count 2 --seed 1 "
        "--photos photographs");
}

Answer simulate(SimulatorOptions& options, const CommonOptions& common, Progress& progress) {
    options.seed = common.seed;
    const SimulatorResult result = simulate_series(options, progress);
    const std::string text =
        fmt::format("{} pairs in {}: {} scenes made, {} kept\n", result.pairs, options.out.string(),
                    result.scenes_made, result.scenes_kept);
    return {text, [result] {
                return Json{{"truth", result.truth.string()},
                            {"pairs", result.pairs},
                            {"scenes_made", result.scenes_made},
                            {"scenes_kept", result.scenes_kept}};
            }};
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"Plan, check and simulate the capture of zoom series.", "ultrasr-acquire"};
    CommonOptions common;
    app.require_subcommand(1);
    app.footer("Example:\n  ultrasr-acquire simulate series --scales 8,14 --count 2 --seed 1");

    PlanOptions plan_options;
    CLI::App* plan_app =
        app.add_subcommand("plan", "focal lengths to set, depth of field, depth for parallax");
    add_plan(*plan_app, plan_options);

    CheckOptions check_options;
    CLI::App* check_app =
        app.add_subcommand("check", "will a capture give pairs? before anybody drives home");
    add_check(*check_app, check_options);

    SimulatorOptions simulator_options;
    CLI::App* simulate_app =
        app.add_subcommand("simulate", "make a zoom series whose geometry is known exactly");
    add_simulate(*simulate_app, simulator_options);

    return run_tool(app, argc, argv, common, [&](Progress& progress) {
        require_cpu(common, "ultrasr-acquire");
        const tbb::global_control threads(tbb::global_control::max_allowed_parallelism,
                                          static_cast<std::size_t>(common.threads));
        if (*plan_app) return plan(plan_options);
        if (*check_app) return check(check_options, progress);
        return simulate(simulator_options, common, progress);
    });
}
