#include "models/rrdbnet.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/add.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/pixel_unshuffle.h>
#include <ATen/ops/upsample_nearest2d.h>
#include <c10/core/InferenceMode.h>

#include <charconv>
#include <optional>

#include "data/base/error.h"

namespace ultrasr {
namespace {

/// The number at the start of `text`, which is then cut off together with the dot behind it.
std::optional<int> take_number(std::string_view& text) {
    int n = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), n);
    if (code != std::errc{} || n < 0) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    if (!text.starts_with('.')) return std::nullopt;
    text.remove_prefix(1);
    return n;
}

/// `from.rest` becomes `to.rest`.
struct Renaming {
    std::string_view from;
    std::string_view to;
};
constexpr std::array old_names{
    Renaming{"trunk_conv.", "conv_body."},
    Renaming{"upconv1.", "conv_up1."},
    Renaming{"upconv2.", "conv_up2."},
    Renaming{"HRconv.", "conv_hr."},
};
constexpr std::array oldest_names{
    Renaming{"model.0.", "conv_first."}, Renaming{"model.3.", "conv_up1."},
    Renaming{"model.6.", "conv_up2."},   Renaming{"model.8.", "conv_hr."},
    Renaming{"model.10.", "conv_last."},
};

template <class Table>
std::string renamed(const std::string& name, const Table& table) {
    for (const Renaming& r : table) {
        if (name.starts_with(r.from)) return std::string(r.to) + name.substr(r.from.size());
    }
    return name;
}

/// RRDB_trunk.{i}.RDB{r}.conv{c}.rest
std::string from_old(const std::string& name) {
    constexpr std::string_view trunk = "RRDB_trunk.";
    if (!name.starts_with(trunk)) return renamed(name, old_names);
    std::string_view rest = std::string_view(name).substr(trunk.size());
    const auto i = take_number(rest);
    if (!i || !rest.starts_with("RDB")) return name;
    return fmt::format("body.{}.rdb{}", *i, rest.substr(3));
}

/// model.1.sub.{i}.RDB{r}.conv{c}.0.rest, or model.1.sub.{nb}.rest
std::string from_oldest(const std::string& name) {
    constexpr std::string_view trunk = "model.1.sub.";
    if (!name.starts_with(trunk)) return renamed(name, oldest_names);
    std::string_view rest = std::string_view(name).substr(trunk.size());
    const auto i = take_number(rest);
    if (!i) return name;
    if (!rest.starts_with("RDB")) return fmt::format("conv_body.{}", rest);
    const std::size_t extra = rest.rfind(".0.");
    if (extra == std::string_view::npos) return name;
    return fmt::format("body.{}.rdb{}.{}", *i, rest.substr(3, extra - 3), rest.substr(extra + 3));
}

std::int64_t size_of(const NamedTensors& weights, const std::string& name, int axis) {
    const auto found = weights.find(name);
    return found != weights.end() && found->second.dim() == 4 ? found->second.size(axis) : 0;
}

}  // namespace

NamedTensors with_new_rrdb_names(const NamedTensors& weights) {
    const auto has = [&](const char* beginning) {
        const auto first = weights.lower_bound(beginning);
        return first != weights.end() && first->first.starts_with(beginning);
    };
    const bool old = has("RRDB_trunk.");
    const bool oldest = !old && has("model.1.sub.");
    if (!old && !oldest) return weights;
    NamedTensors result;
    for (const auto& [name, tensor] : weights) {
        const std::string fresh = old ? from_old(name) : from_oldest(name);
        require(result.emplace(fresh, tensor).second, "the weights hold {} under two names", fresh);
    }
    return result;
}

