#include <cmath>
#include <sstream>
#include <thread>
#include <unistd.h>

#include "acquisition/shot.h"
#include "data/file.h"
#include "data/image_io.h"
#include "tests/acquisition/shots.h"
#include "tests/test.h"

using namespace ultrasr;
namespace fs = std::filesystem;

namespace {

/// A Bayer (RGGB) DNG of even size, uncompressed, 16 bits, black 0, white 65535, whose camera space
/// is linear sRGB: the developed values are the ones put in.
/// neutral_red  AsShotNeutral of red; the camera's multiplier is one over it
/// linear       three colours a pixel instead, black 4000
std::string small_dng(int width, int height, const std::array<double, 3>& colour,
                      double neutral_red = 1.0, int orientation = 1, bool linear = false) {
    std::string entries, data;
    int count = 0;
    constexpr std::uint32_t data_at = 512;
    const auto number = [](std::uint32_t value, int bytes) {
        std::string text;
        for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i) & 255);
        return text;
    };
    const auto entry = [&](std::uint32_t tag, std::uint32_t type, std::uint32_t n,
                           std::string value) {
        entries += number(tag, 2) + number(type, 2) + number(n, 4);
        if (value.size() > 4) {
            entries += number(data_at + static_cast<std::uint32_t>(data.size()), 4);
            data += value + std::string(value.size() % 2, '\0');
        } else {
            value.resize(4);
            entries += value;
        }
        ++count;
    };
    const auto rational = [&](double value) {
        return number(static_cast<std::uint32_t>(std::lround(value * 10000)), 4) + number(10000, 4);
    };
    const auto w = static_cast<std::uint32_t>(width), h = static_cast<std::uint32_t>(height);
    std::string matrix;  // XYZ to linear sRGB, D65
    for (const double v :
         {3.2406, -1.5372, -0.4986, -0.9689, 1.8758, 0.0415, 0.0557, -0.2040, 1.0570}) {
        matrix += rational(v);
    }
    constexpr std::uint32_t pixels_at = 1024;
    entry(254, 4, 1, number(0, 4));
    entry(256, 4, 1, number(w, 4));
    entry(257, 4, 1, number(h, 4));
    const std::uint32_t samples = linear ? 3 : 1, black = linear ? 4000 : 0;
    const auto shorts = [&](std::uint32_t value) {
        std::string text;
        for (std::uint32_t i = 0; i < samples; ++i) text += number(value, 2);
        return text;
    };
    entry(258, 3, samples, shorts(16));
    entry(259, 3, 1, number(1, 2));
    entry(262, 3, 1, number(linear ? 34892 : 32803, 2));
    entry(271, 2, 5, std::string("Test\0", 5));
    entry(272, 2, 7, std::string("Camera\0", 7));
    entry(273, 4, 1, number(pixels_at, 4));
    entry(274, 3, 1, number(static_cast<std::uint32_t>(orientation), 2));
    entry(277, 3, 1, number(samples, 2));
    entry(278, 4, 1, number(h, 4));
    entry(279, 4, 1, number(2 * samples * w * h, 4));
    if (!linear) {
        entry(33421, 3, 2, number(2, 2) + number(2, 2));
        entry(33422, 1, 4, std::string("\0\1\1\2", 4));
    }
    entry(37386, 5, 1, rational(28));
    entry(50706, 1, 4, std::string("\1\4\0\0", 4));
    entry(50708, 2, 12, std::string("Test Camera\0", 12));
    entry(50713, 3, 2, number(1, 2) + number(1, 2));
    entry(50714, 3, samples, shorts(black));
    entry(50717, 3, 1, number(65535, 2));
    entry(50721, 10, 9, matrix);
    entry(50728, 5, 3, rational(neutral_red) + rational(1) + rational(1));
    entry(50778, 3, 1, number(21, 2));
    std::string file = "II*" + std::string(1, '\0') + number(8, 4) +
                       number(static_cast<std::uint32_t>(count), 2) + entries + number(0, 4);
    file.resize(data_at);
    file += data;
    file.resize(pixels_at);
    for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x) {
            for (std::size_t c = 0; c < samples; ++c) {
                const double v = colour[linear ? c : static_cast<std::size_t>(y % 2 + x % 2)];
                file +=
                    number(black + static_cast<std::uint32_t>(std::lround((65535 - black) * v)), 2);
            }
        }
    }
    return file;
}

