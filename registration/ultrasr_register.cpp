// ultrasr-register: zoom-lens photographs become LR-HR pairs that state their own accuracy.
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "data/base/cli.h"
#include "data/base/error.h"
#include "registration/manifest.h"
#include "registration/pack.h"
#include "registration/register_capture.h"
#include "registration/verify.h"

using namespace ultrasr;
namespace fs = std::filesystem;

namespace {

/// NAME=VALUE with a number behind the last "=".
std::pair<std::string, double> named_number(const std::string& text, const char* option) {
    const std::size_t at = text.rfind('=');
    if (at == std::string::npos || at == 0) {
        fail(Fault::usage, "{} takes NAME=NUMBER, not '{}'", option, text);
    }
    try {
        std::size_t used = 0;
        const double value = std::stod(text.substr(at + 1), &used);
        if (used != text.size() - at - 1) throw std::invalid_argument("");
        return {text.substr(0, at), value};
    } catch (const std::logic_error&) {
        fail(Fault::usage, "{} takes NAME=NUMBER, not '{}'", option, text);
    }
}

struct Words {
    std::string raw, out, truth, shard;
    std::vector<int> scales{8, 10, 12, 14};
    std::string crop = "multiple", norm = "local", model = "camera", refine = "pixels";
    std::string photometric = "curve", warp = "hr", qa = "all", prefer = "raw",
                brightness = "basis";
    std::vector<std::string> focal, limits;
};

void add_options(CLI::App& app, Words& words, RegisterRun& run) {
    app.add_option("raw", words.raw, "folder of photographs: a sub-folder a scene, or all in one");
    app.add_option("out", words.out, "folder of the results; an unfinished run goes on there");
    RegisterSettings& s = run.settings;
    app.add_option("--scale", words.scales, "factors to make pairs for")
        ->delimiter(',')
        ->check(CLI::Range(2, 32))
        ->capture_default_str();
    app.add_option("--crop", words.crop, "multiple: HR is LR x s; keep: HR is 3024x2008 at every s")
        ->check(CLI::IsMember({"multiple", "keep"}))
        ->capture_default_str();
    app.add_option("--norm", words.norm, "luminance normalisation before SIFT")
        ->check(CLI::IsMember({"local", "none", "meanstd", "hist", "clahe"}))
        ->capture_default_str();
    app.add_option("--model", words.model, "motion model")
        ->check(CLI::IsMember({"camera", "homography+k", "homography", "affine"}))
        ->capture_default_str();
    app.add_option("--refine", words.refine,
                   "pixels, or points: the fit to keypoints is the result")
        ->check(CLI::IsMember({"pixels", "points"}))
        ->capture_default_str();
    app.add_option("--brightness", words.brightness,
                   "how refinement explains brightness: basis of ten functions, or one gain and "
                   "offset (for comparison)")
        ->check(CLI::IsMember({"basis", "gain"}))
        ->capture_default_str();
    app.add_option("--photometric", words.photometric, "how HR is brought to LR's brightness")
        ->check(CLI::IsMember({"curve", "gain", "none"}))
        ->capture_default_str();
    app.add_option("--warp", words.warp, "which side is resampled: hr, or lr (as RealSR does it)")
        ->check(CLI::IsMember({"hr", "lr"}))
        ->capture_default_str();
    app.add_option("--focal", words.focal, "FILE=mm: focal length of a file, over its EXIF")
        ->allow_extra_args(false);
    app.add_option("--windows", s.windows, "windows cut from a tele frame: 1 or 4")
        ->check(CLI::IsMember({1, 4}))
        ->capture_default_str();
    app.add_option("--gap", s.gap_s, "seconds without a shot that begin a new scene")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--prefer", words.prefer, "of RAW and JPEG with the same name")
        ->check(CLI::IsMember({"raw", "jpeg"}))
        ->capture_default_str();
    app.add_option("--limit", words.limits,
                   "NAME=VALUE: limit of a gate; names and defaults: see manifest.json")
        ->allow_extra_args(false);
    app.add_flag("--strict", s.strict, "reject pairs in which small parts moved");
    app.add_flag("--near", s.near, "close scenes: focus breathing may change the scale by 15 %");
    app.add_flag("--session-k", s.session_k,
                 "refit odd tele distortions with the session's median");
    app.add_flag("--keep-rejected", s.keep_rejected, "write the pictures of rejected pairs too");
    app.add_option("--qa", words.qa, "pictures to look at: all or none")
        ->check(CLI::IsMember({"all", "none"}))
        ->capture_default_str();
    app.add_option("--truth", words.truth, "truth.json of a simulated series: adds true errors");
    app.add_option("--scenes-at-once", run.scenes_at_once,
                   "scenes in work; 0 = as cores and memory allow")
        ->check(CLI::Range(0, 1024))
        ->capture_default_str();
    app.add_option("--shard", words.shard, "i/n: only every n-th scene, for several machines");
    app.add_flag("--merge", run.merge, "join what shards have done");
    app.add_flag("--restart", run.restart, "throw earlier results away");
    bool* timing = &run.timing;
    app.add_flag_callback(
        "--no-timing", [timing] { *timing = false; },
        "leave the seconds out, so that two runs give the same bytes");
}

void take_over(const Words& words, RegisterRun& run) {
    if (words.raw.empty() || words.out.empty()) {
        fail(Fault::usage,
             "name the folder of photographs and the folder of results: ultrasr-register RAW OUT");
    }
    run.raw = words.raw;
    run.out = words.out;
    RegisterSettings& s = run.settings;
    s.scales = words.scales;
    std::sort(s.scales.begin(), s.scales.end());
    s.scales.erase(std::unique(s.scales.begin(), s.scales.end()), s.scales.end());
    s.crop = crop_mode(words.crop);
    s.norm = normalisation(words.norm);
    s.model = motion_model(words.model);
    s.refine_pixels = words.refine == "pixels";
    s.brightness = words.brightness == "gain" ? Brightness::gain : Brightness::basis;
    s.photometric = photometric(words.photometric);
    s.warp_lr = words.warp == "lr";
    s.qa = words.qa == "all";
    s.prefer_jpeg = words.prefer == "jpeg";
    for (const std::string& text : words.focal) s.focal_mm.insert(named_number(text, "--focal"));
    for (const std::string& text : words.limits) {
        const auto [name, value] = named_number(text, "--limit");
        if (!s.limits.contains(name)) {
            std::string known;
            for (const auto& [gate, limit] : known_limits()) known += " " + gate;
            fail(Fault::usage, "--limit knows no gate '{}'; known:{}", name, known);
        }
        s.limits[name] = value;
    }
    if (!words.truth.empty()) run.truth = words.truth;
    if (words.shard.empty()) return;
    int used = 0;
    if (std::sscanf(words.shard.c_str(), "%d/%d%n", &run.shard, &run.shards, &used) != 2 ||
        used != static_cast<int>(words.shard.size()) || run.shard < 1 || run.shards < 1 ||
        run.shard > run.shards) {
        fail(Fault::usage, "--shard takes i/n with 1 <= i <= n, not '{}'", words.shard);
    }
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{
        "Registers zoom-lens photographs and cuts LR-HR pairs with their own error estimate.",
        "ultrasr-register"};
    CommonOptions options;
    RegisterRun run;
    Words words;
    add_options(app, words, run);
    app.footer(
        "Examples:\n"
        "  ultrasr-register raw/ out/\n"
        "  ultrasr-register raw/ out/ --scale 8,14 --crop keep\n"
        "  ultrasr-register raw/ plain/ --model homography --refine points   (the paper's way)\n"
        "  ultrasr-bench --data out/ --method bicubic --metrics psnr-y601 --out bench/");

    // pack, verify
    CLI::App* pack =
        app.add_subcommand("pack", "put the pairs of a finished run into one HDF5 file");
    std::string pack_in, pack_out;
    pack->add_option("out", pack_in, "folder of a finished run")->required();
    pack->add_option("file", pack_out, "HDF5 file to write")->required();
    pack->footer("Example:\n  ultrasr-register pack out/ set.h5");
    CLI::App* verify = app.add_subcommand(
        "verify", "check files, sizes and, from the delivered pixels alone, the registration");
    std::string verify_in;
    verify->add_option("out", verify_in, "folder of a finished run")->required();
    verify->footer("Example:\n  ultrasr-register verify out/");

    return run_tool(app, argc, argv, options, [&](Progress& progress) -> Answer {
        require_cpu(options, "ultrasr-register");
        if (*pack) {
            const std::size_t pairs = pack_pairs(pack_in, pack_out);
            return {fmt::format("{} pairs in {}\n", pairs, pack_out), [=] {
                        return Json{{"file", pack_out}, {"pairs", pairs}};
                    }};
        }
        if (*verify) {
            const Verification result = verify_output(verify_in, options.threads, progress);
            if (!result.faults.empty()) fail(Fault::input, "{}", result.sentence());
            return {result.text(), [=] { return result.json(); }};
        }
        take_over(words, run);
        run.threads = options.threads;
        run.settings.seed = options.seed;
        require(fs::is_directory(run.raw), "{} is not a folder; name the folder of photographs",
                run.raw.string());
        const fs::path inside =
            fs::weakly_canonical(run.out).lexically_relative(fs::canonical(run.raw));
        if (!inside.empty() && *inside.begin() != "..") {
            fail(Fault::usage,
                 "{} lies in {}, where results would pass for photographs; choose "
                 "a folder of results outside of it",
                 run.out.string(), run.raw.string());
        }
        run.options = dump_json(resolved_options(app));
        const Json manifest = register_capture(run, progress);
        return {summary_of(manifest), [=] { return manifest; }};
    });
}
