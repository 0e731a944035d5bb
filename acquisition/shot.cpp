#include "acquisition/shot.h"

#include <libraw/libraw.h>
#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <ctime>
#include <fstream>
#include <string_view>
#include <opencv2/core.hpp>

#include "data/base/error.h"
#include "data/color.h"
#include "data/file.h"
#include "data/image_io.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

// ---- What kind of file ----

/// The first bytes of a file, at most `most`. throws Error(input).
std::string read_head(const fs::path& path, std::size_t most) {
    require(fs::is_regular_file(path), "cannot read {}: it is not a regular file", path.string());
    std::ifstream file(path, std::ios::binary);
    require(file.good(), "cannot read {}: check its permissions", path.string());
    std::string head(most, '\0');
    file.read(head.data(), static_cast<std::streamsize>(most));
    require(!file.bad(), "cannot read {}: the disk reports an error", path.string());
    head.resize(static_cast<std::size_t>(file.gcount()));
    return head;
}

std::optional<ShotKind> kind_of_head(std::string_view head) {
    if (head.starts_with("\xff\xd8\xff")) return ShotKind::jpeg;
    if (head.starts_with("\x89PNG\r\n\x1a\n")) return ShotKind::png;
    // TIFF in both byte orders, and the heads of Olympus, Panasonic, Fujifilm and Canon
    using namespace std::string_view_literals;
    for (const auto magic :
         {"II*\0"sv, "MM\0*"sv, "IIRO"sv, "IIRS"sv, "MMOR"sv, "IIU\0"sv, "FUJIFILMCCD-RAW"sv}) {
        if (head.starts_with(magic)) return ShotKind::raw;
    }
    if (head.size() >= 12 && head.substr(4, 8) == "ftypcrx ") return ShotKind::raw;
    return std::nullopt;
}

// ---- Colour ----

/// What an embedded ICC profile calls itself; nothing without a profile.
std::optional<ColourSpace> profile_of_head(const std::string& head) {
    const std::size_t at = head.find(std::string("ICC_PROFILE\0", 12));
    if (at == std::string::npos) return std::nullopt;
    // Its description is plain text or UTF-16: look for the words without the zeros
    std::string text = head.substr(at + 12, std::size_t{4096});
    text.erase(std::remove(text.begin(), text.end(), '\0'), text.end());
    if (text.find("Adobe RGB") != std::string::npos) return ColourSpace::adobe_rgb;
    if (text.find("sRGB") != std::string::npos) return ColourSpace::srgb;
    return ColourSpace::unknown;
}

ColourSpace colour_of_jpeg(const std::string& head, const Exif& exif, const fs::path& path) {
    if (const auto profile = profile_of_head(head)) return *profile;
    // EXIF 2.32 knows 1 and 65535 only; old Nikons write 2 for Adobe RGB
    if (exif.color_space) {
        if (*exif.color_space == 1) return ColourSpace::srgb;
        return *exif.color_space == 65535 || *exif.color_space == 2 ? ColourSpace::adobe_rgb
                                                                    : ColourSpace::unknown;
    }
    // DCF 2.0: a name that starts with "_" marks Adobe RGB
    return path.filename().string().starts_with("_") ? ColourSpace::adobe_rgb : ColourSpace::srgb;
}

/// The tables from Adobe RGB (1998) to 8-bit sRGB.
struct AdobeTables {
    std::array<float, 256> linear;          ///< decoded Adobe RGB
    std::array<float, 257> threshold;       ///< least linear light of each sRGB level
    std::array<unsigned char, 4097> guess;  ///< level at the lower end of each of 4096 bins

    AdobeTables() {
        constexpr double gamma = 563.0 / 256.0;  // Adobe RGB (1998), 4.3.4.2
        for (std::size_t k = 0; k < 256; ++k) {
            linear[k] = static_cast<float>(std::pow(static_cast<double>(k) / 255.0, gamma));
            threshold[k] =
                k == 0 ? 0.0F
                       : static_cast<float>(srgb_to_linear((static_cast<double>(k) - 0.5) / 255.0));
        }
        threshold[256] = 2.0F;
        std::size_t level = 0;
        for (std::size_t bin = 0; bin < guess.size(); ++bin) {
            while (threshold[level + 1] <= static_cast<float>(bin) / 4096.0F) ++level;
            guess[bin] = static_cast<unsigned char>(level);
        }
    }
    unsigned char encode(float v) const {
        v = std::clamp(v, 0.0F, 1.0F);
        std::size_t level = guess[static_cast<std::size_t>(v * 4096.0F)];
        while (threshold[level + 1] <= v) ++level;
        return static_cast<unsigned char>(level);
    }
};

