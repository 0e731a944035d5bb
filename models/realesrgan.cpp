// Real-ESRGAN and BSRGAN: released GAN networks of scale 4.
#include <ATen/Parallel.h>

#include <algorithm>

#include "data/base/error.h"
#include "data/tensor.h"
#include "data/tensor/named_tensors.h"
#include "models/method.h"
#include "models/rrdbnet.h"
#include "models/scale_policy.h"
#include "models/srvgg.h"
#include "models/tiling.h"

namespace ultrasr {
namespace {

/// A network of fixed scale with its files and settings.
class GanMethod final : public Method {
  public:
    /// size  parameters, and the multiply-adds of one LR pixel
    GanMethod(std::unique_ptr<UpscaleNet> net, const PartCost& size, const MethodOptions& options,
              const Placement& placement, std::vector<WeightRecord> weights)
        : net_(std::move(net)),
          size_(size),
          options_(options),
          tile_(std::max(0, options.tile)),
          placement_(placement),
          weights_(std::move(weights)) {
        if (net_->scale() != 4) {
            fail(Fault::input, "{} holds a network of scale {}, this method needs scale 4",
                 weights_.at(0).file, net_->scale());
        }
    }

    Image restore(const Image& lr, const RestoreRequest& request) const override {
        at::init_num_threads();  // the caller's thread may be new to LibTorch
        const TileOptions tiles{.tile = tile_, .pad = options_.tile_pad};
        return restore_by_policy(
            lr, request.target, options_.scale_policy, net_->scale(), [&](const Image& picture) {
                const at::Tensor rgb = batch_from_image(picture).nchw;
                return image_from_batch(ImageBatch(run_tiled(*net_, rgb, tiles)));
            });
    }

    /// Of whole pictures: what tiles share is counted once.
    std::optional<Cost> cost(PixelSize lr, const RestoreRequest& request) const override {
        // The policy says how large a picture enters the network, and how often
        std::int64_t pixels = 0;
        restore_by_policy(Image(lr), request.target, options_.scale_policy, net_->scale(),
                          [&](const Image& picture) {
                              pixels += std::int64_t{picture.width()} * picture.height();
                              return Image(PixelSize{picture.width() * net_->scale(),
                                                     picture.height() * net_->scale()});
                          });
        PartCost network = size_;
        network.convolutions *= pixels;
        return Cost{{network}};
    }

    Provenance provenance() const override {
        Provenance p{.kind = "gan",
                     .weights = weights_,
                     .scale_policy = policy_name(options_.scale_policy),
                     .device = device_name(placement_),
                     .dtype = dtype_name(placement_),
                     .rounding = policy_rounding(options_.scale_policy),
                     .settings = settings_};
        p.settings.emplace_back("tile", std::to_string(tile_));
        if (tile_ > 0) {
            p.settings.emplace_back("tile-pad", options_.tile_pad < 0
                                                    ? std::to_string(net_->receptive_radius())
                                                    : std::to_string(options_.tile_pad));
        }
        return p;
    }

    void add_setting(std::string key, std::string value) {
        settings_.emplace_back(std::move(key), std::move(value));
    }

