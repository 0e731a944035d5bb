#include "acquisition/exif.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <mutex>
#include <numeric>
#include <exiv2/exiv2.hpp>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/file.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

/// Exiv2's XMP parser and its log are global: one caller at a time, and not a word on stderr.
std::unique_lock<std::mutex> enter_exiv2() {
    static std::mutex mutex;
    std::unique_lock lock(mutex);
    static const bool ready = [] {
        Exiv2::LogMsg::setLevel(Exiv2::LogMsg::mute);
        return Exiv2::XmpParser::initialize();
    }();
    static_cast<void>(ready);
    return lock;
}

// ---- Single values ----

const Exiv2::Exifdatum* find(const Exiv2::ExifData& data, const Exiv2::ExifKey& key) {
    const auto at = data.findKey(key);
    return at == data.end() || at->count() == 0 ? nullptr : &*at;
}
const Exiv2::Exifdatum* find(const Exiv2::ExifData& data, const char* key) {
    return find(data, Exiv2::ExifKey(key));
}
/// A tag of which Exiv2 knows several by one name.
struct NumberedTag {
    std::uint16_t number;
    const char* group;
};
const Exiv2::Exifdatum* find(const Exiv2::ExifData& data, const NumberedTag& tag) {
    return find(data, Exiv2::ExifKey(tag.number, tag.group));
}

/// The first of the keys that is there; NEF and DNG hold some tags of EXIF in their first
/// directory.
const Exiv2::Exifdatum* find_any(const Exiv2::ExifData& data,
                                 std::initializer_list<const char*> keys) {
    for (const char* key : keys) {
        if (const auto* datum = find(data, key)) return datum;
    }
    return nullptr;
}

/// Text without padding; nothing when empty.
std::optional<std::string> text_of(const Exiv2::Exifdatum* datum) {
    if (!datum) return std::nullopt;
    std::string text = datum->toString();
    text.erase(std::find(text.begin(), text.end(), '\0'), text.end());
    const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; };
    while (!text.empty() && blank(text.back())) text.pop_back();
    while (!text.empty() && blank(text.front())) text.erase(text.begin());
    if (text.empty()) return std::nullopt;
    return text;
}

/// A number above 0: in all tags read here 0 and 1/0 stand for "unknown".
std::optional<double> positive_of(const Exiv2::Exifdatum* datum) {
    if (!datum) return std::nullopt;
    double value = 0;
    const auto type = datum->typeId();
    if (type == Exiv2::unsignedRational || type == Exiv2::signedRational) {
        const Exiv2::Rational r = datum->toRational(0);
        if (r.second == 0) return std::nullopt;
        value = static_cast<double>(r.first) / r.second;
        if (type == Exiv2::unsignedRational) {  // Rational is signed: large values wrap
            value = static_cast<double>(static_cast<std::uint32_t>(r.first)) /
                    static_cast<std::uint32_t>(r.second);
        }
    } else {
        value = static_cast<double>(datum->toFloat(0));
    }
    if (!std::isfinite(value) || value <= 0) return std::nullopt;
    return value;
}

std::optional<int> integer_of(const Exiv2::Exifdatum* datum) {
    if (!datum) return std::nullopt;
    const std::string text = datum->toString(0);
    try {
        return std::stoi(text);
    } catch (const std::exception&) {
        return std::nullopt;  // text where a number belongs: as good as missing
    }
}

std::optional<int> integer_within(const Exiv2::Exifdatum* datum, int least, int most) {
    const auto value = integer_of(datum);
    return value && *value >= least && *value <= most ? value : std::nullopt;
}

// ---- Time ----

/// "2024:05:01 10:20:30" and "25" to seconds since 1970, taken as if the clock showed UTC.
std::optional<double> seconds_of(const std::optional<std::string>& text,
                                 const std::optional<std::string>& fraction) {
    if (!text) return std::nullopt;
    int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
    if (std::sscanf(text->c_str(), "%4d%*1[:/-]%2d%*1[:/-]%2d%*1[ T]%2d:%2d:%2d", &year, &month,
                    &day, &hour, &minute, &second) != 6) {
        return std::nullopt;
    }
    const std::chrono::year_month_day date{std::chrono::year{year},
                                           std::chrono::month{static_cast<unsigned>(month)},
                                           std::chrono::day{static_cast<unsigned>(day)}};
    if (!date.ok() || month < 0 || day < 0 || hour > 23 || minute > 59 || second > 60) {
        return std::nullopt;
    }
    const auto days = std::chrono::sys_days(date).time_since_epoch().count();
    double seconds = 86400.0 * static_cast<double>(days) + 3600.0 * hour + 60.0 * minute + second;
    if (fraction && fraction->find_first_not_of("0123456789") == std::string::npos) {
        seconds += std::stod("0." + *fraction);
    }
    return seconds;
}

