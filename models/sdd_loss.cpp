#include "models/sdd_loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/adaptive_avg_pool2d.h>
#include <ATen/ops/adaptive_max_pool2d.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/square.h>
#include <ATen/ops/upsample_bilinear2d.h>
#include <ATen/ops/var.h>

#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <fmt/ranges.h>

#include "data/base/error.h"

namespace ultrasr {
namespace {

constexpr double under_root = 1e-12;  // keeps the slope of a norm at 0 finite

std::string shape_of(const at::Tensor& x) {
    return x.defined() ? fmt::format("{}", fmt::join(x.sizes(), " x ")) : "nothing";
}

/// a is four-dimensional and not empty, b like it.
void demand_like(const at::Tensor& a, const at::Tensor& b, const char* what) {
    if (!a.defined() || !b.defined() || a.dim() != 4 || a.numel() == 0 || a.sizes() != b.sizes()) {
        fail(Fault::internal, "{}: expected two tensors of one shape N x C x H x W, got {} and {}",
             what, shape_of(a), shape_of(b));
    }
}

/// A picture, or a batch of them.
void demand_picture(const at::Tensor& y, const char* what) {
    if (!y.defined() || y.dim() != 4 || y.size(1) != 3 || y.numel() == 0) {
        fail(Fault::internal, "{}: expected N x 3 x H x W, got {}", what, shape_of(y));
    }
}

/// N x 1 x H x W or N x 3 x H x W for a picture of N x 3 x H x W.
bool is_map_of(const at::Tensor& theta, const at::Tensor& y) {
    return theta.dim() == 4 && theta.size(0) == y.size(0) &&
           (theta.size(1) == 1 || theta.size(1) == 3) && theta.size(2) == y.size(2) &&
           theta.size(3) == y.size(3);
}

/// Of N x C x H x W over all but N: [N]. Rows first: ATen cuts one long sum into as many parts as
/// there are threads, and then the last bits depend on their number.
at::Tensor sum_of_each(const at::Tensor& x) { return x.sum(3).flatten(1).sum(1); }

at::Tensor mean_of_each(const at::Tensor& x) {
    return sum_of_each(x) / static_cast<double>(x.size(1) * x.size(2) * x.size(3));
}

at::Tensor root(const at::Tensor& squares) { return at::sqrt(squares + under_root); }

/// Each latent divided by its length.
at::Tensor direction(const at::Tensor& z) {
    return z / root(sum_of_each(z.square())).reshape({-1, 1, 1, 1});
}

/// [N]
at::Tensor distance(const at::Tensor& a, const at::Tensor& b, LatentDistance dist) {
    switch (dist) {
        case LatentDistance::rms:
            return root(mean_of_each((a - b).square()));
        case LatentDistance::l2:
            return root(sum_of_each((a - b).square()));
        case LatentDistance::l2_per_pixel:
            return mean_of_each(root((a - b).square().sum(1, /*keepdim=*/true)));
        case LatentDistance::cosine:
            // 1 - cos is half the squared distance of the directions, which loses nothing near 0
            return 0.5 * sum_of_each((direction(a) - direction(b)).square());
    }
    fail(Fault::internal, "unknown distance {}", static_cast<int>(dist));
}

/// The distances of each sample that Eq. 7 is made of.
struct Distances {
    at::Tensor positive, severe, unrelated;
};

/// [N], before lambda
at::Tensor second_term(const Distances& d, const MetricLossOptions& options) {
    const double epsilon = options.epsilon;
    switch (options.neg2) {
        case SecondTerm::ratio:
            return d.positive /
                   ((options.detach_neg ? d.unrelated.detach() : d.unrelated) + epsilon);
        case SecondTerm::as_printed:
            if (options.detach_neg) return d.unrelated / (d.unrelated.detach() + epsilon);
            // The same number as d / (d + epsilon), whose gradient is a difference of two large
            // terms in which float32 loses it
            return 1.0 - epsilon / (d.unrelated + epsilon);
        case SecondTerm::hinge:
            return at::relu(options.margin + d.positive - d.unrelated);
        case SecondTerm::off:
            break;
    }
    fail(Fault::internal, "unknown second term {}", static_cast<int>(options.neg2));
}

/// j pairs each of n samples with another.
void demand_pairs(const at::Tensor& j, std::int64_t n) {
    if (j.dim() != 1 || j.size(0) != n || j.scalar_type() != at::kLong || !j.is_cpu()) {
        fail(Fault::internal, "the other samples must be {} int64 numbers on the CPU, got {}", n,
             shape_of(j));
    }
    const at::Tensor numbers = j.contiguous();
    const std::int64_t* other = numbers.const_data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < n; ++i) {
        if (other[i] < 0 || other[i] >= n || other[i] == i) {
            fail(Fault::internal, "sample {} of {} cannot be paired with {}", i, n, other[i]);
        }
    }
}

/// Mean over those of the 7 x 7 pixels around each that lie in the picture.
at::Tensor box_mean(const at::Tensor& x) {
    return at::avg_pool2d(x, {7, 7}, {1, 1}, {3, 3}, /*ceil_mode=*/false,
                          /*count_include_pad=*/false);
}

/// s: N x 3 x H x W, without gradient
at::Tensor theta_source(const TeacherView& view, ThetaSource source) {
    if (source == ThetaSource::posterior_var) {
        if (!view.samples.defined() || view.samples.dim() != 5 || view.samples.size(0) < 2) {
            fail(Fault::internal,
                 "theta from the posterior's variance needs samples of K x N x 3 x H x W with K "
                 ">= 2, got {}",
                 shape_of(view.samples));
        }
        const at::Tensor samples = view.samples.detach().to(at::kFloat);
        demand_picture(samples.select(0, 0), "theta's samples");
        return at::var(samples, at::IntArrayRef{0}, /*unbiased=*/true);
    }
    demand_picture(view.y_t, "theta's y_t");
    const at::Tensor y_t = view.y_t.detach().to(at::kFloat);
    switch (source) {
        case ThetaSource::output:
            return at::softplus(y_t);
        case ThetaSource::detail:
            return box_mean(at::abs(y_t - box_mean(y_t)));
        case ThetaSource::error:
            demand_like(view.y_t, view.y, "theta from the teacher's error");
            return box_mean(at::abs(y_t - view.y.detach().to(at::kFloat)));
        case ThetaSource::posterior_var:
            break;
    }
    fail(Fault::internal, "unknown source of theta {}", static_cast<int>(source));
}

/// psi(s), without clamp
at::Tensor theta_normalised(const at::Tensor& source, const ThetaOptions& options) {
    // So that a source of zeros counts as constant; nothing else is touched by it in float32
    constexpr double tiny = 1e-20;
    if (options.norm == ThetaNorm::l1_channel) {
        const at::Tensor s = source + tiny;
        const at::Tensor theta = s / s.sum(1, /*keepdim=*/true);
        return options.per_channel ? theta : theta.mean(1, /*keepdim=*/true);
    }
    const at::Tensor s = options.per_channel ? source : source.mean(1, /*keepdim=*/true);
    switch (options.norm) {
        case ThetaNorm::l1_space: {
            const at::Tensor filled = s + tiny;
            const at::Tensor total = filled.sum(3, /*keepdim=*/true).sum(2, /*keepdim=*/true);
            return filled * (options.kappa * static_cast<double>(s.size(2) * s.size(3)) / total);
        }
        case ThetaNorm::l1_space_max: {
            const at::Tensor filled = s + tiny;
            return filled / at::amax(filled, {2, 3}, /*keepdim=*/true);
        }
        case ThetaNorm::none_sigmoid:
            return at::sigmoid(s);
        case ThetaNorm::l1_channel:
            break;
    }
    fail(Fault::internal, "unknown normalisation of theta {}", static_cast<int>(options.norm));
}

void demand_kappa(double kappa) {
    if (!(kappa >= 0.0 && kappa <= 1.0)) {
        fail(Fault::usage, "kappa, the mean of theta, is {}: give a number from 0 to 1", kappa);
    }
}

/// || a || of Eq. 10
at::Tensor picture_norm(const at::Tensor& a, PictureNorm norm) {
    switch (norm) {
        case PictureNorm::rms:
            return root(mean_of_each(a.square())).mean();
        case PictureNorm::mse:
            return mean_of_each(a.square()).mean();
        case PictureNorm::l1:
            return mean_of_each(at::abs(a)).mean();
        case PictureNorm::l2_sum:
            return root(sum_of_each(a.square())).mean();
    }
    fail(Fault::internal, "unknown norm {}", static_cast<int>(norm));
}

}  // namespace

