// The makers of the stages, for learning_stages.cpp.
#pragma once
#include "models/training/stage_parts.h"

namespace ultrasr {

std::unique_ptr<LearningStage> make_vae_stage(const TrainSettings&, const Placement&);
std::unique_ptr<LearningStage> make_base_stage(const TrainSettings&, const Placement&);
std::unique_ptr<LearningStage> make_teacher_stage(const TrainSettings&, const Placement&);
std::unique_ptr<LearningStage> make_dml_stage(const TrainSettings&, const Placement&);
std::unique_ptr<LearningStage> make_rsd_stage(const TrainSettings&, const Placement&);

}  // namespace ultrasr