struct ExifTime {
    std::string text, fraction;  ///< fraction in thousandths; empty when 0
};

ExifTime time_of(double taken_s) {
    const auto all = static_cast<std::int64_t>(std::llround(taken_s * 1000.0));
    const auto whole = all >= 0 ? all / 1000 : (all - 999) / 1000;
    const std::chrono::sys_seconds point{std::chrono::seconds{whole}};
    const auto day = std::chrono::floor<std::chrono::days>(point);
    const std::chrono::year_month_day date{day};
    const std::chrono::hh_mm_ss clock{point - day};
    ExifTime time;
    time.text =
        fmt::format("{:04}:{:02}:{:02} {:02}:{:02}:{:02}", static_cast<int>(date.year()),
                    static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                    clock.hours().count(), clock.minutes().count(), clock.seconds().count());
    if (all != 1000 * whole) time.fraction = fmt::format("{:03}", all - 1000 * whole);
    return time;
}

// ---- Nikon maker notes ----
// Source: the tag tables of ExifTool 12, Nikon.pm (VRInfo, DistortInfo, VignetteControl,
// LensData0101).

struct Level {
    int value;
    const char* name;
};
constexpr std::array distortion_levels{Level{0, "Off"}, Level{1, "On"},
                                       Level{2, "On (underwater)"}};
constexpr std::array vignette_levels{Level{0, "Off"}, Level{1, "Low"}, Level{3, "Normal"},
                                     Level{5, "High"}};
constexpr std::array vr_levels{Level{0, "n/a"}, Level{1, "On"}, Level{2, "Off"}};

template <std::size_t N>
std::optional<std::string> name_of(const std::array<Level, N>& levels, std::optional<int> value) {
    if (!value) return std::nullopt;
    for (const Level& level : levels) {
        if (level.value == *value) return level.name;
    }
    return fmt::format("unknown ({})", *value);
}

template <std::size_t N>
int value_of(const std::array<Level, N>& levels, const std::string& name, const char* tag) {
    std::string known;
    for (const Level& level : levels) {
        if (level.name == name) return level.value;
        known += (known.empty() ? "" : ", ") + std::string(level.name);
    }
    fail(Fault::internal, "{} cannot be \"{}\"; known: {}", tag, name, known);
}

constexpr NumberedTag distort_info{0x002b, "Nikon3"};  // "0100", then 0 or 1
constexpr std::array focus_distance_keys{
    NumberedTag{0x004f, "NikonLd4"}, NumberedTag{0x000b, "NikonLd4"},
    NumberedTag{0x000a, "NikonLd3"}, NumberedTag{0x0009, "NikonLd2"}};
constexpr std::array lens_id_keys{NumberedTag{0x0030, "NikonLd4"}, NumberedTag{0x000d, "NikonLd4"},
                                  NumberedTag{0x000c, "NikonLd3"}, NumberedTag{0x000b, "NikonLd2"},
                                  NumberedTag{0x0006, "NikonLd1"}};

/// LensData codes distances by the power of ten in fortieths of a centimetre's logarithm.
double distance_of_code(int code) { return 0.01 * std::pow(10.0, code / 40.0); }
int code_of_distance(double metres) {
    return static_cast<int>(std::clamp(std::lround(40.0 * std::log10(metres / 0.01)), 1L, 255L));
}

void read_nikon(const Exiv2::ExifData& data, Exif& exif) {
    const Exiv2::Exifdatum* info = find(data, distort_info);
    if (info && info->count() > 4) {
        exif.auto_distortion_control =
            name_of(distortion_levels, static_cast<int>(info->toFloat(4)));
    }
    exif.vignette_control =
        name_of(vignette_levels, integer_of(find(data, "Exif.Nikon3.VignetteControl")));
    exif.vibration_reduction =
        name_of(vr_levels, integer_of(find(data, "Exif.NikonVr.VibrationReduction")));
    // LensData of Z cameras, then of older ones; 0 where the lens does not say
    for (const auto& key : focus_distance_keys) {
        const auto code = integer_within(find(data, key), 1, 255);
        if (code && !exif.focus_distance_m) exif.focus_distance_m = distance_of_code(*code);
    }
    if (!exif.focus_distance_m) {
        exif.focus_distance_m = positive_of(find(data, "Exif.Nikon3.FocusDistance"));
    }
    for (const auto& key : lens_id_keys) {
        const auto id = integer_within(find(data, key), 1, 65535);
        if (id && !exif.lens_id) exif.lens_id = std::to_string(*id);
    }
}

