#include "models/osediff_loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/clamp_min.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/square.h>

#include <string>

#include <fmt/ranges.h>

#include "data/base/error.h"

namespace ultrasr {
namespace {

std::string shape_of(const at::Tensor& x) {
    return x.defined() ? fmt::format("{}", fmt::join(x.sizes(), " x ")) : "nothing";
}

void demand_latents(const at::Tensor& a, const at::Tensor& b, const char* what) {
    if (!a.defined() || !b.defined() || a.dim() != 4 || a.numel() == 0 || a.sizes() != b.sizes()) {
        fail(Fault::internal, "{}: expected two latents of one shape N x C x h x w, got {} and {}",
             what, shape_of(a), shape_of(b));
    }
}

/// sqrt(alpha_bar) and sqrt(1 - alpha_bar), N x 1 x 1 x 1
struct Mixture {
    at::Tensor signal, noise;

    Mixture(const at::Tensor& alpha_bar, const at::Tensor& latent) {
        if (!alpha_bar.defined() || alpha_bar.dim() != 1 || alpha_bar.size(0) != latent.size(0)) {
            fail(Fault::internal, "expected one alpha_bar for each of {} latents, got {}",
                 latent.size(0), shape_of(alpha_bar));
        }
        const at::Tensor a = alpha_bar.to(at::kFloat).reshape({-1, 1, 1, 1});
        signal = at::sqrt(a);
        noise = at::sqrt(1.0 - a);
    }
};

/// Of N x C x h x w over all but N: N x 1 x 1 x 1. Rows first: ATen cuts one long sum into as many
/// parts as there are threads, and then the last bits depend on their number.
at::Tensor mean_of_each(const at::Tensor& x) {
    return x.mean(3).flatten(1).mean(1).reshape({-1, 1, 1, 1});
}

}  // namespace

at::Tensor add_noise(const at::Tensor& z0, const at::Tensor& noise, const at::Tensor& alpha_bar) {
    demand_latents(z0, noise, "adding noise");
    const Mixture mix(alpha_bar, z0);
    return mix.signal * z0.to(at::kFloat) + mix.noise * noise.to(at::kFloat);
}

at::Tensor clean_from(const at::Tensor& z_t, const at::Tensor& eps, const at::Tensor& alpha_bar) {
    demand_latents(z_t, eps, "a latent and its predicted noise");
    const Mixture mix(alpha_bar, z_t);
    return (z_t.to(at::kFloat) - mix.noise * eps.to(at::kFloat)) / mix.signal;
}

at::Tensor guided(const at::Tensor& uncond, const at::Tensor& cond, double scale) {
    demand_latents(uncond, cond, "classifier-free guidance");
    const at::Tensor base = uncond.to(at::kFloat);
    return base + scale * (cond.to(at::kFloat) - base);
}

at::Tensor vsd_loss(const at::Tensor& z_hr, const at::Tensor& x0_fake, const at::Tensor& x0_real) {
    demand_latents(z_hr, x0_fake, "VSD, z_hr and x0_fake");
    demand_latents(z_hr, x0_real, "VSD, z_hr and x0_real");
    const at::Tensor z = z_hr.to(at::kFloat);
    const at::Tensor fake = x0_fake.detach().to(at::kFloat);
    const at::Tensor real = x0_real.detach().to(at::kFloat);

    const at::Tensor w = at::clamp_min(mean_of_each(at::abs(z.detach() - real)), 1e-6);
    const at::Tensor g = (fake - real) / w;
    // z - stopgrad(z - g), without rounding g to the last bit of z
    return mean_of_each((z - z.detach() + g).square()).mean();
}

}  // namespace ultrasr