/// Adobe RGB (1998) to sRGB, in place. Both have the white D65, so grey stays grey.
void adobe_to_srgb_(cv::Mat& rgb) {
    static const AdobeTables tables;
    // From the primaries of Adobe RGB (1998), 4.2, and IEC 61966-2-1; red and blue are shared
    constexpr float red_from_red = 1.39835574F, red_from_green = -0.39835574F;
    constexpr float blue_from_green = -0.04292899F, blue_from_blue = 1.04292899F;
    tbb::parallel_for(tbb::blocked_range<int>(0, rgb.rows, 64), [&](const auto& rows) {
        for (int y = rows.begin(); y < rows.end(); ++y) {
            unsigned char* pixel = rgb.ptr(y);
            for (int x = 0; x < rgb.cols; ++x, pixel += 3) {
                const float r = tables.linear[pixel[0]], g = tables.linear[pixel[1]],
                            b = tables.linear[pixel[2]];
                pixel[0] = tables.encode(red_from_red * r + red_from_green * g);
                pixel[1] = tables.encode(g);
                pixel[2] = tables.encode(blue_from_green * g + blue_from_blue * b);
            }
        }
    });
}

// ---- RAW, by LibRaw ----

/// LibRaw with an open file: no words on stderr, damage remembered.
class RawFile {
  public:
    explicit RawFile(const fs::path& path)
        : path_(path), raw_(LIBRAW_OPIONS_NO_MEMERR_CALLBACK | LIBRAW_OPIONS_NO_DATAERR_CALLBACK) {
        raw_.set_dataerror_handler(
            [](void* damaged, const char*, auto) { *static_cast<bool*>(damaged) = true; },
            &damaged_);
        libraw_output_params_t& p = raw_.imgdata.params;
        // registration.md 8
        p.output_bps = 16;
        p.gamm[0] = p.gamm[1] = 1.0;
        p.no_auto_bright = 1;
        p.output_color = 1;
        p.user_qual = 3;  // AHD
        p.highlight = 0;
        p.user_flip = 0;
        p.threshold = 0;
        // The white level is the camera's: one taken from the frame's own brightest pixel would
        // give each frame of a scene another scale
        p.adjust_maximum_thr = 0;
        check(raw_.open_file(path.c_str()));
    }

    /// `damaged` and LibRaw's code become an Error.
    void check(int code) const {
        if (code == LIBRAW_SUCCESS && !damaged_) return;
        const char* why = damaged_ ? "its data are cut off or damaged" : libraw_strerror(code);
        fail(Fault::input,
             "{} is a broken RAW file, or of a kind LibRaw does not know ({}); "
             "replace the file",
             path_.string(), why);
    }

    /// The camera's multipliers with G1 = 1; daylight where it wrote none.
    WhiteBalance white_balance() const {
        const auto& color = raw_.imgdata.color;
        if (color.as_shot_wb_applied) return {1, 1, 1, 1};
        const bool given =
            color.cam_mul[0] > 1e-5F && color.cam_mul[1] > 1e-5F && color.cam_mul[2] > 1e-5F;
        const float* mul = given ? color.cam_mul : color.pre_mul;
        require(mul[1] > 0, "{} holds no white balance; replace the file", path_.string());
        return {mul[0] / mul[1], 1.0F, mul[2] / mul[1], mul[3] > 0 ? mul[3] / mul[1] : 1.0F};
    }

    PixelSize size() {
        check(raw_.adjust_sizes_info_only());
        return {raw_.imgdata.sizes.iwidth, raw_.imgdata.sizes.iheight};
    }

    /// What LibRaw itself read of the tags, for files that Exiv2 does not open (CR3).
    Exif exif() const {
        const auto text = [](const char* chars) {
            return *chars ? std::optional<std::string>(chars) : std::nullopt;
        };
        const auto positive = [](float value) {
            return value > 0 ? std::optional<double>(value) : std::nullopt;
        };
        const auto& data = raw_.imgdata;
        Exif exif;
        exif.make = text(data.idata.make);
        exif.model = text(data.idata.model);
        exif.lens_model = text(data.lens.Lens);
        exif.focal_length_mm = positive(data.other.focal_len);
        exif.exposure_s = positive(data.other.shutter);
        exif.f_number = positive(data.other.aperture);
        if (data.other.iso_speed > 0)
            exif.iso = static_cast<int>(std::lround(data.other.iso_speed));
        if (data.other.timestamp > 0) {  // made by mktime: undo the machine's time zone
            std::tm clock{};
            ::localtime_r(&data.other.timestamp, &clock);
            exif.taken_s = static_cast<double>(::timegm(&clock));
        }
        return exif;
    }