Exif from_exiv2(const Exiv2::ExifData& data) {
    Exif exif;
    exif.make = text_of(find(data, "Exif.Image.Make"));
    exif.model = text_of(find(data, "Exif.Image.Model"));
    exif.lens_model = text_of(find(data, "Exif.Photo.LensModel"));
    exif.focal_length_mm =
        positive_of(find_any(data, {"Exif.Photo.FocalLength", "Exif.Image.FocalLength"}));
    exif.focal_length_35mm = positive_of(find(data, "Exif.Photo.FocalLengthIn35mmFilm"));
    exif.iso = integer_within(
        find_any(data, {"Exif.Photo.ISOSpeedRatings", "Exif.Image.ISOSpeedRatings"}), 1, 1 << 30);
    exif.exposure_s =
        positive_of(find_any(data, {"Exif.Photo.ExposureTime", "Exif.Image.ExposureTime"}));
    exif.f_number = positive_of(find_any(data, {"Exif.Photo.FNumber", "Exif.Image.FNumber"}));
    exif.exposure_mode = integer_of(find(data, "Exif.Photo.ExposureMode"));
    exif.white_balance = integer_of(find(data, "Exif.Photo.WhiteBalance"));
    exif.orientation = integer_within(find(data, "Exif.Image.Orientation"), 1, 8);
    exif.taken_s = seconds_of(
        text_of(find_any(data, {"Exif.Photo.DateTimeOriginal", "Exif.Image.DateTimeOriginal"})),
        text_of(find(data, "Exif.Photo.SubSecTimeOriginal")));
    exif.pixel_width = integer_within(find(data, "Exif.Photo.PixelXDimension"), 1, 1 << 30);
    exif.pixel_height = integer_within(find(data, "Exif.Photo.PixelYDimension"), 1, 1 << 30);
    exif.color_space = integer_of(find(data, "Exif.Photo.ColorSpace"));
    read_nikon(data, exif);
    return exif;
}

template <class Open>
Exif read_by(std::string_view name, Open&& open) {
    const auto lock = enter_exiv2();
    try {
        const auto image = open();
        image->readMetadata();
        return from_exiv2(image->exifData());
    } catch (const std::exception& why) {  // Exiv2's own and std::bad_alloc of a lying length
        fail(Fault::input, "{} has no readable picture data ({}); replace the file", name,
             why.what());
    }
}

// ---- Writing ----

/// The fraction nearest to a positive value among those with denominators up to 10000 (continued
/// fraction), so that 1/50 s is written as 1/50.
Exiv2::URational rational(double value) {
    if (!(value > 0)) return {0, 1};
    std::uint64_t p0 = 0, q0 = 1, p1 = 1, q1 = 0;
    double x = value;
    for (int i = 0; i < 32; ++i) {
        const double whole = std::floor(x);
        if (whole > 4e9) break;
        const auto a = static_cast<std::uint64_t>(whole);
        const std::uint64_t p2 = a * p1 + p0, q2 = a * q1 + q0;
        if (q2 > 10000 || p2 > 0xffffffffU) break;
        p0 = p1, q0 = q1, p1 = p2, q1 = q2;
        const double rest = x - whole;
        if (rest < 1e-9 ||
            std::abs(static_cast<double>(p1) / static_cast<double>(q1) - value) < 1e-12 * value) {
            break;
        }
        x = 1.0 / rest;
    }
    if (q1 == 0 || p1 == 0) {  // below 1/10000: as one over a whole number
        return {1, static_cast<std::uint32_t>(std::llround(std::min(1.0 / value, 4e9)))};
    }
    return {static_cast<std::uint32_t>(p1), static_cast<std::uint32_t>(q1)};
}

