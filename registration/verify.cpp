#include "registration/verify.h"

#include <tbb/global_control.h>

#include <cmath>
#include <map>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>

#include "data/base/error.h"
#include "data/base/progress.h"
#include "data/file.h"
#include "data/frame.h"
#include "data/image_io.h"
#include "data/pair_store.h"
#include "registration/own_error.h"
#include "registration/pair_record.h"
#include "registration/refine.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

constexpr double allowed = 0.1;  // LR px

/// Refines an affine map between the delivered pictures; RMS over LR of its
/// distance to the lattice.
double error_of(const cv::Mat& lr, const cv::Mat& hr, int scale) {
    PairGeometry geometry;
    geometry.wide = {lr.cols, lr.rows};
    geometry.tele = {lr.cols * scale, lr.rows * scale};
    geometry.scale = scale;
    geometry.focal_px = 28 / 35.9 * 6048;  // any long focal length: the window is its middle
    if (hr.cols < geometry.tele.width || hr.rows < geometry.tele.height) {
        // `keep`: HR ends inside the last LR pixel; leave the partial row and column out
        geometry.wide = {hr.cols / scale, hr.rows / scale};
        geometry.tele = {geometry.wide.width * scale, geometry.wide.height * scale};
    }
    const Frame wide{lr(cv::Rect(0, 0, geometry.wide.width, geometry.wide.height)).clone(),
                     Encoding::srgb};
    const Frame tele{hr(cv::Rect(0, 0, geometry.tele.width, geometry.tele.height)).clone(),
                     Encoding::srgb};
    const PixelRect all{0, 0, geometry.wide.width, geometry.wide.height};
    WorkPictures work =
        work_pictures(geometry, all, luminance_of(wide, all),
                      shrink_luminance(tele, work_size(geometry), samples_per_pixel));
    const CameraMap lattice(MotionModel::affine, geometry);
    const PixelFit fit = refine_pixels(work, lattice);
    return fit.usable ? rms_between(fit.map, lattice, all) : std::nan("");
}

}  // namespace

std::string Verification::sentence() const {
    std::string all;
    for (const std::string& fault : faults) all += (all.empty() ? "" : "; ") + fault;
    return all;
}

std::string Verification::text() const {
    std::string table = "scene                scale  re-estimated  promised (LR px)\n";
    for (const VerifiedPair& p : pairs) {
        table += fmt::format("{:<20} x{:<4}  {:>12}  {:.4f}\n", p.scene, p.scale,
                             std::isnan(p.error) ? "too flat" : fmt::format("{:.4f}", p.error),
                             p.sigma_est);
    }
    return table + fmt::format("{} pairs whole and in place\n", pairs.size());
}

Json Verification::json() const {
    Json list = Json::array();
    for (const VerifiedPair& p : pairs) {
        list.push_back({{"scene", p.scene},
                        {"scale", p.scale},
                        {"error_lr_px", short_number(p.error)},
                        {"sigma_est", short_number(p.sigma_est)}});
    }
    return {{"faults", faults}, {"pairs", list}};
}

Verification verify_output(const fs::path& out, int threads, Progress& progress) {
    const fs::path file = out / "manifest.json";
    require(fs::exists(file),
            "{} holds no manifest.json; name the folder of an ultrasr-register run", out.string());
    const Json manifest = parse_json(read_file(file), file.string());
    const tbb::global_control control(tbb::global_control::max_allowed_parallelism,
                                      static_cast<std::size_t>(threads));
    Verification result;
    std::vector<Json> accepted;
    for (const Json& pair : manifest.at("pairs")) {
        if (pair.at("verdict") == "ok" || pair.at("verdict") == "ok_masked") {
            accepted.push_back(pair);
        }
    }
    std::size_t done = 0;
    for (const Json& pair : accepted) {
        progress.step("verify", done++, accepted.size());
        const std::string scene = pair.at("scene");
        const int scale = pair.at("scale");
        const auto blame = [&](std::string sentence) {
            result.faults.push_back(fmt::format("{} x{}: {}", scene, scale, sentence));
        };

        // The files
        std::string lr_name, hr_name;
        bool whole = true;
        for (const auto& [name, sum] : pair.at("files").items()) {
            if (name.find("/LR/") != std::string::npos) lr_name = name;
            if (name.find("/HR/") != std::string::npos) hr_name = name;
            if (!fs::exists(out / name)) {
                blame(name + " is missing");
                whole = false;
            } else if (sha256_of_file(out / name) != sum.get<std::string>()) {
                blame(name + " has other bytes than were written");
                whole = false;
            }
        }
        if (!whole || lr_name.empty() || hr_name.empty()) continue;

        // The sizes
        const cv::Mat lr = read_rgb8(out / lr_name), hr = read_rgb8(out / hr_name);
        const bool multiple = hr.cols == lr.cols * scale && hr.rows == lr.rows * scale;
        const bool keep = hr.cols <= lr.cols * scale && hr.rows <= lr.rows * scale &&
                          hr.cols > (lr.cols - 1) * scale && hr.rows > (lr.rows - 1) * scale;
        if (manifest.at("settings").at("crop") == "multiple" ? !multiple : !keep) {
            blame(fmt::format("LR {}x{} times {} is not HR {}x{}", lr.cols, lr.rows, scale, hr.cols,
                              hr.rows));
            continue;
        }

        // The HDF5 file holds the same
        const std::string stem = fs::path(lr_name).stem().string();
        const fs::path store_file = out / "h5" / (stem + ".h5");
        bool same = false;
        if (fs::exists(store_file)) {
            const PairStore store(store_file);
            for (const PairStore::Entry& entry : store.entries()) {
                if (entry.scale.ratio != scale) continue;
                const cv::Mat stored = store.read_lr(entry), stored_hr = store.read_hr(entry);
                same = stored.size() == lr.size() && stored_hr.size() == hr.size() &&
                       (stored.depth() != CV_8U || (cv::norm(stored, lr, cv::NORM_INF) == 0 &&
                                                    cv::norm(stored_hr, hr, cv::NORM_INF) == 0));
            }
        }
        if (!same) blame(fmt::format("h5/{}.h5 does not hold the pair of the PNG files", stem));

        // The registration, from the delivered pixels alone
        VerifiedPair verified{scene, scale, error_of(lr, hr, scale),
                              number_from_json(pair.at("sigma_est"))};
        if (verified.error > std::max(allowed, 3 * verified.sigma_est)) {
            blame(fmt::format("LR and HR are {:.3f} LR px apart", verified.error));
        }
        result.pairs.push_back(verified);
    }
    progress.step("verify", done, accepted.size());
    return result;
}

}  // namespace ultrasr
