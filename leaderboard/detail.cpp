#include "leaderboard/detail.h"

#include <algorithm>
#include <opencv2/imgproc.hpp>

#include "data/base/error.h"

namespace ultrasr {

PixelRect most_textured(const Image& image, PixelSize size) {
    const PixelRect first{0, 0, std::min(size.width, image.width()),
                          std::min(size.height, image.height())};

    // Sum the differences of luma, so that any rectangle costs four reads
    cv::Mat luma, right, down;
    cv::cvtColor(image.mat(), luma, cv::COLOR_RGB2GRAY);
    if (luma.cols < 2 || luma.rows < 2) return first;
    cv::Mat texture = cv::Mat::zeros(luma.size(), CV_32F);
    const cv::Rect inner(0, 0, luma.cols - 1, luma.rows - 1);
    cv::absdiff(luma(inner), luma(inner + cv::Point(1, 0)), right);
    cv::absdiff(luma(inner), luma(inner + cv::Point(0, 1)), down);
    cv::add(right, down, texture(inner));
    cv::Mat sums;
    cv::integral(texture, sums, CV_64F);

    PixelRect best = first;
    double most = -1;
    for (int y = 0; y + first.height <= image.height(); ++y) {
        for (int x = 0; x + first.width <= image.width(); ++x) {
            const double sum = sums.at<double>(y + first.height, x + first.width) -
                               sums.at<double>(y, x + first.width) -
                               sums.at<double>(y + first.height, x) + sums.at<double>(y, x);
            if (sum > most) {
                most = sum;
                best = {x, y, first.width, first.height};
            }
        }
    }
    return best;
}

Image crop(const Image& image, const PixelRect& part) {
    require(part.x >= 0 && part.y >= 0 && part.width > 0 && part.height > 0 &&
                part.x + part.width <= image.width() && part.y + part.height <= image.height(),
            "the box {},{},{},{} (x,y,width,height) is not inside the picture of {} x {}", part.x,
            part.y, part.width, part.height, image.width(), image.height());
    return Image(image.mat()(cv::Rect(part.x, part.y, part.width, part.height)).clone(),
                 image.encoding());
}

Image enlarge_nearest(const Image& image, PixelSize size) {
    cv::Mat large;
    cv::resize(image.mat(), large, {size.width, size.height}, 0, 0, cv::INTER_NEAREST_EXACT);
    return Image(large, image.encoding());
}

}  // namespace ultrasr
