// What networks cost before they run: parameters and multiply-adds, from their configurations.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace ultrasr {

struct TextEncoderConfig;
struct UNetConfig;
struct VaeConfig;

/// One network, or a part of one, on one picture. Multiply-adds as the paper's Table 4 and most
/// tools count them: of the layers as they are published, not of what an implementation folds or
/// skips; normalisation, activations and sums are not counted.
struct PartCost {
    std::string name;  ///< as StageTimes calls it: text, encode, unet, decode; network
    std::int64_t parameters = 0;
    // Multiply-adds
    std::int64_t convolutions = 0;
    std::int64_t linear = 0;           ///< matrices on tokens, projections of attention included
    std::int64_t context = 0;          ///< of these the keys and values of the prompt
    std::int64_t self_attention = 0;   ///< products of queries, keys and values
    std::int64_t cross_attention = 0;  ///< the same with the prompt's
    bool once = false;  ///< done when the method is loaded, not for every picture: a constant
                        ///< prompt; then not in Cost's sums of multiply-adds

    std::int64_t products() const { return self_attention + cross_attention; }
    /// Without products of attention, which many tools do not see.
    std::int64_t layers() const { return convolutions + linear + context; }
    std::int64_t macs() const { return layers() + products(); }
};

struct Cost {
    std::vector<PartCost> parts;  ///< empty: no network

    std::int64_t parameters() const;
    std::int64_t macs() const;    ///< of a picture
    std::int64_t layers() const;  ///< without products of attention
};

/// height, width  of the latent; sides that are no multiples of config.multiple() round up level by
///                level, as the network does
/// tokens         of the prompt
/// Source: one_step_models.md 1.2, 6.1.
PartCost unet_cost(const UNetConfig& config, std::int64_t height, std::int64_t width,
                   std::int64_t tokens);

/// Encoder with quant_conv, decoder with post_quant_conv.
///
/// height, width  of the picture, multiples of config.factor()
PartCost vae_encoder_cost(const VaeConfig& config, std::int64_t height, std::int64_t width);
PartCost vae_decoder_cost(const VaeConfig& config, std::int64_t height, std::int64_t width);

/// One prompt of max_position_embeddings tokens.
PartCost text_encoder_cost(const TextEncoderConfig& config);

}  // namespace ultrasr
