#include "data/image_io.h"

#include <png.h>
#include <turbojpeg.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cctype>
#include <csetjmp>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string_view>
#include <opencv2/core.hpp>

#include "data/base/error.h"
#include "data/file.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

const unsigned char* bytes_of(std::string_view file) {
    return reinterpret_cast<const unsigned char*>(file.data());
}

bool is_png(std::string_view file) { return file.starts_with("\x89PNG\r\n\x1a\n"); }
bool is_jpeg(std::string_view file) { return file.starts_with("\xff\xd8\xff"); }

void check_size(const fs::path& path, std::size_t width, std::size_t height,
                std::size_t most = DecodeOptions{}.max_pixels) {
    require(width > 0 && height > 0 && width <= most / height,
            "{} claims {} x {} pixels; the limit is {} pixels", path.string(), width, height, most);
}

cv::Mat to_bytes(const Image& image, Rounding rounding) {
    const Image levels = quantise_8bit(image, rounding);
    cv::Mat rgb(image.height(), image.width(), CV_8UC3);
    for (int y = 0; y < image.height(); ++y) {
        const float* from = levels.row(y);
        unsigned char* to = rgb.ptr(y);
        for (int i = 0; i < 3 * image.width(); ++i) {
            to[i] = static_cast<unsigned char>(from[i] * 255.0F + 0.5F);
        }
    }
    return rgb;
}

// ---- PNG, by libpng: it alone tells bit depth, alpha and damage apart without printing ----

struct PngFault {
    std::jmp_buf jump;
    std::array<char, 160> text{};
};

[[noreturn]] void on_png_error(png_structp png, png_const_charp text) {
    auto* fault = static_cast<PngFault*>(png_get_error_ptr(png));
    std::strncpy(fault->text.data(), text, fault->text.size() - 1);
    std::longjmp(fault->jump, 1);
}

void on_png_warning(png_structp, png_const_charp) {}

struct PngInput {
    const unsigned char* at;
    std::size_t left;
};

void read_png_bytes(png_structp png, png_bytep to, png_size_t n) {
    auto* input = static_cast<PngInput*>(png_get_io_ptr(png));
    if (n > input->left) png_error(png, "the file ends too early");
    std::memcpy(to, input->at, n);
    input->at += n;
    input->left -= n;
}

/// libpng's two objects, freed together.
struct PngReader {
    PngFault fault;
    png_structp png;
    png_infop info;
    PngReader()
        : png(png_create_read_struct(PNG_LIBPNG_VER_STRING, &fault, on_png_error, on_png_warning)),
          info(png ? png_create_info_struct(png) : nullptr) {
        if (!info) throw std::bad_alloc();
    }
    ~PngReader() { png_destroy_read_struct(&png, &info, nullptr); }
    PngReader(const PngReader&) = delete;
    PngReader& operator=(const PngReader&) = delete;
};

/// What libpng is asked for besides RGB.
struct PngWish {
    bool keep_16_bits = false, keep_alpha = false;
};

/// Reads the head and asks for RGB. False after a fault. No C++ object lives across longjmp.
bool start_png(PngReader& reader, PngInput& input, ImageOrigin& origin, PngWish wish = {}) {
    if (setjmp(reader.fault.jump)) return false;
    png_set_read_fn(reader.png, &input, read_png_bytes);
    png_read_info(reader.png, reader.info);
    const int kind = png_get_color_type(reader.png, reader.info);
    origin.bits = png_get_bit_depth(reader.png, reader.info);
    origin.channels = (kind & PNG_COLOR_MASK_COLOR ? 3 : 1) +
                      (kind & PNG_COLOR_MASK_ALPHA ? 1 : 0) +
                      (png_get_valid(reader.png, reader.info, PNG_INFO_tRNS) ? 1 : 0);
    png_set_expand(reader.png);
    origin.profile = png_get_valid(reader.png, reader.info, PNG_INFO_iCCP) != 0;
    if (!wish.keep_16_bits) {
        png_set_strip_16(reader.png);  // the high byte
    } else if (std::endian::native == std::endian::little) {
        png_set_swap(reader.png);
    }
    if (!wish.keep_alpha) png_set_strip_alpha(reader.png);
    png_set_gray_to_rgb(reader.png);
    png_set_interlace_handling(reader.png);
    png_read_update_info(reader.png, reader.info);
    return true;
}

bool finish_png(PngReader& reader, png_bytepp rows) {
    if (setjmp(reader.fault.jump)) return false;
    png_read_image(reader.png, rows);
    png_read_end(reader.png, nullptr);
    return true;
}

