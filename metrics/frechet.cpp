#include "metrics/frechet.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_eigvalsh.h>
#include <ATen/ops/linalg_svdvals.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/sum.h>
#include <c10/core/InferenceMode.h>

#include <cmath>

#include "data/base/error.h"

namespace ultrasr {
namespace {

/// N x features in double. The rows are only read.
at::Tensor matrix_of(std::span<const float> rows, std::size_t features) {
    if (rows.size() % features != 0) {
        fail(Fault::internal, "{} numbers are no rows of {}", rows.size(), features);
    }
    const auto n = static_cast<std::int64_t>(rows.size() / features);
    require(n >= 2, "a covariance needs at least two pictures, got {}; FID compares sets", n);
    return at::from_blob(const_cast<float*>(rows.data()), {n, static_cast<std::int64_t>(features)},
                         at::kFloat)
        .to(at::kDouble);
}

at::Tensor tensor_of(const std::vector<double>& values, at::IntArrayRef shape) {
    return at::from_blob(const_cast<double*>(values.data()), shape, at::kDouble);
}

struct Centred {
    at::Tensor mean;
    at::Tensor rows;  ///< centred, over sqrt(N - 1)
};

Centred centre(const at::Tensor& rows) {
    const at::Tensor mean = at::mean(rows, {0});
    return {mean, (rows - mean) / std::sqrt(static_cast<double>(rows.size(0) - 1))};
}

double squared(const at::Tensor& x) { return at::sum(x * x).item<double>(); }

/// Sum of the roots; what rounding made negative counts as 0.
double sum_of_roots(const at::Tensor& eigenvalues) {
    return at::sum(at::sqrt(eigenvalues.clamp_min(0.0))).item<double>();
}

}  // namespace

FeatureStatistics statistics_of(std::span<const float> rows, std::size_t features) {
    const c10::InferenceMode guard;
    const Centred a = centre(matrix_of(rows, features));
    const at::Tensor covariance = at::matmul(a.rows.t(), a.rows).contiguous();
    const double* mean = a.mean.const_data_ptr<double>();
    const double* s = covariance.const_data_ptr<double>();
    return {{mean, mean + features}, {s, s + features * features}, rows.size() / features};
}

double frechet_distance_of_rows(std::span<const float> a, std::span<const float> b,
                                std::size_t features) {
    const c10::InferenceMode guard;
    const Centred x = centre(matrix_of(a, features)), y = centre(matrix_of(b, features));
    const double root = at::sum(at::linalg_svdvals(at::matmul(x.rows, y.rows.t()))).item<double>();
    return squared(x.mean - y.mean) + squared(x.rows) + squared(y.rows) - 2 * root;
}

double frechet_distance_of_rows(std::span<const float> a, const FeatureStatistics& b) {
    const c10::InferenceMode guard;
    const auto n = static_cast<std::int64_t>(b.mean.size());
    const Centred x = centre(matrix_of(a, b.mean.size()));
    const at::Tensor s = tensor_of(b.covariance, {n, n});
    const at::Tensor inner = at::matmul(at::matmul(x.rows, s), x.rows.t());
    return squared(x.mean - tensor_of(b.mean, {n})) + squared(x.rows) +
           s.diagonal().sum().item<double>() - 2 * sum_of_roots(at::linalg_eigvalsh(inner));
}

double frechet_distance(const FeatureStatistics& a, const FeatureStatistics& b) {
    const c10::InferenceMode guard;
    const auto n = static_cast<std::int64_t>(a.mean.size());
    if (a.mean.size() != b.mean.size()) {
        fail(Fault::internal, "statistics of {} and {} features", a.mean.size(), b.mean.size());
    }
    const at::Tensor s1 = tensor_of(a.covariance, {n, n}), s2 = tensor_of(b.covariance, {n, n});
    const auto [values, vectors] = at::linalg_eigh(s1);
    const at::Tensor scaled = vectors * at::sqrt(values.clamp_min(0.0));  // S1^(1/2) up to rotation
    const at::Tensor inner = at::matmul(scaled.t(), at::matmul(s2, scaled));
    return squared(tensor_of(a.mean, {n}) - tensor_of(b.mean, {n})) +
           s1.diagonal().sum().item<double>() + s2.diagonal().sum().item<double>() -
           2 * sum_of_roots(at::linalg_eigvalsh(inner));
}

}  // namespace ultrasr
