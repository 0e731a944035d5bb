#include "acquisition/simulated_frame.h"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <optional>
#include <opencv2/core.hpp>

#include "data/base/progress.h"

namespace ultrasr {
namespace {

constexpr int strip_rows = 64;

/// The strip's light, the finer part laid over the rest.
LightPlanes strip_light(const FrameJob& job, const RowPlaces& places, const BlurredFrame* blurred,
                        PixelRect strip) {
    if (blurred) return blurred->window(strip);
    LightPlanes light = render_window(*job.scene, places, strip, job.samples, job.blur);
    const int x0 = std::max(job.fine.x, strip.x);
    const int x1 = std::min(job.fine.x + job.fine.width, strip.x + strip.width);
    const int y0 = std::max(job.fine.y, strip.y);
    const int y1 = std::min(job.fine.y + job.fine.height, strip.y + strip.height);
    if (x0 >= x1 || y0 >= y1) return light;
    const PixelRect part{x0, y0, x1 - x0, y1 - y0};
    const LightPlanes fine = render_window(*job.scene, places, part, job.fine_samples, job.blur);
    for (std::size_t c = 0; c < 3; ++c) {
        fine[c].copyTo(light[c](cv::Rect(x0 - strip.x, y0 - strip.y, part.width, part.height)));
    }
    return light;
}

/// Rows of the sensor's numbers; `signal` has sharpening_reach rows more above and below.
void read_out_(cv::Mat& raw, const LightPlanes& signal, int first, int rows,
               const RawFormat& format) {
    const auto number = [&](float s, std::size_t c) {
        const double value = format.black + (format.white - format.black) * format.response[c] * s;
        return static_cast<std::uint16_t>(
            std::clamp(value + 0.5, 0.0, static_cast<double>(format.white)));
    };
    for (int y = 0; y < rows; ++y) {
        auto* to = raw.ptr<std::uint16_t>(first + y);
        std::array<const float*, 3> from{};
        for (std::size_t c = 0; c < 3; ++c) from[c] = signal[c].ptr<float>(y + sharpening_reach);
        for (int x = 0; x < raw.cols; ++x) {
            if (format.kind == RawFormat::Kind::mosaic) {
                const auto c = static_cast<std::size_t>(((first + y) & 1) + (x & 1));  // R G / G B
                to[x] = number(from[c][x], c);
            } else {
                for (std::size_t c = 0; c < 3; ++c) {
                    to[3 * static_cast<std::size_t>(x) + c] = number(from[c][x], c);
                }
            }
        }
    }
}

}  // namespace

TakenFrame take_frame(const FrameJob& job) {
    const PixelSize size = job.view.camera.size;
    const RowPlaces places(job.view);
    const ToneCurve curve(job.look);
    TakenFrame frame;
    frame.rgb.create(size.height, size.width, CV_8UC3);
    if (job.raw.kind != RawFormat::Kind::none) {
        const int type = job.raw.kind == RawFormat::Kind::mosaic ? CV_16UC1 : CV_16UC3;
        frame.raw.create(size.height, size.width, type);
    }
    std::optional<BlurredFrame> blurred;
    if (BlurredFrame::serves(job.blur)) blurred.emplace(*job.scene, places, size, job.blur);
    const int strips = (size.height + strip_rows - 1) / strip_rows;
    tbb::parallel_for(0, strips, [&](int s) {
        Progress::throw_if_interrupted();
        const int first = s * strip_rows;
        const int rows = std::min(strip_rows, size.height - first);
        const PixelRect strip{0, first - sharpening_reach, size.width, rows + 2 * sharpening_reach};
        LightPlanes light = strip_light(job, places, blurred ? &*blurred : nullptr, strip);
        expose_(light, strip.y, job.view.camera, job.exposure);
        if (!frame.raw.empty()) read_out_(frame.raw, light, first, rows, job.raw);
        develop_8bit(light, job.look, curve).copyTo(frame.rgb.rowRange(first, first + rows));
    });
    return frame;
}

}  // namespace ultrasr
