#include "acquisition/capture_check.h"

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "data/base/error.h"
#include "data/base/progress.h"
#include "data/color.h"

namespace ultrasr {
namespace {

constexpr int block = 64;                 // px, registration.md 5
constexpr double textured_spread = 0.03;  // registration.md 5
constexpr double sharp_block = 1.06;      // a step blurred by sigma 3 px
// Of the squared gradient of noise alone a Gaussian of 1 px leaves 0.02 when it is white. Measured
// in simulated frames out of focus: 0.07 to 0.10 after AHD, 0.06 to 0.12 in JPEGs.
constexpr double noise_left = 0.10;
constexpr int burnt_level = 252;   // of 255, registration.md 4.6
constexpr int frames_at_once = 8;  // a decoded JPEG of 24 megapixels takes 73 MB

// ---- One frame ----

/// Coded luminance in [0,1].
cv::Mat luminance(const cv::Mat& rgb) {
    cv::Mat y(rgb.rows, rgb.cols, CV_32F);
    for (int row = 0; row < rgb.rows; ++row) {
        const unsigned char* from = rgb.ptr(row);
        float* to = y.ptr<float>(row);
        for (int x = 0; x < rgb.cols; ++x, from += 3) {
            to[x] = (0.2126F * static_cast<float>(from[0]) + 0.7152F * static_cast<float>(from[1]) +
                     0.0722F * static_cast<float>(from[2])) /
                    255.0F;
        }
    }
    return y;
}

/// Sum of the squared differences to the right and lower neighbours.
double squared_gradient(const cv::Mat& y) {
    double sum = 0;
    for (int row = 0; row + 1 < y.rows; ++row) {
        const float *here = y.ptr<float>(row), *below = y.ptr<float>(row + 1);
        for (int x = 0; x + 1 < y.cols; ++x) {
            const auto dx = static_cast<double>(here[x + 1] - here[x]);
            const auto dy = static_cast<double>(below[x] - here[x]);
            sum += dx * dx + dy * dy;
        }
    }
    return sum;
}

/// The middle of a frame: half of it each way, or all where that is below two blocks.
PixelRect middle(PixelSize size) {
    const auto part = [](int length, double share) {
        const int wanted = static_cast<int>(std::lround(length * share));
        return std::min(length, std::max(wanted, 2 * block));
    };
    const int width = part(size.width, 0.5), height = part(size.height, 0.5);
    return {(size.width - width) / 2, (size.height - height) / 2, width, height};
}

/// The tele's footprint in the wide frame at a scale, a tenth larger; for the tripod.
PixelRect footprint(PixelSize size, double scale) {
    const auto part = [&](int length) {
        return std::min(length,
                        std::max(static_cast<int>(std::lround(1.1 * length / scale)), block));
    };
    const int width = part(size.width), height = part(size.height);
    return {(size.width - width) / 2, (size.height - height) / 2, width, height};
}

// ---- Words ----

std::string exposure_text(double seconds) {
    return seconds < 0.4 ? fmt::format("1/{:.4g} s", 1 / seconds)
                         : fmt::format("{:.3g} s", seconds);
}

std::string join(const std::vector<std::string>& parts, std::string_view separator = ", ") {
    std::string text;
    for (const std::string& part : parts) {
        text += (text.empty() ? "" : std::string(separator)) + part;
    }
    return text;
}

/// "a.jpg, b.jpg and 3 more".
std::string some_of(const std::vector<std::string>& names) {
    if (names.size() <= 3) return join(names);
    return fmt::format("{}, {} and {} more", names[0], names[1], names.size() - 2);
}

// ---- One scene ----

/// A scene on its way to a report.
struct SceneWork {
    const CaptureScene* scene;
    SceneRoles roles;
    SceneReport report;

