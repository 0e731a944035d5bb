#include "registration/session.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "registration/median.h"

namespace ultrasr {
namespace {

constexpr double odd_k = 0.004;
constexpr std::size_t least_group = 3;

struct Member {
    std::string scene;
    int scale;
    std::optional<double> k;
    double sharpness;
};

}  // namespace

std::map<std::string, std::map<int, SessionVerdict>> judge_session(
    const std::vector<Json>& records, const RegisterSettings& settings) {
    // Gather by focal length what each pair found by itself
    std::map<std::string, std::vector<Member>> groups;
    for (const Json& record : records) {
        for (const Json& pair : record.at("pairs")) {
            if (!pair.contains("own_figures") || pair.at("window") != 0) continue;
            const Json& own = pair.at("own_figures");
            if (!own.at("accepted").get<bool>()) continue;
            Member member{record.at("scene"), pair.at("scale"), std::nullopt,
                          number_from_json(own.at("sharpness_ratio"))};
            if (!own.at("k").is_null()) member.k = number_from_json(own.at("k"));
            groups[dump_json_line(pair.at("tele_focal_mm"))].push_back(member);
        }
    }

    std::map<std::string, std::map<int, SessionVerdict>> verdicts;
    for (const auto& [focal, members] : groups) {
        if (members.size() < least_group) continue;
        std::vector<double> ks, sharpness;
        for (const Member& m : members) {
            if (m.k) ks.push_back(*m.k);
            sharpness.push_back(m.sharpness);
        }
        const double sharp = median_of(sharpness);
        for (const Member& m : members) {
            SessionVerdict verdict;
            if (m.k && ks.size() >= least_group && std::abs(*m.k - median_of(ks)) > odd_k) {
                verdict.note = fmt::format("k_odd: {:.4f}, session {:.4f}", *m.k, median_of(ks));
                if (settings.session_k) verdict.fixed_k = median_of(ks);
            }
            const double limit = settings.limits.at("session_sharpness");
            if (m.sharpness < limit * sharp) {
                verdict.reject = fmt::format("tele_blurred: sharpness {:.3g}, session {:.3g}",
                                             m.sharpness, sharp);
            }
            if (verdict.changes_pair() || !verdict.note.empty())
                verdicts[m.scene][m.scale] = verdict;
        }
    }
    return verdicts;
}

}  // namespace ultrasr
