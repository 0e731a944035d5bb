// One output of one picture: placed, planned, degraded, recorded.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <fmt/format.h>

#include "data/base/error.h"
#include "data/file.h"
#include "degradation/degrade_run.h"
#include "degradation/draws.h"
#include "degradation/dump_steps.h"
#include "degradation/pipeline.h"
#include "degradation/record.h"
#include "degradation/severity.h"

namespace ultrasr {
namespace {

constexpr int most_tries = 8;          // of the order filter
constexpr std::uint32_t try_bit = 12;  // variants below 4096, the try above

std::string hash_of(const cv::Mat& rgb) {
    const cv::Mat whole = rgb.isContinuous() ? rgb : rgb.clone();
    return sha256({reinterpret_cast<const char*>(whole.data), whole.total() * whole.elemSize()});
}

int common_multiple(const std::vector<LevelRequest>& levels) {
    return std::accumulate(levels.begin(), levels.end(), 1,
                           [](int m, const LevelRequest& l) { return std::lcm(m, l.scale); });
}

/// Cuts the place so that every scale divides it (lr_size_rule exact_crop).
void make_divisible_(PatchPlace& place, const std::vector<LevelRequest>& levels,
                     const std::string& name) {
    if (levels[0].preset.lr_size_rule != LrSizeRule::exact_crop) return;
    const int m = common_multiple(levels);
    require(place.crop.width >= m && place.crop.height >= m,
            "{}: a patch of {} x {} cannot be cut to a multiple of {}; choose a larger --patch or "
            "fewer scales",
            name, place.crop.width, place.crop.height, m);
    place.crop.width -= place.crop.width % m;
    place.crop.height -= place.crop.height % m;
}

void add_gray_(Plan& plan) {
    for (LevelPlan& level : plan.levels) {
        level.steps.insert(level.steps.end() - 1,
                           named_step("final.gray", "grayscale", Json::object(), plan.tier));
    }
}

/// The degraded picture whose levels are in order, if the run asks for that.
struct Chosen {
    Plan plan;
    Degraded result;
    std::vector<Severity> severity;
    int tries = 1;
    bool in_order = false;
};

Chosen degrade(const DegradeRun& run, const Stream& stream, const Planar& gt, bool gray,
               const StepWatch& watch) {
    Chosen chosen;
    for (int t = 0; t < (run.filter_order ? most_tries : 1); ++t) {
        PlanRequest request{stream, gt.size(), run.levels, run.couple, run.tier};
        request.stream.variant |= static_cast<std::uint32_t>(t) << try_bit;
        chosen.plan = make_plan(request);
        if (gray) add_gray_(chosen.plan);
        chosen.result = run_plan(chosen.plan, gt, watch);
        chosen.severity.clear();
        for (const DegradedLevel& level : chosen.result.levels) {
            chosen.severity.push_back(severity_of(level.lr, gt));
        }
        chosen.tries = t + 1;
        chosen.in_order =
            std::is_sorted(chosen.severity.begin(), chosen.severity.end(),
                           [](const Severity& a, const Severity& b) { return a.psnr > b.psnr; });
        if (chosen.in_order) break;
    }
    return chosen;
}

/// The second crop of Real-ESRGAN, on a grid that all levels have; nothing when a scale does not
/// divide both sides.
std::optional<PixelRect> second_crop(const DegradeRun& run, const Stream& stream, PixelSize gt) {
    const int m = common_multiple(run.levels), side = run.paired_crop;
    if (side <= 0 || side % m != 0 || gt.width % m != 0 || gt.height % m != 0 ||
        side > std::min(gt.width, gt.height)) {
        return std::nullopt;
    }
    const auto offset = [&](std::uint32_t slot_number, int length) {
        return m * static_cast<int>(draw_unit(stream, slot_number, 0) * ((length - side) / m + 1));
    };
    return PixelRect{offset(slot::paired_crop_x, gt.width), offset(slot::paired_crop_y, gt.height),
                     side, side};
}

cv::Mat cropped(const cv::Mat& rgb, const std::optional<PixelRect>& area, int divisor) {
    if (!area) return rgb;
    return rgb(cv::Rect(area->x / divisor, area->y / divisor, area->width / divisor,
                        area->height / divisor))
        .clone();
}

}  // namespace

DegradedItem degrade_picture(const DegradeRun& run, std::uint64_t id, const SourceFile& file,
                             const SourcePicture& source, int variant) {
    const Stream stream{run.seed, id, static_cast<std::uint32_t>(variant)};
    const Preset& first = run.levels[0].preset;
    PatchPlace place = draw_place(stream, {source.rgb.cols, source.rgb.rows}, run.patch, first);
    make_divisible_(place, run.levels, file.name);
    const Planar gt = patch_of(source.rgb, place);

    DegradedItem item;
    item.name = run.name_by_path
                    ? std::filesystem::path(file.name).replace_extension().generic_string()
                    : fmt::format("{:012x}", id);
    std::replace(item.name.begin(), item.name.end(), '/', '_');
    if (run.per_image > 1) item.name += fmt::format("-{:04}", variant);

    StepDump dump(run.dump_steps);
    const bool gray = run.gray_lr && source.facts.value("was_gray", false);
    const Chosen chosen = degrade(run, stream, gt, gray, dump.watch());

    // Record, then pictures with their hashes
    Json record{{"id", item.name}, {"source", file.name}, {"source_sha256", source.sha256}};
    record["source_facts"] = source.facts;
    if (source.facts.contains("padded") || source.facts.contains("upscaled")) {
        record["enlarged"] = {{"by", source.facts.contains("padded") ? "pad" : "upscale"},
                              {"patch", run.patch}};
    }
    if (run.source.decode.over) record["alpha_over"] = *run.source.decode.over;
    if (!run.source.decode.keep_16_bits) record["parity8"] = true;
    if (!run.source.decode.orient) record["exif_ignored"] = true;
    record["place"] = place.json();
    record.update(record_of(chosen.plan, chosen.result));
    record["gt_saved"] = first.gt_saved == GtSaved::usm ? "usm" : "plain";
    const auto area = second_crop(run, stream, gt.size());
    if (area) record["paired_crop"] = {area->x, area->y, area->width, area->height};
    if (run.filter_order) {
        record["order"] = {{"kept", chosen.in_order}, {"tries", chosen.tries}};
    }
    item.pictures = pictures_of(record, chosen.plan, chosen.result, gt, run.save);
    for (std::size_t i = 0; i < chosen.severity.size(); ++i) {
        record["levels"][i]["psnr"] = json_number(chosen.severity[i].psnr);
        record["levels"][i]["gradient_energy"] = chosen.severity[i].gradient_energy;
    }
    dump.write(item.name, record);
    item.record = std::move(record);
    return item;
}

std::vector<std::pair<std::string, cv::Mat>> pictures_of(Json& record, const Plan& plan,
                                                         const Degraded& result, const Planar& gt,
                                                         const std::set<std::string>& save) {
    std::optional<PixelRect> area;
    if (record.contains("paired_crop")) {
        const Json& c = record["paired_crop"];
        area = PixelRect{c[0].get<int>(), c[1].get<int>(), c[2].get<int>(), c[3].get<int>()};
    }
    std::vector<std::pair<std::string, cv::Mat>> pictures;
    Json hashes = Json::object();
    const auto add = [&](std::string name, const Planar& picture, int divisor) {
        cv::Mat rgb = cropped(rgb8_of_planar(picture), area, divisor);
        hashes[name] = hash_of(rgb);
        pictures.emplace_back(std::move(name), std::move(rgb));
    };
    const bool sharpened = !result.gt_usm.empty();
    if (save.contains("gt")) {
        add("gt", sharpened && record["gt_saved"] == "usm" ? result.gt_usm : gt, 1);
    }
    if (save.contains("gt_usm") && sharpened) add("gt_usm", result.gt_usm, 1);
    for (std::size_t i = 0; i < plan.levels.size(); ++i) {
        const std::string name = level_name(plan.levels[i]);
        const DegradedLevel& level = result.levels[i];
        if (save.contains("lr")) add("lr_" + name, level.lr, plan.levels[i].scale);
        if (save.contains("lr_up") && !level.lr_up.empty()) add("lr_up_" + name, level.lr_up, 1);
    }
    record["sha256"] = std::move(hashes);
    return pictures;
}

}  // namespace ultrasr
