#include "acquisition/dng.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <map>
#include <string_view>
#include <vector>

#include "data/base/error.h"

namespace ultrasr {
namespace {

constexpr int rows_a_strip = 16;

// ---- TIFF, little-endian ----

void put16(std::string& to, std::uint32_t v) {
    to += static_cast<char>(v & 0xFF);
    to += static_cast<char>(v >> 8 & 0xFF);
}
void put32(std::string& to, std::uint32_t v) {
    put16(to, v & 0xFFFF);
    put16(to, v >> 16);
}

enum class Type : std::uint32_t {
    byte = 1,
    ascii = 2,
    short_ = 3,
    long_ = 4,
    rational = 5,
    undefined = 7,
    srational = 10
};

/// A directory: tags in ascending order, values beside or behind it.
class Directory {
  public:
    void bytes(int tag, Type type, std::string_view value) {
        entries_[tag] = {type, static_cast<std::uint32_t>(value.size()), std::string(value)};
    }
    void text(int tag, const std::string& value) {
        bytes(tag, Type::ascii, std::string_view(value.c_str(), value.size() + 1));
    }
    void shorts(int tag, const std::vector<int>& values) {
        std::string data;
        for (const int v : values) put16(data, static_cast<std::uint32_t>(v));
        entries_[tag] = {Type::short_, static_cast<std::uint32_t>(values.size()), data};
    }
    void longs(int tag, const std::vector<std::uint32_t>& values) {
        std::string data;
        for (const std::uint32_t v : values) put32(data, v);
        entries_[tag] = {Type::long_, static_cast<std::uint32_t>(values.size()), data};
    }
    /// With the denominator given, rounded.
    void rationals(int tag, const std::vector<double>& values, int denominator) {
        const bool is_signed =
            std::any_of(values.begin(), values.end(), [](double v) { return v < 0; });
        std::string data;
        for (const double v : values) {
            put32(data, static_cast<std::uint32_t>(
                            static_cast<std::int32_t>(std::lround(v * denominator))));
            put32(data, static_cast<std::uint32_t>(denominator));
        }
        entries_[tag] = {is_signed ? Type::srational : Type::rational,
                         static_cast<std::uint32_t>(values.size()), data};
    }

    /// Size with all values behind it.
    std::uint32_t size() const {
        std::uint32_t size = 2 + 12 * static_cast<std::uint32_t>(entries_.size()) + 4;
        for (const auto& [tag, entry] : entries_) {
            if (entry.data.size() > 4) size += even(entry.data.size());
        }
        return size;
    }

    /// As it stands in the file from `offset` on.
    std::string serialised(std::uint32_t offset) const {
        std::string head, tail;
        put16(head, static_cast<std::uint32_t>(entries_.size()));
        const std::uint32_t values =
            offset + 2 + 12 * static_cast<std::uint32_t>(entries_.size()) + 4;
        for (const auto& [tag, entry] : entries_) {
            put16(head, static_cast<std::uint32_t>(tag));
            put16(head, static_cast<std::uint32_t>(entry.type));
            put32(head, entry.count);
            if (entry.data.size() <= 4) {
                head += entry.data;
                head.append(4 - entry.data.size(), '\0');
            } else {
                put32(head, values + static_cast<std::uint32_t>(tail.size()));
                tail += entry.data;
                if (entry.data.size() % 2 != 0) tail += '\0';
            }
        }
        put32(head, 0);  // no further directory
        return head + tail;
    }

