// A family's tokenizer and text encoder together: prompts in, what a UNet attends to out.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/compute.h"
#include "models/diffusers_folder.h"
#include "models/text/text_encoder.h"
#include "models/text/tokenizer.h"

namespace ultrasr {

/// float32 whatever the networks behind it compute in.
class PromptReader {
  public:
    /// base    a family in diffusers' layout
    /// throws  Error(input) when a file of its text encoder or tokenizer is missing or broken
    PromptReader(const std::filesystem::path& base, const c10::Device& device)
        : PromptReader(open_family(base), device) {}

    std::vector<std::int64_t> tokens(const std::string& text) const {
        return tokenizer_.encode(text);
    }

    /// 1 x 77 x width, float32
    at::Tensor states(std::vector<std::int64_t> tokens) const;

    const std::vector<WeightRecord>& records() const { return records_; }
    const TextEncoderConfig& config() const { return encoder_.config(); }

  private:
    PromptReader(const FamilyFolder& family, const c10::Device& device);
    PromptReader(ModelFiles files, const std::filesystem::path& tokenizer,
                 const c10::Device& device);

    Tokenizer tokenizer_;
    std::vector<WeightRecord> records_;
    TextEncoder encoder_;
};

}  // namespace ultrasr
