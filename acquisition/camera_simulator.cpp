#include "acquisition/camera_simulator.h"

#include <tbb/task_group.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "acquisition/dng.h"
#include "acquisition/frame_draw.h"
#include "acquisition/simulated_faults.h"
#include "acquisition/simulated_frame.h"
#include "acquisition/truth.h"
#include "acquisition/world_pictures.h"
#include "data/base/error.h"
#include "data/base/progress.h"
#include "data/file.h"
#include "data/image_io.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

constexpr double peak_light = 0.45;  // of the 99.5th percentile, before exposure
constexpr double peak_share = 0.995;
constexpr double centre_cover = 1.13;                   // of the largest footprint
constexpr int wide_samples = 2, wide_fine_samples = 6;  // per LR px, out of and on footprints
constexpr std::uint64_t other_scene = std::uint64_t{1} << 20;  // the world of the fault `other`

// ---- The world ----

WorldExtent world_extent(const SimulatorOptions& options) {
    const double width = options.size.width, height = options.size.height;
    const double shortest = *std::min_element(options.scales.begin(), options.scales.end());
    const double longest = *std::max_element(options.scales.begin(), options.scales.end());
    const auto centred = [](double half_width, double half_height) {
        return WorldRect{-half_width, -half_height, half_width, half_height};
    };
    WorldExtent extent;
    extent.frame = centred(0.53 * width + 20, 0.53 * height + 20);
    extent.centre =
        centred(centre_cover * 0.5 * width / shortest, centre_cover * 0.5 * height / shortest);
    // Half a footprint, its roll, pan and tilt, the principal point, blur and a little more
    const double a = 0.5 * width / (scale_low * shortest);
    const double b = 0.5 * height / (scale_low * shortest);
    const double more = 1.1 * principal_range * width / shortest + 12;
    extent.detail = centred(a + roll_range * b + pan_range * width + more,
                            b + roll_range * a + tilt_range * width + more);
    extent.finest = longest * scale_high;
    return extent;
}

/// Nine files: the centre goes through a shuffled list of all, the others are drawn.
std::vector<fs::path> choose_photographs(const SimulatorOptions& options,
                                         const std::vector<fs::path>& all, int scene, bool other) {
    const auto shuffled = [](std::vector<fs::path> list, Draw draw) {
        for (std::size_t i = list.size(); i > 1; --i) {
            std::swap(list[i - 1], list[draw.below(static_cast<std::uint32_t>(i))]);
        }
        return list;
    };
    const std::vector<fs::path> order = shuffled(all, Draw(options.seed, ~std::uint64_t{0}));
    const std::size_t turn = static_cast<std::size_t>(scene) + (other ? order.size() / 2 : 0);
    const fs::path centre = order[turn % order.size()];
    Draw draw = draw_stream(options, scene, Stream::world);
    if (other) draw = Draw(options.seed, draw.word());
    std::vector<fs::path> others;
    for (const fs::path& path : shuffled(all, draw)) {
        if (path != centre) others.push_back(path);
    }
    if (others.empty()) others.push_back(centre);
    std::vector<fs::path> chosen{centre};
    for (std::size_t i = 0; i < 8; ++i) chosen.push_back(others[i % others.size()]);
    return chosen;
}

/// The scene's world, or the one that the fault `other` shows instead.
SimulatedWorld make_world(const SimulatorOptions& options, const std::vector<fs::path>& photographs,
                          int scene, bool other) {
    const WorldExtent extent = world_extent(options);
    const bool leaves = photographs.empty() || (other && photographs.size() < 2);
    if (!leaves) {
        return photo_world(extent, choose_photographs(options, photographs, scene, other));
    }
    const std::uint64_t seed = draw_stream(options, scene, Stream::world).word();
    return dead_leaves_world(extent, other ? seed ^ other_scene : seed);
}

// ---- One scene ----

std::string scene_name(int scene) { return fmt::format("scene_{:04}", scene + 1); }

/// The camera counts its files through.
std::string file_stem(const SimulatorOptions& options, int scene, std::size_t frame) {
    const std::size_t number =
        static_cast<std::size_t>(scene) * (options.scales.size() + 1) + frame + 1;
    return fmt::format("{}/DSC_{:04}", scene_name(scene), number);
}