RrdbNet::RrdbNet(const NamedTensors& given, const Placement& placement, std::string_view what)
    : placement_(placement) {
    const NamedTensors weights = with_new_rrdb_names(given);

    // Derive blocks, widths and scale
    int blocks = 0;
    for (const auto& [name, tensor] : weights) {
        std::string_view rest = name;
        if (!rest.starts_with("body.")) continue;
        rest.remove_prefix(5);
        const auto i = take_number(rest);
        if (i && *i < 1000 && rest.starts_with("rdb")) blocks = std::max(blocks, *i + 1);
    }
    const std::int64_t nf = size_of(weights, "body.0.rdb1.conv1.weight", 1);
    const std::int64_t gc = size_of(weights, "body.0.rdb1.conv1.weight", 0);
    const std::int64_t in = size_of(weights, "conv_first.weight", 1);
    require(
        blocks > 0 && nf > 0 && gc > 0 && (in == 3 || in == 12 || in == 48),
        "{} does not hold an RRDBNet: it lacks body.0.rdb1.conv1 or a conv_first of 3, 12 or 48 "
        "channels; check that this is the right file",
        what);
    unshuffle_ = in == 48 ? 4 : in == 12 ? 2 : 1;
    // Only a bare three-channel network may lack the second doubling (BSRGANx2)
    const bool two_stages = unshuffle_ > 1 || weights.contains("conv_up2.weight");

    // Demand exactly the keys of such a network
    Shapes expected;
    const auto expect = [&](const std::string& key, std::int64_t inputs, std::int64_t outputs) {
        expected[key + ".weight"] = {outputs, inputs, 3, 3};
        expected[key + ".bias"] = {outputs};
    };
    expect("conv_first", in, nf);
    for (int i = 0; i < blocks; ++i) {
        for (int r = 1; r <= 3; ++r) {
            for (int c = 1; c <= 5; ++c) {
                expect(fmt::format("body.{}.rdb{}.conv{}", i, r, c), nf + (c - 1) * gc,
                       c == 5 ? nf : gc);
            }
        }
    }
    expect("conv_body", nf, nf);
    expect("conv_up1", nf, nf);
    if (two_stages) expect("conv_up2", nf, nf);
    expect("conv_hr", nf, nf);
    expect("conv_last", nf, 3);
    check_tensors(weights, expected, fmt::format("RRDBNet ({})", what));

    // Take them
    const auto conv = [&](const std::string& key) { return Conv3x3(weights, key, placement); };
    conv_first_ = {conv("conv_first")};
    for (int i = 0; i < blocks; ++i) {
        Block& block = body_.emplace_back();
        for (std::size_t r = 0; r < 3; ++r) {
            for (int c = 1; c <= 5; ++c) {
                block.rdb[r].push_back(conv(fmt::format("body.{}.rdb{}.conv{}", i, r + 1, c)));
            }
        }
    }
    conv_body_ = {conv("conv_body")};
    conv_up1_ = {conv("conv_up1")};
    if (two_stages) conv_up2_ = {conv("conv_up2")};
    conv_hr_ = {conv("conv_hr")};
    conv_last_ = {conv("conv_last")};
}

int RrdbNet::receptive_radius() const {
    // In body pixels: conv_first 1, fifteen convolutions a block, conv_body 1, and 2 for the
    // convolutions behind the doublings: three on the finest grid and one on each coarser one reach
    // less than two body pixels beyond a body pixel's own block.
    const int body = 1 + 15 * static_cast<int>(body_.size()) + 1 + 2;
    return body * unshuffle_;
}

at::Tensor RrdbNet::dense(const DenseBlock& rdb, const at::Tensor& x) {
    at::Tensor all = x;
    for (std::size_t c = 0; c < 4; ++c) all = at::cat({all, rdb[c].leaky(all)}, 1);
    return at::add(x, rdb[4](all), 0.2);
}

at::Tensor RrdbNet::forward(const at::Tensor& rgb) const {
    const c10::InferenceMode guard;
    at::Tensor x = rgb.to(placement_.device);
    if (unshuffle_ > 1) x = at::pixel_unshuffle(x, unshuffle_);
    const at::Tensor first = conv_first_[0](to_activation(x, placement_));

    at::Tensor t = first;
    for (const Block& block : body_) {
        at::Tensor y = t;
        for (const DenseBlock& rdb : block.rdb) y = dense(rdb, y);
        t = at::add(t, y, 0.2);
    }
    at::Tensor f = first + conv_body_[0](t);

    const auto doubled = [](const at::Tensor& y) {
        return at::upsample_nearest2d(y, {2 * y.size(2), 2 * y.size(3)});
    };
    f = conv_up1_[0].leaky(doubled(f));
    if (!conv_up2_.empty()) f = conv_up2_[0].leaky(doubled(f));
    return conv_last_[0](conv_hr_[0].leaky(f)).to(at::kFloat).contiguous();
}

}  // namespace ultrasr
