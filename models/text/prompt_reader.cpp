#include "models/text/prompt_reader.h"

#include <c10/core/InferenceMode.h>

namespace ultrasr {
namespace {

TextEncoder load(ModelFiles files, const c10::Device& device) {
    StateDict weights(std::move(files.tensors), files.what);
    TextEncoder encoder(weights, TextEncoderConfig::from_json(files.config, files.what),
                        {.device = device, .inference_only = true});
    weights.finish();
    return encoder;
}

}  // namespace

PromptReader::PromptReader(const FamilyFolder& family, const c10::Device& device)
    : PromptReader(read_model_folder(family.text_encoder, "model"), family.tokenizer, device) {}

PromptReader::PromptReader(ModelFiles files, const std::filesystem::path& tokenizer,
                           const c10::Device& device)
    : tokenizer_(Tokenizer::from_folder(tokenizer)),
      records_(files.records),
      encoder_(load(std::move(files), device)) {}

at::Tensor PromptReader::states(std::vector<std::int64_t> tokens) const {
    const c10::InferenceMode guard;
    return encoder_({std::move(tokens)}).to(at::kFloat);
}

}  // namespace ultrasr