  private:
    std::unique_ptr<UpscaleNet> net_;
    PartCost size_;
    MethodOptions options_;
    int tile_;  ///< 0 = the whole picture
    Placement placement_;
    std::vector<WeightRecord> weights_;
    std::vector<std::pair<std::string, std::string>> settings_;
};

/// Parameters, and the multiply-adds of one pixel that enters the network.
PartCost size_of_network(const NamedTensors& weights) {
    PartCost size{.name = "network"};
    for (const auto& [name, tensor] : with_new_rrdb_names(weights)) {
        size.parameters += tensor.numel();
        if (tensor.dim() != 4) continue;
        const bool doubled = name.starts_with("conv_up1");
        const bool enlarged = name.starts_with("conv_up2") || name.starts_with("conv_hr") ||
                              name.starts_with("conv_last");
        size.convolutions += tensor.numel() * (doubled ? 4 : enlarged ? 16 : 1);
    }
    return size;
}

template <class Net>
MethodPtr make_gan(const char* file, const MethodOptions& options) {
    const Placement placement = place(options);
    const KnownWeights known = load_known_weights(file, options);
    return std::make_unique<GanMethod>(std::make_unique<Net>(known.tensors, placement, file),
                                       size_of_network(known.tensors), options, placement,
                                       std::vector{known.record});
}

const std::vector<std::string> gan_options{"--scale-policy", "--precision", "--tile",
                                           "--tile-overlap"};
constexpr const char* x4plus_file = "RealESRGAN_x4plus.safetensors";
constexpr const char* general_file = "realesr-general-x4v3.safetensors";
constexpr const char* wdn_file = "realesr-general-wdn-x4v3.safetensors";
constexpr const char* anime_file = "realesr-animevideov3.safetensors";
constexpr const char* bsrgan_file = "BSRGAN.safetensors";

/// The general network, or the mixture of it and its noise-keeping twin.
MethodPtr make_general(const MethodOptions& options) {
    const double d = options.denoise;
    if (!(d >= 0.0 && d <= 1.0)) {
        fail(Fault::usage, "the denoise strength is {}; it lies between 0 and 1", d);
    }
    const Placement placement = place(options);
    KnownWeights general = load_known_weights(general_file, options);
    std::vector<WeightRecord> records{general.record};
    if (d < 1.0) {
        const KnownWeights wdn = load_known_weights(wdn_file, options);
        general.tensors = blend_weights(general.tensors, wdn.tensors, d);
        records.push_back(wdn.record);
    }
    auto method = std::make_unique<GanMethod>(
        std::make_unique<SrvggNet>(general.tensors, placement, general_file),
        size_of_network(general.tensors), options, placement, records);
    method->add_setting("denoise", fmt::format("{}", d));
    return method;
}

}  // namespace

extern const MethodInfo realesrgan_x4plus, realesr_general_x4v3, realesr_animevideov3, bsrgan;
const MethodInfo realesrgan_x4plus{.name = "realesrgan-x4plus",
                                   .title = "Real-ESRGAN",
                                   .source = "Wang et al. 2021, RRDBNet, release RealESRGAN_x4plus",
                                   .weight_files = {x4plus_file},
                                   .options = gan_options,
                                   .make = [](const MethodOptions& o, const std::string&) {
                                       return make_gan<RrdbNet>(x4plus_file, o);
                                   }};
const MethodInfo realesr_general_x4v3{
    .name = "realesr-general-x4v3",
    .title = "Real-ESRGAN v3 general",
    .source = "Wang et al. 2021, SRVGGNetCompact, release realesr-general-x4v3",
    .weight_files = {general_file, wdn_file},
    .options = {"--scale-policy", "--precision", "--tile", "--tile-overlap", "--denoise"},
    .make = [](const MethodOptions& o, const std::string&) { return make_general(o); }};
const MethodInfo realesr_animevideov3{
    .name = "realesr-animevideov3",
    .title = "Real-ESRGAN v3 anime video",
    .source = "Wang et al. 2021, SRVGGNetCompact, release realesr-animevideov3",
    .weight_files = {anime_file},
    .options = gan_options,
    .make = [](const MethodOptions& o, const std::string&) {
        return make_gan<SrvggNet>(anime_file, o);
    }};
const MethodInfo bsrgan{.name = "bsrgan",
                        .title = "BSRGAN",
                        .source = "Zhang et al. 2021, RRDBNet",
                        .weight_files = {bsrgan_file},
                        .options = gan_options,
                        .make = [](const MethodOptions& o, const std::string&) {
                            return make_gan<RrdbNet>(bsrgan_file, o);
                        }};

}  // namespace ultrasr
