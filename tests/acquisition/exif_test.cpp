#include <nlohmann/json.hpp>

#include "acquisition/exif.h"
#include "data/base/error.h"
#include "data/file.h"
#include "data/image_io.h"
#include "tests/acquisition/shots.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

Exif full_record() {
    Exif exif = test::zoom_exif(231.7, 1714558830.25);
    exif.lens_model = "NIKKOR Z 28-400mm f/4-8 VR";
    exif.focal_length_35mm = 232;
    exif.orientation = 6;
    exif.pixel_width = 6048;
    exif.pixel_height = 4024;
    exif.color_space = 65535;
    exif.auto_distortion_control = "On";
    exif.vignette_control = "Normal";
    exif.vibration_reduction = "On";
    exif.lens_id = "123";
    return exif;
}

std::string plain_jpeg() { return encode_jpeg(test::waves({32, 24}, 3), 90); }

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("with_exif: every tag comes back as it was written") {
        const std::string jpeg = with_exif(plain_jpeg(), full_record());
        const Exif back = read_exif_from_memory(jpeg, "p.jpg");
        CHECK(exif_to_json(back) == exif_to_json(full_record()));
        CHECK(back.focal_length_mm == 231.7);
        CHECK(back.exposure_s == 0.02);
        CHECK(back.taken_s == 1714558830.25);
        CHECK(back.vibration_reduction == "On");
    }

    TEST_CASE("with_exif: the focus distance is coded in steps of 6 per cent") {
        for (const double metres : {0.5, 3.0, 30.0, 230.0}) {
            Exif exif = full_record();
            exif.focus_distance_m = metres;
            const auto back = read_exif_from_memory(with_exif(plain_jpeg(), exif), "p.jpg");
            REQUIRE(back.focus_distance_m.has_value());
            CHECK(std::abs(std::log10(*back.focus_distance_m / metres)) < 0.5 / 40 + 1e-9);
        }
    }

    TEST_CASE("with_exif: the same bytes for the same input, old tags replaced, pixels untouched") {
        const std::string once = with_exif(plain_jpeg(), full_record());
        CHECK(once == with_exif(plain_jpeg(), full_record()));
        const std::string twice = with_exif(once, test::zoom_exif(28, 0));
        const Exif back = read_exif_from_memory(twice, "p.jpg");
        CHECK(back.focal_length_mm == 28.0);
        CHECK_FALSE(back.lens_model.has_value());
        CHECK(twice == with_exif(plain_jpeg(), test::zoom_exif(28, 0)));
        const cv::Mat before = decode_rgb8(plain_jpeg(), "a"), after = decode_rgb8(once, "b");
        CHECK(cv::norm(before, after, cv::NORM_INF) == 0);
    }

    TEST_CASE("with_exif: fractions of short exposures and of the clock survive") {
        for (const double exposure : {1.0 / 8000, 1.0 / 50, 1.0 / 3, 0.8, 2.5, 30.0, 1e-6}) {
            Exif exif;
            exif.exposure_s = exposure;
            const auto back = read_exif_from_memory(with_exif(plain_jpeg(), exif), "p.jpg");
            CHECK(test::near(back.exposure_s.value_or(0), exposure, 1e-8));
        }
        for (const double taken : {0.0, -1.5, 951782399.999, 1709208000.0, 4102444800.125}) {
            Exif exif;
            exif.taken_s = taken;  // leap days, before 1970, after 2038
            const auto back = read_exif_from_memory(with_exif(plain_jpeg(), exif), "p.jpg");
            CHECK(test::near(back.taken_s.value_or(1), taken, 1e-12));
        }
    }

    TEST_CASE("read_exif: a picture without tags gives an empty record, nothing guessed") {
        const test::TemporaryFolder folder;
        write_file(folder.path() / "p.jpg", plain_jpeg());
        const Json json = exif_to_json(read_exif(folder.path() / "p.jpg"));
        CHECK(json.size() == 20);
        for (const auto& [key, value] : json.items()) {
            CAPTURE(key);
            CHECK(value.is_null());
        }
        write_png(folder.path() / "p.png", test::waves({8, 8}, 1));
        CHECK_FALSE(read_exif(folder.path() / "p.png").focal_length_mm.has_value());
    }

    TEST_CASE("read_exif: zeros and nonsense count as missing") {
        Exif exif;
        exif.focal_length_mm = 0;
        exif.f_number = 0;
        exif.orientation = 9;
        exif.iso = 0;
        const auto back = read_exif_from_memory(with_exif(plain_jpeg(), exif), "p.jpg");
        CHECK_FALSE(back.focal_length_mm.has_value());
        CHECK_FALSE(back.f_number.has_value());
        CHECK_FALSE(back.orientation.has_value());
        CHECK_FALSE(back.iso.has_value());
    }

    TEST_CASE("read_exif: what is no picture is an input fault that names the file") {
        const test::TemporaryFolder folder;
        const auto path = folder.path() / "text.jpg";
        CHECK(test::sentence_of([&] { read_exif(path); }).find("text.jpg") != std::string::npos);
        for (const char* text : {"", "no picture at all"}) {
            write_file(path, text);
            CHECK(test::sentence_of([&] { read_exif(path); }).find("text.jpg") !=
                  std::string::npos);
        }
        const auto read_text = [] { read_exif_from_memory("hello", "memory.jpg"); };
        CHECK(test::sentence_of(read_text).find("memory.jpg") != std::string::npos);
    }

    TEST_CASE("read_exif: a file cut inside its tags throws or reads, and never crashes") {
        const std::string jpeg = with_exif(plain_jpeg(), full_record());
        int refused = 0;
        for (std::size_t keep = 0; keep < jpeg.size(); keep += 13) {
            refused += !test::sentence_of([&] {
                            read_exif_from_memory(jpeg.substr(0, keep), "cut.jpg");
                        }).empty();
        }
        CHECK(refused > 20);
        CHECK(refused < static_cast<int>(jpeg.size() / 13));
    }

    TEST_CASE("with_exif: maker notes that cannot be written are refused, not dropped") {
        const auto refused = [](Exif exif) {
            return test::sentence_of([&] { with_exif(plain_jpeg(), exif); }, Fault::internal);
        };
        Exif exif = full_record();
        exif.make = "Canon";
        CHECK(refused(exif).find("NIKON") != std::string::npos);
        exif = full_record();
        exif.vibration_reduction = "perhaps";
        CHECK(refused(exif).find("known: n/a, On, Off") != std::string::npos);
        exif = full_record();
        exif.lens_id = "Z 28-400";
        CHECK(refused(exif).find("1 to 255") != std::string::npos);
        CHECK(test::sentence_of([] { with_exif("PNG", Exif{}); }, Fault::internal)
                  .find("these bytes are none") != std::string::npos);
    }
}
