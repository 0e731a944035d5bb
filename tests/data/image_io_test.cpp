#include <cmath>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "data/base/error.h"
#include "data/file.h"
#include "data/image.h"
#include "data/image_io.h"
#include "tests/test.h"

using namespace ultrasr;
namespace fs = std::filesystem;

namespace {

/// Colours that differ in every pixel and channel.
cv::Mat pattern(int type, int width = 23, int height = 17) {
    cv::Mat mat(height, width, type);
    const int n = width * mat.channels();
    for (int y = 0; y < height; ++y) {
        for (int i = 0; i < n; ++i) {
            const int value = 37 * y + 11 * i + (i * y) % 7;
            if (mat.depth() == CV_8U) mat.ptr(y)[i] = static_cast<unsigned char>(value);
            if (mat.depth() == CV_16U) {
                mat.ptr<unsigned short>(y)[i] = static_cast<unsigned short>(997 * value);
            }
        }
    }
    return mat;
}

/// What OpenCV's colour mode sees, as 8-bit RGB.
cv::Mat opencv_rgb(const fs::path& path) {
    cv::Mat bgr = cv::imread(path.string(), cv::IMREAD_COLOR);
    cv::cvtColor(bgr, bgr, cv::COLOR_BGR2RGB);
    return bgr;
}

int differing(const Image& image, const cv::Mat& rgb) {
    REQUIRE(image.width() == rgb.cols);
    REQUIRE(image.height() == rgb.rows);
    int count = 0;
    for (int y = 0; y < rgb.rows; ++y) {
        for (int i = 0; i < 3 * rgb.cols; ++i) {
            count += image.row(y)[i] != static_cast<float>(rgb.ptr(y)[i]) / 255.0F;
        }
    }
    return count;
}

std::string sentence_of(const fs::path& path) {
    try {
        read_image(path);
    } catch (const Error& error) {
        CHECK(error.fault() == Fault::input);
        return error.sentence();
    }
    return {};
}

/// Puts an EXIF segment with that orientation behind the start of a JPEG.
std::string with_orientation(const std::string& jpeg, char orientation, bool little) {
    std::string exif("Exif\0\0", 6);
    exif += little
                ? std::string("II\x2a\0\x08\0\0\0", 8) + std::string("\1\0\x12\1\3\0\1\0\0\0", 10)
                : std::string("MM\0\x2a\0\0\0\x08", 8) + std::string("\0\1\1\x12\0\3\0\0\0\1", 10);
    exif += little ? std::string{orientation, 0, 0, 0} : std::string{0, orientation, 0, 0};
    exif += std::string(4, '\0');
    const std::size_t length = exif.size() + 2;
    return jpeg.substr(0, 2) + "\xff\xe1" + static_cast<char>(length >> 8) +
           static_cast<char>(length & 255) + exif + jpeg.substr(2);
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("read_image: every kind of PNG equals OpenCV's colour mode") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "p.png";
        for (const int type : {CV_8UC1, CV_8UC3, CV_8UC4, CV_16UC1, CV_16UC3, CV_16UC4}) {
            cv::imwrite(path.string(), pattern(type));
            const DecodedImage decoded = read_image(path);
            CAPTURE(type);
            CHECK(differing(decoded.image, opencv_rgb(path)) == 0);
            CHECK(decoded.origin.bits == (CV_MAT_DEPTH(type) == CV_16U ? 16 : 8));
            CHECK(decoded.origin.channels == CV_MAT_CN(type));
            CHECK(decoded.origin.has_alpha() == (CV_MAT_CN(type) == 4));
            CHECK(read_image_size(path) == PixelSize{23, 17});
        }
    }