void put(Exiv2::ExifData& data, const char* key, const std::optional<std::string>& value) {
    if (value) data[key] = *value;
}
void put(Exiv2::ExifData& data, const char* key, std::optional<double> value) {
    if (value) data[key] = rational(*value);
}
void put_short(Exiv2::ExifData& data, const char* key, std::optional<int> value) {
    if (value) data[key] = static_cast<std::uint16_t>(std::clamp(*value, 0, 65535));
}
void put_bytes(Exiv2::ExifData& data, const Exiv2::ExifKey& key, Exiv2::TypeId type,
               const std::string& numbers) {
    const auto value = Exiv2::Value::create(type);
    value->read(numbers);
    data.add(key, value.get());
}

void put_nikon(Exiv2::ExifData& data, const Exif& exif) {
    const bool any = exif.auto_distortion_control || exif.vignette_control ||
                     exif.vibration_reduction || exif.focus_distance_m || exif.lens_id;
    if (!any) return;
    if (!exif.make || !exif.make->starts_with("NIKON")) {
        fail(Fault::internal, "Nikon maker notes need a make that starts with NIKON");
    }
    put_bytes(data, Exiv2::ExifKey("Exif.Nikon3.Version"), Exiv2::undefined, "48 50 49 48");
    if (exif.vibration_reduction) {
        put_bytes(data, Exiv2::ExifKey("Exif.NikonVr.Version"), Exiv2::undefined, "48 49 48 48");
        put_bytes(
            data, Exiv2::ExifKey("Exif.NikonVr.VibrationReduction"), Exiv2::unsignedByte,
            std::to_string(value_of(vr_levels, *exif.vibration_reduction, "VibrationReduction")));
    }
    if (exif.vignette_control) {
        put_short(data, "Exif.Nikon3.VignetteControl",
                  value_of(vignette_levels, *exif.vignette_control, "VignetteControl"));
    }
    if (exif.auto_distortion_control) {
        const int value =
            value_of(distortion_levels, *exif.auto_distortion_control, "AutoDistortionControl");
        put_bytes(data, Exiv2::ExifKey(distort_info.number, distort_info.group), Exiv2::undefined,
                  fmt::format("48 49 48 48 {} 0 0 0 0 0 0 0 0 0 0 0", value));
    }
    if (exif.focus_distance_m || exif.lens_id) {
        put_bytes(data, Exiv2::ExifKey("Exif.NikonLd2.Version"), Exiv2::undefined, "48 49 48 49");
    }
    if (exif.focus_distance_m) {
        put_bytes(data, Exiv2::ExifKey("Exif.NikonLd2.FocusDistance"), Exiv2::unsignedByte,
                  std::to_string(code_of_distance(*exif.focus_distance_m)));
    }
    if (exif.lens_id) {
        const bool number = !exif.lens_id->empty() && exif.lens_id->size() <= 3 &&
                            exif.lens_id->find_first_not_of("0123456789") == std::string::npos;
        if (!number || std::stoi(*exif.lens_id) > 255 || std::stoi(*exif.lens_id) < 1) {
            fail(Fault::internal, "a Nikon lens id is a number from 1 to 255, got \"{}\"",
                 *exif.lens_id);
        }
        put_bytes(data, Exiv2::ExifKey("Exif.NikonLd2.LensIDNumber"), Exiv2::unsignedByte,
                  *exif.lens_id);
    }
}

Exiv2::ExifData to_exiv2(const Exif& exif) {
    Exiv2::ExifData data;
    put_bytes(data, Exiv2::ExifKey("Exif.Photo.ExifVersion"), Exiv2::undefined, "48 50 51 48");
    put(data, "Exif.Image.Make", exif.make);
    put(data, "Exif.Image.Model", exif.model);
    put(data, "Exif.Photo.LensModel", exif.lens_model);
    put(data, "Exif.Photo.FocalLength", exif.focal_length_mm);
    if (exif.focal_length_35mm) {
        put_short(data, "Exif.Photo.FocalLengthIn35mmFilm",
                  static_cast<int>(std::lround(*exif.focal_length_35mm)));
    }
    put_short(data, "Exif.Photo.ISOSpeedRatings", exif.iso);
    put(data, "Exif.Photo.ExposureTime", exif.exposure_s);
    put(data, "Exif.Photo.FNumber", exif.f_number);
    put_short(data, "Exif.Photo.ExposureMode", exif.exposure_mode);
    put_short(data, "Exif.Photo.WhiteBalance", exif.white_balance);
    put_short(data, "Exif.Image.Orientation", exif.orientation);
    if (exif.taken_s) {
        const ExifTime time = time_of(*exif.taken_s);
        data["Exif.Photo.DateTimeOriginal"] = time.text;
        if (!time.fraction.empty()) data["Exif.Photo.SubSecTimeOriginal"] = time.fraction;
    }
    if (exif.pixel_width) {
        data["Exif.Photo.PixelXDimension"] = static_cast<std::uint32_t>(*exif.pixel_width);
    }
    if (exif.pixel_height) {
        data["Exif.Photo.PixelYDimension"] = static_cast<std::uint32_t>(*exif.pixel_height);
    }
    put_short(data, "Exif.Photo.ColorSpace", exif.color_space);
    put_nikon(data, exif);
    return data;
}