[[noreturn]] void fail_broken(const fs::path& path, std::string_view kind, std::string_view why) {
    fail(Fault::input, "{} is a broken {} ({}); replace the file", path.string(), kind, why);
}

/// Pixels as the file holds them, RGB, and what is known of them.
struct DecodedBytes {
    cv::Mat rgb;
    ImageOrigin origin;
    int orientation = 1;  ///< EXIF, not applied
};

/// Four channels to three: a c + (1 - a) background, rounded.
template <class Sample>
cv::Mat blended(const cv::Mat& rgba, const std::array<unsigned char, 3>& over) {
    constexpr std::uint64_t most = std::numeric_limits<Sample>::max();
    cv::Mat rgb(rgba.size(), CV_MAKETYPE(rgba.depth(), 3));
    for (int y = 0; y < rgba.rows; ++y) {
        const Sample* from = rgba.ptr<Sample>(y);
        Sample* to = rgb.ptr<Sample>(y);
        for (int x = 0; x < rgba.cols; ++x, from += 4, to += 3) {
            for (std::size_t c = 0; c < 3; ++c) {
                const std::uint64_t background = over[c] * most / 255;
                to[c] = static_cast<Sample>(
                    (from[c] * std::uint64_t{from[3]} + background * (most - from[3]) + most / 2) /
                    most);
            }
        }
    }
    return rgb;
}

DecodedBytes decode_png(const fs::path& path, std::string_view file, const DecodeOptions& options) {
    // Look at the head first: what is asked for depends on what is there
    DecodedBytes decoded;
    {
        PngReader head;
        PngInput input{bytes_of(file), file.size()};
        if (!start_png(head, input, decoded.origin))
            fail_broken(path, "PNG", head.fault.text.data());
    }
    const bool deep = options.keep_16_bits && decoded.origin.bits == 16;
    const bool alpha = options.over && decoded.origin.has_alpha();
    PngReader reader;
    PngInput input{bytes_of(file), file.size()};
    if (!start_png(reader, input, decoded.origin, {deep, alpha}))
        fail_broken(path, "PNG", reader.fault.text.data());
    const std::size_t width = png_get_image_width(reader.png, reader.info);
    const std::size_t height = png_get_image_height(reader.png, reader.info);
    check_size(path, width, height, options.max_pixels);
    decoded.rgb.create(static_cast<int>(height), static_cast<int>(width),
                       CV_MAKETYPE(deep ? CV_16U : CV_8U, alpha ? 4 : 3));
    std::vector<png_bytep> rows;
    for (int y = 0; y < decoded.rgb.rows; ++y) rows.push_back(decoded.rgb.ptr(y));
    if (!finish_png(reader, rows.data())) fail_broken(path, "PNG", reader.fault.text.data());
    if (alpha) {
        decoded.rgb = deep ? blended<std::uint16_t>(decoded.rgb, *options.over)
                           : blended<std::uint8_t>(decoded.rgb, *options.over);
    }
    return decoded;
}

struct PngOutput {
    std::string bytes;
};

void write_png_bytes(png_structp png, png_bytep from, png_size_t n) {
    static_cast<PngOutput*>(png_get_io_ptr(png))
        ->bytes.append(reinterpret_cast<const char*>(from), n);
}

/// How a PNG is compressed.
struct PngEffort {
    int level;    ///< zlib, 1 to 9
    int filters;  ///< of libpng; several: the best of each row by libpng's estimate
};

