#include "degradation/source_picture.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "data/base/error.h"
#include "data/file.h"
#include "degradation/draws.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

bool begins_like_a_picture(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::array<char, 8> head{};
    file.read(head.data(), head.size());
    return is_picture({head.data(), static_cast<std::size_t>(file.gcount())});
}

/// A link to a folder that it lies in: following it would list the same pictures for ever.
bool leads_up(const fs::directory_entry& entry) {
    std::error_code code;
    if (!entry.is_symlink(code) || !entry.is_directory(code)) return false;
    const fs::path target = fs::canonical(entry.path(), code);
    const fs::path here = fs::canonical(entry.path().parent_path(), code);
    return std::mismatch(target.begin(), target.end(), here.begin(), here.end()).first ==
           target.end();
}

cv::Mat luma8(const cv::Mat& rgb) {
    cv::Mat eight = rgb, luma;
    if (rgb.depth() == CV_16U) rgb.convertTo(eight, CV_8U, 1.0 / 257);
    cv::cvtColor(eight, luma, cv::COLOR_RGB2GRAY);
    return luma;
}

std::string gate_verdict(const GtGate& gate, const cv::Mat& rgb, std::size_t file_bytes) {
    const int side = std::min(rgb.rows, rgb.cols);
    if (gate.min_side > 0 && side < gate.min_side) {
        return fmt::format("its short side of {} is under {}", side, gate.min_side);
    }
    const double kilobytes = static_cast<double>(file_bytes) / 1000;
    if (gate.min_kilobytes > 0 && kilobytes < gate.min_kilobytes) {
        return fmt::format("its {:.1f} kB are under {:.1f}", kilobytes, gate.min_kilobytes);
    }
    const double density = static_cast<double>(file_bytes) / static_cast<double>(rgb.total());
    if (gate.min_bytes_per_pixel > 0 && density < gate.min_bytes_per_pixel) {
        return fmt::format("its {:.3f} bytes a pixel are under {:.3f}: strongly compressed",
                           density, gate.min_bytes_per_pixel);
    }
    if (gate.max_blockiness <= 0 && gate.min_sharpness <= 0) return {};
    const cv::Mat luma = luma8(rgb);
    const double blockiness = gate.max_blockiness > 0 ? blockiness_of(luma) : 0;
    if (gate.max_blockiness > 0 && blockiness > gate.max_blockiness) {
        return fmt::format("its blockiness of {:.2f} is above {:.2f}", blockiness,
                           gate.max_blockiness);
    }
    const double sharpness = gate.min_sharpness > 0 ? sharpness_of(luma) : 0;
    if (gate.min_sharpness > 0 && sharpness < gate.min_sharpness) {
        return fmt::format("its Laplacian's variance of {:.1f} is under {:.1f}: blurred", sharpness,
                           gate.min_sharpness);
    }
    return {};
}

}  // namespace

double blockiness_of(const cv::Mat& luma) {
    double at_border = 0, inside = 0;
    std::size_t borders = 0, others = 0;
    for (int y = 0; y < luma.rows; ++y) {
        const unsigned char* row = luma.ptr(y);
        for (int x = 1; x < luma.cols; ++x) {
            const int step = std::abs(row[x] - row[x - 1]);
            if (x % 8 == 0) {
                at_border += step;
                ++borders;
            } else {
                inside += step;
                ++others;
            }
        }
    }
    if (borders == 0 || others == 0 || inside == 0) return 1;
    return at_border / static_cast<double>(borders) / (inside / static_cast<double>(others));
}

double sharpness_of(const cv::Mat& luma) {
    cv::Mat laplacian;
    cv::Laplacian(luma, laplacian, CV_64F);
    cv::Scalar mean, deviation;
    cv::meanStdDev(laplacian, mean, deviation);
    return deviation[0] * deviation[0];
}

SmallPolicy small_policy(std::string_view name) {
    if (name == "skip") return SmallPolicy::skip;
    if (name == "pad") return SmallPolicy::pad;
    if (name == "upscale") return SmallPolicy::upscale;
    if (name == "error") return SmallPolicy::error;
    fail(Fault::usage, "unknown policy '{}' for small pictures; known: skip, pad, upscale, error",
         name);
}

SourceList list_sources(const fs::path& root) {
    SourceList list;
    std::error_code code;
    if (fs::is_regular_file(root, code)) {
        require(begins_like_a_picture(root), "{} is not a PNG or JPEG picture; convert it to PNG",
                root.string());
        list.files.push_back({root, root.filename().string()});
        return list;
    }
    require(fs::is_directory(root, code), "{} is missing; name a folder of pictures or a picture",
            root.string());
    fs::recursive_directory_iterator walk(root, fs::directory_options::follow_directory_symlink,
                                          code);
    require(!code, "{} cannot be read: {}", root.string(), code.message());
    for (; walk != fs::recursive_directory_iterator(); walk.increment(code)) {
        const fs::directory_entry& entry = *walk;
        if (leads_up(entry)) walk.disable_recursion_pending();
        std::error_code unknown;
        if (!entry.is_regular_file(unknown)) continue;
        if (begins_like_a_picture(entry.path())) {
            list.files.push_back(
                {entry.path(), entry.path().lexically_relative(root).generic_string()});
        } else {
            ++list.others;
        }
    }
    require(!code, "{} cannot be read: {}", root.string(), code.message());
    require(!list.files.empty(), "{} holds no PNG or JPEG picture ({} other files)", root.string(),
            list.others);
    std::sort(list.files.begin(), list.files.end(),
              [](const SourceFile& a, const SourceFile& b) { return a.name < b.name; });
    return list;
}