/// The JPEG's bytes behind its start marker, without segments that hold EXIF.
std::string without_exif(std::string_view jpeg) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(jpeg[i]); };
    std::string rest;
    std::size_t at = 2;
    while (at + 4 <= jpeg.size() && byte(at) == 0xFF && byte(at + 1) != 0xDA &&
           byte(at + 1) != 0xFF) {
        const std::size_t length = 2 + (std::size_t{byte(at + 2)} << 8 | byte(at + 3));
        const std::string_view segment = jpeg.substr(at, length);
        const bool exif =
            byte(at + 1) == 0xE1 && segment.substr(std::min<std::size_t>(4, segment.size()))
                                        .starts_with(std::string_view("Exif\0\0", 6));
        if (!exif) rest += segment;
        at = std::min(jpeg.size(), at + length);
    }
    rest += jpeg.substr(at);
    return rest;
}

}  // namespace

Exif read_exif(const fs::path& path) {
    require(fs::is_regular_file(path), "cannot read {}: it is not a regular file", path.string());
    return read_by(path.string(), [&] { return Exiv2::ImageFactory::open(path.string()); });
}

Exif read_exif_from_memory(std::string_view file, std::string_view name) {
    const auto* bytes = reinterpret_cast<const Exiv2::byte*>(file.data());
    return read_by(
        name, [&] { return Exiv2::ImageFactory::open(bytes, static_cast<long>(file.size())); });
}

std::string with_exif(std::string_view jpeg, const Exif& exif) {
    if (!jpeg.starts_with("\xff\xd8\xff")) {
        fail(Fault::internal, "EXIF belongs into a JPEG, and these bytes are none");
    }
    Exiv2::Blob blob;
    {
        const auto lock = enter_exiv2();
        Exiv2::ExifData data = to_exiv2(exif);
        Exiv2::ExifParser::encode(blob, Exiv2::littleEndian, data);
    }
    const std::size_t length = 2 + 6 + blob.size();  // the two bytes themselves, "Exif\0\0", TIFF
    if (length > 0xffff) fail(Fault::internal, "EXIF of {} bytes does not fit a JPEG", blob.size());
    std::string bytes("\xff\xd8\xff\xe1", 4);
    bytes += static_cast<char>(length >> 8);
    bytes += static_cast<char>(length & 255);
    bytes += std::string_view("Exif\0\0", 6);
    bytes.append(blob.begin(), blob.end());
    bytes += without_exif(jpeg);
    return bytes;
}

Json exif_to_json(const Exif& exif) {
    Json json = Json::object();
    const auto put_json = [&](const char* key, const auto& value) {
        json[key] = value ? Json(*value) : Json(nullptr);
    };
    put_json("make", exif.make);
    put_json("model", exif.model);
    put_json("lens_model", exif.lens_model);
    put_json("focal_length_mm", exif.focal_length_mm);
    put_json("focal_length_35mm", exif.focal_length_35mm);
    put_json("iso", exif.iso);
    put_json("exposure_s", exif.exposure_s);
    put_json("f_number", exif.f_number);
    put_json("exposure_mode", exif.exposure_mode);
    put_json("white_balance", exif.white_balance);
    put_json("orientation", exif.orientation);
    put_json("taken_s", exif.taken_s);
    put_json("pixel_width", exif.pixel_width);
    put_json("pixel_height", exif.pixel_height);
    put_json("color_space", exif.color_space);
    put_json("auto_distortion_control", exif.auto_distortion_control);
    put_json("vignette_control", exif.vignette_control);
    put_json("vibration_reduction", exif.vibration_reduction);
    put_json("focus_distance_m", exif.focus_distance_m);
    put_json("lens_id", exif.lens_id);
    return json;
}

}  // namespace ultrasr
