// What pair.json says of a pair.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "acquisition/truth.h"
#include "data/base/json.h"
#include "registration/register_pair.h"

namespace ultrasr {

/// A number with 6 significant digits, so that files stay short and compare well; "nan", "inf".
Json short_number(double value);

/// The same with keys sorted, all levels.
Json sorted(const Json& value);

/// One delivered or refused window of a pair (programs.md 2, registration.md 10), without scene,
/// file names and seconds, which the caller adds.
///
/// index  of the window in pair.windows; -1: the pair has none, its reason stands in `pair`
/// truth  adds true_error_lr_px
Json pair_to_json(const PairResult& pair, int index, const std::optional<PairTruth>& truth);

/// An entry for a pair that could not be tried at all.
Json refused_pair(int scale, Verdict verdict, std::string_view reason);

}  // namespace ultrasr