SourcePicture read_source(const SourceFile& file, int patch, const SourceOptions& options) {
    const std::string bytes = read_file(file.path);
    DecodedPixels decoded = decode_pixels(bytes, file.path, options.decode);
    SourcePicture out;
    out.sha256 = sha256(bytes);
    const ImageOrigin& origin = decoded.origin;
    out.facts["size"] = {decoded.rgb.rows, decoded.rgb.cols};
    if (origin.channels < 3) out.facts["was_gray"] = true;
    if (origin.bits != 8) out.facts["bits"] = origin.bits;
    if (origin.has_alpha()) out.facts["alpha"] = options.decode.over ? "blended" : "dropped";
    if (origin.oriented) out.facts["oriented"] = true;
    if (origin.cmyk) out.facts["cmyk"] = "converted without a profile";
    if (origin.profile) out.facts["icc_profile"] = "ignored";
    if (origin.truncated) out.facts["truncated"] = true;
    if (origin.lossy) out.facts["jpeg"] = true;

    out.skipped = gate_verdict(options.gate, decoded.rgb, bytes.size());
    const int side = std::min(decoded.rgb.rows, decoded.rgb.cols);
    if (out.skipped.empty() && patch > 0 && side < patch) {
        const std::string why = fmt::format("{} x {} is smaller than the patch of {}",
                                            decoded.rgb.cols, decoded.rgb.rows, patch);
        switch (options.small) {
            case SmallPolicy::skip:
                out.skipped = why;
                break;
            case SmallPolicy::error:
                fail(Fault::input,
                     "{}: {}; choose --small skip, pad or upscale, or a smaller "
                     "--patch",
                     file.name, why);
            case SmallPolicy::pad:
                out.facts["padded"] = true;
                break;
            case SmallPolicy::upscale:
                out.facts["upscaled"] = true;
                break;
        }
    }
    if (out.skipped.empty()) out.rgb = enlarged(decoded.rgb, patch, options.small);
    return out;
}

cv::Mat enlarged(const cv::Mat& rgb, int patch, SmallPolicy policy) {
    if (patch <= 0 || std::min(rgb.rows, rgb.cols) >= patch) return rgb;
    cv::Mat out;
    if (policy == SmallPolicy::pad) {
        // Mirrored again and again where the picture is much smaller
        cv::copyMakeBorder(rgb, out, 0, std::max(0, patch - rgb.rows), 0,
                           std::max(0, patch - rgb.cols), cv::BORDER_REFLECT_101);
        return out;
    }
    const double factor = static_cast<double>(patch) / std::min(rgb.rows, rgb.cols);
    const PixelSize size{std::max(patch, static_cast<int>(std::lround(rgb.cols * factor))),
                         std::max(patch, static_cast<int>(std::lround(rgb.rows * factor)))};
    const Planar large = resize_to(planar_of_rgb(rgb), size, ResizeMode::bicubic);
    if (rgb.depth() == CV_8U) return rgb8_of_planar(large);
    out.create(size.height, size.width, CV_16UC3);
    for (int y = 0; y < size.height; ++y) {
        auto* to = out.ptr<std::uint16_t>(y);
        for (int x = 0; x < size.width; ++x) {
            for (int c = 0; c < 3; ++c) {
                *to++ = cv::saturate_cast<std::uint16_t>(large.row(c, y)[x] * 65535.0F);
            }
        }
    }
    return out;
}

Json PatchPlace::json() const {
    return {{"x", crop.x},    {"y", crop.y},    {"width", crop.width},   {"height", crop.height},
            {"hflip", hflip}, {"vflip", vflip}, {"transpose", transpose}};
}

PatchPlace PatchPlace::from_json(const Json& json) {
    PatchPlace place;
    place.crop = {json.at("x").get<int>(), json.at("y").get<int>(), json.at("width").get<int>(),
                  json.at("height").get<int>()};
    place.hflip = json.at("hflip").get<bool>();
    place.vflip = json.at("vflip").get<bool>();
    place.transpose = json.at("transpose").get<bool>();
    return place;
}

PatchPlace draw_place(const Stream& stream, PixelSize picture, int patch, const Preset& preset) {
    PatchPlace place;
    place.crop = {0, 0, picture.width, picture.height};
    const auto offset = [&](std::uint32_t slot_number, int room) {
        return static_cast<int>(draw_unit(stream, slot_number, 0) * (room + 1));
    };
    if (patch > 0) {
        place.crop.width = std::min(patch, picture.width);
        place.crop.height = std::min(patch, picture.height);
        place.crop.x = offset(slot::crop_x, picture.width - place.crop.width);
        place.crop.y = offset(slot::crop_y, picture.height - place.crop.height);
    }
    place.hflip = draw_unit(stream, slot::hflip, 0) < preset.hflip_prob;
    place.vflip = draw_unit(stream, slot::vflip, 0) < preset.vflip_prob;
    place.transpose = draw_unit(stream, slot::transpose, 0) < preset.transpose_prob;
    return place;
}

Planar patch_of(const cv::Mat& rgb, const PatchPlace& place) {
    const cv::Rect area(place.crop.x, place.crop.y, place.crop.width, place.crop.height);
    require((area & cv::Rect({}, rgb.size())) == area,
            "a patch of {} x {} at ({}, {}) does not lie in a picture of {} x {}", area.width,
            area.height, area.x, area.y, rgb.cols, rgb.rows);
    // Into new matrices: the picture is shared by its patches
    cv::Mat turned = rgb(area);
    if (place.transpose) {
        cv::Mat transposed;
        cv::transpose(turned, transposed);
        turned = transposed;
    }
    if (place.hflip || place.vflip) {
        cv::Mat flipped;
        cv::flip(turned, flipped, place.hflip && place.vflip ? -1 : place.hflip ? 1 : 0);
        turned = flipped;
    }
    return planar_of_rgb(turned);
}

}  // namespace ultrasr
