#include "registration/scene_job.h"

#include <tbb/task_group.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>

#include "data/base/error.h"
#include "data/base/log.h"
#include "data/base/progress.h"
#include "data/color.h"
#include "data/file.h"
#include "data/image_io.h"
#include "data/pair_store.h"
#include "registration/pair_record.h"
#include "registration/qa.h"
#include "registration/register_pair.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

std::string relative_name(const fs::path& path, const fs::path& folder) {
    return path.lexically_relative(folder).generic_string();
}

/// What went wrong, without the folder's own place: records name no machine.
std::string sentence_of(const Error& error, const SceneJob& job) {
    std::string text = error.sentence();
    const std::string folder = job.raw.string() + (job.raw.has_filename() ? "/" : "");
    for (std::size_t at; (at = text.find(folder)) != std::string::npos;) {
        text.erase(at, folder.size());
    }
    return text;
}

fs::path scene_folder(const fs::path& out, const std::string& scene) {
    return out / "scenes" / scene;
}

/// Size and SHA-256 of each shot's file, by name.
Json sources_of(const SceneJob& job) {
    Json sources = Json::object();
    for (const Shot& shot : job.scene->shots) {
        std::error_code code;
        const auto size = fs::file_size(shot.path, code);
        sources[relative_name(shot.path, job.raw)] = {
            {"exif", exif_to_json(shot.exif)},
            {"sha256", job.sums->of(shot.path)},
            {"size", code ? 0 : static_cast<std::uint64_t>(size)}};
    }
    return sources;
}

Json session_to_json(const std::map<int, SessionVerdict>& session) {
    Json result = Json::object();
    for (const auto& [scale, verdict] : session) {
        if (!verdict.changes_pair()) continue;
        result[fmt::format("x{}", scale)] = {
            {"fixed_k", verdict.fixed_k ? short_number(*verdict.fixed_k) : Json(nullptr)},
            {"reject", verdict.reject}};
    }
    return result;
}

std::optional<PairTruth> truth_for(const SceneJob& job, const Shot& wide, const Shot& tele) {
    if (!job.truth) return std::nullopt;
    // By name without extension: a series may hold each frame as RAW and as JPEG
    const auto stem = [](const fs::path& path) {
        return (path.parent_path() / path.stem()).generic_string();
    };
    const std::string wide_name = stem(relative_name(wide.path, job.raw));
    const std::string tele_name = stem(relative_name(tele.path, job.raw));
    for (const PairTruth& truth : *job.truth) {
        if (stem(truth.tele_file) == tele_name && stem(truth.wide_file) == wide_name) return truth;
    }
    return std::nullopt;
}

/// Mean squared gradient of the frame's middle, to choose among wide frames.
double sharpness_of(WideFrame& wide) {
    const PixelSize size = wide.size();
    const int width = size.width / 8, height = size.height / 8;
    const Frame part =
        wide.part({(size.width - width) / 2, (size.height - height) / 2, width, height});
    const Luminance light = luminance_of(part, {0, 0, part.rgb.cols, part.rgb.rows});
    return tele_sharpness(light.light).energy;
}

/// Notes once that a file cannot be decoded; returns the reason.
std::string note_unreadable(const SceneJob& job, const Shot& shot, const Error& error,
                            Json& record) {
    const std::string reason =
        fmt::format("unreadable: {} ({})", shot.name(), sentence_of(error, job));
    const Json entry{{"file", relative_name(shot.path, job.raw)}, {"reason", reason}};
    Json& skipped = record["skipped"];
    if (std::find(skipped.begin(), skipped.end(), entry) == skipped.end()) skipped.push_back(entry);
    return reason;
}

/// The wide frame: of several the sharpest that can be read.
std::unique_ptr<WideFrame> open_wide(const SceneJob& job,
                                     const std::vector<std::size_t>& candidates,
                                     std::optional<WhiteBalance>& balance, Json& record) {
    std::unique_ptr<WideFrame> best;
    double best_sharpness = -1;
    for (const std::size_t index : candidates) {
        const Shot& shot = job.scene->shots[index];
        try {
            const auto own = camera_white_balance(shot);
            auto frame = std::make_unique<WideFrame>(shot, own);
            const double sharpness = candidates.size() > 1 ? sharpness_of(*frame) : 0;
            if (sharpness > best_sharpness) {
                best = std::move(frame);
                balance = own;
                best_sharpness = sharpness;
            }
        } catch (const Error& error) {
            if (error.fault() != Fault::input) throw;
            note_unreadable(job, shot, error, record);
        }
    }
    return best;
}