bool write_png_rows(png_structp png, png_infop info, PngFault& fault, PngOutput& output,
                    png_bytepp rows, png_uint_32 width, png_uint_32 height, int bits,
                    PngEffort effort) {
    if (setjmp(fault.jump)) return false;
    png_set_write_fn(png, &output, write_png_bytes, nullptr);
    png_set_compression_level(png, effort.level);
    png_set_filter(png, PNG_FILTER_TYPE_BASE, effort.filters);
    png_set_IHDR(png, info, width, height, bits, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    if (bits == 16 && std::endian::native == std::endian::little) png_set_swap(png);
    png_write_image(png, rows);
    png_write_end(png, info);
    return true;
}

/// rgb  CV_8UC3 or CV_16UC3
std::string png_of(const cv::Mat& rgb, PngEffort effort) {
    std::vector<png_bytep> rows;
    for (int y = 0; y < rgb.rows; ++y) rows.push_back(const_cast<png_bytep>(rgb.ptr(y)));
    PngFault fault;
    PngOutput output;
    png_structp png =
        png_create_write_struct(PNG_LIBPNG_VER_STRING, &fault, on_png_error, on_png_warning);
    png_infop info = png ? png_create_info_struct(png) : nullptr;
    const bool done =
        info &&
        write_png_rows(png, info, fault, output, rows.data(), static_cast<png_uint_32>(rgb.cols),
                       static_cast<png_uint_32>(rgb.rows), rgb.depth() == CV_16U ? 16 : 8, effort);
    png_destroy_write_struct(&png, &info);
    if (!done) fail(Fault::internal, "a PNG cannot be encoded: {}", fault.text.data());
    return std::move(output.bytes);
}

// ---- JPEG, by TurboJPEG ----

/// The EXIF orientation (1 to 8) of a JPEG; 1 when there is none. Source: EXIF 2.32, tag 0x0112.
int exif_orientation(std::string_view file) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(file[i]); };
    // Walk the JPEG segments to APP1
    std::size_t at = 2;
    while (at + 4 <= file.size() && byte(at) == 0xFF && byte(at + 1) != 0xDA) {
        const std::size_t length = std::size_t{byte(at + 2)} << 8 | byte(at + 3);
        const std::string_view segment = file.substr(at + 4, length >= 2 ? length - 2 : 0);
        if (byte(at + 1) == 0xE1 && segment.starts_with(std::string_view("Exif\0\0", 6))) {
            // Walk the first directory of the TIFF inside
            const std::string_view tiff = segment.substr(6);
            const bool little = tiff.starts_with("II");
            const auto number = [&](std::size_t i, std::size_t n) -> std::size_t {
                std::size_t value = 0;
                if (i + n > tiff.size()) return 0;
                for (std::size_t k = 0; k < n; ++k) {
                    const auto b = static_cast<unsigned char>(tiff[i + (little ? n - 1 - k : k)]);
                    value = value << 8 | b;
                }
                return value;
            };
            const std::size_t directory = number(4, 4);
            const std::size_t entries = number(directory, 2);
            for (std::size_t e = 0; e < entries; ++e) {
                const std::size_t entry = directory + 2 + 12 * e;
                if (number(entry, 2) != 0x0112) continue;
                const std::size_t value = number(entry + 8, 2);
                return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
            }
            return 1;
        }
        at += 2 + length;
    }
    return 1;
}

cv::Mat oriented(cv::Mat rgb, int orientation) {
    if (orientation >= 5) cv::transpose(rgb, rgb);
    switch (orientation) {
        case 2:
        case 6:
            cv::flip(rgb, rgb, 1);
            break;  // around the vertical axis
        case 3:
        case 7:
            cv::flip(rgb, rgb, -1);
            break;
        case 4:
        case 8:
            cv::flip(rgb, rgb, 0);
            break;
        default:
            break;
    }
    return rgb;
}

using Turbo = std::unique_ptr<void, int (*)(tjhandle)>;

/// True if a segment of that marker begins with the text, before the first scan.
bool has_segment(std::string_view file, unsigned char marker, std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(file[i]); };
    for (std::size_t at = 2; at + 4 <= file.size() && byte(at) == 0xFF && byte(at + 1) != 0xDA;
         at += 2 + (std::size_t{byte(at + 2)} << 8 | byte(at + 3))) {
        if (byte(at + 1) == marker && file.substr(at + 4).starts_with(text)) return true;
    }
    return false;
}

/// CMYK to RGB without a profile. Adobe writes it inverted: 255 = no ink.
cv::Mat rgb_of_cmyk(const cv::Mat& cmyk, bool inverted) {
    cv::Mat rgb(cmyk.size(), CV_8UC3);
    for (int y = 0; y < cmyk.rows; ++y) {
        const unsigned char* from = cmyk.ptr(y);
        unsigned char* to = rgb.ptr(y);
        for (int x = 0; x < cmyk.cols; ++x, from += 4, to += 3) {
            const auto light = [&](int i) { return inverted ? from[i] : 255 - from[i]; };
            for (int c = 0; c < 3; ++c) {
                to[c] = static_cast<unsigned char>((light(c) * light(3) + 127) / 255);
            }
        }
    }
    return rgb;
}