MetricLoss metric_loss(const at::Tensor& z_s, const at::Tensor& z_t, const at::Tensor& z_h,
                       const at::Tensor& j, const MetricLossOptions& options) {
    demand_like(z_s, z_t, "Eq. 7, z_s and z_t");
    demand_like(z_s, z_h, "Eq. 7, z_s and z_h");
    if (!(options.epsilon > 0.0)) {
        fail(Fault::usage, "epsilon of Eq. 7 is {}: give a number above 0", options.epsilon);
    }
    const std::int64_t n = z_s.size(0);
    const bool paired = options.neg2 != SecondTerm::off;
    if (paired && n < 2) {
        fail(Fault::usage,
             "Eq. 7 compares each picture with another of its batch, and there is only one: take 2 "
             "or more at a time, or turn its second term off");
    }
    if (paired && !j.defined()) {
        fail(Fault::internal, "Eq. 7 needs the other sample of each");
    }

    // Measure the distances
    const at::Tensor anchor = z_s.to(at::kFloat);
    Distances d;
    d.positive = distance(anchor, z_t.to(at::kFloat), options.dist);
    d.severe = distance(anchor, z_h.to(at::kFloat), options.dist);
    if (j.defined()) {
        demand_pairs(j, n);
        d.unrelated = distance(anchor, anchor.index_select(0, j.to(anchor.device())), options.dist);
    }

    // Join them
    const at::Tensor below = (options.detach_neg ? d.severe.detach() : d.severe) + options.epsilon;
    at::Tensor each = d.positive / below;
    if (paired && options.lambda != 0.0) each = each + options.lambda * second_term(d, options);

    MetricLoss result;
    result.loss = each.mean();
    result.positive = d.positive.detach();
    result.severe = d.severe.detach();
    if (d.unrelated.defined()) result.unrelated = d.unrelated.detach();
    return result;
}

