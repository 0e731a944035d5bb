// One case for each row of metrics.md 12.2: our number is the reference's and not the one that the
// mistake gives. Both stand in tests/golden/metrics_mistakes.csv.
#include <cmath>

#include "metrics/metric.h"
#include "metrics/niqe_features.h"
#include "tests/metrics/pictures.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

/// tolerance  to the right number; below the metric's own, so that small mistakes show
/// distance   how far the mistake is at least
void check_row(const std::string& metric, const std::string& mistake, double tolerance,
               double distance, Profile profile = Profile::cpu) {
    int found = 0;
    for (const test::Row& row : test::read_table(test::golden("metrics_mistakes.csv"))) {
        if (row.at("metric") != metric || row.at("mistake") != mistake) continue;
        const auto pair = test::picture(row.at("kind"),
                                        {std::stoi(row.at("width")), std::stoi(row.at("height"))});
        const double ours = find_metric(metric).make({.profile = profile})->score(pair.sr, pair.hr);
        CHECK(std::abs(ours - std::stod(row.at("right"))) <= tolerance);
        CHECK(std::abs(ours - std::stod(row.at("mistaken"))) >= distance);
        ++found;
    }
    CHECK(found == 1);
}

TEST_SUITE("golden") {
    TEST_CASE("mistake not made: PSNR, full-range luma") {
        check_row("psnr-y601", "full-range luma", 5e-5, 1.3);
    }
    TEST_CASE("mistake not made: PSNR, RGB") { check_row("psnr-y601", "RGB", 5e-5, 2.0); }
    TEST_CASE("mistake not made: PSNR, border crop 4") {
        check_row("psnr-y601", "border crop 4", 5e-5, 0.03);
    }
    TEST_CASE("mistake not made: PSNR, Y rounded to 8 bit") {
        check_row("psnr-y601", "Y rounded to 8 bit", 5e-5, 3.0);
    }
    TEST_CASE("mistake not made: PSNR, no 1e-8") { check_row("psnr-y601", "no 1e-8", 5e-5, 0.05); }

    TEST_CASE("mistake not made: SSIM, full-range luma") {
        check_row("ssim-y601", "full-range luma", 2e-6, 0.01);
    }
    TEST_CASE("mistake not made: SSIM, cs not clamped at 0") {
        check_row("ssim-y601", "cs not clamped at 0", 2e-6, 0.1);
    }
    TEST_CASE("mistake not made: SSIM, Y not rounded") {
        check_row("ssim-y601", "Y not rounded", 2e-6, 2e-4);
    }
    TEST_CASE("mistake not made: SSIM, double window") {
        // Two flat pictures, where it shows most: only the window's sum counts, 1 - 6.2e-9
        check_row("ssim-y601", "double window", 1e-8, 1e-6);
    }

    TEST_CASE("mistake not made: NIQE, non-antialiased cubic reduction") {
        check_row("niqe", "non-antialiased cubic reduction", 1e-5, 0.5);
    }
    TEST_CASE("mistake not made: NIQE, area reduction") {
        check_row("niqe", "area reduction", 1e-5, 0.3);
    }
    TEST_CASE("mistake not made: NIQE, mirror instead of replicate padding") {
        check_row("niqe", "mirror padding", 1e-5, 0.05);
    }
    TEST_CASE("mistake not made: NIQE, YCbCr studio luma") {
        check_row("niqe", "YCbCr studio luma", 1e-5, 0.05);
    }
    TEST_CASE("mistake not made: NIQE, luma not rounded") {
        check_row("niqe", "luma not rounded", 1e-5, 5e-3);
    }
    TEST_CASE("mistake not made: NIQE, products not circular") {
        check_row("niqe", "products not circular", 1e-5, 0.3);
    }
    TEST_CASE("mistake not made: NIQE, double Gaussian window") {
        check_row("niqe", "double Gaussian window", 1e-5, 0.2);
    }
    TEST_CASE("mistake not made: NIQE, plain float32 summation order in the reduction") {
        // On flat areas the order decides the sign of what should be zero
        check_row("niqe", "plain float32 summation order in the reduction", 1e-5, 0.1,
                  Profile::cuda);
    }
}

}  // namespace
}  // namespace ultrasr