/// Pictures are turned as the wide frame's tag says; block shifts turn with them.
BlockShifts oriented_shifts(const BlockShifts& shifts, int orientation) {
    cv::Mat grid(shifts.rows, shifts.columns, CV_32S);
    for (int i = 0; i < shifts.rows * shifts.columns; ++i)
        grid.at<int>(i / shifts.columns, i % shifts.columns) = i;
    const cv::Mat turned = oriented(grid, orientation);
    // What the turn makes of a vector: where unit steps go
    cv::Mat probe = cv::Mat::zeros(3, 3, CV_8U);
    probe.at<unsigned char>(1, 2) = 1;  // one to the right
    probe.at<unsigned char>(2, 1) = 2;  // one down
    const cv::Mat probe_turned = oriented(probe, orientation);
    cv::Point right, down;
    for (int y = 0; y < 3; ++y) {
        for (int x = 0; x < 3; ++x) {
            if (probe_turned.at<unsigned char>(y, x) == 1) right = {x - 1, y - 1};
            if (probe_turned.at<unsigned char>(y, x) == 2) down = {x - 1, y - 1};
        }
    }
    BlockShifts result;
    result.rows = turned.rows;
    result.columns = turned.cols;
    for (int y = 0; y < turned.rows; ++y) {
        for (int x = 0; x < turned.cols; ++x) {
            BlockShift b = shifts.blocks[static_cast<std::size_t>(turned.at<int>(y, x))];
            const double sx = b.x, sy = b.y;
            b.x = right.x * sx + down.x * sy;
            b.y = right.y * sx + down.y * sy;
            result.blocks.push_back(b);
        }
    }
    return result;
}

void turn_window(PairWindow& window, int orientation) {
    if (orientation <= 1) return;
    for (cv::Mat* m :
         {&window.lr8, &window.hr8, &window.lr16, &window.hr16, &window.weight, &window.hr_small}) {
        if (!m->empty()) *m = oriented(*m, orientation);
    }
    window.error.shifts = oriented_shifts(window.error.shifts, orientation);
}

cv::Mat shift_array(const BlockShifts& shifts) {
    cv::Mat result(shifts.rows, shifts.columns, CV_32FC2);
    for (int y = 0; y < shifts.rows; ++y) {
        for (int x = 0; x < shifts.columns; ++x) {
            const BlockShift& b = shifts.at(y, x);
            result.at<cv::Vec2f>(y, x) = {static_cast<float>(b.x), static_cast<float>(b.y)};
        }
    }
    return result;
}

/// What the HDF5 group says beside its arrays (registration.md 10).
Json store_attributes(const Json& entry, const SceneJob& job, const Shot& wide, const Shot& tele) {
    return {{"scale_true", entry["scale_true"]},
            {"model", entry["model"]},
            {"theta", entry["theta"]},
            {"covariance", entry["covariance"]},
            {"lr_window", entry["crop"]["lr"]},
            {"wide_size", entry["prior"]["wide_size"]},
            {"tele_size", entry["prior"]["tele_size"]},
            {"photometric", dump_json_line(entry["photometric"])},
            {"sigma_est", entry["sigma_est"]},
            {"gate", dump_json_line(entry["gates"])},
            {"verdict", entry["verdict"]},
            {"wide_file", relative_name(wide.path, job.raw)},
            {"tele_file", relative_name(tele.path, job.raw)},
            {"wide_exif", dump_json_line(exif_to_json(wide.exif))},
            {"tele_exif", dump_json_line(exif_to_json(tele.exif))},
            {"settings_hash", job.settings_hash}};
}

/// Waits for a group's tasks also where an error passes by. (The group's own end would cancel their
/// parallel loops half way.)
struct WaitAtEnd {
    tbb::task_group& group;
    ~WaitAtEnd() {
        try {
            group.wait();
        } catch (...) {  // the error that passes by is told; this one came of it or beside it
        }
    }
};

/// One pair with the frame it was made from.
struct Candidate {
    PairResult pair;
    const Shot* tele = nullptr;
};

/// The tele distortion of the models that have one.
Json k_of(const CameraMap& map) {
    if (map.model() == MotionModel::camera) return short_number(map.theta()[6]);
    if (map.model() == MotionModel::homography_k) return short_number(map.theta()[8]);
    return nullptr;
}

double rank_of(const Candidate& candidate) {
    // Accepted before refused, then the sharper tele frame
    double rank = 0;
    for (const PairWindow& window : candidate.pair.windows) {
        const bool accepted = window.verdict == Verdict::ok || window.verdict == Verdict::ok_masked;
        rank = std::max(rank, (accepted ? 1e9 : 1.0) + window.sharpness.energy);
    }
    return rank;
}

}  // namespace

