#include "degradation/replay.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <fmt/format.h>

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include "data/base/error.h"
#include "data/base/progress.h"
#include "data/file.h"
#include "data/image_io.h"
#include "degradation/dump_steps.h"
#include "degradation/record.h"
#include "degradation/shard_file.h"
#include "degradation/source_picture.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

/// The GT patch that a record was made from.
Planar gt_of(const Json& record, const fs::path& root) {
    const auto name = record.at("source").get<std::string>();
    std::error_code code;
    const fs::path path = fs::is_regular_file(root, code) ? root : root / name;
    const std::string bytes = read_file(path);
    require(sha256(bytes) == record.at("source_sha256").get<std::string>(),
            "{} is not the file that record {} was made from (SHA-256 differs); give the original",
            path.string(), record.at("id").get<std::string>());
    DecodeOptions decode = SourceOptions().decode;
    decode.keep_16_bits = !record.value("parity8", false);
    decode.orient = !record.value("exif_ignored", false);
    decode.allow_truncated = true;  // the hash says that it is the same file
    if (record.contains("alpha_over")) {
        decode.over = record["alpha_over"].get<std::array<unsigned char, 3>>();
    }
    cv::Mat rgb = decode_pixels(bytes, path, decode).rgb;
    if (record.contains("enlarged")) {
        rgb = enlarged(rgb, record["enlarged"].at("patch").get<int>(),
                       small_policy(record["enlarged"].at("by").get<std::string>()));
    }
    return patch_of(rgb, PatchPlace::from_json(record.at("place")));
}

/// What a record's hashes say was saved.
std::set<std::string> saved_of(const Json& record) {
    std::set<std::string> save;
    for (const auto& [name, hash] : record.at("sha256").items()) {
        if (name == "gt" || name == "gt_usm") {
            save.insert(name);
        } else {
            save.insert(name.starts_with("lr_up_") ? "lr_up" : "lr");
        }
    }
    return save;
}

}  // namespace

std::vector<Json> read_records(const fs::path& path) {
    std::vector<Json> records;
    if (path.extension() == ".h5") {
        const ShardFile shard(path);
        for (std::size_t i = 0; i < shard.ids().size(); ++i) {
            records.push_back(parse_json(shard.record(i), path.string()));
        }
        return records;
    }
    const std::string text = read_file(path);
    if (path.extension() == ".json") {
        records.push_back(parse_json(text, path.string()));
    } else {
        for (std::size_t at = 0; at < text.size();) {
            const std::size_t end = std::min(text.find('\n', at), text.size());
            if (end > at) {
                records.push_back(
                    parse_json(std::string_view(text).substr(at, end - at), path.string()));
            }
            at = end + 1;
        }
    }
    for (const Json& record : records) {
        require(record.is_object() && record.value("format", "") == record_format,
                "{} holds no records of ultrasr-degrade", path.string());
        require(record.value("version", 0) == record_version,
                "{} holds records of version {}; this program knows version {}", path.string(),
                record.value("version", 0), record_version);
    }
    require(!records.empty(), "{} holds no record", path.string());
    return records;
}

Json replay(const ReplayOptions& options, Progress& progress) {
    std::vector<Json> records = read_records(options.records);
    if (!options.ids.empty()) {
        std::erase_if(records, [&](const Json& r) {
            return std::find(options.ids.begin(), options.ids.end(), r.value("id", "")) ==
                   options.ids.end();
        });
        require(!records.empty(), "{} holds no record with that id", options.records.string());
    }
    for (Json& record : records) {
        for (const std::string& assignment : options.overrides) {
            override_parameter_(record, assignment);
        }
    }

    std::mutex mutex;
    std::vector<std::string> different;
    std::atomic<std::size_t> done{0};
    tbb::task_arena arena(options.threads);
    progress.step("replay", 0, records.size());
    arena.execute([&] {
        tbb::parallel_for(std::size_t{0}, records.size(), [&](std::size_t i) {
            Progress::throw_if_interrupted();
            Json& record = records[i];
            const auto name = record.at("id").get<std::string>();
            const Planar gt = gt_of(record, options.in);
            const Plan plan = plan_from_record(record);
            StepDump dump(options.dump_steps);
            const Degraded result = run_plan(plan, gt, dump.watch());
            const Json before = record.at("sha256");
            const auto pictures = pictures_of(record, plan, result, gt, saved_of(record));
            if (!options.overrides.empty()) {
                const Json fresh = record_of(plan, result);
                record["shared"] = fresh["shared"];
                for (std::size_t l = 0; l < plan.levels.size(); ++l) {
                    record["levels"][l]["steps"] = fresh["levels"][l]["steps"];
                    record["levels"][l]["back"] = fresh["levels"][l]["back"];
                }
                record["overrides"] = options.overrides;
            } else if (record["sha256"] != before) {
                const std::lock_guard guard(mutex);
                different.push_back(name);
            }
            for (const auto& [picture, rgb] : pictures) {
                write_file(options.out / picture / (name + ".png"),
                           encode_png(rgb, options.png_level));
            }
            dump.write(name, record);
            progress.step("replay", ++done, records.size());
        });
    });
    std::string lines;
    for (Json& record : records) {
        record.erase("files");
        lines += dump_json_line(record) + "\n";
    }
    write_file(options.out / "records.jsonl", lines);
    std::sort(different.begin(), different.end());
    const bool compared = options.overrides.empty();
    return {{"replayed", records.size()},
            {"equal", compared ? records.size() - different.size() : 0},
            {"different", different.size()},
            {"different_ids", different}};
}

}  // namespace ultrasr