PixelRect finely_sampled(const FrameDraw& wide, const WorldRect& detail) {
    const PixelPoint centre = wide.camera.principal_point();
    const int x0 = static_cast<int>(std::floor(centre.x + detail.x0));
    const int y0 = static_cast<int>(std::floor(centre.y + detail.y0));
    const int x1 = static_cast<int>(std::ceil(centre.x + detail.x1));
    const int y1 = static_cast<int>(std::ceil(centre.y + detail.y1));
    return {x0, y0, x1 - x0, y1 - y0};
}

RawFormat raw_format(RawFiles files) {
    switch (files) {
        case RawFiles::bayer:  // a Nikon Z 6II at 14 bits and ISO 100
            return {.kind = RawFormat::Kind::mosaic, .black = 1008, .white = 15892};
        case RawFiles::linear:
            return {.kind = RawFormat::Kind::whole};
        case RawFiles::none:
            break;
    }
    return {};
}

/// Takes the frames of one scene; files are coded and written while the next frame is rendered.
class SceneShooting {
  public:
    SceneShooting(const SimulatorOptions& options, int scene, std::function<void()> frame_done)
        : options_(options), scene_(scene), frame_done_(std::move(frame_done)) {}
    ~SceneShooting() {
        try {
            writer_.wait();
        } catch (...) {  // an error is already on its way up
        }
    }
    SceneShooting(const SceneShooting&) = delete;
    SceneShooting& operator=(const SceneShooting&) = delete;

    /// Returns the stem of the files written.
    std::string take(std::size_t number, FrameJob job, const FrameDraw& draw, double kept_share) {
        const std::string stem = file_stem(options_, scene_, number);
        job.raw = raw_format(options_.raw);
        const TakenFrame frame = take_frame(job);
        finish();
        frame_done_();
        writer_.run([this, frame, draw, number, kept_share, stem, raw = job.raw] {
            const Exif exif = frame_exif(draw, scene_, number);
            const std::string jpeg = encode_jpeg(frame.rgb, draw.jpeg_quality, true);
            write_cut(stem + ".jpg", with_exif(jpeg, exif), kept_share);
            if (frame.raw.empty()) return;
            DngPicture dng{
                .samples = frame.raw, .black = raw.black, .white = raw.white, .exif = exif};
            const auto& balance = draw.look.white_balance;
            for (std::size_t c = 0; c < 3; ++c) {
                dng.neutral[c] = raw.response[c] * balance[1] / balance[c];
            }
            write_cut(stem + ".dng", encode_dng(dng, raw.response), kept_share);
        });
        return stem;
    }

    /// Waits for the last file; throws what its writing threw.
    void finish() { writer_.wait(); }

    /// What registration reads: the raw file where there is one.
    std::string extension() const { return options_.raw == RawFiles::none ? ".jpg" : ".dng"; }

  private:
    void write_cut(const std::string& file, std::string_view bytes, double kept_share) const {
        const auto kept = static_cast<std::size_t>(kept_share * static_cast<double>(bytes.size()));
        write_file(options_.out / file, bytes.substr(0, kept));
    }

    const SimulatorOptions& options_;
    int scene_;
    std::function<void()> frame_done_;
    tbb::task_group writer_;
};

