#include "data/weights/zip_archive.h"

#include "data/base/error.h"
#include "tests/data/tensor_values.h"
#include "tests/data/zip_file.h"
#include "tests/test.h"

using namespace ultrasr;
using test::bytes_of;
using test::zip_file;
using test::ZipOptions;

namespace {

std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// What is wrong with an archive or with the entry "a/b" in it; empty when that can be opened.
std::string fault_of(const std::string& bytes) {
    try {
        const ZipArchive zip(bytes_of(bytes));
        zip.open("a/b");
        return {};
    } catch (const Error& error) {
        CHECK(error.fault() == Fault::input);
        return error.sentence();
    }
}

bool has(const std::string& all, const std::string& part) {
    return all.find(part) != std::string::npos;
}

/// A sound archive with one entry, changed at a place counted from its end record.
std::string changed_end(std::size_t at, const std::string& bytes) {
    std::string zip = zip_file({{"a/b", "content"}});
    return zip.replace(zip.size() - 22 + at, bytes.size(), bytes);
}

/// The same, at a place counted from the directory's entry.
std::string changed_entry(std::size_t at, const std::string& bytes) {
    std::string zip = zip_file({{"a/b", "content"}});
    return zip.replace(zip.find("PK\x01\x02") + at, bytes.size(), bytes);
}

const std::vector<std::pair<std::string, std::string>> two{{"a/b", "content"}, {"a/c", ""}};

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE(
        "zip: entries are found and opened, with narrow and zip64 numbers, behind a comment") {
        ZipOptions commented;
        // With what looks like an end record in it, though its own comment is too short
        commented.comment = "PK\x05\x06" + std::string(18, '\0') + "behind";
        ZipOptions wide;
        wide.wide = true;
        for (const ZipOptions& options : {ZipOptions{}, wide, commented}) {
            const std::string bytes = zip_file(two, options);
            const ZipArchive zip(bytes_of(bytes));
            CHECK(zip.entries().size() == 2);
            CHECK(zip.contains("a/c"));
            CHECK_FALSE(zip.contains("a"));
            CHECK(text_of(zip.open("a/b")) == "content");
            CHECK(zip.open("a/c").empty());
            // A view, not a copy
            CHECK(zip.open("a/b").data() >= bytes_of(bytes).data());
            CHECK(zip.open("a/b").data() < bytes_of(bytes).data() + bytes.size());
        }
        CHECK(ZipArchive(bytes_of(zip_file({}))).entries().empty());
    }

    TEST_CASE("zip: checksums are compared where they are recorded") {
        std::string bytes = zip_file(two);
        bytes[bytes.find("content")] = 'C';
        CHECK(has(fault_of(bytes), "checksum of the zip entry a/b is wrong"));
        ZipOptions without;
        without.crc = false;
        CHECK(fault_of(zip_file(two, without)).empty());
    }

    TEST_CASE("zip: compressed and encrypted entries are refused in one sentence") {
        ZipOptions deflated;
        deflated.method = 8;
        CHECK(has(fault_of(zip_file(two, deflated)), "the zip entry a/b is compressed"));
        ZipOptions encrypted;
        encrypted.flags = 1;
        CHECK(has(fault_of(zip_file(two, encrypted)), "the zip entry a/b is encrypted"));
    }

    TEST_CASE("zip: what is broken is told") {
        using test::little;
        CHECK(has(fault_of(zip_file({{"a/b", ""}, {"a/b", ""}})), "a/b occurs twice"));
        CHECK(has(fault_of(zip_file({{"x", ""}})), "has no entry a/b"));
        CHECK(has(fault_of(changed_end(4, little(1, 2))), "one part of several"));
        CHECK(
            has(fault_of(changed_end(10, little(2, 2))), "entry 1 of the zip directory is broken"));
        CHECK(has(fault_of(changed_end(12, little(0xfffffff0, 4))), "lies outside the file"));
        CHECK(has(fault_of(changed_end(16, little(0xfffffff0, 4))), "lies outside the file"));
        CHECK(has(fault_of(changed_entry(0, "PX")), "entry 0 of the zip directory is broken"));
        CHECK(has(fault_of(changed_entry(28, little(4000, 2))),
                  "entry 0 of the zip directory is broken"));
        CHECK(has(fault_of(changed_entry(24, little(6, 4))), "two different sizes"));
        CHECK(has(fault_of(changed_entry(20, little(0x00700000, 4) + little(0x00700000, 4))),
                  "reaches beyond the file's end"));
        CHECK(has(fault_of(changed_entry(42, little(1, 4))), "not where the directory says"));
        CHECK(has(fault_of(changed_entry(42, little(0xfffffff0, 4))),
                  "not where the directory says"));
        // The directory sends for a zip64 field that is too short
        ZipOptions wide;
        wide.wide = true;
        std::string zip = zip_file(two, wide);
        const std::size_t field = zip.find("PK\x01\x02") + 46 + 3;
        CHECK(has(fault_of(zip.replace(field + 2, 2, little(8, 2))), "zip64 numbers of entry a/b"));
        zip = zip_file(two, wide);
        CHECK(has(fault_of(zip.replace(zip.find("PK\x06\x07") + 8, 8, little(1, 8))),
                  "zip64 end record"));
    }
}

TEST_SUITE("property") {
    TEST_CASE("zip: an archive that is cut short anywhere is refused") {
        for (const bool wide : {false, true}) {
            ZipOptions options;
            options.wide = wide;
            const std::string bytes = zip_file(two, options);
            for (std::size_t n = 0; n < bytes.size(); ++n) {
                CAPTURE(n);
                CHECK(has(fault_of(bytes.substr(0, n)), "cut short"));
            }
        }
    }
}