std::string window_stem(const std::string& scene, int window, int windows) {
    return windows <= 1 ? scene : fmt::format("{}_w{}", scene, window + 1);
}

cv::Mat oriented(const cv::Mat& picture, int orientation) {
    cv::Mat result;
    switch (orientation) {  // EXIF 2.3, tag 274
        case 2:
            cv::flip(picture, result, 1);
            return result;
        case 3:
            cv::rotate(picture, result, cv::ROTATE_180);
            return result;
        case 4:
            cv::flip(picture, result, 0);
            return result;
        case 5:
            cv::transpose(picture, result);
            return result;
        case 6:
            cv::rotate(picture, result, cv::ROTATE_90_CLOCKWISE);
            return result;
        case 7: {
            cv::transpose(picture, result);
            cv::Mat turned;
            cv::rotate(result, turned, cv::ROTATE_180);
            return turned;
        }
        case 8:
            cv::rotate(picture, result, cv::ROTATE_90_COUNTERCLOCKWISE);
            return result;
        default:
            return picture;
    }
}

std::string FileSums::of(const fs::path& file) {
    {
        const std::lock_guard lock(mutex_);
        if (const auto at = sums_.find(file); at != sums_.end()) return at->second;
    }
    std::string sum = sha256_of_file(file);  // not under the lock: other scenes read theirs
    const std::lock_guard lock(mutex_);
    return sums_.emplace(file, std::move(sum)).first->second;
}

void remove_scene_outputs(const fs::path& out, const std::string& scene) {
    std::error_code code;
    fs::remove(scene_folder(out, scene) / "done", code);  // first: the rest is void from here on
    const auto of_scene = [&](const std::string& stem) {
        if (stem == scene) return true;
        return stem.size() == scene.size() + 3 && stem.starts_with(scene + "_w") &&
               stem.back() >= '1' && stem.back() <= '4' &&
               !fs::exists(scene_folder(out, stem));  // another scene that bears this name
    };
    for (const auto& entry : fs::directory_iterator(out, code)) {
        const std::string name = entry.path().filename().string();
        if (!name.starts_with("x") || !entry.is_directory()) continue;
        for (const char* kind : {"LR", "HR", "LR16", "HR16"}) {
            for (const auto& file : fs::directory_iterator(entry.path() / kind, code)) {
                if (of_scene(file.path().stem().string())) fs::remove(file.path(), code);
            }
        }
    }
    for (const char* folder : {"qa", "rejected"}) {
        for (const auto& file : fs::directory_iterator(out / folder, code)) {
            // <scene>[_wN]_x<scale>...
            const std::string name = file.path().filename().string();
            const std::size_t at = name.rfind("_x");
            if (at != std::string::npos && of_scene(name.substr(0, at))) {
                fs::remove(file.path(), code);
            }
        }
    }
    for (const auto& file : fs::directory_iterator(out / "h5", code)) {
        if (of_scene(file.path().stem().string())) fs::remove(file.path(), code);
    }
    fs::remove(scene_folder(out, scene) / "pair.json", code);
}

std::optional<Json> finished_scene(const SceneJob& job) {
    const fs::path folder = scene_folder(job.out, job.scene->name);
    if (!fs::exists(folder / "done") || !fs::exists(folder / "pair.json")) return std::nullopt;
    try {
        const fs::path file = folder / "pair.json";
        Json record = parse_json(read_file(file), file.string());
        if (record.at("settings_hash") != job.settings_hash) return std::nullopt;
        if (record.at("session") != sorted(session_to_json(job.session))) return std::nullopt;
        const Json sources = sources_of(job);
        for (const auto& [name, source] : record.at("sources").items()) {
            if (!sources.contains(name) || sources[name]["sha256"] != source.at("sha256")) {
                return std::nullopt;
            }
        }
        if (sources.size() != record.at("sources").size()) return std::nullopt;
        return record;
    } catch (const std::exception&) {
        return std::nullopt;  // a torn or foreign file: do the scene again
    }
}