    TEST_CASE("read_image: 16-bit grey is its high byte, not clipped to white") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "p.png";
        cv::imwrite(path.string(), cv::Mat(4, 4, CV_16UC1, cv::Scalar(0x40ff)));
        CHECK(read_image(path).image.row(0)[0] == 64.0F / 255.0F);
    }

    TEST_CASE("read_image: alpha is dropped without blending") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "p.png";
        cv::imwrite(path.string(), cv::Mat(4, 4, CV_8UC4, cv::Scalar(10, 20, 30, 0)));
        const Image image = read_image(path).image;
        const float* pixel = image.row(0);
        CHECK(pixel[0] == 30.0F / 255.0F);
        CHECK(pixel[1] == 20.0F / 255.0F);
        CHECK(pixel[2] == 10.0F / 255.0F);
    }

    TEST_CASE("read_image: JPEG equals OpenCV's, in all eight orientations and both byte orders") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "p.jpg";
        cv::imwrite(path.string(), pattern(CV_8UC3, 40, 24));
        const std::string plain = read_file(path);
        for (char orientation = 1; orientation <= 8; ++orientation) {
            for (const bool little : {true, false}) {
                write_file(path, with_orientation(plain, orientation, little));
                CAPTURE(static_cast<int>(orientation));
                const DecodedImage decoded = read_image(path);
                CHECK(differing(decoded.image, opencv_rgb(path)) == 0);
                CHECK(decoded.origin.oriented == (orientation != 1));
                CHECK(decoded.origin.lossy);
                CHECK(read_image_size(path) == decoded.image.size());
            }
        }
    }

    TEST_CASE("read_image: another format is refused with what to do") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "p.bmp";
        cv::imwrite(path.string(), pattern(CV_8UC3));
        CHECK(sentence_of(path).find("convert it to PNG") != std::string::npos);
        CHECK_THROWS_AS(read_image_size(path), Error);
        CHECK_FALSE(is_image_file(path));
    }

    TEST_CASE("read_image: damage is an input fault that names the file, at every cut") {
        const test::TemporaryFolder folder;
        for (const char* name : {"p.png", "p.jpg"}) {
            const fs::path path = folder.path() / name;
            cv::imwrite(path.string(), pattern(CV_8UC3, 64, 64));
            const std::string whole = read_file(path);
            for (std::size_t keep = 0; keep < whole.size(); keep += 1 + whole.size() / 40) {
                write_file(path, whole.substr(0, keep));
                CAPTURE(name);
                CAPTURE(keep);
                CHECK(sentence_of(path).find(path.string()) != std::string::npos);
                if (keep < 40) CHECK_THROWS_AS(read_image_size(path), Error);
            }
        }
        const fs::path text = folder.path() / "text.png";
        write_file(text, "this is no picture");
        CHECK(sentence_of(text).find("is not a PNG or JPEG") != std::string::npos);
        const fs::path png = folder.path() / "flip.png";
        cv::imwrite(png.string(), pattern(CV_8UC3, 64, 64));
        std::string flipped = read_file(png);
        flipped[flipped.size() / 2] ^= 0x10;
        write_file(png, flipped);
        CHECK(sentence_of(png).find("broken PNG") != std::string::npos);
    }

    TEST_CASE("read_image: a head that claims a huge picture is refused without the memory") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "p.png";
        cv::imwrite(path.string(), pattern(CV_8UC3));
        std::string bytes = read_file(path);
        bytes.replace(16, 8, std::string("\0\x0f\x42\x40\0\x0f\x42\x40", 8));  // a million a side
        write_file(path, bytes);
        CHECK_FALSE(sentence_of(path).empty());  // by its checksum, or by its size
    }

    TEST_CASE("write_png: 8-bit pictures come back bit for bit, for both roundings") {
        const test::TemporaryFolder folder;
        Image image(PixelSize{256, 2});
        for (int x = 0; x < 256; ++x) {
            for (int c = 0; c < 3; ++c) {
                image.row_(0)[3 * x + c] = static_cast<float>((x + 85 * c) % 256) / 255.0F;
            }
        }
        for (const Rounding rounding : {Rounding::half_even, Rounding::truncate}) {
            const fs::path path = folder.path() / "p.png";
            write_png(path, image, rounding);
            const Image back = read_image(path).image;
            const Image levels = quantise_8bit(image, rounding);
            CHECK(std::equal(levels.row(0), levels.row(0) + 768, back.row(0)));
        }
        write_png(folder.path() / "q.png", image);
        const Image back = read_image(folder.path() / "q.png").image;
        CHECK(std::equal(image.row(0), image.row(0) + 768, back.row(0)));
    }

    TEST_CASE(
        "read_rgb8: the file's own order, no orientation; grey, alpha and 16 bits as read_image") {
        const test::TemporaryFolder folder;
        const fs::path jpeg = folder.path() / "p.jpg", png = folder.path() / "p.png";
        cv::imwrite(jpeg.string(), pattern(CV_8UC3, 40, 24));
        const cv::Mat upright = read_rgb8(jpeg);
        CHECK(differing(read_image(jpeg).image, upright) == 0);
        write_file(jpeg, with_orientation(read_file(jpeg), 6, true));
        CHECK(cv::norm(read_rgb8(jpeg), upright, cv::NORM_INF) == 0);
        CHECK(read_image(jpeg).image.size() == PixelSize{24, 40});
        for (const int type : {CV_8UC1, CV_8UC4, CV_16UC3}) {
            cv::imwrite(png.string(), pattern(type));
            CHECK(differing(read_image(png).image, read_rgb8(png)) == 0);
        }
        CHECK_THROWS_AS(decode_rgb8("no picture", "memory"), Error);
    }

    TEST_CASE("stored_size: from the first bytes, without orientation") {
        const test::TemporaryFolder folder;
        const fs::path jpeg = folder.path() / "p.jpg", png = folder.path() / "p.png";
        cv::imwrite(jpeg.string(), pattern(CV_8UC3, 40, 24));
        cv::imwrite(png.string(), pattern(CV_8UC3, 40, 24));
        const std::string turned = with_orientation(read_file(jpeg), 6, true);
        CHECK(stored_size(turned) == PixelSize{40, 24});
        CHECK(stored_size(read_file(png).substr(0, 60)) == PixelSize{40, 24});
        CHECK_FALSE(stored_size(turned.substr(0, 40)).has_value());
        CHECK_FALSE(stored_size("").has_value());
        CHECK_FALSE(stored_size("GIF89a").has_value());
    }

    TEST_CASE("encode_png: 8- and 16-bit matrices come back bit for bit at every level") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "p.png";
        for (const int type : {CV_8UC3, CV_16UC3}) {
            const cv::Mat whole = pattern(type, 60, 50), part = whole(cv::Rect(5, 7, 31, 20));
            for (const int level : {1, 2, 9}) {
                write_file(path, encode_png(part, level));
                cv::Mat back = cv::imread(path.string(), cv::IMREAD_UNCHANGED);
                cv::cvtColor(back, back, cv::COLOR_BGR2RGB);
                CHECK(back.type() == type);
                CHECK(cv::norm(back, part, cv::NORM_INF) == 0);
            }
        }
        CHECK_THROWS_AS(encode_png(pattern(CV_8UC1)), Error);
        CHECK_THROWS_AS(encode_png(cv::Mat()), Error);
    }

    TEST_CASE("quantise_8bit: half to even, clamped, NaN is black") {
        Image image(PixelSize{2, 1});
        float* v = image.row_(0);
        v[0] = 0.5F / 255.0F;
        v[1] = 1.5F / 255.0F;
        v[2] = 1.7F;
        v[3] = -0.2F;
        v[4] = std::nanf("");
        v[5] = 0.999F / 255.0F;
        const Image rounded = quantise_8bit(image);
        CHECK(rounded.row(0)[0] == 0.0F);
        CHECK(rounded.row(0)[1] == 2.0F / 255.0F);
        CHECK(rounded.row(0)[2] == 1.0F);
        CHECK(rounded.row(0)[3] == 0.0F);
        CHECK(rounded.row(0)[4] == 0.0F);
        CHECK(rounded.row(0)[5] == 1.0F / 255.0F);
        CHECK(quantise_8bit(image, Rounding::truncate).row(0)[5] == 0.0F);
    }

    TEST_CASE("list_images: sorted by code points, pictures only, no hidden files") {
        const test::TemporaryFolder folder;
        for (const char* name : {"b.png", "B.PNG", "a.jpg", ".hidden.png", "notes.txt", "c.jpeg"}) {
            write_file(folder.path() / name, "x");
        }
        std::vector<std::string> names;
        for (const auto& file : list_images(folder.path()))
            names.push_back(file.filename().string());
        CHECK(names == std::vector<std::string>{"B.PNG", "a.jpg", "b.png", "c.jpeg"});
        CHECK_THROWS_AS(list_images(folder.path() / "none"), Error);
    }
}
