// What trains a one-step teacher as OSEDiff does, beyond the distances of pictures.
//
// Latents are N x C x h x w in the scale of the VAE; everything is float32 whatever comes in, and
// differentiable but where it says otherwise. Unequal shapes throw Error(internal). alpha_bar is
// NoiseSchedule::alphas_cumprod() at each sample's own timestep: [N], float32, in (0,1), on the
// device of the latents.
//
// Source: OSEDiff (Wu et al. 2024) and its released trainer, one_step_models.md 2.3; variational
// score distillation is of ProlificDreamer (Wang et al. 2023), the weight w of DMD (Yin et al.
// 2024).
#pragma once
#include <ATen/core/Tensor.h>

namespace ultrasr {

/// The diffusion forward process: sqrt(alpha_bar) z0 + sqrt(1 - alpha_bar) noise.
///
/// z0, noise  N x C x h x w; normal noise
at::Tensor add_noise(const at::Tensor& z0, const at::Tensor& noise, const at::Tensor& alpha_bar);

/// The clean latent that a predicted noise implies: (z_t - sqrt(1 - alpha_bar) eps) /
/// sqrt(alpha_bar). NoiseSchedule::clean_latent() does it with one timestep for all.
///
/// z_t, eps  N x C x h x w
at::Tensor clean_from(const at::Tensor& z_t, const at::Tensor& eps, const at::Tensor& alpha_bar);

/// Classifier-free guidance: uncond + scale (cond - uncond); OSEDiff's scale is 7.5.
///
/// uncond, cond  predicted noise with the negative and with the picture's prompt, N x C x h x w
at::Tensor guided(const at::Tensor& uncond, const at::Tensor& cond, double scale);

/// Variational score distillation: MSE(z_hr, stopgrad(z_hr - g)) with
/// g = (x0_fake - x0_real) / w, w = mean of |z_hr - x0_real| over C, h, w of each sample.
///
/// Its gradient is 2 g / numel; its value says how far the two predictions are apart, not how good
/// the latents are. w is at least 1e-6, so that equal latents do not divide by 0.
///
/// z_hr     N x C x h x w, the generator's; alone gets a gradient
/// x0_fake  clean latent of the noised z_hr by the regulariser, which learns what z_hr looks like
/// x0_real  the same by the frozen base model, guided
/// returns  scalar
at::Tensor vsd_loss(const at::Tensor& z_hr, const at::Tensor& x0_fake, const at::Tensor& x0_real);

}  // namespace ultrasr
