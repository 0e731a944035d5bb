#include "registration/refine.h"

#include <tbb/global_control.h>

#include <cmath>
#include <cstring>
#include <opencv2/core.hpp>

#include "registration/coarse.h"
#include "registration/own_error.h"
#include "tests/registration/zoom_pair.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

WorkPictures work_of(const test::ZoomPair& pair) {
    const Frame wide{pair.wide, Encoding::srgb}, tele{pair.tele, Encoding::srgb};
    const PixelRect all{0, 0, pair.wide.cols, pair.wide.rows};
    return work_pictures(pair.geometry, all, luminance_of(wide, all),
                         shrink_luminance(tele, work_size(pair.geometry), samples_per_pixel));
}

double error_of(const CameraMap& map, const test::ZoomPair& pair, const PixelRect& crop) {
    double sum = 0;
    for (const PixelPoint& x : check_grid(crop)) {
        const PixelPoint a = map(x), b = pair.to_tele(x);
        sum += (a.x - b.x) * (a.x - b.x) + (a.y - b.y) * (a.y - b.y);
    }
    return std::sqrt(sum / 117) / map.geometry().scale;
}

test::ZoomPair usual_pair() {
    return test::make_zoom_pair(test::cloud_picture(1600, 1200, 21), 4, 2.02, -0.6, {1512, 1008}, 6,
                                9);
}

constexpr PixelRect crop{160, 120, 80, 56};

/// The true map, as a camera, moved by some LR pixels.
CameraMap near_truth(const test::ZoomPair& pair, double x, double y) {
    std::vector<PointPair> points;
    for (const PixelPoint& p : check_grid(crop)) {
        points.push_back({{p.x + x, p.y + y}, pair.to_tele(p)});
    }
    return fit_map(CameraMap(MotionModel::camera, pair.geometry), points);
}

