// Prompts beside the pictures, and prompts that a text encoder has read already.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace ultrasr {

/// Tokens of every prompt of the Stable Diffusion family.
constexpr std::int64_t prompt_tokens = 77;

/// What a text encoder made of a prompt: prompt.safetensors, so that a fixed prompt needs no text
/// encoder. The file holds one tensor of any name, [77, C] or [1, 77, C] in a floating type.
struct PromptEmbedding {
    at::Tensor states;  ///< 1 x 77 x C, float32, CPU
    std::string text;   ///< the prompt, from the metadata's "prompt"; empty where nobody wrote it
};

/// width   C, what the UNet attends to (cross_attention_dim)
/// throws  Error(input) that names the file: missing, not one tensor, of another shape or type, NaN
///         or an infinity in it
PromptEmbedding read_prompt_embedding(const std::filesystem::path& path, std::int64_t width);

/// Writes what read_prompt_embedding reads, as "prompt_embeds" in float32.
///
/// embedding.states  77 x C or 1 x 77 x C, any floating type and device
/// throws            Error(storage); Error(internal) on another shape or values that are not finite
void write_prompt_embedding(const std::filesystem::path& path, const PromptEmbedding& embedding);

/// The prompt of one picture: all of `folder`/<stem>.txt in UTF-8. An empty file, or one of white
/// space alone, is the empty prompt: start, end, filling. A byte order mark is dropped, the end of
/// the last line too.
///
/// throws Error(input) that names the file when it is missing
std::string read_prompt_text(const std::filesystem::path& folder, std::string_view stem);

}  // namespace ultrasr