    /// Demosaics into H x W x 3, CV_16UC3, linear light.
    cv::Mat decode(const WhiteBalance& white_balance) {
        std::copy(white_balance.begin(), white_balance.end(), raw_.imgdata.params.user_mul);
        check(raw_.unpack());
        if (raw_.imgdata.idata.filters == 0) {
            // Three colours a pixel: LibRaw counts a fourth black level of 0 as common to all and
            // would leave the white level too high
            auto& black = raw_.imgdata.rawdata.color.cblack;
            if (black[3] == 0) black[3] = std::min({black[0], black[1], black[2]});
        }
        raw_.recycle_datastream();
        check(raw_.dcraw_process());
        require(raw_.imgdata.idata.colors == 3,
                "{} has {} colours instead of 3; take another camera", path_.string(),
                raw_.imgdata.idata.colors);
        int width = 0, height = 0, colors = 0, bits = 0;
        raw_.get_mem_image_format(&width, &height, &colors, &bits);
        cv::Mat rgb(height, width, CV_16UC3);
        check(raw_.copy_mem_image(rgb.data, static_cast<int>(rgb.step), 0));
        raw_.recycle();
        return rgb;
    }

  private:
    fs::path path_;
    bool damaged_ = false;
    LibRaw raw_;
};

}  // namespace

bool is_shot_file(const fs::path& path) {
    std::string extension = path.extension().string();
    std::transform(extension.begin(), extension.end(), extension.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    static constexpr std::array<std::string_view, 11> known{
        ".jpg", ".jpeg", ".png", ".nef", ".dng", ".arw", ".cr3", ".cr2", ".raf", ".orf", ".rw2"};
    return std::find(known.begin(), known.end(), extension) != known.end();
}

std::optional<ShotKind> kind_of_file(const fs::path& path) {
    return kind_of_head(read_head(path, 16));
}

Shot read_shot(const fs::path& path) {
    constexpr std::size_t usual_head = std::size_t{256} << 10;  // EXIF, maker notes, ICC profile
    std::string head = read_head(path, usual_head);
    require(!head.empty(), "{} is empty; replace the file", path.string());
    const auto kind = kind_of_head(head);
    require(kind.has_value(), "{} is no JPEG, PNG or RAW picture; remove or replace it",
            path.string());
    Shot shot;
    shot.path = path;
    shot.kind = *kind;
    if (shot.kind == ShotKind::raw) {
        RawFile raw(path);
        shot.size = raw.size();
        try {
            shot.exif = read_exif(path);
        } catch (const Error&) {  // LibRaw opened it, so the file is sound
            shot.exif = raw.exif();
        }
        return shot;
    }
    auto size = stored_size(head);
    if (!size && head.size() == usual_head) {
        head = read_file(path);
        size = stored_size(head);
    }
    require(size.has_value(),
            "{} is a broken {} (its head is cut off or damaged); replace the file", path.string(),
            shot.kind == ShotKind::png ? "PNG" : "JPEG");
    shot.size = *size;
    shot.exif = read_exif(path);
    if (shot.kind == ShotKind::jpeg) shot.colour = colour_of_jpeg(head, shot.exif, path);
    return shot;
}

std::optional<WhiteBalance> camera_white_balance(const Shot& shot) {
    if (shot.kind != ShotKind::raw) return std::nullopt;
    return RawFile(shot.path).white_balance();
}

Frame decode_shot(const Shot& shot, const std::optional<WhiteBalance>& white_balance) {
    Frame frame;
    if (shot.kind == ShotKind::raw) {
        RawFile raw(shot.path);
        frame.rgb = raw.decode(white_balance.value_or(raw.white_balance()));
        frame.encoding = Encoding::linear;
    } else {
        frame.rgb = read_rgb8(shot.path);
        if (shot.colour == ColourSpace::adobe_rgb) adobe_to_srgb_(frame.rgb);
    }
    require(frame.size() == shot.size,
            "{} holds {} x {} pixels, its head claims {} x {}; replace "
            "the file",
            shot.path.string(), frame.size().width, frame.size().height, shot.size.width,
            shot.size.height);
    return frame;
}

}  // namespace ultrasr