DecodedBytes decode_jpeg(const fs::path& path, std::string_view file,
                         const DecodeOptions& options) {
    const Turbo turbo(tjInitDecompress(), &tjDestroy);
    if (!turbo) throw std::bad_alloc();
    int width = 0, height = 0, subsampling = 0, space = 0;
    if (tjDecompressHeader3(turbo.get(), bytes_of(file), file.size(), &width, &height, &subsampling,
                            &space) != 0) {
        fail_broken(path, "JPEG", tjGetErrorStr2(turbo.get()));
    }
    check_size(path, static_cast<std::size_t>(width), static_cast<std::size_t>(height),
               options.max_pixels);
    DecodedBytes decoded;
    decoded.origin.cmyk = space == TJCS_CMYK || space == TJCS_YCCK;
    decoded.rgb.create(height, width, decoded.origin.cmyk ? CV_8UC4 : CV_8UC3);
    // A warning (premature end, corrupt data) is an error: the rest would be grey
    if (tjDecompress2(turbo.get(), bytes_of(file), file.size(), decoded.rgb.data, width,
                      static_cast<int>(decoded.rgb.step), height,
                      decoded.origin.cmyk ? TJPF_CMYK : TJPF_RGB,
                      options.allow_truncated ? 0 : TJFLAG_STOPONWARNING) != 0) {
        if (!options.allow_truncated || tjGetErrorCode(turbo.get()) != TJERR_WARNING) {
            fail_broken(path, "JPEG", tjGetErrorStr2(turbo.get()));
        }
        decoded.origin.truncated = true;
    }
    if (decoded.origin.cmyk) {
        decoded.rgb = rgb_of_cmyk(decoded.rgb, has_segment(file, 0xEE, "Adobe"));
    }
    decoded.origin.profile = has_segment(file, 0xE2, "ICC_PROFILE");
    decoded.orientation = exif_orientation(file);
    decoded.origin.channels = space == TJCS_GRAY ? 1 : 3;
    decoded.origin.lossy = true;
    return decoded;
}

DecodedBytes decode_bytes(const fs::path& path, std::string_view file,
                          const DecodeOptions& options = {}) {
    require(!file.empty(), "{} is empty; replace the file", path.string());
    if (is_png(file)) return decode_png(path, file, options);
    if (is_jpeg(file)) return decode_jpeg(path, file, options);
    fail(Fault::input, "{} is not a PNG or JPEG picture; convert it to PNG", path.string());
}

}  // namespace

Image image_of_rgb8(const cv::Mat& rgb) {
    static const auto level = [] {
        std::array<float, 256> table{};
        for (int k = 0; k < 256; ++k)
            table[static_cast<std::size_t>(k)] = static_cast<float>(k) / 255.0F;
        return table;
    }();
    Image image(PixelSize{rgb.cols, rgb.rows});
    for (int y = 0; y < rgb.rows; ++y) {
        const unsigned char* from = rgb.ptr(y);
        float* to = image.row_(y);
        for (int i = 0; i < 3 * rgb.cols; ++i) to[i] = level[from[i]];
    }
    return image;
}

DecodedImage read_image(const fs::path& path) {
    DecodedBytes bytes = decode_bytes(path, read_file(path));
    DecodedImage decoded{{}, bytes.origin};
    decoded.origin.oriented = bytes.orientation != 1;
    decoded.image = image_of_rgb8(oriented(std::move(bytes.rgb), bytes.orientation));
    return decoded;
}

cv::Mat read_rgb8(const fs::path& path) { return decode_rgb8(read_file(path), path); }

cv::Mat decode_rgb8(std::string_view file, const fs::path& name) {
    return decode_bytes(name, file).rgb;
}

DecodedPixels decode_pixels(std::string_view file, const fs::path& name,
                            const DecodeOptions& options) {
    DecodedBytes bytes = decode_bytes(name, file, options);
    DecodedPixels decoded{std::move(bytes.rgb), bytes.origin};
    if (!options.orient || bytes.orientation == 1) return decoded;
    decoded.origin.oriented = true;
    decoded.rgb = oriented(std::move(decoded.rgb), bytes.orientation);
    return decoded;
}

bool is_picture(std::string_view head) { return is_png(head) || is_jpeg(head); }

std::optional<PixelSize> stored_size(std::string_view head) {
    if (is_png(head)) {
        PngReader reader;
        PngInput input{bytes_of(head), head.size()};
        ImageOrigin origin;
        if (!start_png(reader, input, origin)) return std::nullopt;
        return PixelSize{static_cast<int>(png_get_image_width(reader.png, reader.info)),
                         static_cast<int>(png_get_image_height(reader.png, reader.info))};
    }
    if (!is_jpeg(head)) return std::nullopt;
    const Turbo turbo(tjInitDecompress(), &tjDestroy);
    if (!turbo) throw std::bad_alloc();
    int width = 0, height = 0, subsampling = 0, space = 0;
    if (tjDecompressHeader3(turbo.get(), bytes_of(head), head.size(), &width, &height, &subsampling,
                            &space) != 0) {
        return std::nullopt;
    }
    if (width <= 0 || height <= 0) return std::nullopt;  // a head without a frame: cut off
    return PixelSize{width, height};
}

