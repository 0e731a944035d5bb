#include "models/training/samples.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <array>
#include <cmath>
#include <limits>

#include "data/base/error.h"
#include "data/image_io.h"
#include "tests/models/nets.h"
#include "tests/sentence.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

using Rgb = std::array<int, 3>;

/// N x 3 x h x w of one colour.
at::Tensor plain(std::int64_t n, std::int64_t h, std::int64_t w, float r, float g, float b) {
    at::Tensor x = at::zeros({n, 3, h, w});
    x.select(1, 0).fill_(r);
    x.select(1, 1).fill_(g);
    x.select(1, 2).fill_(b);
    return x;
}

/// A sheet read back.
class Sheet {
  public:
    Sheet(const std::vector<SampleColumn>& columns, const std::vector<std::string>& rows = {},
          const SampleCells& cells = {})
        : layout(layout_of(columns, !rows.empty(), cells)) {
        const auto path = folder_.path() / "sheets" / "samples.png";
        write_samples(path, columns, rows, cells);
        const DecodedImage file = read_image(path);
        image = file.image;
        origin = file.origin;
        std::size_t files = 0;
        for (const auto& entry : std::filesystem::directory_iterator(path.parent_path())) {
            files += entry.is_regular_file() ? 1 : 0;
        }
        CHECK(files == 1);
    }
    Rgb at(int x, int y) const {
        const float* p = image.row(y) + 3 * x;
        return {level(p[0]), level(p[1]), level(p[2])};
    }
    /// Pixel (x, y) of a cell.
    Rgb at(int column, int row, int x, int y) const {
        return at(layout.x(column) + x, layout.y(row) + y);
    }
    /// Pixels that are darker than mid-grey: letters.
    int dark(int x0, int y0, int x1, int y1) const {
        int count = 0;
        for (int y = y0; y < y1; ++y) {
            for (int x = x0; x < x1; ++x) count += at(x, y)[1] < 128 ? 1 : 0;
        }
        return count;
    }
    SampleLayout layout;
    Image image;
    ImageOrigin origin;

