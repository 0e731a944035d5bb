#include "models/training/gradient_checkpoint.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/silu.h>
#include <c10/core/GradMode.h>

#include <functional>

#include "data/tensor/named_tensors.h"
#include "tests/sentence.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

at::Tensor leaf(at::IntArrayRef shape) { return at::randn(shape).requires_grad_(true); }

/// What a block is called through: plainly or checkpointed.
using Call = std::function<at::Tensor(const Block&, std::vector<at::Tensor>)>;

at::Tensor plain(const Block& block, std::vector<at::Tensor> inputs) { return block(inputs); }

/// Output and gradients of `net` under `call`; gradients are taken away again.
std::vector<at::Tensor> run(const NamedTensors& leaves, const Call& call,
                            const std::function<at::Tensor(const Call&)>& net) {
    const at::Tensor output = net(call);
    (output * output).sum().backward();
    std::vector<at::Tensor> results{output.detach()};
    for (const auto& [name, tensor] : leaves) {
        results.push_back(tensor.grad());
        tensor.mutable_grad().reset();
    }
    return results;
}

/// Bit for bit, and all of them there.
void check_equal(const NamedTensors& leaves, const std::function<at::Tensor(const Call&)>& net) {
    const auto expected = run(leaves, plain, net), ours = run(leaves, checkpointed, net);
    REQUIRE(ours.size() == expected.size());
    for (std::size_t i = 0; i < ours.size(); ++i) {
        REQUIRE(expected[i].defined());
        REQUIRE(ours[i].defined());
        CHECK(ours[i].equal(expected[i]));
    }
}

}  // namespace

TEST_SUITE("property") {
    TEST_CASE("checkpointed: a stack of layers gives the plain outputs and gradients") {
        const at::Tensor x = leaf({2, 4, 9, 7}), w1 = leaf({8, 4, 3, 3}), b1 = leaf({8}),
                         w2 = leaf({6, 8, 3, 3}), w3 = leaf({5, 7});
        const NamedTensors leaves{{"x", x}, {"w1", w1}, {"b1", b1}, {"w2", w2}, {"w3", w3}};
        int calls = 0;
        check_equal(leaves, [&](const Call& call) {
            at::Tensor y = call(
                [&](at::ArrayRef<at::Tensor> in) {
                    ++calls;
                    return at::silu(at::group_norm(at::conv2d(in[0], w1, b1, 1, 1), 2));
                },
                {x});
            y = call([&](at::ArrayRef<at::Tensor> in) { return at::conv2d(in[0], w2, {}, 2, 1); },
                     {y});
            return call(
                [&](at::ArrayRef<at::Tensor> in) {
                    return at::linear(in[0].flatten(1).slice(1, 0, 7), w3) + in[1].mean();
                },
                {y, x});
        });
        CHECK(calls == 3);  // once plainly, twice checkpointed
    }

    TEST_CASE("checkpointed: no input needs a gradient, the parameters still receive theirs") {
        const at::Tensor x = at::randn({3, 5}), w = leaf({4, 5});
        check_equal({{"w", w}}, [&](const Call& call) {
            return call([&](at::ArrayRef<at::Tensor> in) { return at::linear(in[0], w); }, {x});
        });
    }

    TEST_CASE("checkpointed: undefined inputs, whole numbers and an input given twice") {
        const at::Tensor table = leaf({10, 4}), x = leaf({6, 4}),
                         index = at::randint(10, {6}, at::TensorOptions(at::kLong));
        check_equal({{"table", table}, {"x", x}}, [&](const Call& call) {
            return call(
                [&](at::ArrayRef<at::Tensor> in) {
                    REQUIRE(in.size() == 5);
                    CHECK(!in[0].defined());
                    CHECK(!in[3].defined());
                    return at::embedding(table, in[1]) * in[2] + in[4].sigmoid();
                },
                {at::Tensor(), index, x, at::Tensor(), x});
        });
    }

    TEST_CASE("checkpointed: blocks in blocks, and a parameter that two blocks share") {
        const at::Tensor x = leaf({3, 4}), w = leaf({4, 4}), v = leaf({4, 4});
        check_equal({{"x", x}, {"w", w}, {"v", v}}, [&](const Call& call) {
            const Block inner = [&](at::ArrayRef<at::Tensor> in) {
                return at::silu(at::linear(in[0], w));
            };
            const Block outer = [&, inner](at::ArrayRef<at::Tensor> in) {
                return at::linear(call(inner, {in[0]}), v) + in[0];
            };
            return call(outer, {call(outer, {x})});
        });
    }

    TEST_CASE("checkpointed: gradients of several backward passes add up") {
        const at::Tensor x = at::randn({3, 4}), w = leaf({4, 4});
        const Block block = [&](at::ArrayRef<at::Tensor> in) { return at::linear(in[0], w); };
        for (int i = 0; i < 2; ++i) checkpointed(block, {x}).sum().backward();
        const at::Tensor twice = w.grad();
        w.mutable_grad().reset();
        block({x}).sum().backward();
        CHECK(twice.equal(w.grad() * 2));
    }

    TEST_CASE("checkpointed: activations inside are not kept") {
        const at::Tensor x = leaf({4});
        std::optional<c10::weak_intrusive_ptr<c10::StorageImpl>> inside;
        const Block block = [&](at::ArrayRef<at::Tensor> in) {
            const at::Tensor middle = in[0].exp();
            inside = middle.storage().getWeakStorageImpl();
            return middle.exp();
        };
        const at::Tensor kept = block({x});
        CHECK(!inside->expired());
        const at::Tensor dropped = checkpointed(block, {x});
        CHECK(inside->expired());
        CHECK(dropped.requires_grad());
    }
}

