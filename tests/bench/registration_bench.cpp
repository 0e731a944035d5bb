// Registers every pair of a simulated series in memory; one JSON line a pair: verdict, true error,
// own estimate, gates, seconds by step.
//
//   registration_bench SERIES [--threads N] [--model NAME] [--refine points] [--brightness gain]
//                      [--blocks 1]   also the shifts of textured blocks: x, y, sigma, correlation
#include <tbb/global_control.h>

#include <cstring>
#include <map>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <opencv2/core/utility.hpp>

#include "acquisition/truth.h"
#include "data/base/error.h"
#include "data/base/json.h"
#include "registration/register_pair.h"
#include "registration/true_error.h"

using namespace ultrasr;

namespace {

int run(int argc, char** argv) {
    if (argc < 2) {
        fmt::print(stderr,
                   "usage: registration_bench SERIES [--threads N] [--model NAME] "
                   "[--refine points] [--brightness gain] [--blocks 1]\n");
        return 2;
    }
    const std::filesystem::path series = argv[1];
    RegisterSettings settings;
    std::size_t threads = 2;
    bool blocks = false;
    for (int i = 2; i + 1 < argc; i += 2) {
        const std::string_view name = argv[i], value = argv[i + 1];
        if (name == "--threads") threads = static_cast<std::size_t>(std::atoi(argv[i + 1]));
        if (name == "--model") settings.model = motion_model(value);
        if (name == "--refine") settings.refine_pixels = value != "points";
        if (name == "--blocks") blocks = value == "1";
        if (name == "--brightness" && value == "gain") settings.brightness = Brightness::gain;
    }
    const tbb::global_control control(tbb::global_control::max_allowed_parallelism, threads);
    cv::setNumThreads(1);

    std::string wide_file;
    std::optional<WideFrame> wide;
    for (const PairTruth& truth : read_truth(series / "truth.json")) {
        const Shot tele = read_shot(series / truth.tele_file);
        if (truth.wide_file != wide_file) {
            wide.emplace(read_shot(series / truth.wide_file), std::nullopt);
            wide_file = truth.wide_file;
        }
        std::string reason;
        const auto prior = prior_of(wide->shot(), tele, reason);
        require(prior.has_value(), "{}: {}", truth.tele_file, reason);
        const Frame frame = decode_shot(tele);
        const PairResult pair =
            register_pair(*wide, frame, *prior, static_cast<int>(truth.scale), settings);
        Json line{{"scene", truth.scene},
                  {"scale", truth.scale},
                  {"fault", truth.fault},
                  {"way", pair.coarse.way},
                  {"inliers", pair.coarse.inliers}};
        if (pair.windows.empty()) {
            line["verdict"] = "reject";
            line["reason"] = pair.reason;
        } else {
            const PairWindow& window = pair.windows[0];
            line["verdict"] = name_of(window.verdict);
            line["reason"] = window.reason;
            line["error"] = true_error(truth, pair.fit.map, window.crop.lr);
            line["coarse_error"] = true_error(
                truth, map_from(pair.coarse, settings.model, pair.geometry), window.crop.lr);
            line["sigma_est"] = window.error.sigma_est;
            line["formal"] = window.error.formal;
            line["half"] = window.error.half_split;
            line["blocks"] = window.error.block_rms;
            line["correlation"] = window.error.correlation;
            line["blur"] = window.error.blur_difference;
            line["textured"] = window.error.textured_share;
            line["moved"] = window.error.moved_share;
            line["soft"] = window.sharpness.sharp_share;
            line["q"] = window.sharpness.ratio;
            for (const BlockShift& b : window.error.shifts.blocks) {
                if (blocks && b.textured) {
                    line["shifts"].push_back({b.x, b.y, b.sigma, b.correlation});
                }
            }
            line["rounds"] = pair.fit.rounds;
            line["k"] = pair.fit.map.theta()[6];
            line["photometric"] = name_of(window.photometric.kind);
            line["why"] = window.photometric.why;
            line["residuals"] = {window.photometric.residual_before,
                                 window.photometric.residual_after};
        }
        for (const auto& [step, seconds] : pair.seconds) line["s"][step] = seconds;
        fmt::print("{}\n", dump_json_line(line));
        std::fflush(stdout);
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        fmt::print(stderr, "error: {}\n", error.what());
        return 3;
    }
}
