#include "degradation/device/operations.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "data/base/error.h"
#include "degradation/steps/steps.h"

namespace ultrasr {
namespace {

/// A picture between two steps.
struct Between {
    int buffer = -1;
    PixelSize size;

    PlaneShape shape() const { return {3, size.height, size.width}; }
};

std::string described(const NamedStep& step, const char* detail) {
    return fmt::format("step '{}' ({}{})", step.name, step.kind, detail);
}

/// Why one step has no kernel; empty when it has one.
std::string refusal(const NamedStep& named) {
    const Step* step = named.step.get();
    if (const auto* noise = dynamic_cast<const GaussianNoiseStep*>(step)) {
        if (noise->nested_from) return described(named, " with another level's field, nested");
        return noise->z ? described(named, " with a given field") : "";
    }
    if (const auto* noise = dynamic_cast<const PoissonNoiseStep*>(step)) {
        return noise->counts ? described(named, " with given counts") : "";
    }
    if (const auto* jpeg = dynamic_cast<const JpegStep*>(step)) {
        return jpeg->backend == JpegBackend::diff ? "" : described(named, " by libjpeg-turbo");
    }
    const bool known = dynamic_cast<const UsmStep*>(step) || dynamic_cast<const BlurStep*>(step) ||
                       dynamic_cast<const ResizeStep*>(step) ||
                       dynamic_cast<const ClampStep*>(step) || named.kind == "grayscale";
    return known ? "" : described(named, "");
}

/// Of luma, then of chroma, both [horizontal][vertical], as diff_jpeg has them.
std::vector<float> quantiser_steps(double quality) {
    const float factor = quality_factor(static_cast<float>(std::min(quality, most_jpeg_quality)));
    std::vector<float> steps;
    for (const auto* table : {&diff_jpeg_luma, &diff_jpeg_chroma}) {
        for (std::size_t u = 0; u < 8; ++u) {
            for (std::size_t v = 0; v < 8; ++v) steps.push_back((*table)[v * 8 + u] * factor);
        }
    }
    return steps;
}

/// Turns one plan into operations, following run_plan step by step.
class Builder {
  public:
    explicit Builder(const DevicePicture& picture) : picture_(picture), plan_(*picture.plan) {}

    PictureProgram build() {
        Between gt = unpack();
        std::size_t done = 0;
        if (!plan_.shared.empty() && plan_.shared[0].name == "usm") {
            gt = step(plan_.shared[done++], gt, false);
            store(gt, picture_.gt_usm);
        }
        Between trunk = gt;
        for (; done < plan_.shared.size(); ++done) trunk = step(plan_.shared[done], trunk, false);

        std::vector<Between> lrs;
        for (std::size_t i = 0; i < plan_.levels.size(); ++i) {
            const LevelPlan& level = plan_.levels[i];
            Between now = level.input >= 0 ? lrs[static_cast<std::size_t>(level.input)] : trunk;
            for (const NamedStep& s : level.steps) now = step(s, now, true);
            lrs.push_back(now);
            store(now, picture_.levels[i].lr);
            if (!picture_.levels[i].lr_up.wanted) continue;
            for (const NamedStep& s : level.back) now = step(s, now, true);
            store(now, picture_.levels[i].lr_up);
        }
        return std::move(out_);
    }

  private:
    int buffer(std::uint64_t values) {
        out_.buffers.push_back(values);
        writers_.push_back(-1);
        return static_cast<int>(out_.buffers.size()) - 1;
    }
    Between picture(PixelSize size) {
        const Between made{-1, size};
        return {buffer(made.shape().values()), size};
    }

    /// in_place: a buffer among the sources that is written over, or -1.
    template <class Element>
    int add(Element element, std::array<int, 3> sources, std::array<int, 2> targets,
            int in_place = -1) {
        Operation operation{element, sources, targets, {}};
        for (const int source : sources) {
            if (source >= 0) operation.after.push_back(writers_[static_cast<std::size_t>(source)]);
        }
        const int number = static_cast<int>(out_.operations.size());
        for (const int target : {targets[0], targets[1], in_place}) {
            if (target >= 0) writers_[static_cast<std::size_t>(target)] = number;
        }
        out_.operations.push_back(std::move(operation));
        return number;
    }

    std::uint32_t keep(const std::vector<float>& floats) {
        const auto place = static_cast<std::uint32_t>(out_.floats.size());
        out_.floats.insert(out_.floats.end(), floats.begin(), floats.end());
        return place;
    }
    std::uint32_t keep(const std::vector<int>& ints) {
        const auto place = static_cast<std::uint32_t>(out_.ints.size());
        out_.ints.insert(out_.ints.end(), ints.begin(), ints.end());
        return place;
    }