TEST_SUITE("unit") {
    TEST_CASE("checkpointed: without gradient mode the block is just run") {
        const at::Tensor x = leaf({4});
        int calls = 0;
        const c10::NoGradGuard guard;
        const at::Tensor y = checkpointed(
            [&](at::ArrayRef<at::Tensor> in) {
                ++calls;
                return in[0] * 2;
            },
            {x});
        CHECK(calls == 1);
        CHECK(!y.requires_grad());
        CHECK(y.equal(x * 2));
    }

    TEST_CASE("checkpointed: a block without anything to train does no harm") {
        const at::Tensor x = at::randn({4}), w = leaf({4});
        const at::Tensor y =
            checkpointed([](at::ArrayRef<at::Tensor> in) { return in[0].exp(); }, {x});
        (y * w).sum().backward();
        CHECK(w.grad().equal(x.exp()));
        CHECK(!x.grad().defined());
    }

    TEST_CASE("checkpointed: exceptions come out of both passes") {
        const at::Tensor x = leaf({4});
        int calls = 0;
        const auto failing = [&](int when) {
            return [&calls, when](at::ArrayRef<at::Tensor> in) -> at::Tensor {
                require(++calls != when, "call {} fails", when);
                return in[0].exp();
            };
        };
        CHECK(test::sentence_of(Fault::input, [&] { checkpointed(failing(1), {x}); }) ==
              "call 1 fails");
        calls = 0;
        const at::Tensor y = checkpointed(failing(2), {x});
        CHECK(test::sentence_of(Fault::input, [&] { y.sum().backward(); }) == "call 2 fails");
    }

    TEST_CASE("checkpointed: an input that was written into meanwhile is noticed") {
        const at::Tensor x = at::ones({4}), w = leaf({4});
        const at::Tensor y =
            checkpointed([&](at::ArrayRef<at::Tensor> in) { return in[0] * w; }, {x});
        x.mul_(2);
        CHECK_THROWS_WITH_AS(y.sum().backward(), doctest::Contains("inplace operation"),
                             c10::Error);
    }
}