  private:
    struct Entry {
        Type type;
        std::uint32_t count;
        std::string data;
    };
    static std::uint32_t even(std::size_t n) { return static_cast<std::uint32_t>(n + n % 2); }
    std::map<int, Entry> entries_;
};

// ---- Tags ----

struct CameraTime {
    std::string text, thousandths;
};

CameraTime camera_time(double taken_s) {
    const auto all = std::chrono::milliseconds(std::llround(taken_s * 1000));
    const std::chrono::sys_time<std::chrono::milliseconds> point{all};
    const auto day = std::chrono::floor<std::chrono::days>(point);
    const std::chrono::year_month_day date{day};
    const std::chrono::hh_mm_ss clock{point - day};
    return {fmt::format("{:04}:{:02}:{:02} {:02}:{:02}:{:02}", static_cast<int>(date.year()),
                        static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                        clock.hours().count(), clock.minutes().count(), clock.seconds().count()),
            fmt::format("{:03}", clock.subseconds().count())};
}

Directory exif_directory(const Exif& exif) {
    Directory d;
    d.bytes(36864, Type::undefined, "0230");
    if (exif.exposure_s) d.rationals(33434, {*exif.exposure_s}, 1000000);
    if (exif.f_number) d.rationals(33437, {*exif.f_number}, 10);
    if (exif.iso) d.shorts(34855, {*exif.iso});
    if (exif.taken_s) {
        const CameraTime time = camera_time(*exif.taken_s);
        d.text(36867, time.text);
        if (time.thousandths != "000") d.text(37521, time.thousandths);
    }
    if (exif.focal_length_mm) d.rationals(37386, {*exif.focal_length_mm}, 10);
    if (exif.color_space) d.shorts(40961, {*exif.color_space});
    if (exif.pixel_width) d.longs(40962, {static_cast<std::uint32_t>(*exif.pixel_width)});
    if (exif.pixel_height) d.longs(40963, {static_cast<std::uint32_t>(*exif.pixel_height)});
    if (exif.exposure_mode) d.shorts(41986, {*exif.exposure_mode});
    if (exif.white_balance) d.shorts(41987, {*exif.white_balance});
    if (exif.focal_length_35mm) {
        d.shorts(41989, {static_cast<int>(std::lround(*exif.focal_length_35mm))});
    }
    if (exif.lens_model) d.text(42036, *exif.lens_model);
    return d;
}

Directory picture_directory(const DngPicture& picture, const std::array<double, 3>& white) {
    const bool mosaic = picture.samples.channels() == 1;
    Directory d;
    d.longs(254, {0});  // the full picture
    d.longs(256, {static_cast<std::uint32_t>(picture.samples.cols)});
    d.longs(257, {static_cast<std::uint32_t>(picture.samples.rows)});
    d.shorts(258, std::vector<int>(mosaic ? 1 : 3, 16));
    d.shorts(259, {1});                       // not compressed
    d.shorts(262, {mosaic ? 32803 : 34892});  // colour filter array, or linear raw
    if (picture.exif.make) d.text(271, *picture.exif.make);
    if (picture.exif.model) d.text(272, *picture.exif.model);
    d.shorts(274, {picture.exif.orientation.value_or(1)});
    d.shorts(277, {mosaic ? 1 : 3});
    d.longs(278, {rows_a_strip});
    d.shorts(284, {1});
    d.text(305, "Ultra-SR");
    if (picture.exif.taken_s) d.text(306, camera_time(*picture.exif.taken_s).text);
    if (mosaic) {
        d.shorts(33421, {2, 2});
        d.bytes(33422, Type::byte, std::string_view("\0\1\1\2", 4));
    }
    d.bytes(50706, Type::byte, std::string_view("\1\4\0\0", 4));
    d.bytes(50707, Type::byte, std::string_view("\1\1\0\0", 4));
    d.text(50708, picture.exif.model.value_or("Ultra-SR"));
    if (mosaic) {
        d.bytes(50710, Type::byte, std::string_view("\0\1\2", 3));
        d.shorts(50711, {1});  // rectangular
    }
    d.shorts(50713, {1, 1});
    d.longs(50714,
            std::vector<std::uint32_t>(mosaic ? 1 : 3, static_cast<std::uint32_t>(picture.black)));
    d.longs(50717,
            std::vector<std::uint32_t>(mosaic ? 1 : 3, static_cast<std::uint32_t>(picture.white)));
    // IEC 61966-2-1: linear sRGB from XYZ (D65); then the sensor's answers
    constexpr std::array<double, 9> srgb_from_xyz{3.2404542,  -1.5371385, -0.4985314,
                                                  -0.9692660, 1.8760108,  0.0415560,
                                                  0.0556434,  -0.2040259, 1.0572252};
    std::vector<double> matrix;
    for (std::size_t i = 0; i < 9; ++i) matrix.push_back(srgb_from_xyz[i] * white[i / 3]);
    d.rationals(50721, matrix, 1000000);
    d.rationals(50728, {picture.neutral[0], picture.neutral[1], picture.neutral[2]}, 1000000);
    d.shorts(50778, {21});  // D65
    return d;
}

}  // namespace

std::string encode_dng(const DngPicture& picture, const std::array<double, 3>& camera_white) {
    const cv::Mat& samples = picture.samples;
    if (samples.empty() || (samples.type() != CV_16UC1 && samples.type() != CV_16UC3)) {
        fail(Fault::internal, "a DNG is written from 16-bit samples, one or three a pixel");
    }
    const bool black_allowed = samples.channels() == 1 || picture.black == 0;
    if (picture.black < 0 || !black_allowed || picture.white <= picture.black ||
        picture.white > 65535) {
        fail(Fault::internal, "a DNG cannot have black {} and white {}", picture.black,
             picture.white);
    }
    // Lay out: head, directory, EXIF directory, strips
    Directory main = picture_directory(picture, camera_white);
    const Directory exif = exif_directory(picture.exif);
    const auto strips =
        static_cast<std::uint32_t>((samples.rows + rows_a_strip - 1) / rows_a_strip);
    const auto row_bytes =
        static_cast<std::uint32_t>(samples.cols) * static_cast<std::uint32_t>(samples.elemSize());
    std::vector<std::uint32_t> offsets(strips), sizes(strips);
    main.longs(273, offsets);
    main.longs(279, sizes);
    main.longs(34665, {0});
    constexpr std::uint32_t start = 8;
    const std::uint32_t exif_at = start + main.size();
    std::uint32_t at = (exif_at + exif.size() + 15) / 16 * 16;
    for (std::uint32_t s = 0; s < strips; ++s) {
        const std::uint32_t rows = std::min<std::uint32_t>(
            rows_a_strip, static_cast<std::uint32_t>(samples.rows) - s * rows_a_strip);
        offsets[s] = at;
        sizes[s] = rows * row_bytes;
        at += sizes[s];
    }
    main.longs(273, offsets);
    main.longs(279, sizes);
    main.longs(34665, {exif_at});
    // Write
    std::string file("II*\0", 4);
    file.reserve(at);
    put32(file, start);
    file += main.serialised(start);
    file += exif.serialised(exif_at);
    file.resize(offsets[0], '\0');
    for (int y = 0; y < samples.rows; ++y) {
        const auto* row = samples.ptr<std::uint16_t>(y);
        const std::size_t from = file.size();
        file.resize(from + row_bytes);
        for (std::size_t i = 0; i < row_bytes / 2; ++i) {
            file[from + 2 * i] = static_cast<char>(row[i] & 0xFF);
            file[from + 2 * i + 1] = static_cast<char>(row[i] >> 8);
        }
    }
    return file;
}

}  // namespace ultrasr