/// Takes and writes all frames of a scene; returns its pairs for truth.json.
Json simulate_scene(const SimulatorOptions& options, const std::vector<fs::path>& photographs,
                    int scene, const std::function<void()>& frame_done) {
    // Draw what concerns the wide frame; look at the world
    const WorldExtent extent = world_extent(options);
    FrameDraw wide = draw_wide(options, scene);
    const SceneFault fault = draw_scene_fault(options, scene, wide, extent.detail);
    const SimulatedWorld world = make_world(options, photographs, scene, false);
    const double gain =
        peak_light / std::max(1e-3, world.luminance_quantile(extent.centre, peak_share));
    wide.blur.sigma_px = std::hypot(wide.blur.sigma_px, fault.wide_sigma_px);
    SimulatedScene seen;
    seen.world = &world;
    if (fault.name == "moving") seen.cutouts = fault.things;

    // The wide frame
    SceneShooting shooting(options, scene, frame_done);
    FrameJob job;
    job.scene = &seen;
    job.view = lens_view(wide, wide);
    job.blur = wide.blur;
    job.exposure = wide.exposure;
    job.exposure.gain = gain;
    job.look = wide.look;
    job.samples = wide_samples;
    job.fine = finely_sampled(wide, extent.detail);
    job.fine_samples = wide_fine_samples;
    const std::string wide_stem = shooting.take(0, job, wide, 1);

    // The tele frames
    Json pairs = Json::array();
    for (std::size_t k = 0; k < options.scales.size(); ++k) {
        const double scale = options.scales[k];
        FrameDraw tele = draw_tele(options, scene, scale, wide);
        PairFault pair_fault =
            draw_pair_fault(options, scene, scale, fault, wide, tele, extent.detail);
        tele.blur.sigma_px = std::hypot(tele.blur.sigma_px, pair_fault.tele_sigma_px);
        tele.blur.line_dx_px = pair_fault.shake_dx_px;
        tele.blur.line_dy_px = pair_fault.shake_dy_px;
        SimulatedWorld other;
        if (pair_fault.other_world) other = make_world(options, photographs, scene, true);
        SimulatedScene tele_scene;
        tele_scene.world = pair_fault.other_world ? &other : &world;
        tele_scene.cutouts = pair_fault.cutouts;
        tele_scene.air = pair_fault.air;
        FrameJob tele_job;
        tele_job.scene = &tele_scene;
        tele_job.view = lens_view(tele, wide);
        tele_job.blur = tele.blur;
        tele_job.exposure = tele.exposure;
        tele_job.exposure.gain = gain * std::exp2(tele.exposure_ev);
        tele_job.look = tele.look;
        const std::string stem = shooting.take(k + 1, tele_job, tele, pair_fault.kept_share);

        PairTruth truth;
        truth.scene = scene_name(scene);
        truth.scale = scale;
        truth.scale_true = tele.camera.f_px / wide.camera.f_px;
        truth.wide_file = wide_stem + shooting.extension();
        truth.tele_file = stem + shooting.extension();
        truth.wide = wide.camera;
        truth.tele = tele.camera;
        truth.rotation = tele.rotation;
        truth.fault = pair_fault.name;
        Json pair = truth_to_json(truth);
        pair["fault_details"] = pair_fault.details;
        pair["scene_gain"] = gain;
        pair["wide_draw"] = draw_to_json(wide);
        pair["tele_draw"] = draw_to_json(tele);
        pairs.push_back(std::move(pair));
    }
    shooting.finish();
    return pairs;
}

// ---- The series ----

/// What a scene depends on. Photographs go by name and size.
Json settings_json(const SimulatorOptions& options, const std::vector<fs::path>& photographs) {
    constexpr std::array lenses{"corrected", "uncorrected", "mixed"};
    constexpr std::array raws{"none", "dng", "linear-dng"};
    constexpr std::array tags{"upright", "rolling"};
    Json photos = Json::array();
    for (const fs::path& path : photographs) {
        photos.push_back({{"name", path.filename().string()}, {"bytes", fs::file_size(path)}});
    }
    return {{"seed", options.seed},
            {"scales", options.scales},
            {"width", options.size.width},
            {"height", options.size.height},
            {"faults", options.faults},
            {"tele", lenses[static_cast<std::size_t>(options.tele)]},
            {"raw", raws[static_cast<std::size_t>(options.raw)]},
            {"orientation", tags[static_cast<std::size_t>(options.orientations)]},
            {"exposure_ev", options.exposure_ev},
            {"chromatic_px", options.chromatic_px},
            {"haze_lr_px", options.haze_lr_px},
            {"s_curve", options.s_curve},
            {"sharpening", options.sharpening},
            {"photographs", photos}};
}

