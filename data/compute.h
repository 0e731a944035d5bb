// What the user says about networks: where they compute, in which numbers, where weights lie.
// Without LibTorch; data/tensor/device.h turns it into devices and types.
#pragma once
#include <filesystem>
#include <string>

namespace ultrasr {

enum class Precision { fp32, bf16, fp16 };

struct ComputeOptions {
    std::string device = "cpu";  ///< cpu, cuda, cuda:N
    int threads = 1;             ///< CPU threads for one picture
    Precision precision = Precision::fp32;
};

struct WeightOptions {
    std::filesystem::path weights;    ///< folder of weight files; empty = default_weights_folder()
    bool unverified_weights = false;  ///< accept files whose SHA-256 differs from our record
};

/// What results say of a weight file.
struct WeightRecord {
    std::string file;
    std::string sha256;
    bool verified = false;
};

}  // namespace ultrasr
