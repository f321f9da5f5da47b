// cuDNN's recurrent layers on the emulated device, as torch calls them: `at::lstm` → `_cudnn_rnn` → its backward.
//
// Computed by the CPU's layers in float32 (float64 for float64), results rounded to the arguments' type. Faithful in what
// decides about results and speed on a GPU: under autocast, whatever its type, all arguments become float16 (as
// ATen/cudnn/AutocastRNN.cpp does), types must agree, weights that do not lie in one buffer are warned of, and dropout
// between layers has a state that is made with a read by the host whenever the generator has got a new seed.
#include "device.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/autocast_mode.h>
#include <ATen/native/RNN.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/distributed/c10d/reducer_timer.hpp>
#include <torch/library.h>

namespace emulated {

using at::Tensor;
using at::TensorList;
using OptionalTensor = std::optional<Tensor>;
constexpr int64_t LSTM = 2, GRU = 3;  // cuDNN's numbers

// cuDNN's order here: the weights of all layers, then all biases.
std::vector<size_t> buffer_order(size_t count) {
  std::vector<size_t> order;
  for (size_t half = 0; half < 2; half++)
    for (size_t i = 0; i < count; i++)
      if ((i % 4 >= 2) == (half == 1)) order.push_back(i);
  return order;
}

bool lie_in_one_buffer(TensorList weights) {
  int64_t offset = 0;
  for (size_t i : buffer_order(weights.size())) {
    const auto& weight = weights[i];
    if (!weight.is_contiguous() || weight.storage().unsafeGetStorageImpl() != weights[0].storage().unsafeGetStorageImpl() || weight.storage_offset() != offset) return false;
    offset += weight.numel();
  }
  return static_cast<size_t>(offset) * weights[0].itemsize() == weights[0].storage().nbytes();
}

Tensor flatten_weight(TensorList weights, int64_t stride, c10::SymInt, int64_t, c10::SymInt, c10::SymInt, int64_t, bool, bool) {
  TORCH_CHECK(stride == 4, "the emulated cuDNN has layers with biases only");
  int64_t total = 0, offset = 0;
  for (const auto& weight : weights) total += weight.numel();
  auto buffer = at::empty({total}, weights[0].options());
  for (size_t i : buffer_order(weights.size())) {
    auto place = buffer.narrow(0, offset, weights[i].numel()).view(weights[i].sizes());
    place.copy_(weights[i]);
    offset += weights[i].numel();
    weights[i].unsafeGetTensorImpl()->set_storage_keep_dtype(buffer.storage());
    weights[i].unsafeGetTensorImpl()->set_sizes_and_strides(place.sizes(), place.strides(), place.storage_offset());
  }
  return buffer;
}

struct Layers {
  int64_t mode, count;
  double dropout;
  bool train;
  int64_t seed;

