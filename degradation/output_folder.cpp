#include "degradation/output_folder.h"

#include <algorithm>
#include <atomic>
#include <fstream>
#include <system_error>
#include <fmt/format.h>

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include "data/base/error.h"
#include "data/base/progress.h"
#include "data/image_io.h"
#include "degradation/shard_file.h"
#include "degradation/tar_file.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

constexpr char options_name[] = "options.json";
constexpr char records_name[] = "records.jsonl";
constexpr char skipped_name[] = "skipped.jsonl";
constexpr char staged_folder[] = "staged";

bool is_journal(const fs::path& path) {
    const std::string name = path.filename().string();
    return name.starts_with("journal") && name.ends_with(".jsonl");
}

/// The options that differ, in words.
std::string differences(const Json& old, const Json& now) {
    std::string text;
    for (const auto& [key, value] : now.items()) {
        if (old.contains(key) && old[key] == value) continue;
        text += text.empty() ? "" : ", ";
        if (value.is_structured() || !old.contains(key)) {
            text += key;
        } else {
            text += fmt::format("{} ({} there, {} here)", key, dump_json_line(old[key]),
                                dump_json_line(value));
        }
    }
    return text;
}

void remove_results(const fs::path& out) {
    std::error_code code;
    for (const auto& entry : fs::directory_iterator(out, code)) {
        const std::string name = entry.path().filename().string();
        const bool picture_folder =
            entry.is_directory() && (name == "gt" || name == "gt_usm" || name.starts_with("lr_x") ||
                                     name.starts_with("lr_up_x") || name == "lr" ||
                                     name == "sr_bicubic" || name == "lr_bicubic");
        if (picture_folder || name == staged_folder || name == options_name ||
            name == records_name || name == skipped_name || is_journal(entry.path()) ||
            (name.starts_with("shard_") && (name.ends_with(".h5") || name.ends_with(".tar")))) {
            fs::remove_all(entry.path(), code);
        }
    }
}

/// Raw pixels behind a line of JSON that says which: what a picture is staged as until its HDF5
/// file is written.
std::string staged_bytes(const DegradedItem& item) {
    Json head = Json::array();
    for (const auto& [name, rgb] : item.pictures) head.push_back({name, rgb.rows, rgb.cols});
    std::string bytes = dump_json_line(head) + "\n";
    for (const auto& [name, rgb] : item.pictures) {
        const cv::Mat whole = rgb.isContinuous() ? rgb : rgb.clone();
        bytes.append(reinterpret_cast<const char*>(whole.data), whole.total() * 3);
    }
    return bytes;
}

std::vector<std::pair<std::string, cv::Mat>> staged_pictures(const fs::path& path) {
    const std::string bytes = read_file(path);
    std::size_t at = bytes.find('\n');
    require(at != std::string::npos, "{} is broken; begin again with --restart", path.string());
    const Json head = parse_json(std::string_view(bytes).substr(0, at++), path.string());
    std::vector<std::pair<std::string, cv::Mat>> pictures;
    for (const Json& entry : head) {
        cv::Mat rgb(entry.at(1).get<int>(), entry.at(2).get<int>(), CV_8UC3);
        const std::size_t n = rgb.total() * 3;
        require(at + n <= bytes.size(), "{} is broken; begin again with --restart", path.string());
        std::copy_n(bytes.data() + at, n, reinterpret_cast<char*>(rgb.data));
        at += n;
        pictures.emplace_back(entry.at(0).get<std::string>(), rgb);
    }
    return pictures;
}

}  // namespace

std::string OutputFolder::key(const std::string& source, int variant) {
    return variant == 0 ? source : fmt::format("{}#{}", source, variant);
}

OutputFolder::OutputFolder(const DegradeRun& run) : run_(run) {
    make_folders(run.out);
    const std::string shard = run.shards == 1 ? "" : fmt::format(".{}of{}", run.shard, run.shards);
    lock_ = std::make_unique<FolderLock>(run.out, ".lock" + shard);
    if (run.restart) remove_results(run.out);
    // What a killed run left half written
    remove_stale_temporaries(run.out);
    for (const auto& entry : fs::directory_iterator(run.out)) {
        if (entry.is_directory()) remove_stale_temporaries(entry.path());
    }
    const Json options = options_of(run);
    const fs::path path = run.out / options_name;
    if (fs::exists(path)) {
        const Json old = parse_json(read_file(path), path.string());
        require(old == options,
                "{} holds results of other options: {}; choose another folder, or --restart to "
                "throw them away",
                run.out.string(), differences(old, options));
    } else {
        write_file(path, dump_json(options));
    }
    read_journals();
    if (!run.merge) open_log("journal" + shard + ".jsonl");
}