at::Tensor unrelated_samples(std::int64_t n, PairRule rule, Rng& rng) {
    if (n < 2) {
        fail(Fault::usage,
             "a batch of {} has no unlike pictures to pair: take 2 or more at a time, or turn the "
             "second term of Eq. 7 off",
             n);
    }
    if (n > std::numeric_limits<std::uint32_t>::max()) {
        fail(Fault::internal, "a batch of {} is too large to pair", n);
    }
    at::Tensor result = at::empty({n}, at::kLong);
    std::int64_t* j = result.mutable_data_ptr<std::int64_t>();
    if (rule == PairRule::cyclic_shift) {
        const std::int64_t r = 1 + rng.below(static_cast<std::uint32_t>(n - 1));
        for (std::int64_t i = 0; i < n; ++i) j[i] = (i - r + n) % n;
        return result;
    }

    // Shuffle until nobody stays in place: e times on average, and no derangement is favoured
    for (bool fixed = true; fixed;) {
        std::iota(j, j + n, std::int64_t{0});
        for (std::int64_t i = n - 1; i > 0; --i) {
            std::swap(j[i], j[rng.below(static_cast<std::uint32_t>(i + 1))]);
        }
        fixed = false;
        for (std::int64_t i = 0; i < n; ++i) fixed = fixed || j[i] == i;
    }
    return result;
}

at::Tensor uncertainty_map(const TeacherView& view, const ThetaOptions& options) {
    demand_kappa(options.kappa);
    return at::clamp(theta_normalised(theta_source(view, options.source), options), 0.0, 1.0);
}

at::Tensor constant_map(const at::Tensor& like, double kappa) {
    demand_kappa(kappa);
    if (!like.defined() || like.dim() != 4) {
        fail(Fault::internal, "a constant theta: expected N x C x H x W, got {}", shape_of(like));
    }
    return at::full({like.size(0), 1, like.size(2), like.size(3)}, kappa,
                    like.options().dtype(at::kFloat).requires_grad(false));
}