    Between unpack() {
        const Between gt = picture(plan_.gt);
        UnpackElement e;
        e.shape = gt.shape();
        e.given = picture_.input.given;
        e.pixels = picture_.input.pixels;
        e.row_bytes = picture_.input.row_bytes;
        e.pixel_bytes = picture_.input.pixel_bytes;
        e.channel_bytes = picture_.input.channel_bytes;
        add(e, {-1, -1, -1}, {gt.buffer, -1});
        return gt;
    }

    void store(const Between& from, const DeviceOutput& output) {
        if (!output.wanted) return;
        StoreElement e;
        e.shape = from.shape();
        e.given = output.given;
        e.result = output.result;
        add(e, {from.buffer, -1, -1}, {-1, -1});
    }

    /// in_level: Poisson noise may share its vals with other levels.
    Between step(const NamedStep& named, const Between& from, bool in_level) {
        const Step* step = named.step.get();
        if (const auto* s = dynamic_cast<const UsmStep*>(step)) return usm(*s, from);
        if (const auto* s = dynamic_cast<const BlurStep*>(step)) return blur(s->kernel, from);
        if (const auto* s = dynamic_cast<const ResizeStep*>(step)) return resize(*s, from);
        if (const auto* s = dynamic_cast<const GaussianNoiseStep*>(step)) return noise(*s, from);
        if (const auto* s = dynamic_cast<const PoissonNoiseStep*>(step)) {
            return noise(*s, from, in_level);
        }
        if (const auto* s = dynamic_cast<const JpegStep*>(step)) return jpeg(*s, from);
        if (const auto* s = dynamic_cast<const ClampStep*>(step)) return clamp(*s, from);
        return simple(GrayscaleElement{}, from);
    }

    /// A picture of the same size from one element that has no more than a shape.
    template <class Element>
    Between simple(Element e, const Between& from) {
        const Between to = picture(from.size);
        e.shape = from.shape();
        add(e, {from.buffer, -1, -1}, {to.buffer, -1});
        return to;
    }

    Between usm(const UsmStep& step, const Between& from) {
        const std::vector<float> taps = usm_taps(step.options.radius);
        const std::uint32_t place = keep(taps);
        const int radius = static_cast<int>(taps.size()) - 1;
        const Between rows = blur_axis(from, place, radius, false);
        const Between blurred = picture(from.size), mask = picture(from.size);
        UsmMaskElement edges;
        edges.shape = from.shape();
        edges.at.floats = place;
        edges.radius = radius;
        edges.threshold = static_cast<float>(step.options.threshold);
        add(edges, {from.buffer, rows.buffer, -1}, {blurred.buffer, mask.buffer});
        const Between mask_rows = blur_axis(mask, place, radius, false);
        const Between out = picture(from.size);
        UsmMixElement mix;
        mix.shape = from.shape();
        mix.at.floats = place;
        mix.radius = radius;
        mix.weight = static_cast<float>(step.options.weight);
        add(mix, {from.buffer, blurred.buffer, mask_rows.buffer}, {out.buffer, -1});
        return out;
    }

    Between blur_axis(const Between& from, std::uint32_t taps, int radius, bool down) {
        AxisBlurElement e;
        e.at.floats = taps;
        e.radius = radius;
        e.down = down;
        return simple(e, from);
    }

    Between blur(const BlurKernel& kernel, const Between& from) {
        if (kernel.is_pulse()) return from;
        if (!kernel.separable.empty()) {
            const auto radius = static_cast<std::ptrdiff_t>(kernel.separable.size() / 2);
            const std::uint32_t taps =
                keep(std::vector<float>(kernel.separable.begin() + radius, kernel.separable.end()));
            const Between rows = blur_axis(from, taps, static_cast<int>(radius), false);
            return blur_axis(rows, taps, static_cast<int>(radius), true);
        }
        std::vector<int> first, last;
        for (const TapRow& row : kernel.rows) {
            first.push_back(row.first);
            last.push_back(row.last);
        }
        BlurElement e;
        e.at.floats = keep(kernel.taps);
        e.at.ints = keep(first);
        keep(last);
        e.size = kernel.size;
        e.folds = kernel.folds;
        return simple(e, from);
    }