void OutputFolder::read_journals() {
    std::vector<fs::path> journals;
    for (const auto& entry : fs::directory_iterator(run_.out)) {
        if (is_journal(entry.path())) journals.push_back(entry.path());
    }
    std::sort(journals.begin(), journals.end());
    // A finished run's records first; a journal beside them is newer
    for (const char* name : {records_name, skipped_name}) {
        if (fs::exists(run_.out / name)) read_lines(run_.out / name);
    }
    for (const fs::path& path : journals) read_lines(path);
}

void OutputFolder::read_lines(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    Entry entry;
    entry.file = file_number(path);
    std::string text;
    while (std::getline(file, text) && !file.eof()) {  // a last line without its end was torn
        entry.length = static_cast<std::uint32_t>(text.size());
        const Json line = parse_json(text, path.string());
        try {
            entry.kind = !line.contains("reason")        ? Kind::done
                         : line.at("broken").get<bool>() ? Kind::broken
                                                         : Kind::skipped;
            entries_[line.at("key").get<std::string>()] = entry;
        } catch (const Json::exception& error) {
            fail(Fault::input, "{} is broken ({}); begin again with --restart", path.string(),
                 error.what());
        }
        entry.offset += text.size() + 1;
    }
}

std::uint32_t OutputFolder::file_number(const fs::path& path) {
    const auto found = std::find(line_files_.begin(), line_files_.end(), path);
    if (found == line_files_.end()) line_files_.push_back(path);
    return static_cast<std::uint32_t>(std::find(line_files_.begin(), line_files_.end(), path) -
                                      line_files_.begin());
}

std::string OutputFolder::line_of(const Entry& entry) const {
    const fs::path& path = line_files_[entry.file];
    std::string text(entry.length, '\0');
    std::ifstream file(path, std::ios::binary);
    file.seekg(static_cast<std::streamoff>(entry.offset));
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    require(file.good(), "{} was cut short by somebody else; begin again with --restart",
            path.string());
    return text;
}

Json OutputFolder::json_of(const Entry& entry) const {
    return parse_json(line_of(entry), line_files_[entry.file].string());
}

void OutputFolder::open_log(const std::string& name) {
    const fs::path path = run_.out / name;
    log_.emplace(path);  // cuts a torn line away
    log_file_ = file_number(path);
    log_size_ = fs::file_size(path);
}

void OutputFolder::check_finished(Progress& progress) {
    std::vector<std::pair<std::string, Entry>> finished;
    for (const auto& [key, entry] : entries_) {
        if (entry.kind == Kind::done) finished.emplace_back(key, entry);
    }
    std::vector<char> good(finished.size(), 1);
    tbb::task_arena arena(run_.threads);
    std::atomic<std::size_t> checked{0};
    arena.execute([&] {
        tbb::parallel_for(std::size_t{0}, finished.size(), [&](std::size_t i) {
            const Json line = json_of(finished[i].second);
            for (const auto& [name, hash] : line.at("files").items()) {
                const fs::path path = run_.out / name;
                std::error_code code;
                // HDF5 and tar files are written whole or not at all, and have a number here
                if (!fs::is_regular_file(path, code) ||
                    (hash.is_string() && sha256_of_file(path) != hash.get<std::string>())) {
                    good[i] = 0;
                }
            }
            progress.step("check", ++checked, finished.size());
        });
    });
    for (std::size_t i = 0; i < finished.size(); ++i) {
        if (!good[i]) entries_.erase(finished[i].first);
    }
}

bool OutputFolder::is_done(const std::string& key) const {
    const std::lock_guard guard(mutex_);
    return entries_.contains(key);
}

void OutputFolder::append(const std::string& key, Kind kind, const Json& line) {
    const std::string text = dump_json_line(line);
    const std::lock_guard guard(mutex_);
    log_->append(text);
    entries_[key] = {log_size_, static_cast<std::uint32_t>(text.size()), log_file_, kind};
    log_size_ += text.size() + 1;
}

void OutputFolder::add(const std::string& key, const DegradedItem& item) {
    Json files = Json::object();
    const auto store = [&](const std::string& name, const std::string& bytes) {
        write_file(run_.out / name, bytes);
        files[name] = sha256(bytes);
    };
    Json line{{"format", "ultrasr-degrade-record"}, {"version", 1}, {"key", key}};
    line.update(item.record);
    switch (run_.format) {
        case OutputFormat::hdf5:
            store(fmt::format("{}/{}.u8", staged_folder, item.name), staged_bytes(item));
            break;
        case OutputFormat::tar:
            store(fmt::format("{}/{}.tar", staged_folder, item.name),
                  tar_members(item, dump_json_line(line), run_.png_level));
            break;
        case OutputFormat::folder:
            for (const auto& [picture, rgb] : item.pictures) {
                const auto other = run_.folder_names.find(picture);
                store(fmt::format("{}/{}.png",
                                  other == run_.folder_names.end() ? picture : other->second,
                                  item.name),
                      encode_png(rgb, run_.png_level));
            }
            break;
    }
    line["files"] = std::move(files);
    append(key, Kind::done, line);
}

