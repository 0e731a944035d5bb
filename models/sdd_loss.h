// The losses that train SDD: Eq. 7 to 10 of its paper, one function an equation.
//
// Pictures are in [-1,1] here and nowhere else outside the VAE: y = 2 picture - 1. z is a latent in
// the scale of the VAE, N x C x h x w (N x 4 x H/8 x W/8). Everything is computed in float32
// whatever comes in, is differentiable, and does not depend on the number of threads. Unequal
// shapes and undefined tensors that are needed throw Error(internal), impossible options
// Error(usage).
//
// Where the paper is silent or wrong, the comments marked "Open" say what the default does and why.
// The numbers A1, ... are those of the settings.
//
// Source: Selective Diffusion Distillation, section Methodology; the letters are the paper's.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

#include "data/base/random.h"

namespace ultrasr {

/// The second term of Eq. 7. d+ = d(z_s,z_t), d_h = d(z_s,z_h), d_j = d(z_s,z_j).
///
/// Open (A1): the paper prints d_j / (d_j + epsilon), which is 1 up to epsilon / d_j, and so is no
/// term at all; what gradient it has, epsilon / (d_j + epsilon)^2, pulls unlike pictures together.
/// The text ("remaining distinct from different semantic content") needs the positive distance
/// above, as the first term has it: the default.
enum class SecondTerm {
    ratio,       ///< d+ / (d_j + epsilon)
    as_printed,  ///< d_j / (d_j + epsilon)
    hinge,       ///< max(0, margin + d+ - d_j)
    off,         ///< 0
};

/// d(a, b) of one sample; || ||_2 in Eq. 7.
///
/// Open (A3): the paper does not say over what the norm goes. A ratio of norms stays when both are
/// scaled, so that all of the size that `rms` and `l2` differ by is seen by epsilon and the margin
/// alone: `rms` keeps these independent of the size of the patch. A square root gets 1e-12 added
/// under it: without, its slope at a = b (a student that begins as its teacher) is infinite.
enum class LatentDistance {
    rms,           ///< sqrt(mean of squares over C, h, w)
    l2,            ///< sqrt(sum of squares over C, h, w): the printed norm
    l2_per_pixel,  ///< sqrt(sum of squares over C), mean over h, w: no pixel outweighs another
    cosine,        ///< 1 - cos of the angle between the whole latents, in [0,2]. Blind to their
                   ///< lengths, and of second order near 0: small differences count less
};

struct MetricLossOptions {
    SecondTerm neg2 = SecondTerm::ratio;
    LatentDistance dist = LatentDistance::rms;
    double lambda = 0.5;    ///< Open (A4): the paper gives no value
    double epsilon = 1e-6;  ///< Open (A4): the paper gives no value; in units of the distance
    double margin = 0.2;    ///< of the hinge, in units of the distance
    /// Open (A5): no gradient through the denominators. The paper stops none, and without the pull
    /// on d_h and d_j there are no negatives left, only weights; hence off. With `as_printed` it
    /// leaves the numerator alone a gradient, which is no longer small and still wrong. A hinge has
    /// no denominator: the second term stays as it is.
    bool detach_neg = false;
};

struct MetricLoss {
    at::Tensor loss;  ///< scalar
    /// d+, d_h, d_j of each sample: [N], detached. `unrelated` is undefined where j is.
    at::Tensor positive, severe, unrelated;
};

/// Eq. 7: mean_i [ d(z_s,z_t) / (d(z_s,z_h) + epsilon) + lambda second_term_i ].
///
/// Open (A2): which z. Whatever is given is compared: the posterior's mean times 0.18215 by
/// default, since a sample adds the same noise level to every distance; a sample, the mean without
/// the factor or all eight moments are for the caller to make. A mean leaves the half of quant_conv
/// that makes the variances without gradient, so inference must use the mean too.
///
/// z_s  E_S of the moderate input; the gradient flows into it as the anchor and, rolled, as z_j
/// z_t  E_T of the mild input
/// z_h  E_T of the severe input
/// j    the other sample of each, j[i] != i: [N], int64, CPU. May be undefined where neg2 is `off`,
///      else N >= 2. lambda = 0 removes the second term from the graph
/// Source: Eq. 7 (5 and 6 are the caller's).
MetricLoss metric_loss(const at::Tensor& z_s, const at::Tensor& z_t, const at::Tensor& z_h,
                       const at::Tensor& j, const MetricLossOptions& options = {});

/// Open (A6): how the unlike picture j of Eq. 6 is drawn. Either rule is a permutation: every
/// picture serves once.
enum class PairRule {
    cyclic_shift,        ///< j = i - r mod N, one r in 1 .. N-1, all equally likely: torch's roll
    random_derangement,  ///< all permutations without a fixed point equally likely
};

/// n        >= 2, below 2^32
/// returns  [n], int64, CPU, never i at place i
/// throws   Error(usage) where n < 2
at::Tensor unrelated_samples(std::int64_t n, PairRule rule, Rng& rng);

/// What the map theta of Eq. 8 is made of, called s below: N x 3 x H x W, >= 0.
///
/// Open (A12): the paper says Softplus(y_T), which is a picture in [-1,1], no error: s grows with
/// brightness, 0.313 to 1.313. That textures and edges are uncertain, as the text has it, is true
/// of it by chance only. The default follows the letter; the others follow the text. They are not
/// negative, so the Softplus is left out: it would lay ln 2 over all of them.
/// Box averages are over those of the 7 x 7 pixels around each that lie in the picture: nothing is
/// invented beyond the border, and any size will do.
enum class ThetaSource {
    output,         ///< Softplus(y_T)
    detail,         ///< box(|y_T - box(y_T)|)
    error,          ///< box(|y_T - y|)
    posterior_var,  ///< unbiased variance of each pixel over the K samples, not box-averaged
};

/// psi of Eq. 8, of each picture by itself.
///
/// Open (A13): the paper says "L1 normalization". Over space, literally, theta would be about
/// 1/(H W): no noise, no hard loss. Over the channels (what torch's normalize(p=1) does when not
/// told otherwise) it is a map of colour ratios. The default keeps the spatial pattern and sets
/// its mean, so that a bright picture gets no more noise than a dark one, and kappa = 1/3 gives
/// (1 - theta) and theta the average weight that they have in the channel reading.
/// A map that is 0 everywhere counts as constant (it says nothing of where), and one that is
/// constant gives the constant named here.
enum class ThetaNorm {
    l1_space,      ///< min(kappa H W s / sum over space of s, 1); constant: kappa. The mean is
                   ///< kappa, less what the clamp took
    l1_channel,    ///< s / sum over channels of s, without kappa. As one channel it is exactly 1/3
                   ///< everywhere, whatever the picture: w/o UE in disguise
    l1_space_max,  ///< s / max over space of s, without kappa; constant: 1. The L1 step cancels.
                   ///< One spot that is far off darkens all the rest
    none_sigmoid,  ///< sigmoid(s), no normalisation, without kappa: something must bring Softplus
                   ///< below 1. Of s, so after the Softplus: 0.578 to 0.788 for `output`, hardly
                   ///< above 0.5 for the others
};

/// How theta becomes theta-hat, the map of the latent.
///
/// Open (A15): the paper says "downsample". The area mean keeps theta's mean, and with it the level
/// of the noise.
enum class ThetaDown {
    area,      ///< mean of the H/h x W/w pixels of a latent. Where these are no integers: of all
               ///< pixels that it touches, rows floor(i H / h) to ceil((i + 1) H / h) - 1
    bilinear,  ///< between the pixels around a latent's centre: the middle 2 x 2 of 8 x 8, no
               ///< low-pass
    max,       ///< maximum of the pixels that `area` averages: noise wherever any is due
};

struct ThetaOptions {
    ThetaSource source = ThetaSource::output;
    ThetaNorm norm = ThetaNorm::l1_space;
    ThetaDown down = ThetaDown::area;  ///< for latent_map()
    double kappa = 1.0 / 3.0;          ///< mean of theta, [0,1]; `l1_space` alone uses it
    /// Open (A14): a map of three channels cannot multiply a latent of four, so s is averaged over
    /// RGB before psi (after it with `l1_channel`, which would have nothing to divide by). With
    /// true the channels stay: l1_space and l1_space_max then normalise each of them by itself, and
    /// l1_channel is torch's normalize(p=1). That serves Eq. 10; latent_map() averages all the
    /// same.
    bool per_channel = false;
};

/// What Eq. 8 may look at: N x 3 x H x W, [-1,1].
struct TeacherView {
    at::Tensor y_t;      ///< the teacher's picture of the mild input, clamped
    at::Tensor y;        ///< the truth; needed by `error`
    at::Tensor samples;  ///< K x N x 3 x H x W, K >= 2: the teacher's pictures from latents drawn
                         ///< from the posterior; needed by `posterior_var`
};

/// Eq. 8: theta = psi(Softplus(y_T)); high where the truth shall teach.
///
/// returns  N x 1 x H x W (N x 3 x H x W where per_channel), float32, [0,1], detached
/// Source: Eq. 8.
at::Tensor uncertainty_map(const TeacherView& view, const ThetaOptions& options = {});

/// theta without uncertainty estimation ("w/o UE"): kappa everywhere, which keeps the mean of noise
/// and weights and removes the selection.
///
/// like     N x C x H x W
/// returns  N x 1 x H x W, float32, on the device of `like`
at::Tensor constant_map(const at::Tensor& like, double kappa);

/// theta-hat of Eq. 9; theta of three channels is averaged over them first.
///
/// theta    N x 1 x H x W or N x 3 x H x W
/// h, w     of the latent: 1 <= h <= H, 1 <= w <= W
/// returns  N x 1 x h x w, float32
at::Tensor latent_map(const at::Tensor& theta, std::int64_t h, std::int64_t w, ThetaDown down);

/// Eq. 9: z_S-hat = theta_hat epsilon + (1 - theta_hat) z_S.
///
/// The result has variance theta_hat^2 + (1 - theta_hat)^2 <= 1 times that of z: the paper does not
/// make up for it, and neither do we. epsilon has variance 1, and so has a latent times 0.18215;
/// one without the factor would hardly feel it. At inference there is no noise (A20), and the
/// student meets other latents than those it learnt from: on the small family of
/// models/demonstration that costs 0.8 to 0.9 dB before the colour fix.
///
/// z          N x C x h x w
/// theta_hat  N x 1 x h x w
/// epsilon    as z, normal
/// Source: Eq. 9.
at::Tensor inject_noise(const at::Tensor& z, const at::Tensor& theta_hat,
                        const at::Tensor& epsilon);

/// || ||_2 of Eq. 10 of a difference a: N x 3 x H x W.
///
/// Open (A17): the paper does not say over what the norm goes, nor how a batch is joined. The
/// default is the printed norm of each picture over sqrt(3 H W) and the mean of the batch: every
/// picture then has a gradient of the same length, whatever its error. The factor (1/887 at
/// 512 x 512) matters to the clipping of the gradient's norm, which `l2_sum` would hit in every
/// step.
enum class PictureNorm {
    rms,     ///< batch mean of sqrt(mean of a^2 + 1e-12)
    mse,     ///< mean of a^2: hard pictures weigh more, and the weights enter squared
    l1,      ///< mean of |a|
    l2_sum,  ///< batch mean of sqrt(sum of a^2 + 1e-12): the printed norm
};

struct DistillOptions {
    double lambda_soft = 1.0;  ///< >= 0; the paper's value
    double lambda_hard = 1.5;  ///< >= 0; the paper's value
    PictureNorm norm = PictureNorm::rms;
    /// y_S is clamped to [-1,1] inside the graph, as OSEDiff does it: no gradient where it lies
    /// outside. Open: the paper is silent; without, such pixels are drawn back.
    bool clamp = false;
};

struct DistillLoss {
    at::Tensor loss;        ///< scalar
    at::Tensor soft, hard;  ///< the two norms, without lambda, detached; scalars
};

/// Eq. 10: lambda_soft ||(1 - theta)(y_S - y_T)|| + lambda_hard ||theta (y_S - y)||.
///
/// y_s    the student's picture, not clamped
/// y_t    the teacher's, clamped, without gradient; may be undefined where lambda_soft = 0
/// y      the truth; may be undefined where lambda_hard = 0
/// theta  N x 1 x H x W or N x 3 x H x W; undefined: without selection ("w/o RSD"), both weights 1
///
/// A lambda of 0 takes its term out of the graph altogether: not even a NaN in y reaches the loss.
/// (1 - theta) still weighs the other. The norm is then for the log only; it is undefined where its
/// picture is.
/// throws Error(usage) where a lambda is negative or both are 0
/// Source: Eq. 10.
DistillLoss distill_loss(const at::Tensor& y_s, const at::Tensor& y_t, const at::Tensor& y,
                         const at::Tensor& theta, const DistillOptions& options = {});

}  // namespace ultrasr
