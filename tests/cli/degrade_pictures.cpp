#include "tests/cli/degrade_pictures.h"

#include <turbojpeg.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "data/base/random.h"
#include "data/file.h"
#include "data/image_io.h"
#include "tests/test.h"

namespace ultrasr::test {
namespace fs = std::filesystem;

cv::Mat photograph(int width, int height, std::uint64_t item) {
    cv::Mat rgb(height, width, CV_8UC3);
    Rng rng(3, item);
    const double turn = 0.3 + 0.17 * static_cast<double>(item);
    for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x) {
            const double u = x * std::cos(turn) + y * std::sin(turn);
            const double wave = std::sin(u * 0.21) + (std::fmod(u, 23.0) < 9 ? 0.8 : -0.4);
            for (int c = 0; c < 3; ++c) {
                const double value = 120 + 45 * wave + 12 * c * std::sin(0.05 * (x + 2 * y)) +
                                     static_cast<double>(rng.below(9));
                rgb.ptr(y)[3 * x + c] = static_cast<unsigned char>(std::clamp(value, 0.0, 255.0));
            }
        }
    }
    return rgb;
}

void make_photographs(const fs::path& folder, int n, int side) {
    for (int i = 0; i < n; ++i) {
        write_file(folder / ("p" + std::to_string(i) + ".png"),
                   encode_png(photograph(side, side, static_cast<std::uint64_t>(i))));
    }
}

Ended degrade(const fs::path& in, const fs::path& out, std::vector<std::string> more) {
    std::vector<std::string> words{in.string(), out.string()};
    const auto given = [&](const char* name) {
        return std::find(more.begin(), more.end(), name) != more.end();
    };
    if (!given("--scale") && !given("--levels")) words.insert(words.end(), {"--scale", "4"});
    if (!given("--patch") && !given("--lr-size-rule")) {
        words.insert(words.end(), {"--patch", "64"});
    }
    words.insert(words.end(), more.begin(), more.end());
    return run_program("ultrasr-degrade", words);
}

namespace {

std::vector<Json> lines_of(const fs::path& file) {
    std::vector<Json> lines;
    const std::string text = read_file(file);
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = text.find('\n', at);
        lines.push_back(parse_json(text.substr(at, end - at), file.string()));
        at = end + 1;
    }
    return lines;
}

}  // namespace

std::vector<Json> records_in(const fs::path& out) { return lines_of(out / "records.jsonl"); }
std::vector<Json> skipped_in(const fs::path& out) { return lines_of(out / "skipped.jsonl"); }

std::string with_segment(const std::string& jpeg, unsigned char marker, const std::string& body) {
    std::string segment{static_cast<char>(0xFF), static_cast<char>(marker)};
    const std::size_t length = body.size() + 2;
    segment += static_cast<char>(length >> 8);
    segment += static_cast<char>(length & 0xFF);
    return jpeg.substr(0, 2) + segment + body + jpeg.substr(2);
}

std::string exif_body(int orientation) {
    const unsigned char tiff[] = {'E', 'x',  'i', 'f', 0,
                                  0,   'I',  'I', 42,  0,
                                  8,   0,    0,   0,   1,
                                  0,   0x12, 1,   3,   0,
                                  1,   0,    0,   0,   static_cast<unsigned char>(orientation),
                                  0,   0,    0,   0,   0,
                                  0,   0};
    return {reinterpret_cast<const char*>(tiff), sizeof tiff};
}

std::string cmyk_jpeg(const cv::Mat& cmyk) {
    tjhandle turbo = tjInitCompress();
    unsigned char* bytes = nullptr;
    unsigned long size = 0;
    REQUIRE(tjCompress2(turbo, cmyk.data, cmyk.cols, static_cast<int>(cmyk.step), cmyk.rows,
                        TJPF_CMYK, &bytes, &size, TJSAMP_444, 95, 0) == 0);
    const std::string file(reinterpret_cast<const char*>(bytes), size);
    tjFree(bytes);
    tjDestroy(turbo);
    return file;
}

}  // namespace ultrasr::test
