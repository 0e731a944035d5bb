#include "models/training/learning_stages.h"

#include <algorithm>
#include <system_error>

#include "data/base/error.h"
#include "models/training/stages.h"

namespace ultrasr {

RunFolders::RunFolders(const TrainSettings& settings)
    : base(settings.base),
      teacher(settings.teacher.empty() ? settings.out / "teacher" : settings.teacher),
      encoder(settings.encoder.empty() ? settings.out / "encoder" : settings.encoder),
      own_base(settings.out / "base"),
      student(settings.out / "student") {
    // What this run has made of it
    std::error_code ignored;
    if (std::filesystem::exists(own_base / "model_index.json", ignored)) base = own_base;
}

SampleLevels student_levels(const TrainSettings& settings, std::int64_t step, bool severe) {
    // One s_s for the whole batch; validation has the first of the list
    std::size_t chosen = 0;
    bool low = false;
    if (step >= 0) {
        Rng rng = stream_of(settings.seed, Draw::scale, static_cast<std::uint64_t>(step));
        low = rng.uniform() < settings.x4_probability;
        chosen = rng.below(static_cast<std::uint32_t>(settings.scale_student.size()));
    }
    const std::int64_t s_s = low ? 4 : settings.scale_student[chosen];
    SampleLevels levels{
        .scales = {static_cast<int>(settings.scale_teacher), static_cast<int>(s_s)}};
    if (severe) {
        const std::int64_t s_h = settings.severe == SevereRule::fixed16 ? 16
                                 : settings.severe == SevereRule::list && !low
                                     ? settings.scale_severe[chosen]
                                     : 2 * s_s;
        levels.scales.push_back(static_cast<int>(std::max(s_h, s_s)));
    }
    return levels;
}

std::unique_ptr<LearningStage> make_stage(std::string_view name, const TrainSettings& settings,
                                          const Placement& placement) {
    if (name == "vae") return make_vae_stage(settings, placement);
    if (name == "base") return make_base_stage(settings, placement);
    if (name == "teacher") return make_teacher_stage(settings, placement);
    if (name == "dml") return make_dml_stage(settings, placement);
    require(name == "rsd", "no stage {}", name);
    return make_rsd_stage(settings, placement);
}

}  // namespace ultrasr