    Between resize(const ResizeStep& step, const Between& from) {
        const AxisSampling rows = step.rows(from.size.height);
        const AxisSampling columns = step.columns(from.size.width);
        if (rows.copy && columns.copy) return from;
        if (step.mode == ResizeMode::area) {
            const Between to = picture({columns.m, rows.m});
            AreaElement e;
            e.from = from.shape();
            e.to = to.shape();
            add(e, {from.buffer, -1, -1}, {to.buffer, -1});
            return to;
        }
        // Along the columns first, as on the CPU
        const PictureTaps taps = picture_taps(rows, columns, step.mode, step.antialias);
        const Between lines = along(taps.columns, from, {columns.m, from.size.height}, false);
        return along(taps.rows, lines, {columns.m, rows.m}, true);
    }

    Between along(const AxisTaps& axis, const Between& from, PixelSize size, bool down) {
        const Between to = picture(size);
        TapsElement e;
        e.from = from.shape();
        e.to = to.shape();
        e.taps = axis.taps;
        e.down = down;
        e.at.floats = keep(axis.weight);
        e.at.ints = keep(axis.index);
        add(e, {from.buffer, -1, -1}, {to.buffer, -1});
        return to;
    }

    Between noise(const GaussianNoiseStep& step, const Between& from) {
        GaussianElement e;
        e.key = step.field.key(plan_.stream);
        e.sigma = static_cast<float>(step.sigma);
        e.gray = step.gray;
        return simple(e, from);
    }

    Between noise(const PoissonNoiseStep& step, const Between& from, bool in_level) {
        PoissonElement e;
        e.key = step.field.key(plan_.stream);
        e.scale = static_cast<float>(step.scale);
        e.gray = step.gray;
        if (step.source == PoissonVals::fixed) {
            e.fixed_log_vals = std::countr_zero(static_cast<unsigned>(step.vals));
            return simple(e, from);
        }
        const bool shares = step.source == PoissonVals::shared && in_level;
        Seen seen = shared_seen_;
        if (!shares || seen.operation < 0) {
            SeenElement levels;
            levels.shape = from.shape();
            levels.gray = step.gray;
            levels.at.seen = seen.set = out_.sets++;
            seen.operation = add(levels, {from.buffer, -1, -1}, {-1, -1});
            if (shares) shared_seen_ = seen;
        }
        e.at.seen = seen.set;
        const Between to = simple(e, from);
        out_.operations.back().after.push_back(seen.operation);
        return to;
    }

    Between jpeg(const JpegStep& step, const Between& from) {
        const auto padded = [](int n) { return (n + 15) / 16 * 16; };
        const JpegPlanes ycc{padded(from.size.height), padded(from.size.width)};
        const int planes = buffer(ycc.values());
        JpegSplitElement split;
        split.shape = from.shape();
        split.ycc = ycc;
        split.replicate = step.padding == JpegPadding::replicate;
        add(split, {from.buffer, -1, -1}, {planes, -1});

        JpegBlockElement block;
        block.ycc = ycc;
        block.at.floats = keep(quantiser_steps(step.quality));
        add(block, {planes, -1, -1}, {-1, -1}, planes);

        const Between to = picture(from.size);
        JpegJoinElement join;
        join.shape = from.shape();
        join.ycc = ycc;
        add(join, {planes, -1, -1}, {to.buffer, -1});
        return to;
    }

    Between clamp(const ClampStep& step, const Between& from) {
        ClampElement e;
        e.bits = step.levels == Levels::rounded     ? ClampElement::rounded
                 : step.levels == Levels::truncated ? ClampElement::truncated
                                                    : ClampElement::any;
        return simple(e, from);
    }

    struct Seen {
        int operation = -1;
        std::uint32_t set = 0;
    };

    const DevicePicture& picture_;
    const Plan& plan_;
    PictureProgram out_;
    std::vector<int> writers_;  ///< the last operation that wrote a buffer
    Seen shared_seen_;          ///< of the mildest level
};

}  // namespace

PictureProgram picture_program(const DevicePicture& picture) { return Builder(picture).build(); }

std::string step_without_kernel(const Plan& plan) {
    const auto first = [](const std::vector<NamedStep>& steps) {
        for (const NamedStep& step : steps) {
            if (std::string why = refusal(step); !why.empty()) return why;
        }
        return std::string();
    };
    std::string why = first(plan.shared);
    for (const LevelPlan& level : plan.levels) {
        if (why.empty()) why = first(level.steps);
        if (why.empty()) why = first(level.back);
    }
    return why;
}

}  // namespace ultrasr
