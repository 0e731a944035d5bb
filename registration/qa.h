// Pictures by which a person sees whether a pair fits.
#pragma once
#include <map>
#include <string>

#include "registration/register_pair.h"

namespace ultrasr {

/// PNG files in memory by their tail:
///   checker  tiles of 32 LR px, LR enlarged by cubic in turn with HR, at a third of HR's size
///   flicker  an animated PNG: LR and HR at LR scale, enlarged 4 times
///   error    absolute difference at LR scale, enlarged 4 times, times 4; blue: weight 0
///   shifts   block shifts, 20 times enlarged, red above 0.25 px
/// Empty when the window holds no pictures. HR is shown matched to LR by gain where the delivered
/// HR is not matched.
std::map<std::string, std::string> qa_pictures(const PairWindow& window, int scale);

/// Two pictures of one size, each shown for half a second, as an APNG.
std::string encode_flicker(const cv::Mat& a, const cv::Mat& b);

}  // namespace ultrasr