at::Tensor latent_map(const at::Tensor& theta, std::int64_t h, std::int64_t w, ThetaDown down) {
    if (!theta.defined() || theta.dim() != 4 || (theta.size(1) != 1 && theta.size(1) != 3) ||
        h < 1 || w < 1 || h > theta.size(2) || w > theta.size(3)) {
        fail(Fault::internal,
             "theta-hat of {} x {}: expected theta of N x 1 x H x W or N x 3 x H x W, no smaller, "
             "got {}",
             h, w, shape_of(theta));
    }
    const at::Tensor map = theta.to(at::kFloat).mean(1, /*keepdim=*/true);
    switch (down) {
        case ThetaDown::area:
            return at::adaptive_avg_pool2d(map, {h, w});
        case ThetaDown::bilinear:
            return at::upsample_bilinear2d(map, {h, w}, /*align_corners=*/false);
        case ThetaDown::max:
            return std::get<0>(at::adaptive_max_pool2d(map, {h, w}));
    }
    fail(Fault::internal, "unknown way to reduce theta {}", static_cast<int>(down));
}

at::Tensor inject_noise(const at::Tensor& z, const at::Tensor& theta_hat,
                        const at::Tensor& epsilon) {
    demand_like(z, epsilon, "Eq. 9, z and epsilon");
    if (!theta_hat.defined() || theta_hat.dim() != 4 || theta_hat.size(0) != z.size(0) ||
        theta_hat.size(1) != 1 || theta_hat.size(2) != z.size(2) ||
        theta_hat.size(3) != z.size(3)) {
        fail(Fault::internal, "Eq. 9: theta-hat of a latent of {} must be N x 1 x h x w, got {}",
             shape_of(z), shape_of(theta_hat));
    }
    const at::Tensor theta = theta_hat.to(at::kFloat);
    return theta * epsilon.to(at::kFloat) + (1.0 - theta) * z.to(at::kFloat);
}

DistillLoss distill_loss(const at::Tensor& y_s, const at::Tensor& y_t, const at::Tensor& y,
                         const at::Tensor& theta, const DistillOptions& options) {
    demand_picture(y_s, "Eq. 10, y_s");
    if (theta.defined() && !is_map_of(theta, y_s)) {
        fail(Fault::internal,
             "Eq. 10: theta of pictures of {} must be N x 1 x H x W or N x 3 x H x W, got {}",
             shape_of(y_s), shape_of(theta));
    }
    const double lambda_soft = options.lambda_soft, lambda_hard = options.lambda_hard;
    if (!(lambda_soft >= 0.0 && lambda_hard >= 0.0 && lambda_soft + lambda_hard > 0.0)) {
        fail(Fault::usage,
             "lambda_soft is {} and lambda_hard {}: give numbers of at least 0, not both 0",
             lambda_soft, lambda_hard);
    }

    // One term of the sum; without gradient where it only goes into the log
    const at::Tensor student = options.clamp ? at::clamp(y_s.to(at::kFloat), -1.0, 1.0)  //
                                             : y_s.to(at::kFloat);
    const auto term = [&](const at::Tensor& target, const at::Tensor& weight, double lambda,
                          const char* what) {
        if (lambda == 0.0 && !target.defined()) return at::Tensor();
        demand_like(y_s, target, what);
        const at::Tensor shown = lambda == 0.0 ? student.detach() : student;
        const at::Tensor difference = shown - target.to(at::kFloat);
        return picture_norm(weight.defined() ? weight * difference : difference, options.norm);
    };
    const at::Tensor map = theta.defined() ? theta.to(at::kFloat) : theta;
    const at::Tensor rest = theta.defined() ? 1.0 - map : theta;
    const at::Tensor soft = term(y_t, rest, lambda_soft, "Eq. 10, y_s and y_t");
    const at::Tensor hard = term(y, map, lambda_hard, "Eq. 10, y_s and y");

    DistillLoss result;
    result.loss = lambda_soft == 0.0   ? lambda_hard * hard
                  : lambda_hard == 0.0 ? lambda_soft * soft
                                       : lambda_soft * soft + lambda_hard * hard;
    if (soft.defined()) result.soft = soft.detach();
    if (hard.defined()) result.hard = hard.detach();
    return result;
}

}  // namespace ultrasr