void OutputFolder::add_skipped(const std::string& key, const std::string& source,
                               const std::string& why, bool broken) {
    append(key, broken ? Kind::broken : Kind::skipped,
           {{"key", key}, {"source", source}, {"reason", why}, {"broken", broken}});
}

fs::path OutputFolder::shard_path(std::size_t n) const {
    return run_.out /
           fmt::format("shard_{:04}.{}", n, run_.format == OutputFormat::tar ? "tar" : "h5");
}

void OutputFolder::write_group(std::size_t n, const std::vector<Entry>& items,
                               const std::vector<fs::path>& staged) {
    if (run_.format == OutputFormat::tar) {
        join_tar(shard_path(n), staged);
        return;
    }
    write_shard(shard_path(n), items.size(), dump_json_line(options_of(run_)), [&](std::size_t i) {
        ShardItem item;
        Json record = json_of(items[i]);
        record.erase("files");
        item.id = record["id"].get<std::string>();
        item.record = dump_json_line(record);
        item.pictures = staged_pictures(staged[i]);
        return item;
    });
}

void OutputFolder::pack(std::size_t n, const std::vector<std::string>& keys) {
    std::vector<std::string> done;
    std::vector<Entry> items;
    std::vector<fs::path> staged;
    for (const std::string& key : keys) {
        const auto found = entries_.find(key);
        if (found == entries_.end()) return;  // another shard's, not done yet
        if (found->second.kind != Kind::done) continue;
        done.push_back(key);
        items.push_back(found->second);
        const Json line = json_of(found->second);
        const std::string file = line.at("files").begin().key();
        if (file.starts_with(staged_folder)) staged.push_back(run_.out / file);
    }
    if (items.empty() || staged.empty()) return;
    const std::string name = shard_path(n).filename().string();
    if (staged.size() == items.size()) {
        write_group(n, items, staged);
    } else {
        // Killed after the file was renamed and before all lines were: it holds them all
        require(fs::exists(shard_path(n)), "{} is missing; begin again with --restart",
                shard_path(n).string());
    }
    // Say where they are now, then let the staged ones go
    for (std::size_t i = 0; i < items.size(); ++i) {
        Json line = json_of(items[i]);
        line["files"] = {{name, i}};
        append(done[i], Kind::done, line);
    }
    for (const fs::path& path : staged) fs::remove(path);
}

void OutputFolder::write_lines(const std::string& name, const std::vector<std::string>& keys,
                               bool done) {
    const fs::path path = run_.out / name;
    TemporaryFile temporary(path);
    std::ofstream to(temporary.path(), std::ios::binary);
    for (const std::string& key : keys) {
        const Entry& entry = entries_.at(key);
        if ((entry.kind == Kind::done) == done) to << line_of(entry) << '\n';
    }
    to.close();
    const int code = to ? temporary.become(path) : ENOSPC;
    if (code != 0) {
        fail(Fault::storage, "cannot write {}: {}; free space or choose another folder",
             path.string(), std::generic_category().message(code));
    }
}

Json OutputFolder::finish(const std::vector<std::string>& keys, bool must) {
    // One process at a time, with what the others have finished meanwhile
    std::optional<FolderLock> merging;
    if (run_.shards > 1 || run_.merge) {
        merging.emplace(run_.out, ".lock.merge");
        read_journals();
    }
    std::size_t done = 0, skipped = 0, broken = 0, left = 0;
    for (const std::string& key : keys) {
        const auto found = entries_.find(key);
        if (found == entries_.end()) {
            ++left;
        } else if (found->second.kind == Kind::done) {
            ++done;
        } else {
            ++(found->second.kind == Kind::broken ? broken : skipped);
        }
    }
    require(left == 0 || !must, "{} of {} outputs are not done yet; run their shards first", left,
            keys.size());
    if (left == 0) {
        if (run_.format != OutputFormat::folder) {
            if (!log_) open_log("journal.merge.jsonl");
            for (std::size_t n = 0; n * run_.shard_size < keys.size(); ++n) {
                const auto begin = keys.begin() + static_cast<std::ptrdiff_t>(n * run_.shard_size);
                const auto end = keys.begin() + static_cast<std::ptrdiff_t>(std::min(
                                                    (n + 1) * run_.shard_size, keys.size()));
                pack(n, {begin, end});
            }
        }
        // Each reads what its own predecessor or a journal holds, then takes its place
        write_lines(skipped_name, keys, false);
        write_lines(records_name, keys, true);
        log_.reset();
        std::error_code code;
        for (const auto& entry : fs::directory_iterator(run_.out, code)) {
            if (is_journal(entry.path())) fs::remove(entry.path(), code);
        }
        fs::remove_all(run_.out / staged_folder, code);
    }
    return {{"out", run_.out.string()}, {"done", done}, {"skipped", skipped},
            {"broken", broken},         {"left", left}, {"complete", left == 0}};
}

}  // namespace ultrasr