/// Changes brightness of the tele frame: a tone curve, an exposure, a vignette.
void render_otherwise(test::ZoomPair& pair) {
    for (int y = 0; y < pair.tele.rows; ++y) {
        for (int x = 0; x < pair.tele.cols; ++x) {
            cv::Vec3b& p = pair.tele.at<cv::Vec3b>(y, x);
            const double r2 = std::pow((x - 756.0) / 909, 2) + std::pow((y - 504.0) / 909, 2);
            for (int c = 0; c < 3; ++c) {
                double v = std::pow(p[c] / 255.0, 1.15) * 1.2 * (1 - 0.2 * r2);
                v = v + 0.12 * std::sin(6.28318 * v) / 6.28318 * -1.5;
                p[c] = cv::saturate_cast<unsigned char>(255 * v);
            }
        }
    }
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE(
        "refine_pixels: from 1 LR px away to 0.01, whatever the tele frame's tone and vignette") {
        test::ZoomPair pair = usual_pair();
        for (const bool otherwise : {false, true}) {
            if (otherwise) render_otherwise(pair);
            WorkPictures work = work_of(pair);
            const CameraMap start = near_truth(pair, 0.8, -0.6);
            CHECK(error_of(start, pair, crop) > 0.9);
            const PixelFit fit = refine_pixels(work, start);
            REQUIRE(fit.usable);
            CHECK(error_of(fit.map, pair, crop) < 0.015);
            CHECK(fit.correlation > 0.95);
            CHECK(fit.kept > 0.7);
        }
    }

    TEST_CASE("refine_pixels: the strongly blurred levels catch 3 LR px") {
        const test::ZoomPair pair = usual_pair();
        WorkPictures work = work_of(pair);
        RefineOptions options;
        options.from_afar = true;
        const PixelFit fit = refine_pixels(work, near_truth(pair, 2.4, 1.8), options);
        REQUIRE(fit.usable);
        CHECK(error_of(fit.map, pair, crop) < 0.015);
    }

    TEST_CASE(
        "refine_pixels: a third of the picture replaced does not pull the map by 0.05 LR px") {
        test::ZoomPair pair = usual_pair();
        const test::ZoomPair other = test::make_zoom_pair(test::cloud_picture(1600, 1200, 22), 4,
                                                          2.02, 0, {1512, 1008}, 0, 0);
        other.tele(cv::Rect(0, 0, 500, 1008)).copyTo(pair.tele(cv::Rect(0, 0, 500, 1008)));
        WorkPictures work = work_of(pair);
        const PixelFit fit = refine_pixels(work, near_truth(pair, 0.2, 0.1));
        REQUIRE(fit.usable);
        CHECK(error_of(fit.map, pair, crop) < 0.05);
        CHECK(fit.kept < 0.85);
        // And the pair says so itself
        const OwnError error = own_error(work, fit, crop);
        const auto gates = judge(error, {}, known_limits());
        bool failed = false;
        for (const Gate& gate : gates) failed = failed || !gate.pass;
        CHECK(failed);
    }

    TEST_CASE("refine_pixels: burnt-out spots are left out, a flat picture is not usable") {
        test::ZoomPair pair = usual_pair();
        pair.tele(cv::Rect(300, 200, 300, 300)).setTo(cv::Scalar(255, 255, 255));
        WorkPictures work = work_of(pair);
        const PixelFit fit = refine_pixels(work, near_truth(pair, 0.2, 0.1));
        REQUIRE(fit.usable);
        CHECK(error_of(fit.map, pair, crop) < 0.03);
        const PixelPoint burnt = near_truth(pair, 0, 0).inverse({450, 350});
        CHECK(fit.weight.at<float>(static_cast<int>(burnt.y), static_cast<int>(burnt.x)) == 0);
        pair.tele.setTo(cv::Scalar(255, 255, 255));
        WorkPictures white = work_of(pair);
        CHECK(!refine_pixels(white, near_truth(pair, 0, 0)).usable);
    }

    TEST_CASE("refine_pixels: a held tele distortion stays") {
        const test::ZoomPair pair = usual_pair();
        WorkPictures work = work_of(pair);
        RefineOptions options;
        options.fixed_k = 0.0031;
        const PixelFit fit = refine_pixels(work, near_truth(pair, 0.1, 0), options);
        CHECK(fit.map.theta()[6] == 0.0031);
    }

    TEST_CASE("own_error: estimate of the right size, blocks see a local shift") {
        const test::ZoomPair pair = usual_pair();
        WorkPictures work = work_of(pair);
        const PixelFit fit = refine_pixels(work, near_truth(pair, 0.2, 0));
        const OwnError error = own_error(work, fit, crop);
        CHECK(error.sigma_est >= 0.006);
        CHECK(error.sigma_est < 0.05);
        CHECK(error_of(fit.map, pair, crop) < 3 * error.sigma_est);
        CHECK(error.shifts.rows == 2);
        CHECK(error.shifts.columns == 3);
        CHECK(error.textured_share == 1);
        CHECK(error.moved_share == 0);
        CHECK(error.block_rms < 0.05);
        CHECK(error.burnt_share == 0);

        // The map moved by 0.3 LR px: every block says so, with its sign
        for (const BlockShift& block :
             block_shifts(work, near_truth(pair, 0.3, -0.2), crop).blocks) {
            CHECK(block.x == doctest::Approx(0.3).epsilon(0.1).scale(1));
            CHECK(block.y == doctest::Approx(-0.2).epsilon(0.1).scale(1));
            CHECK(block.sigma < 0.25);
        }
    }

    TEST_CASE(
        "own_error: a frame out of focus is refused, whatever its tone; a sharp pair is not") {
        const auto soft = [](const cv::Mat& frame, double sigma) {
            cv::Mat result;
            cv::GaussianBlur(frame, result, {}, sigma);
            return result;
        };
        const auto judged = [](const test::ZoomPair& pair) {
            WorkPictures work = work_of(pair);
            const PixelFit fit = refine_pixels(work, near_truth(pair, 0.2, -0.1));
            REQUIRE(fit.usable);
            return own_error(work, fit, crop);
        };
        const auto refused = [](const OwnError& error) {
            std::string names;
            for (const Gate& gate : judge(error, {}, known_limits())) {
                if (!gate.pass && gate.name.ends_with("_blurred")) names += gate.name;
            }
            return names;
        };
        for (const bool otherwise : {false, true}) {
            CAPTURE(otherwise);
            test::ZoomPair pair = usual_pair();
            if (otherwise) render_otherwise(pair);
            const OwnError sharp = judged(pair);
            CHECK(refused(sharp) == "");
            for (const double sigma : {1.0, 1.5, 2.5}) {  // LR px
                CAPTURE(sigma);
                test::ZoomPair wide = pair, tele = pair;
                wide.wide = soft(pair.wide, sigma);
                tele.tele = soft(pair.tele, sigma * pair.geometry.scale);
                const OwnError wide_soft = judged(wide), tele_soft = judged(tele);
                if (sigma == 1) {
                    // Half the difference of the variances, while the Laplacian tells all of it
                    CHECK(wide_soft.blur_difference - sharp.blur_difference ==
                          doctest::Approx(0.5).epsilon(0.2));
                    CHECK(sharp.blur_difference - tele_soft.blur_difference ==
                          doctest::Approx(0.5).epsilon(0.2));
                    continue;
                }
                CHECK(refused(wide_soft) == "wide_blurred");
                CHECK(refused(tele_soft) == "tele_blurred");
            }
        }
    }

    TEST_CASE("judge: each gate fires on its own figure, the first failed gate comes first") {
        OwnError good;
        good.textured_share = 1;
        good.correlation = 0.98;
        good.sigma_est = 0.01;
        TeleSharpness sharp;
        sharp.textured_blocks = 10;
        sharp.sharp_share = 1;
        const auto failed = [&](const OwnError& error, const TeleSharpness& s) {
            std::string names;
            for (const Gate& gate : judge(error, s, known_limits())) {
                if (!gate.pass) names += gate.name + " ";
            }
            return names;
        };
        CHECK(failed(good, sharp).empty());
        const auto with = [&](double OwnError::*figure, double value) {
            OwnError error = good;
            error.*figure = value;
            return failed(error, sharp);
        };
        CHECK(with(&OwnError::burnt_share, 0.21) == "burnt ");
        CHECK(with(&OwnError::textured_share, 0.19) == "texture_poor ");
        CHECK(with(&OwnError::blur_difference, -0.6) == "tele_blurred ");
        CHECK(with(&OwnError::blur_difference, 0.4) == "wide_blurred ");
        CHECK(with(&OwnError::moved_share, 0.06) == "moved ");
        CHECK(with(&OwnError::block_rms, 0.21) == "parallax ");
        CHECK(with(&OwnError::correlation, 0.92) == "differs ");
        CHECK(with(&OwnError::sigma_est, 0.11) == "uncertain ");
        sharp.sharp_share = 0.05;
        CHECK(failed(good, sharp) == "tele_soft ");
    }

    TEST_CASE("tele_sharpness: a step blurred by sigma has ratio sqrt(sigma^2 + 4) / sigma") {
        for (const double sigma : {1.0, 6.0}) {
            cv::Mat step(260, 260, CV_32F);
            for (int y = 0; y < step.rows; ++y) {
                for (int x = 0; x < step.cols; ++x) {
                    // A step in the middle of every block, up and down in turn
                    const double at = x % 64 - 32;
                    const double side = (x / 64) % 2 ? -1 : 1;
                    step.at<float>(y, x) = static_cast<float>(
                        0.4 + 0.2 * side * std::erf(at / sigma / std::sqrt(2.0)));
                }
            }
            const TeleSharpness s = tele_sharpness(step);
            CHECK(s.textured_blocks == 16);
            CHECK(s.ratio == doctest::Approx(std::sqrt(sigma * sigma + 4) / sigma).epsilon(0.06));
            CHECK(s.sharp_share == (sigma < 3 ? 1 : 0));
        }
    }
}

TEST_SUITE("property") {
    TEST_CASE("refine_pixels: the same bytes for 1, 2 and 8 threads") {
        const test::ZoomPair pair = usual_pair();
        std::vector<PixelFit> fits;
        for (const std::size_t threads : {1, 2, 8}) {
            const tbb::global_control control(tbb::global_control::max_allowed_parallelism,
                                              threads);
            WorkPictures work = work_of(pair);
            fits.push_back(refine_pixels(work, near_truth(pair, 0.4, 0.2)));
        }
        for (const PixelFit& fit : fits) {
            CHECK(fit.map.theta() == fits[0].map.theta());
            CHECK(fit.brightness == fits[0].brightness);
            CHECK(fit.covariance == fits[0].covariance);
        }
    }
}