Json run_scene(const SceneJob& job) {
    const CaptureScene& scene = *job.scene;
    const RegisterSettings& settings = *job.settings;
    remove_scene_outputs(job.out, scene.name);
    make_folders(scene_folder(job.out, scene.name));  // a killed run's leftovers have an owner
    Json record{{"format", "ultrasr-scene"},
                {"version", 1},
                {"scene", scene.name},
                {"settings_hash", job.settings_hash},
                {"sources", sources_of(job)},
                {"notes", scene.notes},
                {"skipped", Json::array()},
                {"pairs", Json::array()},
                {"reason", ""},
                {"session", session_to_json(job.session)}};
    for (const SkippedFile& file : scene.skipped) {
        record["skipped"].push_back({{"file", file.name}, {"reason", file.reason}});
    }

    // Pictures are encoded and written while the next pair is registered
    std::map<std::string, PairStoreWriter> stores;  // by window's stem
    const auto write_window = [&](PairWindow& window, Json& entry, const Candidate& chosen,
                                  const Shot& wide) {
        const std::string stem =
            window_stem(scene.name, entry["window"], static_cast<int>(chosen.pair.windows.size()));
        const std::string x = fmt::format("x{}", chosen.pair.scale);
        const bool accepted = window.verdict == Verdict::ok || window.verdict == Verdict::ok_masked;
        std::map<std::string, std::string> files;
        if (accepted && !window.lr8.empty()) {
            files[fmt::format("{}/LR/{}.png", x, stem)] = encode_png(window.lr8);
            files[fmt::format("{}/HR/{}.png", x, stem)] = encode_png(window.hr8);
            if (!window.lr16.empty()) {
                files[fmt::format("{}/LR16/{}.png", x, stem)] = encode_png(window.lr16);
                files[fmt::format("{}/HR16/{}.png", x, stem)] = encode_png(window.hr16);
            }
        } else if (!accepted && settings.keep_rejected && !window.lr8.empty()) {
            files[fmt::format("rejected/{}_{}_lr.png", stem, x)] = encode_png(window.lr8);
            files[fmt::format("rejected/{}_{}_hr.png", stem, x)] = encode_png(window.hr8);
        }
        if (settings.qa && !files.empty()) {
            for (auto& [tail, bytes] : qa_pictures(window, chosen.pair.scale)) {
                files[fmt::format("qa/{}_{}_{}.png", stem, x, tail)] = std::move(bytes);
            }
        }
        entry["files"] = Json::object();
        for (const auto& [name, bytes] : files) {
            write_file(job.out / name, bytes);
            entry["files"][name] = sha256(bytes);
        }
        if (accepted) {
            StoredPair stored;
            stored.scene = stem;
            stored.scale = Scale{static_cast<double>(chosen.pair.scale)};
            stored.lr = window.lr16.empty() ? window.lr8 : window.lr16;
            stored.hr = window.hr16.empty() ? window.hr8 : window.hr16;
            stored.weight = window.weight;
            stored.shift = shift_array(window.error.shifts);
            stored.attributes = store_attributes(entry, job, wide, *chosen.tele);
            stores.try_emplace(stem, job.out / "h5" / (stem + ".h5")).first->second.add(stored);
        }
    };

    std::vector<Json> entries;
    entries.reserve(settings.scales.size() * 4 + 4);  // references into it stay
    const SceneRoles roles =
        assign_roles(scene, std::vector<double>(settings.scales.begin(), settings.scales.end()));
    for (const std::size_t index : roles.no_focal) {
        const Shot& shot = scene.shots[index];
        record["skipped"].push_back(
            {{"file", relative_name(shot.path, job.raw)},
             {"reason", fmt::format("no_focal: {} has no focal length; give --focal {}=mm",
                                    shot.name(), shot.name())}});
    }
    std::optional<WhiteBalance> balance;
    std::unique_ptr<WideFrame> wide;
    if (scene.shots.size() < 2) {
        record["reason"] = scene.shots.empty() ? "no_image" : "single_image";
    } else if (roles.wide.empty()) {
        record["reason"] = "no_wide";
    } else {
        wide = open_wide(job, roles.wide, balance, record);
        if (!wide) record["reason"] = "no_wide: the wide frame cannot be read";
    }
    std::vector<std::unique_ptr<Candidate>> in_writing;
    tbb::task_group writing;
    const WaitAtEnd wait_at_end{writing};  // last: what the tasks look at goes only after them
    for (const int scale : wide ? settings.scales : std::vector<int>{}) {
        Progress::throw_if_interrupted();
        const auto found = roles.tele.find(scale);
        if (found == roles.tele.end() || found->second.empty()) {
            entries.push_back(
                refused_pair(scale, Verdict::reject,
                             fmt::format("missing_focal: no frame near x{} ({:.0f} mm)", scale,
                                         scale * wide->shot().focal_mm().value_or(28))));
            continue;
        }

        // Register every frame at this focal length, keep the best
        SessionVerdict session;
        if (const auto at = job.session.find(scale); at != job.session.end()) session = at->second;
        std::unique_ptr<Candidate> best;
        std::string why;
        Verdict verdict = Verdict::reject;
        for (const std::size_t index : found->second) {
            const Shot& tele = scene.shots[index];
            try {
                const auto prior = prior_of(wide->shot(), tele, why);
                if (!prior) continue;
                RegisterSettings own = settings;
                own.try_turned =
                    tele.exif.orientation.value_or(1) != wide->shot().exif.orientation.value_or(1);
                const auto begin = std::chrono::steady_clock::now();
                Frame frame = decode_shot(tele, balance);
                const std::chrono::duration<double> decode =
                    std::chrono::steady_clock::now() - begin;
                auto candidate = std::make_unique<Candidate>();
                candidate->tele = &tele;
                candidate->pair =
                    register_pair(*wide, std::move(frame), *prior, scale, own, session.fixed_k);
                candidate->pair.seconds["decode"] = decode.count();
                if (own.try_turned) candidate->pair.notes.push_back("orientation_differs");
                if (!best || rank_of(*candidate) > rank_of(*best)) best = std::move(candidate);
            } catch (const Error& error) {
                if (error.fault() == Fault::storage) throw;
                why = error.fault() == Fault::input ? note_unreadable(job, tele, error, record)
                                                    : sentence_of(error, job);
                verdict = Verdict::error;
            }
        }
        if (!best) {
            entries.push_back(refused_pair(scale, verdict, why));
            continue;
        }

        // What the pair says by itself, for the session
        Json own_figures = Json::object();
        if (const auto at = job.own_figures.find(scale); at != job.own_figures.end()) {
            own_figures = at->second;
        } else if (!best->pair.windows.empty()) {
            const PairWindow& window = best->pair.windows[0];
            own_figures = {{"accepted", window.verdict != Verdict::reject},
                           {"k", k_of(best->pair.fit.map)},
                           {"sharpness_ratio", short_number(window.sharpness.ratio)}};
        }

        // Do as the session says
        for (PairWindow& window : best->pair.windows) {
            if (!session.reject.empty() && window.verdict != Verdict::reject) {
                window.verdict = Verdict::reject;
                window.reason = session.reject;
            }
        }
        writing.wait();
        in_writing.clear();
        const auto truth = truth_for(job, wide->shot(), *best->tele);
        const int windows = static_cast<int>(best->pair.windows.size());
        const std::size_t first = entries.size();
        for (int w = windows == 0 ? -1 : 0; w < std::max(windows, 0) || w == -1; ++w) {
            Json entry = pair_to_json(best->pair, w, truth);
            entry["wide_file"] = relative_name(wide->shot().path, job.raw);
            entry["tele_file"] = relative_name(best->tele->path, job.raw);
            entry["tele_focal_mm"] =
                best->tele->focal_mm() ? short_number(*best->tele->focal_mm()) : Json(nullptr);
            if (!own_figures.empty()) entry["own_figures"] = own_figures;
            if (job.timing) {
                for (const auto& [step, seconds] : best->pair.seconds) {
                    entry["seconds"][step] = short_number(std::round(seconds * 1e4) / 1e4);
                }
            }
            entries.push_back(std::move(entry));
            if (w == -1) break;
        }
        in_writing.push_back(std::move(best));
        Candidate& chosen = *in_writing.back();
        const int orientation = wide->shot().exif.orientation.value_or(1);
        writing.run([&, first, orientation] {
            for (std::size_t w = 0; w < chosen.pair.windows.size(); ++w) {
                turn_window(chosen.pair.windows[w], orientation);
                write_window(chosen.pair.windows[w], entries[first + w], chosen, wide->shot());
            }
        });
    }
    writing.wait();
    in_writing.clear();
    for (auto& [stem, store] : stores) store.commit();

    // The record, and at last the mark that all of it is there
    for (Json& entry : entries) {
        entry["scene"] = scene.name;
        if (entry["verdict"] == "reject" || entry["verdict"] == "error") {
            const std::string stem = window_stem(scene.name, entry["window"],
                                                 entry.contains("crop") ? settings.windows : 1);
            write_file(
                job.out / "rejected" / fmt::format("{}_x{}.json", stem, entry["scale"].get<int>()),
                dump_json(sorted(entry)));
        }
        record["pairs"].push_back(entry);
    }
    record = sorted(record);
    write_file(scene_folder(job.out, scene.name) / "pair.json", dump_json(record));
    write_file(scene_folder(job.out, scene.name) / "done", "");
    return record;
}

}  // namespace ultrasr
