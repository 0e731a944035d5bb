// CLIP's text model under the names of transformers: token ids to the states that a UNet attends
// to.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/base/json.h"
#include "data/tensor/layers.h"
#include "models/layers/taps.h"

namespace ultrasr {

/// text_encoder/config.json. Defaults: Stable Diffusion 2.1-base.
struct TextEncoderConfig {
    enum class Activation {
        gelu,       ///< x Phi(x), with erf
        quick_gelu  ///< x sigmoid(1.702 x)
    };

    std::int64_t vocab_size = 49408;
    std::int64_t hidden_size = 1024;
    std::int64_t intermediate_size = 4096;
    std::int64_t num_hidden_layers = 23;
    std::int64_t num_attention_heads = 16;
    std::int64_t max_position_embeddings = 77;
    Activation hidden_act = Activation::gelu;
    double layer_norm_eps = 1e-5;

    /// Absent keys are what transformers' CLIPTextConfig takes them for, a smaller model.
    ///
    /// throws Error(input), naming `what`, for what this implementation does not compute
    static TextEncoderConfig from_json(const Json& config, std::string_view what);
};

/// Radford et al. 2021. All layers run, then final_layer_norm: Stable Diffusion 2's export has
/// dropped the last layer already (one_step_models.md 1.5). Tokens look back only, but no token is
/// masked out: the filling behind the end has states too, and the UNet reads them.
class TextEncoder {
  public:
    /// weights  text_model.embeddings.token_embedding.weight and so on, also without "text_model.";
    ///          position_ids are not looked at
    TextEncoder(StateDict& weights, const TextEncoderConfig& config, const Placement& placement);

    /// prompts  ids of a tokenizer, all of the same length, at most max_position_embeddings
    /// taps     embeddings, encoder.layers.0 ..., final_layer_norm
    /// returns  last_hidden_state, prompts x length x hidden_size, of the placement's type
    /// throws   Error(input) when there is no prompt, lengths differ or are too long, or an id lies
    ///          outside the vocabulary
    at::Tensor operator()(const std::vector<std::vector<std::int64_t>>& prompts,
                          const Taps& taps = {}) const;

    const TextEncoderConfig& config() const { return config_; }

  private:
    struct Layer {
        LayerNorm layer_norm1, layer_norm2;
        Linear qkv, out_proj, fc1, fc2;
    };
    Layer take_layer(StateDict& weights, const std::string& key) const;
    at::Tensor embed(const std::vector<std::vector<std::int64_t>>& prompts) const;
    at::Tensor run(const Layer& layer, const at::Tensor& x) const;

    TextEncoderConfig config_;
    Placement placement_;
    at::Tensor token_embedding_;  ///< float32, on the CPU: few of its rows are ever read
    at::Tensor position_embedding_;
    std::vector<Layer> layers_;
    LayerNorm final_layer_norm_;
};

}  // namespace ultrasr