void check_options(const SimulatorOptions& options) {
    if (options.out.empty()) fail(Fault::usage, "give the folder to write");
    if (options.scales.empty()) fail(Fault::usage, "--scales needs one scale or more");
    for (const double scale : options.scales) {
        if (!(scale >= 2 && wide_mm * scale <= longest_mm * 1.001)) {
            fail(Fault::usage,
                 "--scales {}: the lens goes from 28 to 400 mm, so scales are from 2 to 14.28",
                 scale);
        }
        if (std::count(options.scales.begin(), options.scales.end(), scale) > 1) {
            fail(Fault::usage, "--scales names {} twice", scale);
        }
    }
    if (options.count < 1 || options.count > 9999) {
        fail(Fault::usage, "--count takes 1 to 9999 scenes, not {}", options.count);
    }
    const PixelSize size = options.size;
    if (size.width < 256 || size.height < 160 || size.width > 20000 || size.height > 20000) {
        fail(Fault::usage, "--size {}x{}: frames have 256x160 to 20000x20000 pixels", size.width,
             size.height);
    }
    if (options.raw == RawFiles::bayer && (size.width % 2 != 0 || size.height % 2 != 0)) {
        fail(Fault::usage, "--size {}x{}: a Bayer sensor has even sides", size.width, size.height);
    }
    if (options.faults.empty()) fail(Fault::usage, "--fault needs a name");
    for (const std::string& fault : options.faults) {
        if (std::find(fault_names().begin(), fault_names().end(), fault) == fault_names().end()) {
            fail(Fault::usage, "--fault {} is not known; known are {}", fault,
                 fmt::join(fault_names(), ", "));
        }
    }
    if (!(options.exposure_ev >= 0 && options.exposure_ev <= 4)) {
        fail(Fault::usage, "--exposure takes 0 to 4 EV, not {}", options.exposure_ev);
    }
    if (!(options.chromatic_px >= 0 && options.chromatic_px <= 5)) {
        fail(Fault::usage, "--chromatic takes 0 to 5 pixels, not {}", options.chromatic_px);
    }
    if (!(options.haze_lr_px >= 0 && options.haze_lr_px <= 5)) {
        fail(Fault::usage, "--haze takes 0 to 5 LR pixels, not {}", options.haze_lr_px);
    }
}

/// The scenes that an earlier run with the same settings finished, by name.
std::map<std::string, Json> finished_scenes(const fs::path& file, const Json& settings) {
    std::map<std::string, Json> scenes;
    if (!fs::exists(file)) return scenes;
    const Json old = parse_json(read_file(file), file.string());
    if (!old.is_object() || old.value("settings", Json()) != settings) return scenes;
    for (const Json& pair : old.at("pairs")) {
        Json& pairs = scenes[pair.at("scene").get<std::string>()];
        if (pairs.is_null()) pairs = Json::array();
        pairs.push_back(pair);
    }
    return scenes;
}

/// True when all the files that a scene's pairs name are there.
bool files_exist(const fs::path& folder, const Json& pairs) {
    return std::all_of(pairs.begin(), pairs.end(), [&](const Json& pair) {
        return fs::exists(folder / pair.at("wide_file").get<std::string>()) &&
               fs::exists(folder / pair.at("tele_file").get<std::string>());
    });
}

}  // namespace

const std::vector<std::string>& simulator_faults() { return fault_names(); }

SimulatorResult simulate_series(const SimulatorOptions& options, Progress& progress) {
    check_options(options);
    std::vector<fs::path> photographs;
    if (!options.photos.empty()) {
        photographs = list_images(options.photos);
        require(!photographs.empty(), "{} holds no photographs (PNG or JPEG)",
                options.photos.string());
    }
    make_folders(options.out);
    const FolderLock lock(options.out);
    SimulatorResult result;
    result.truth = options.out / "truth.json";
    const Json settings = settings_json(options, photographs);
    Json truth{{"format", truth_format},
               {"version", truth_version},
               {"complete", false},
               {"settings", settings},
               {"pairs", Json::array()}};
    const std::map<std::string, Json> finished =
        options.restart ? std::map<std::string, Json>() : finished_scenes(result.truth, settings);

    const std::size_t frames_a_scene = options.scales.size() + 1;
    const std::size_t total = frames_a_scene * static_cast<std::size_t>(options.count);
    std::size_t done = 0;
    for (int scene = 0; scene < options.count; ++scene) {
        const std::string name = scene_name(scene);
        const auto old = finished.find(name);
        const bool keep = old != finished.end() && files_exist(options.out, old->second);
        Json pairs;
        if (keep) {
            pairs = old->second;
            done += frames_a_scene;
            progress.step("simulate", done, total);
        } else {
            pairs = while_doing(name, [&] {
                return simulate_scene(options, photographs, scene,
                                      [&] { progress.step("simulate", ++done, total); });
            });
        }
        ++(keep ? result.scenes_kept : result.scenes_made);
        for (Json& pair : pairs) truth["pairs"].push_back(std::move(pair));
        const bool last = scene + 1 == options.count;
        truth["complete"] = last;
        // Scenes kept one after the other need no new file, but for a last one that differs
        if (!keep || last) {
            const std::string text = dump_json(truth);
            if (!keep || read_file(result.truth) != text) write_file(result.truth, text);
        }
    }
    result.pairs = static_cast<int>(truth["pairs"].size());
    return result;
}

}  // namespace ultrasr