  private:
    static int level(float value) { return static_cast<int>(std::lround(255 * value)); }
    test::TemporaryFolder folder_;
};

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("write_samples: a row a sample, a column a kind, every pixel in its cell") {
        // Colours tell column and row; the corner pixel tells where a cell begins
        at::Tensor a = plain(2, 100, 60, 0.2F, 0.4F, 0.6F), b = plain(2, 50, 30, 1.5F, 0.5F, -1.0F);
        a.select(0, 1).fill_(0.8F);
        a.select(2, 0).select(2, 0).fill_(0.0F);
        const Sheet sheet({{"a", a}, {"b", b}});
        CHECK(sheet.origin.bits == 8);
        CHECK(sheet.origin.channels == 3);
        CHECK(sheet.layout.cell_width == 120);  // 100 x 60 twice as large: at least 192
        CHECK(sheet.layout.cell_height == 200);
        CHECK(sheet.image.width() == sheet.layout.width);
        CHECK(sheet.image.height() == sheet.layout.height);
        CHECK(sheet.layout.width == 8 + 2 * (120 + 8));
        CHECK(sheet.layout.height == 8 + 44 + 2 * (200 + 8));
        CHECK(sheet.at(0, 0, 2, 0) == Rgb{51, 102, 153});
        CHECK(sheet.at(0, 0, 119, 199) == Rgb{51, 102, 153});
        CHECK(sheet.at(0, 1, 60, 100) == Rgb{204, 204, 204});
        CHECK(sheet.at(0, 0, 0, 0) == Rgb{0, 0, 0});
        CHECK(sheet.at(0, 0, 1, 1) == Rgb{0, 0, 0});  // the corner's four pixels
        CHECK(sheet.at(0, 1, 1, 1) == Rgb{0, 0, 0});
        CHECK(sheet.at(0, 0, 2, 1) == Rgb{51, 102, 153});
        CHECK(sheet.at(0, 0, -1, 0) == Rgb{255, 255, 255});  // paper
        CHECK(sheet.at(0, 0, 120, 0) == Rgb{255, 255, 255});
        CHECK(sheet.at(0, 0, 0, 200) == Rgb{255, 255, 255});
        for (const int row : {0, 1}) {  // clamped; 127.5 goes to the even level
            CHECK(sheet.at(1, row, 0, 0) == Rgb{255, 128, 0});
            CHECK(sheet.at(1, row, 119, 199) == Rgb{255, 128, 0});
        }
    }

    TEST_CASE("write_samples: maps in viridis over the column's range, which is written") {
        at::Tensor theta = at::full({2, 1, 200, 200}, 0.5F);
        theta.select(0, 0).select(1, 0).fill_(0.25F);
        theta.select(0, 1).select(1, 0).fill_(0.75F);
        const Sheet sheet({{"theta", theta.to(at::kBFloat16)}});
        const Rgb least{68, 1, 84}, greatest{253, 231, 37};  // the ends of viridis
        CHECK(sheet.at(0, 0, 10, 0) == least);
        CHECK(sheet.at(0, 1, 10, 0) == greatest);  // one range for all rows
        const Rgb middle = sheet.at(0, 0, 10, 10);
        CHECK(sheet.at(0, 1, 10, 10) == middle);
        CHECK(std::abs(middle[0] - 33) <= 2);  // matplotlib's viridis(0.5) = 33, 145, 140
        CHECK(std::abs(middle[1] - 145) <= 2);
        CHECK(std::abs(middle[2] - 140) <= 2);
        // The bar under the title goes from the one end to the other, between two numbers
        const int y = 8 + 25 + 4;
        const auto near = [&](int x, const Rgb& colour) {
            const Rgb c = sheet.at(x, y);
            return std::abs(c[0] - colour[0]) + std::abs(c[1] - colour[1]) +
                       std::abs(c[2] - colour[2]) <
                   30;
        };
        int first = 0, last = 0;
        for (int x = 8; x < 208; ++x) {
            if (!first && near(x, least)) first = x;
            if (near(x, greatest)) last = x;
        }
        CHECK(first > 8 + 20);  // after "0.25"
        CHECK(last < 208 - 20);
        CHECK(last - first > 60);
        CHECK(sheet.dark(8, 8 + 22, first - 4, 8 + 36) > 10);
        CHECK(sheet.dark(last + 5, 8 + 22, 208, 8 + 36) > 10);
    }

    TEST_CASE("write_samples: what is not finite is magenta, in pictures and maps") {
        const float nan = std::numeric_limits<float>::quiet_NaN();
        at::Tensor map = at::full({1, 1, 200, 200}, 0.5F), picture = plain(1, 200, 200, 0, 0, 0);
        map.select(2, 3).fill_(nan);
        map.select(2, 4).fill_(0.25F);
        map.select(2, 6).fill_(-std::numeric_limits<float>::infinity());
        picture.select(1, 1).select(1, 7).fill_(std::numeric_limits<float>::infinity());
        const at::Tensor none = at::full({1, 1, 200, 200}, nan);
        const Sheet sheet({{"map", map}, {"picture", picture}, {"none", none}});
        const Rgb magenta{255, 0, 255};
        CHECK(sheet.at(0, 0, 50, 3) == magenta);
        CHECK(sheet.at(0, 0, 50, 4) == Rgb{68, 1, 84});  // the range is that of the rest
        CHECK(sheet.at(0, 0, 50, 5) == Rgb{253, 231, 37});
        CHECK(sheet.at(0, 0, 50, 6) == magenta);
        CHECK(sheet.at(1, 0, 50, 7) == magenta);
        CHECK(sheet.at(1, 0, 50, 8) == Rgb{0, 0, 0});
        CHECK(sheet.at(2, 0, 0, 0) == magenta);
    }

    TEST_CASE("write_samples: a constant map is one colour") {
        const Sheet sheet({{"theta", at::full({1, 1, 8, 8}, 0.5F)}});
        CHECK(sheet.at(0, 0, 0, 0) == sheet.at(0, 0, 191, 191));
        CHECK(sheet.at(0, 0, 0, 0) != Rgb{255, 0, 255});
        CHECK(sheet.layout.cell_width == 192);  // 24 times as large
    }

    TEST_CASE("write_samples: large pictures are averaged down") {
        at::Tensor stripes = at::zeros({1, 3, 64, 128});
        for (std::int64_t x = 0; x < 128; x += 2) stripes.select(3, x).fill_(1.0F);
        const Sheet sheet({{"hr", stripes}}, {}, {.least_side = 32, .most_side = 64});
        CHECK(sheet.layout.cell_width == 64);
        CHECK(sheet.layout.cell_height == 32);
        const int grey = sheet.at(0, 0, 20, 20)[0];  // of black and white in turn
        CHECK(std::abs(grey - 127) <= 1);
    }

    TEST_CASE("write_samples: titles, sizes and the rows' names are drawn") {
        const at::Tensor white = at::full({2, 3, 200, 200}, 1.0F);
        const std::string long_title(200, 'm');
        const Sheet sheet({{"LR x8 (bicubic)", white}, {"", white}, {long_title, white}},
                          {"0001 x8", "0002 \xce\xb8"});
        const SampleLayout& l = sheet.layout;
        CHECK(l.row_height == 200 + 8 + 20);
        CHECK(sheet.dark(l.x(0), 8, l.x(0) + 200, 8 + 20) > 100);
        CHECK(sheet.dark(l.x(1), 8, l.x(1) + 200, 8 + 20) == 0);
        CHECK(sheet.dark(l.x(0), 8 + 22, l.x(0) + 200, 8 + 40) > 20);  // "200 x 200"
        CHECK(sheet.dark(l.x(2), 8, l.x(2) + 200, 8 + 20) > 100);
        CHECK(sheet.dark(l.x(2) + 200, 0, l.width, l.height) == 0);  // the long one stays inside
        for (const int row : {0, 1}) {
            CHECK(sheet.dark(l.x(0), l.y(row) + 200, l.x(0) + 100, l.y(row) + 220) > 30);
            CHECK(sheet.dark(l.x(0), l.y(row), l.width, l.y(row) + 200) == 0);
        }
    }

    TEST_CASE("write_samples: other shapes are our fault") {
        const test::TemporaryFolder folder;
        const auto png = folder.path() / "x.png";
        const at::Tensor good = at::zeros({2, 3, 8, 8});
        const auto sentence = [&](const std::vector<SampleColumn>& columns,
                                  const std::vector<std::string>& rows = {}) {
            return test::sentence_of(Fault::internal, [&] { write_samples(png, columns, rows); });
        };
        CHECK(test::contains(sentence({}), "needs a column"));
        CHECK(test::contains(sentence({{"bad", at::zeros({2, 4, 8, 8})}}), "\"bad\""));
        CHECK(test::contains(sentence({{"bad", at::zeros({3, 8, 8})}}), "\"bad\""));
        CHECK(test::contains(sentence({{"bad", at::Tensor()}}), "\"bad\""));
        CHECK(test::contains(sentence({{"a", good}, {"bad", at::zeros({1, 3, 8, 8})}}), "\"bad\""));
        CHECK(test::contains(sentence({{"a", good}}, {"one"}), "1 names for 2 samples"));
        CHECK_FALSE(std::filesystem::exists(png));
    }
}