  // Tensors of the CPU, all of one type.
  std::vector<Tensor> run(const Tensor& input, TensorList weights, const Tensor& hx, const Tensor& cx) const {
    auto numbers = at::detail::getDefaultCPUGenerator();
    auto before = numbers.get_state();
    numbers.set_current_seed(seed);
    std::vector<Tensor> results;
    if (mode == LSTM) {
      auto [output, hy, cy] = at::lstm(input, {hx, cx}, weights, true, count, dropout, train, false, false);
      results = {output, hy, cy};
    } else {
      auto [output, hy] = at::gru(input, hx, weights, true, count, dropout, train, false, false);
      results = {output, hy};
    }
    numbers.set_state(before);
    return results;
  }
};

at::ScalarType exact(at::ScalarType type) { return type == at::kDouble ? at::kDouble : at::kFloat; }

void check(const Tensor& input, TensorList weights, const Tensor& hx, const OptionalTensor& cx, bool batch_first, bool bidirectional) {
  TORCH_CHECK(!batch_first && !bidirectional, "the emulated cuDNN has layers of one direction, time first");
  const auto type = input.scalar_type();
  TORCH_CHECK(type == at::kFloat || type == at::kDouble || type == at::kHalf || type == at::kBFloat16, "cuDNN has no ", type);
  for (const auto& weight : weights) TORCH_CHECK(weight.scalar_type() == type, "cuDNN: input is ", type, ", a weight ", weight.scalar_type());
  TORCH_CHECK(hx.scalar_type() == type && hx.is_contiguous(), "cuDNN: input is ", type, ", hx ", hx.scalar_type(), ", and must be contiguous");
  if (cx && cx->defined()) TORCH_CHECK(cx->scalar_type() == type && cx->is_contiguous(), "cuDNN: input is ", type, ", cx ", cx->scalar_type(), ", and must be contiguous");
}

using Five = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

Five forward(const Tensor& input, TensorList weights, int64_t, const OptionalTensor& buffer, const Tensor& hx, const OptionalTensor& cx, int64_t mode, c10::SymInt, c10::SymInt, int64_t layers, bool batch_first, double dropout, bool train, bool bidirectional, c10::SymIntArrayRef, const OptionalTensor& dropout_state) {
  check(input, weights, hx, cx, batch_first, bidirectional);
  if (!(buffer && buffer->defined())) TORCH_WARN("RNN module weights are not part of single contiguous chunk of memory. This means they need to be compacted at every call, possibly greatly increasing memory usage.");
  const auto type = input.scalar_type();
  Pairs pairs;
  auto exactly = [&](const Tensor& tensor) { return down(tensor, "_cudnn_rnn", pairs).to(exact(type)); };
  std::vector<Tensor> all;
  for (const auto& weight : weights) all.push_back(exactly(weight));
  // the state is two numbers: its seed, and how often it was used
  int64_t seed = 0;
  if (dropout_state && dropout_state->defined()) {
    auto numbers = relabel(*dropout_state, c10::DeviceType::CPU);
    seed = numbers[0].item<int64_t>() + numbers[1].item<int64_t>();
    numbers[1].add_(1);
  }
  auto results = Layers{mode, layers, dropout, train, seed}.run(exactly(input), all, exactly(hx), mode == LSTM ? exactly(*cx) : Tensor());
  if (mode == GRU) results.push_back(at::empty({0}));
  for (auto& result : results) result = up(result.to(type, false, /*copy=*/true), pairs);
  auto reserve = up(at::full({1}, seed, at::kLong), pairs);
  return {results[0], results[1], results[2], reserve, at::empty({0}, input.options())};
}

using Four = std::tuple<Tensor, Tensor, Tensor, std::vector<Tensor>>;

Four backward(const Tensor& input, TensorList weights, int64_t, const Tensor&, const Tensor& hx, const OptionalTensor& cx, const Tensor& output, const OptionalTensor& d_output, const OptionalTensor& d_hy, const OptionalTensor& d_cy, int64_t mode, c10::SymInt, c10::SymInt, int64_t layers, bool, double dropout, bool train, bool, c10::SymIntArrayRef, const OptionalTensor&, const Tensor& reserve, std::array<bool, 4>) {
  const auto type = input.scalar_type();
  Pairs pairs;
  auto lowered = [&](const Tensor& tensor) { return down(tensor, "_cudnn_rnn_backward", pairs).to(exact(type), false, /*copy=*/true); };
  std::vector<Tensor> leaves{lowered(input), lowered(hx)}, gradients;
  if (mode == LSTM) leaves.push_back(lowered(*cx));
  const size_t first_weight = leaves.size();
  for (const auto& weight : weights) leaves.push_back(lowered(weight));
  std::vector<Tensor> d_results;
  for (const auto& [gradient, like] : {std::pair(d_output, output), std::pair(d_hy, hx), std::pair(d_cy, mode == LSTM ? *cx : Tensor())})
    if (like.defined()) d_results.push_back(gradient && gradient->defined() ? lowered(*gradient) : at::zeros(like.sizes(), leaves[0].options()));
  {  // an operator runs below autograd, which is wanted here
    c10::impl::PODLocalDispatchKeySet keys{};
    keys.set_included(c10::default_included_set);
    keys.set_excluded(c10::default_excluded_set);
    c10::impl::ForceDispatchKeyGuard dispatch{c10::impl::LocalDispatchKeySet(keys)};
    c10::AutoGradMode gradient_mode(true);
    for (auto& leaf : leaves) leaf = leaf.detach().requires_grad_();
    auto seed = relabel(reserve, c10::DeviceType::CPU).item<int64_t>();
    auto results = Layers{mode, layers, dropout, train, seed}.run(leaves[0], TensorList(leaves).slice(first_weight), leaves[1], mode == LSTM ? leaves[2] : Tensor());
    gradients = torch::autograd::grad(results, leaves, d_results);
  }
  for (auto& gradient : gradients) gradient = up(gradient.detach().to(type, false, /*copy=*/true), pairs);
  std::vector<Tensor> d_weights(gradients.begin() + first_weight, gradients.end());
  return {gradients[0], gradients[1], mode == LSTM ? gradients[2] : Tensor(), d_weights};
}

Five autocast(const Tensor& input, TensorList weights, int64_t stride, const OptionalTensor&, const Tensor& hx, const OptionalTensor& cx, int64_t mode, c10::SymInt hidden, c10::SymInt proj, int64_t layers, bool batch_first, double dropout, bool train, bool bidirectional, c10::SymIntArrayRef sizes, const OptionalTensor& state) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCUDA);
  std::vector<Tensor> cast;
  for (const auto& weight : weights) cast.push_back(weight.to(at::kHalf));
  auto buffer = cast[0].detach();  // they are in one, as torch's own wrapper puts them
  return at::_cudnn_rnn_symint(input.to(at::kHalf), cast, stride, buffer, hx.to(at::kHalf), cx && cx->defined() ? OptionalTensor(cx->to(at::kHalf)) : cx, mode, hidden, proj, layers, batch_first, dropout, train, bidirectional, sizes, state);
}