    void add(Severity severity, std::string code, std::string text) {
        report.findings.push_back({severity, std::move(code), std::move(text)});
    }
    void problem(std::string code, std::string text) {
        add(Severity::problem, std::move(code), std::move(text));
    }
    void remark(std::string code, std::string text) {
        add(Severity::remark, std::move(code), std::move(text));
    }
};

void check_roles(SceneWork& work, const std::vector<double>& scales) {
    const CaptureScene& scene = *work.scene;
    const SceneRoles& roles = work.roles;
    for (const SkippedFile& file : scene.skipped) {
        if (file.reason.starts_with("unreadable")) work.problem("unreadable", file.reason);
    }
    if (scene.shots.size() < 2) {
        work.problem("single_image", scene.shots.empty()
                                         ? "no picture can be read; replace the files"
                                         : "there is one picture alone; a pair needs two focal "
                                           "lengths");
        return;
    }
    for (const std::size_t i : roles.no_focal) {
        const std::string& name = work.report.frames[i].file;
        work.problem("no_focal",
                     fmt::format("{} has no focal length; give --focal {}=mm", name, name));
    }
    if (roles.wide.empty()) {
        work.problem("no_wide", "no frame can be the wide one; give focal lengths by --focal");
        return;
    }
    const auto wide_mm = work.report.frames[roles.wide.front()].focal_mm;
    for (const double s : scales) {
        if (!roles.tele.at(s).empty() || !wide_mm) continue;
        work.problem("missing_focal",
                     fmt::format("no frame fits x{:g}; set the ring to {:.0f} mm or a little more",
                                 s, s * *wide_mm));
    }
}

/// A setting that all frames shall share: one finding that lists who has what.
template <class Value, class Text>
void check_same(SceneWork& work, const char* code, const char* what,
                const std::function<std::optional<Value>(const Shot&)>& value_of, Text&& text_of) {
    std::map<Value, std::vector<std::string>> seen;
    for (const Shot& shot : work.scene->shots) {
        if (const auto value = value_of(shot)) seen[*value].push_back(shot.name());
    }
    if (seen.size() < 2) return;
    std::vector<std::string> parts;
    for (const auto& [value, names] : seen) {
        parts.push_back(fmt::format("{} ({})", text_of(value), some_of(names)));
    }
    work.remark(code,
                fmt::format("{} differs: {}; set one by hand for the series", what, join(parts)));
}

/// A setting that no frame shall have.
void check_none(SceneWork& work, const char* code, const char* what,
                const std::function<bool(const Shot&)>& has) {
    std::vector<std::string> names;
    for (const Shot& shot : work.scene->shots) {
        if (has(shot)) names.push_back(shot.name());
    }
    if (!names.empty()) work.remark(code, fmt::format("{}: {}", what, some_of(names)));
}

bool is_on(const std::optional<std::string>& setting) {
    return setting && *setting != "Off" && *setting != "n/a" && !setting->starts_with("unknown");
}

void check_settings(SceneWork& work) {
    // Values to three digits: EXIF rounds
    const auto rounded = [](std::optional<double> value) {
        if (value) value = std::stod(fmt::format("{:.3g}", *value));
        return value;
    };
    check_same<double>(
        work, "exposure_differs", "the exposure time",
        [&](const Shot& s) { return rounded(s.exif.exposure_s); }, exposure_text);
    check_same<double>(
        work, "f_number_differs", "the f-number",
        [&](const Shot& s) { return rounded(s.exif.f_number); },
        [](double v) { return fmt::format("f/{:g}", v); });
    check_same<int>(
        work, "iso_differs", "ISO", [](const Shot& s) { return s.exif.iso; },
        [](int v) { return fmt::format("{}", v); });
    check_same<int>(
        work, "white_balance_differs", "the white balance",
        [](const Shot& s) { return s.exif.white_balance; },
        [](int v) { return v == 0 ? "automatic" : "fixed"; });
    check_none(work, "exposure_auto", "the exposure is automatic; set it by hand",
               [](const Shot& s) { return s.exif.exposure_mode.value_or(1) != 1; });
    check_none(work, "white_balance_auto",
               "the white balance is automatic; fix it to daylight or a measured one",
               [](const Shot& s) { return s.exif.white_balance == 0; });
    check_none(work, "vr_on", "vibration reduction is on; switch it off on a tripod",
               [](const Shot& s) { return is_on(s.exif.vibration_reduction); });
    check_none(work, "distortion_control_on", "automatic distortion control is on; switch it off",
               [](const Shot& s) { return is_on(s.exif.auto_distortion_control); });
    check_none(work, "vignette_control_on", "vignette control is on; switch it off",
               [](const Shot& s) { return is_on(s.exif.vignette_control); });
    check_same<std::pair<int, int>>(
        work, "size_differs", "the picture size",
        [](const Shot& s) {
            return std::optional(std::pair{s.size.width, s.size.height});
        },
        [](const std::pair<int, int>& v) { return fmt::format("{} x {}", v.first, v.second); });
}

/// RAW frames: the multipliers that the camera wrote, to a per cent.
void check_multipliers(SceneWork& work) {
    std::optional<WhiteBalance> first;
    for (const Shot& shot : work.scene->shots) {
        if (shot.kind != ShotKind::raw) continue;
        std::optional<WhiteBalance> balance;
        try {
            balance = camera_white_balance(shot);
        } catch (const Error&) {
            continue;  // told as unreadable elsewhere
        }
        if (!first) {
            first = balance;
        } else if (balance && (std::abs((*balance)[0] / (*first)[0] - 1) > 0.01F ||
                               std::abs((*balance)[2] / (*first)[2] - 1) > 0.01F)) {
            work.remark("white_balance_differs",
                        fmt::format("{} was taken with another white balance than the first "
                                    "frame; fix it to daylight or a measured one",
                                    shot.name()));
            return;
        }
    }
}

void check_light(SceneWork& work, const CheckOptions& options) {
    for (const FrameReport& frame : work.report.frames) {
        if (!frame.look) continue;
        const FrameLook& look = *frame.look;
        if (look.burnt > options.burnt_share) {
            work.add(look.burnt > options.burnt_reject ? Severity::problem : Severity::remark,
                     "burnt",
                     fmt::format("{:.1f} % of the middle of {} is burnt out; expose shorter",
                                 100 * look.burnt, frame.file));
        } else if (look.highlight > options.highlight) {
            work.remark("bright",
                        fmt::format("the highlights of {} reach {:.0f} % of the range; {:.0f} % is "
                                    "enough",
                                    frame.file, 100 * look.highlight, 100 * options.highlight));
        }
    }
}

/// Blurred frames: a problem unless another one at the same focal length is sharp, for that one
/// will be taken.
void check_sharpness(SceneWork& work, const CheckOptions& options) {
    const auto& frames = work.report.frames;
    const auto usable = [&](const FrameReport& frame) {
        return frame.look && frame.look->textured_blocks >= options.textured_share &&
               frame.look->sharp_blocks >= options.sharp_blocks;
    };
    for (const FrameReport& frame : frames) {
        if (!frame.look) continue;
        const FrameLook& look = *frame.look;
        double best = 0;
        for (const FrameReport& other : frames) {
            const bool same = frame.focal_mm && other.focal_mm &&
                              std::abs(*other.focal_mm / *frame.focal_mm - 1) <= 0.01;
            if (same && usable(other)) best = std::max(best, other.look->detail);
        }
        const Severity severity =
            best > look.detail || usable(frame) ? Severity::remark : Severity::problem;
        if (look.textured_blocks < options.textured_share) {
            work.remark("texture_poor",
                        fmt::format("there is hardly any detail in the middle of {}: out of focus, "
                                    "or a scene without texture; look at it at 100 %",
                                    frame.file));
        } else if (!usable(frame)) {
            work.add(severity, "blurred",
                     fmt::format("{} is blurred: {:.0f} % of its textured parts are sharp; focus "
                                 "and take it again",
                                 frame.file, 100 * look.sharp_blocks));
        } else if (look.detail < options.relative_detail * best) {
            work.add(severity, "blurred",
                     fmt::format("{} is blurred: it holds {:.0f} % of the fine detail of the best "
                                 "frame at this focal length",
                                 frame.file, 100 * look.detail / best));
        }
    }
}

void check_tripod(SceneWork& work, const CheckOptions& options) {
    const CaptureScene& scene = *work.scene;
    const SceneRoles& roles = work.roles;
    if (scene.shots.size() < 2 || roles.wide.empty()) return;
    // The last wide frame must lie behind the tele frames, or it tells nothing
    std::size_t last_tele = 0;
    bool any_tele = false;
    for (const auto& [scale, shots] : roles.tele) {
        for (const std::size_t i : shots) {
            last_tele = std::max(last_tele, i);
            any_tele = true;
        }
    }
    const std::size_t first = roles.wide.front(), last = roles.wide.back();
    if (!any_tele) return;
    if (first == last || last < last_tele) {
        work.remark("no_closing_wide",
                    "no wide frame was taken after the tele frames, so the tripod cannot be "
                    "checked; end each series with one");
        return;
    }
    const Shot &a = scene.shots[first], &b = scene.shots[last];
    if (!(a.size == b.size)) return;  // told as size_differs
    std::optional<FrameShift> shift;
    try {
        const double least = *std::min_element(options.scales.begin(), options.scales.end());
        const auto balance = camera_white_balance(a);
        const auto part = [&](const Shot& shot) {
            const Frame frame = decode_shot(shot, balance);
            return luminance(encoded_part(frame, footprint(frame.size(), least), 8));
        };
        const cv::Mat before = part(a);
        shift = estimate_shift(before, part(b));
    } catch (const Error& error) {
        if (error.fault() != Fault::input) throw;
        return;  // told as unreadable
    }
    if (!shift) {
        work.problem("moved", fmt::format("{} and {} do not show the same thing; the tripod or the "
                                          "scene moved: take the series again",
                                          a.name(), b.name()));
        return;
    }
    work.report.tripod = TripodReport{a.name(), b.name(), *shift};
    if (shift->rms_px > options.tripod_px + 2 * shift->sigma_px) {
        work.problem("tripod_moved",
                     fmt::format("the tripod moved by {:.2f} px between {} and {}, {:g} px are "
                                 "allowed; take the series again",
                                 shift->rms_px, a.name(), b.name(), options.tripod_px));
    } else if (shift->rms_px > options.tripod_px || shift->sigma_px > options.tripod_px) {
        work.remark("tripod_uncertain",
                    fmt::format("{} and {} lie {:.2f} +- {:.2f} px apart, which does not tell "
                                "whether the tripod moved",
                                a.name(), b.name(), shift->rms_px, shift->sigma_px));
    }
}

// ---- The whole ----

/// Decodes and measures all frames, a few at a time.
void look_at_frames(std::vector<SceneWork>& works, Progress& progress) {
    struct Item {
        SceneWork* work;
        std::size_t frame;
        std::string fault;
    };
    std::vector<Item> items;
    for (SceneWork& work : works) {
        for (std::size_t i = 0; i < work.report.frames.size(); ++i) items.push_back({&work, i, {}});
    }
    std::atomic<std::size_t> done{0};
    tbb::task_arena arena(std::min(frames_at_once, tbb::this_task_arena::max_concurrency()));
    arena.execute([&] {
        tbb::parallel_for(std::size_t{0}, items.size(), [&](std::size_t k) {
            Item& item = items[k];
            try {
                const Frame frame = decode_shot(item.work->scene->shots[item.frame]);
                item.work->report.frames[item.frame].look =
                    look_at(encoded_part(frame, middle(frame.size()), 8));
            } catch (const Error& error) {
                if (error.fault() != Fault::input) throw;
                item.fault = error.sentence();
            }
            progress.step("check", ++done, items.size());
        });
    });
    for (Item& item : items) {
        if (item.fault.empty()) continue;
        const std::string& file = item.work->report.frames[item.frame].file;
        const std::string path = item.work->scene->shots[item.frame].path.string();
        const std::size_t at = item.fault.find(path);
        if (at != std::string::npos) item.fault.replace(at, path.size(), file);
        item.work->problem("unreadable", fmt::format("unreadable: {} ({})", file, item.fault));
    }
}

Json look_json(const FrameLook& look) {
    return {{"burnt", look.burnt},
            {"highlight", look.highlight},
            {"textured_blocks", look.textured_blocks},
            {"sharp_blocks", look.sharp_blocks},
            {"sharpness", json_number(look.sharpness)},
            {"detail", look.detail}};
}

Json skipped_json(const std::vector<SkippedFile>& skipped) {
    Json list = Json::array();
    for (const SkippedFile& file : skipped) list.push_back(file.reason);
    return list;
}

}  // namespace

std::size_t CheckReport::count(Severity severity) const {
    std::size_t n = 0;
    for (const SceneReport& scene : scenes) {
        for (const Finding& finding : scene.findings) n += finding.severity == severity;
    }
    return n;
}

FrameLook look_at(const cv::Mat& rgb) {
    FrameLook look;
    // Burnt spots and the bright end
    std::array<std::size_t, 256> histogram{};
    for (int y = 0; y < rgb.rows; ++y) {
        const unsigned char* pixel = rgb.ptr(y);
        for (int x = 0; x < rgb.cols; ++x, pixel += 3) {
            ++histogram[std::max({pixel[0], pixel[1], pixel[2]})];
        }
    }
    const auto total = static_cast<double>(rgb.total());
    std::size_t above = 0;
    for (int level = 255; level >= 0; --level) {
        above += histogram[static_cast<std::size_t>(level)];
        if (level == burnt_level) look.burnt = static_cast<double>(above) / total;
        if (look.highlight == 0 && static_cast<double>(above) >= 0.001 * total) {
            look.highlight = level / 255.0;
        }
    }
    // Sharpness, over the blocks with something in them
    const cv::Mat y = luminance(rgb);
    cv::Mat fine, coarse;
    cv::GaussianBlur(y, fine, {0, 0}, 1.0, 1.0, cv::BORDER_REFLECT_101);
    cv::GaussianBlur(y, coarse, {0, 0}, std::sqrt(5.0), std::sqrt(5.0), cv::BORDER_REFLECT_101);
    double sharp = 0, smooth = 0, detail = 0;
    int blocks = 0, textured = 0, sharp_count = 0;
    for (int by = 0; by + block <= y.rows; by += block) {
        for (int bx = 0; bx + block <= y.cols; bx += block) {
            const cv::Rect place(bx, by, block, block);
            const double here = std::max(
                0.0, squared_gradient(fine(place)) - noise_left * squared_gradient(y(place)));
            ++blocks;
            detail += here;
            cv::Scalar mean, spread;
            cv::meanStdDev(y(place), mean, spread);
            if (spread[0] <= textured_spread) continue;
            const double there = squared_gradient(coarse(place));
            ++textured;
            sharp_count += here >= sharp_block * there;
            sharp += here;
            smooth += there;
        }
    }
    look.textured_blocks = static_cast<double>(textured) / std::max(1, blocks);
    look.detail = detail / (std::max(1, blocks) * (block - 1.0) * (block - 1.0));
    if (textured > 0) {
        look.sharpness = sharp / smooth;
        look.sharp_blocks = static_cast<double>(sharp_count) / textured;
    }
    return look;
}

CheckReport check_capture(const CheckOptions& options, Progress& progress) {
    if (options.scales.empty()) fail(Fault::usage, "--scales takes a list of factors such as 8,14");
    const CaptureSet set = find_capture_set(options.folder, options.grouping);
    require(!set.scenes.empty(), "no picture found in {}; give the folder of the captures",
            options.folder.string());
    std::vector<SceneWork> works;
    for (const CaptureScene& scene : set.scenes) {
        SceneWork work{&scene, assign_roles(scene, options.scales), {}};
        work.report.name = scene.name;
        work.report.notes = scene.notes;
        work.report.skipped = scene.skipped;
        for (const Shot& shot : scene.shots) {
            const auto mm = shot.focal_mm();
            work.report.frames.push_back(
                {shot.name(), mm ? mm : shot.exif.focal_length_35mm, "", std::nullopt});
        }
        for (const std::size_t i : work.roles.wide) work.report.frames[i].role = "wide";
        for (const auto& [scale, shots] : work.roles.tele) {
            for (const std::size_t i : shots) {
                std::string& role = work.report.frames[i].role;
                role += (role.empty() ? "x" : " x") + fmt::format("{:g}", scale);
            }
        }
        check_roles(work, options.scales);
        check_settings(work);
        check_multipliers(work);
        works.push_back(std::move(work));
    }
    look_at_frames(works, progress);

    CheckReport report;
    report.skipped = set.skipped;
    std::size_t done = 0;
    for (SceneWork& work : works) {
        check_light(work, options);
        check_sharpness(work, options);
        check_tripod(work, options);
        progress.step("tripod", ++done, works.size());
        report.scenes.push_back(std::move(work.report));
    }
    return report;
}

std::string check_text(const CheckReport& report) {
    std::string text;
    std::size_t good = 0;
    for (const SceneReport& scene : report.scenes) {
        const bool bad = std::any_of(scene.findings.begin(), scene.findings.end(),
                                     [](const auto& f) { return f.severity == Severity::problem; });
        good += !bad;
        text += fmt::format("{}: {} frame{}, {}\n", scene.name, scene.frames.size(),
                            scene.frames.size() == 1 ? "" : "s", bad ? "not ready" : "ready");
        for (const Finding& finding : scene.findings) {
            text += fmt::format("  {} {}: {}\n",
                                finding.severity == Severity::problem ? "problem" : "remark ",
                                finding.code, finding.text);
        }
        if (scene.tripod) {
            text += fmt::format("  tripod: {} and {} lie {:.3f} +- {:.3f} px apart\n",
                                scene.tripod->first, scene.tripod->last, scene.tripod->shift.rms_px,
                                scene.tripod->shift.sigma_px);
        }
        for (const std::string& note : scene.notes) text += fmt::format("  note: {}\n", note);
        for (const SkippedFile& file : scene.skipped) {
            if (!file.reason.starts_with("unreadable")) {
                text += fmt::format("  skipped {}\n", file.reason);
            }
        }
    }
    for (const SkippedFile& file : report.skipped) text += fmt::format("skipped {}\n", file.reason);
    text += fmt::format("{} of {} scenes ready; {} problems, {} remarks, {} files skipped\n", good,
                        report.scenes.size(), report.count(Severity::problem),
                        report.count(Severity::remark), report.skipped.size());
    return text;
}

Json check_json(const CheckReport& report) {
    Json scenes = Json::array();
    for (const SceneReport& scene : report.scenes) {
        Json frames = Json::array();
        for (const FrameReport& frame : scene.frames) {
            frames.push_back({{"file", frame.file},
                              {"focal_mm", frame.focal_mm ? Json(*frame.focal_mm) : Json(nullptr)},
                              {"role", frame.role},
                              {"look", frame.look ? look_json(*frame.look) : Json(nullptr)}});
        }
        Json findings = Json::array();
        for (const Finding& finding : scene.findings) {
            findings.push_back(
                {{"severity", finding.severity == Severity::problem ? "problem" : "remark"},
                 {"code", finding.code},
                 {"text", finding.text}});
        }
        Json tripod;
        if (scene.tripod) {
            const FrameShift& shift = scene.tripod->shift;
            tripod = {{"first", scene.tripod->first},
                      {"last", scene.tripod->last},
                      {"rms_px", shift.rms_px},
                      {"sigma_px", shift.sigma_px},
                      {"centre_px", {shift.centre.x, shift.centre.y}},
                      {"turn_deg", shift.turn_deg},
                      {"stretch", shift.stretch},
                      {"correlation", shift.correlation}};
        }
        scenes.push_back({{"scene", scene.name},
                          {"frames", std::move(frames)},
                          {"tripod", std::move(tripod)},
                          {"findings", std::move(findings)},
                          {"notes", scene.notes},
                          {"skipped", skipped_json(scene.skipped)}});
    }
    return {{"scenes", std::move(scenes)},
            {"skipped", skipped_json(report.skipped)},
            {"problems", report.count(Severity::problem)},
            {"remarks", report.count(Severity::remark)}};
}

}  // namespace ultrasr