PixelSize read_image_size(const fs::path& path) {
    const std::string file = read_file(path);
    if (is_png(file)) {
        PngReader reader;
        PngInput input{bytes_of(file), file.size()};
        ImageOrigin origin;
        if (!start_png(reader, input, origin)) fail_broken(path, "PNG", reader.fault.text.data());
        return {static_cast<int>(png_get_image_width(reader.png, reader.info)),
                static_cast<int>(png_get_image_height(reader.png, reader.info))};
    }
    if (is_jpeg(file)) {
        const Turbo turbo(tjInitDecompress(), &tjDestroy);
        int width = 0, height = 0, subsampling = 0, space = 0;
        if (!turbo || tjDecompressHeader3(turbo.get(), bytes_of(file), file.size(), &width, &height,
                                          &subsampling, &space) != 0) {
            fail_broken(path, "JPEG", turbo ? tjGetErrorStr2(turbo.get()) : "no memory");
        }
        if (width <= 0 || height <= 0) fail_broken(path, "JPEG", "its head is cut off");
        if (exif_orientation(file) >= 5) std::swap(width, height);
        return {width, height};
    }
    fail(Fault::input, "{} is not a PNG or JPEG picture; convert it to PNG", path.string());
}

std::string encode_png(const Image& image, Rounding rounding) {
    // Level 4: half the time of level 6 for 2 % more bytes
    return png_of(to_bytes(image, rounding), {4, PNG_ALL_FILTERS});
}

std::string encode_png(const cv::Mat& rgb, int level) {
    if (rgb.empty() || (rgb.type() != CV_8UC3 && rgb.type() != CV_16UC3)) {
        fail(Fault::internal, "a PNG holds 8- or 16-bit RGB, got OpenCV type {}", rgb.type());
    }
    return png_of(
        rgb, {level, rgb.depth() == CV_8U ? (getenv("F8") ? atoi(getenv("F8")) : PNG_ALL_FILTERS)
                                          : (getenv("F8") ? atoi(getenv("F8")) : PNG_ALL_FILTERS)});
}

std::string encode_jpeg(const Image& image, int quality) {
    return encode_jpeg(to_bytes(image, Rounding::half_even), quality, true);
}

std::string encode_jpeg(const cv::Mat& rgb8, int quality, bool subsample) {
    if (rgb8.empty() || rgb8.type() != CV_8UC3) {
        fail(Fault::internal, "a JPEG is encoded from 8-bit RGB pixels only");
    }
    const Turbo turbo(tjInitCompress(), &tjDestroy);
    unsigned char* buffer = nullptr;
    unsigned long size = 0;
    const bool done =
        turbo && tjCompress2(turbo.get(), rgb8.data, rgb8.cols, static_cast<int>(rgb8.step),
                             rgb8.rows, TJPF_RGB, &buffer, &size,
                             subsample ? TJSAMP_420 : TJSAMP_444, quality, TJFLAG_ACCURATEDCT) == 0;
    std::string bytes(reinterpret_cast<char*>(buffer), done ? size : 0);
    tjFree(buffer);
    if (!done) fail(Fault::internal, "a JPEG cannot be encoded");
    return bytes;
}

void write_png(const fs::path& path, const Image& image, Rounding rounding) {
    write_file(path, encode_png(image, rounding));
}

bool is_image_file(const fs::path& path) {
    std::string extension = path.extension().string();
    std::transform(extension.begin(), extension.end(), extension.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return extension == ".png" || extension == ".jpg" || extension == ".jpeg";
}

std::vector<fs::path> list_images(const fs::path& folder) {
    require(fs::is_directory(folder), "{} is not a folder", folder.string());
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(folder)) {
        const bool hidden = entry.path().filename().string().starts_with(".");
        if (!hidden && entry.is_regular_file() && is_image_file(entry.path())) {
            files.push_back(entry.path());
        }
    }
    std::sort(files.begin(), files.end(), [](const fs::path& a, const fs::path& b) {
        return a.filename().string() < b.filename().string();
    });
    return files;
}

std::vector<fs::path> list_images_below(const fs::path& folder) {
    std::vector<fs::path> files = list_images(folder);
    std::vector<fs::path> folders;
    for (const auto& entry : fs::directory_iterator(folder)) {
        const bool hidden = entry.path().filename().string().starts_with(".");
        if (!hidden && entry.is_directory() && !entry.is_symlink()) folders.push_back(entry.path());
    }
    for (const fs::path& below : folders) {
        const auto more = list_images_below(below);
        files.insert(files.end(), more.begin(), more.end());
    }
    std::sort(files.begin(), files.end());
    return files;
}

}  // namespace ultrasr