Tensor dropout_state(double dropout, bool train, c10::Device device) {
  static std::vector<Tensor> states(64);
  if (!train || dropout == 0) return {};
  auto& state = states.at(device.index());
  if (take_reseeded(device.index()) || !state.defined()) {
    auto numbers = at::empty({1}, at::TensorOptions().dtype(at::kLong).device(device)).random_(default_generator(device.index()));
    state = at::zeros({2}, numbers.options());
    relabel(state, c10::DeviceType::CPU)[0].fill_(numbers.item<int64_t>() >> 1);
  }
  return state;
}

Five call(const Tensor& input, const Tensor& hx, const OptionalTensor& cx, TensorList weights, int64_t mode, int64_t layers, double dropout, bool train, bool bidirectional, bool batch_first) {
  c10::NoGradGuard no_grad_for_state;
  auto state = dropout_state(dropout, train, input.device());
  auto buffer = lie_in_one_buffer(weights) ? OptionalTensor(weights[0].detach()) : std::nullopt;
  c10::AutoGradMode as_before(true);
  return at::_cudnn_rnn(input, weights, 4, buffer, hx, cx, mode, hx.size(2), 0, layers, batch_first, dropout, train, bidirectional, {}, state.defined() ? OptionalTensor(state) : std::nullopt);
}

void lstm(Tensor& output, Tensor& hy, Tensor& cy, const Tensor& input, TensorList hx, TensorList weights, bool, int64_t layers, double dropout, bool train, bool bidirectional, bool batch_first) {
  auto results = call(input, hx[0], hx[1], weights, LSTM, layers, dropout, train, bidirectional, batch_first);
  output = std::get<0>(results), hy = std::get<1>(results), cy = std::get<2>(results);
}

void gru(Tensor& output, Tensor& hy, const Tensor& input, const Tensor& hx, TensorList weights, bool, int64_t layers, double dropout, bool train, bool bidirectional, bool batch_first) {
  auto results = call(input, hx, std::nullopt, weights, GRU, layers, dropout, train, bidirectional, batch_first);
  output = std::get<0>(results), hy = std::get<1>(results);
}

struct Timer : public c10d::Timer {  // DistributedDataParallel wants one for each kind of device
  explicit Timer(c10::Device) {}
  std::optional<int64_t> measureDifference(Event, Event) override { return std::nullopt; }
};

struct RegisterStubs {
  RegisterStubs() {
    at::native::lstm_cudnn_stub.set_cuda_dispatch_ptr(&lstm);
    at::native::gru_cudnn_stub.set_cuda_dispatch_ptr(&gru);
    c10d::TimerRegistry()->Register(c10::DeviceType::CUDA, [](c10::Device device) -> std::unique_ptr<c10d::Timer> { return std::make_unique<Timer>(device); });
  }
} registering_stubs;

}  // namespace emulated

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("_cudnn_rnn", emulated::forward);
  m.impl("_cudnn_rnn_backward", emulated::backward);
  m.impl("_cudnn_rnn_flatten_weight", emulated::flatten_weight);
}
TORCH_LIBRARY_IMPL(aten, Autocast, m) { m.impl("_cudnn_rnn", emulated::autocast); }