std::string reading(const fs::path& path) {
    return test::sentence_of([&] { read_shot(path); });
}
std::string decoding(const fs::path& path) {
    return test::sentence_of([&] { decode_shot(read_shot(path)); });
}
bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

/// What `action` writes to the process's stderr.
template <class Action>
std::string stderr_of(Action&& action) {
    const test::TemporaryFolder folder;
    const fs::path path = folder.path() / "stderr";
    std::fflush(stderr);
    const int kept = ::dup(2);
    std::FILE* file = std::fopen(path.c_str(), "w");
    ::dup2(::fileno(file), 2);
    action();
    std::fflush(stderr);
    ::dup2(kept, 2);
    ::close(kept);
    std::fclose(file);
    return read_file(path);
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("decode_shot: JPEG and PNG in sensor order, whatever the orientation tag says") {
        const test::TemporaryFolder folder;
        Exif exif = test::zoom_exif(28, test::noon_s);
        exif.orientation = 6;
        const Image image = test::waves({96, 64}, 1);
        const fs::path jpeg = folder.path() / "a.jpg", png = folder.path() / "b.png";
        test::put_shot(jpeg, exif, image);
        write_png(png, image);
        for (const fs::path& path : {jpeg, png}) {
            const Shot shot = read_shot(path);
            CHECK(shot.size == PixelSize{96, 64});
            const Frame frame = decode_shot(shot);
            CHECK(frame.rgb.type() == CV_8UC3);
            CHECK(frame.encoding == Encoding::srgb);
            CHECK(frame.size() == PixelSize{96, 64});
            double worst = 0;
            for (int x = 0; x < 96; ++x) {
                const double value = 255.0 * static_cast<double>(image.row(10)[3 * x]);
                worst = std::max(worst, std::abs(frame.rgb.ptr(10)[3 * x] - value));
            }
            CHECK(worst < (path == png ? 0.51 : 6.0));  // JPEG 95
        }
        CHECK(read_shot(jpeg).exif.orientation == 6);
        CHECK(read_shot(jpeg).focal_mm() == 28.0);
        CHECK_FALSE(camera_white_balance(read_shot(jpeg)).has_value());
    }

    TEST_CASE(
        "decode_shot: of a 16-bit PNG the high byte, whose alpha and depth encode_png keeps") {
        const test::TemporaryFolder folder;
        cv::Mat wide(4, 4, CV_16UC3, cv::Scalar(0x40ff, 0x1234, 0xff00));
        write_file(folder.path() / "p.png", encode_png(wide));
        const Frame frame = decode_shot(read_shot(folder.path() / "p.png"));
        const unsigned char* pixel = frame.rgb.ptr(0);
        CHECK(pixel[0] == 0x40);
        CHECK(pixel[1] == 0x12);
        CHECK(pixel[2] == 0xff);
    }

    TEST_CASE("read_shot: the kind is told by the contents, not by the name") {
        const test::TemporaryFolder folder;
        test::put_shot(folder.path() / "lies.png", test::zoom_exif(28, 0));
        write_png(folder.path() / "lies.nef", test::waves({8, 8}, 1));
        write_file(folder.path() / "lies.jpg", small_dng(64, 48, {0.2, 0.2, 0.2}));
        CHECK(read_shot(folder.path() / "lies.png").kind == ShotKind::jpeg);
        CHECK(read_shot(folder.path() / "lies.nef").kind == ShotKind::png);
        CHECK(read_shot(folder.path() / "lies.jpg").kind == ShotKind::raw);
        CHECK(decode_shot(read_shot(folder.path() / "lies.png")).size() == PixelSize{96, 64});
        CHECK(is_shot_file("A.JPG"));
        CHECK(is_shot_file("b.Nef"));
        CHECK_FALSE(is_shot_file("c.tif"));
        CHECK_FALSE(is_shot_file("jpg"));
    }

    TEST_CASE("read_shot: missing, empty and foreign files are refused with a clear sentence") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "p.jpg";
        CHECK(contains(reading(path), "not a regular file"));
        CHECK(contains(reading(folder.path()), "not a regular file"));
        write_file(path, "");
        CHECK(contains(reading(path), "p.jpg is empty"));
        write_file(path, "a text with the name of a picture");
        CHECK(contains(reading(path), "p.jpg is no JPEG, PNG or RAW picture"));
        write_file(path, std::string("II*\0", 4) + std::string(200, 'x'));
        CHECK(contains(reading(path), "p.jpg is a broken RAW file"));
        CHECK_FALSE(kind_of_file(test::source_folder() / "README.md").has_value());
    }

    TEST_CASE("decode_shot: a JPEG cut anywhere is refused, with libjpeg's words in its data") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "p.jpg";
        test::put_shot(path, test::zoom_exif(28, 0));
        const std::string whole = read_file(path);
        for (std::size_t keep = 1; keep < whole.size(); keep += 1 + whole.size() / 50) {
            write_file(path, whole.substr(0, keep));
            CAPTURE(keep);
            CHECK(contains(decoding(path), "p.jpg"));
        }
        write_file(path, whole.substr(0, whole.size() / 2));
        CHECK(contains(decoding(path), "Premature end of JPEG file"));
        std::string corrupt = whole;
        corrupt.replace(whole.size() - whole.size() / 4, 6,
                        std::string("\xff\xd1\xff\xd3\xff\xd5", 6));
        write_file(path, corrupt);
        CHECK(contains(decoding(path), "Corrupt JPEG data"));
    }

    TEST_CASE("decode_shot: a DNG cut anywhere is refused, and LibRaw prints nothing") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "p.dng";
        const std::string whole = small_dng(64, 48, {0.2, 0.4, 0.1});
        const std::string said = stderr_of([&] {
            for (const double share : {0.001, 0.02, 0.08, 0.2, 0.5, 0.9, 0.99}) {
                const auto keep =
                    static_cast<std::size_t>(share * static_cast<double>(whole.size()));
                write_file(path, whole.substr(0, keep));
                CAPTURE(share);
                CHECK(contains(decoding(path), "p.dng"));
            }
        });
        CHECK(said == "");
        write_file(path, whole.substr(0, whole.size() - 2000));
        CHECK(contains(decoding(path), "cut off"));
        write_file(path, whole);
        CHECK(decoding(path) == "");
    }

    TEST_CASE("decode_shot: RAW becomes linear 16-bit sRGB in sensor order, white at full scale") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "p.dng";
        const std::array<double, 3> colour{0.2, 0.4, 0.1};
        write_file(path, small_dng(64, 48, colour, 1.0, 6));
        const Shot shot = read_shot(path);
        CHECK(shot.kind == ShotKind::raw);
        CHECK(shot.size == PixelSize{64, 48});
        CHECK(shot.exif.orientation == 6);
        CHECK(shot.exif.focal_length_mm == 28.0);
        const Frame frame = decode_shot(shot);
        CHECK(frame.rgb.type() == CV_16UC3);
        CHECK(frame.encoding == Encoding::linear);
        CHECK(frame.size() == shot.size);
        for (const int y : {0, 24, 47}) {
            for (std::size_t c = 0; c < 3; ++c) {
                const double value = frame.rgb.ptr<std::uint16_t>(y)[3 * 30 + c] / 65535.0;
                CHECK(test::near(value, colour[c], 0.005));  // rounded matrices
            }
        }
    }

    TEST_CASE("decode_shot: a linear DNG with a black level keeps its white at full scale") {
        const test::TemporaryFolder folder;
        const std::array<double, 3> colour{0.2, 0.4, 0.1};
        write_file(folder.path() / "p.dng", small_dng(64, 48, colour, 1.0, 1, true));
        const Frame frame = decode_shot(read_shot(folder.path() / "p.dng"));
        for (std::size_t c = 0; c < 3; ++c) {
            CHECK(test::near(frame.rgb.ptr<std::uint16_t>(24)[90 + c] / 65535.0, colour[c], 0.005));
        }
    }

    TEST_CASE("decode_shot: the given white balance counts, else the camera's") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "p.dng";
        write_file(path, small_dng(64, 48, {0.2, 0.4, 0.1}, 0.5));
        const Shot shot = read_shot(path);
        const auto balance = camera_white_balance(shot);
        REQUIRE(balance.has_value());
        CHECK(test::near((*balance)[0], 2.0, 1e-6));
        CHECK((*balance)[1] == 1.0F);
        CHECK(test::near((*balance)[2], 1.0, 1e-6));
        const auto red = [&](const std::optional<WhiteBalance>& white_balance) {
            return decode_shot(shot, white_balance).rgb.ptr<std::uint16_t>(24)[3 * 30] / 65535.0;
        };
        CHECK(test::near(red({}), 0.4, 0.005));
        CHECK(red(balance) == red({}));
        CHECK(test::near(red(WhiteBalance{1, 1, 1, 1}), 0.2, 0.005));
    }

    TEST_CASE("decode_shot: the brightest pixel of a RAW frame does not set its scale") {
        const test::TemporaryFolder folder;
        for (const double level :
             {0.3, 0.8, 0.95}) {  // LibRaw's own default stretches the last two
            write_file(folder.path() / "p.dng", small_dng(64, 48, {level, level, level}));
            const Frame frame = decode_shot(read_shot(folder.path() / "p.dng"));
            CHECK(test::near(frame.rgb.ptr<std::uint16_t>(20)[60] / 65535.0, level, 0.005));
        }
    }

    TEST_CASE("decode_shot: Adobe RGB becomes sRGB, by tag, by profile, by name") {
        const test::TemporaryFolder folder;
        Image grey(PixelSize{16, 16}), green(PixelSize{16, 16});
        for (int y = 0; y < 16; ++y) {
            for (int x = 0; x < 48; ++x) {
                grey.row_(y)[x] = 128.0F / 255.0F;
                green.row_(y)[x] = (x % 3 == 1 ? 180.0F : 120.0F) / 255.0F;
            }
        }
        Exif exif;
        const auto pixel = [&](const char* name, const Image& image) {
            test::put_shot(folder.path() / name, exif, image);
            const Frame frame = decode_shot(read_shot(folder.path() / name));
            return cv::Vec3i(frame.rgb.at<cv::Vec3b>(8, 8));
        };
        const cv::Vec3i plain = pixel("plain.jpg", green);
        CHECK(plain == cv::Vec3i(120, 180, 120));
        CHECK(pixel("_named.jpg", green) != plain);
        exif.color_space = 1;
        CHECK(pixel("_srgb.jpg", green) == plain);  // the tag knows better than the name
        exif.color_space = 65535;
        CHECK(pixel("grey.jpg", grey) == cv::Vec3i(129, 129, 129));  // 0.2196 in linear light
        // By hand: 1.39836 * (120/255)^2.1992 - 0.39836 * (180/255)^2.1992 = 0.0816, coded 81;
        // blue -0.04293 * 0.4649 + 1.04293 * 0.1909 = 0.1791, coded 118
        const cv::Vec3i converted = pixel("adobe.jpg", green);
        CHECK(std::abs(converted[0] - 81) <= 1);
        CHECK(std::abs(converted[1] - 181) <= 1);
        CHECK(std::abs(converted[2] - 118) <= 1);
        // A profile that names itself wins over the tag; an unknown one is told
        const auto with_profile = [&](const std::string& words) {
            const std::string jpeg = read_file(folder.path() / "adobe.jpg");
            std::string profile(std::size_t{132}, '\0');  // a head without entries, then the words
            profile += words;
            profile[3] = static_cast<char>(profile.size());
            const std::string body = std::string("ICC_PROFILE\0\1\1", 14) + profile;
            const fs::path path = folder.path() / "icc.jpg";
            write_file(path, jpeg.substr(0, 2) + "\xff\xe2" + '\0' +
                                 static_cast<char>(body.size() + 2) + body + jpeg.substr(2));
            return read_shot(path).colour;
        };
        CHECK(with_profile("desc sRGB IEC61966-2.1") == ColourSpace::srgb);
        CHECK(with_profile(std::string("\0A\0d\0o\0b\0e\0 \0R\0G\0B", 18)) ==
              ColourSpace::adobe_rgb);
        CHECK(with_profile("Display P3") == ColourSpace::unknown);
    }

    TEST_CASE("decode_shot: threads decode side by side with the same result") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "p.dng";
        write_file(path, small_dng(256, 192, {0.2, 0.4, 0.1}));
        const cv::Mat alone = decode_shot(read_shot(path)).rgb;
        std::array<cv::Mat, 4> many;
        std::vector<std::thread> threads;
        for (cv::Mat& mat : many) {
            threads.emplace_back([&] { mat = decode_shot(read_shot(path)).rgb; });
        }
        for (std::thread& thread : threads) thread.join();
        for (const cv::Mat& mat : many) CHECK(cv::norm(alone, mat, cv::NORM_INF) == 0);
    }
}
